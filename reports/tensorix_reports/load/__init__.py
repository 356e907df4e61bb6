"""The report of a run: how quick the answers were, how the limits were met, and the page of both."""

from tensorix_reports.load._latency import LatencyReport, latency_of, latency_report
from tensorix_reports.load._write import SUMMARY_FORMAT, ReportPaths, write_report

__all__ = ["SUMMARY_FORMAT", "LatencyReport", "ReportPaths", "latency_of", "latency_report", "write_report"]
