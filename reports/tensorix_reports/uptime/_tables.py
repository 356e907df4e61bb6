"""The tables of the uptime report."""

from __future__ import annotations

from tensorix_reports.page._tables import Table
from tensorix_reports.uptime._availability_tables import availability_table, calendar_table, now_table, windows_table
from tensorix_reports.uptime._budget_table import budget_table
from tensorix_reports.uptime._incident_tables import causes_table, gaps_table, incidents_table, maintenance_table
from tensorix_reports.uptime._latency_table import latency_table
from tensorix_reports.uptime._report import UptimeReport
from tensorix_reports.uptime._spent_table import spent_table
from tensorix_reports.uptime._words import counted

__all__ = ["tables_of", "totals"]


def tables_of(report: UptimeReport) -> list[Table]:
    """All tables, in the order of the Markdown report."""
    return [
        now_table(report),
        budget_table(report),
        availability_table(report),
        windows_table(report),
        incidents_table(report),
        causes_table(report),
        calendar_table(report),
        latency_table(report),
        maintenance_table(report),
        gaps_table(report),
        spent_table(report),
    ]


def totals(report: UptimeReport) -> str:
    """How much the report rests on, in a few words."""
    probes = sum(
        row.counts.conclusive + row.counts.inconclusive + row.counts.payment + row.counts.maintenance
        for row in report.availability
        if row.window == "all" and not row.pooled
    )
    return f"{counted(len(report.targets), 'target')}, {counted(probes, 'probe')}"
