"""From a history of probes to a report: was each target up, does it keep its objective, what went wrong and when."""

from tensorix_reports.uptime._objective import Objective
from tensorix_reports.uptime._report import UptimeReport, uptime_report
from tensorix_reports.uptime._write import UptimePaths, write_uptime_report

__all__ = ["Objective", "UptimePaths", "UptimeReport", "uptime_report", "write_uptime_report"]
