"""The report of a run: how quick the answers were, how the limits were met, and the page of both."""

from tensorix_reports.load._latency import LatencyReport, latency_of, latency_report
from tensorix_reports.load._report import SUMMARY_FORMAT, LoadReport, load_report
from tensorix_reports.load._write import ReportPaths, write_report

__all__ = [
    "SUMMARY_FORMAT",
    "LatencyReport",
    "LoadReport",
    "ReportPaths",
    "latency_of",
    "latency_report",
    "load_report",
    "write_report",
]
