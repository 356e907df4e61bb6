"""From a run folder to a verdict: how quick the answers were, how the rate limits were met, and a page to read."""

from tensorix_reports.comparison import compare
from tensorix_reports.limiting import rate_limit_report
from tensorix_reports.load import latency_report

__all__ = ["compare", "latency_report", "rate_limit_report"]
