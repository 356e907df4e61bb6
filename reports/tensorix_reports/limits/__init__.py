"""The limits of a key, from a run of any source: the limiter that explains it, the audit of headers, what it means."""

from tensorix_reports.limits._meaning import Meaning, meaning_of
from tensorix_reports.limits._refusals import speaks_of_tokens
from tensorix_reports.limits._report import LIMITS_FORMAT, KeyReport, LimitsReport, Wished, limits_of, limits_report
from tensorix_reports.limits._traffic import Planned, Refused, read_traffic
from tensorix_reports.limits._write import LimitsPaths, limits_json, limits_schema, write_limits

__all__ = [
    "LIMITS_FORMAT",
    "KeyReport",
    "LimitsPaths",
    "LimitsReport",
    "Meaning",
    "Planned",
    "Refused",
    "Wished",
    "limits_json",
    "limits_of",
    "limits_report",
    "limits_schema",
    "meaning_of",
    "read_traffic",
    "speaks_of_tokens",
    "write_limits",
]
