"""The report of a run: how quick the answers were, how the limits were met, and the page of both."""

from tensorix_reports.load._latency import LatencyReport, latency_of, latency_report
from tensorix_reports.load._report import SUMMARY_FORMAT, LoadReport, load_report, summary_schema
from tensorix_reports.load._watch import watch_report
from tensorix_reports.load._write import DEFAULT_FORMATS, FORMATS, ReportPaths, write_report

__all__ = [
    "DEFAULT_FORMATS",
    "FORMATS",
    "SUMMARY_FORMAT",
    "LatencyReport",
    "LoadReport",
    "ReportPaths",
    "latency_of",
    "latency_report",
    "load_report",
    "summary_schema",
    "watch_report",
    "write_report",
]
