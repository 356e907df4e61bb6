"""The table of what the probes used."""

from __future__ import annotations

from itertools import groupby

from tensorix_reports.page._tables import Table, number, row_of
from tensorix_reports.uptime._report import UptimeReport
from tensorix_reports.uptime._words import day

__all__ = ["spent_table"]


def spent_table(report: UptimeReport) -> Table:
    """Requests, tokens and cost of each day, the latest first."""
    rows = []
    for day_ns, group in groupby(sorted(report.spends, key=lambda one: -one.day_unix_ns), lambda one: one.day_unix_ns):
        spends = list(group)
        costs = [one.cost for one in spends if one.cost is not None]
        rows.append(
            row_of(
                day(day_ns),
                sum(one.requests for one in spends),
                sum(one.tokens for one in spends),
                number(sum(costs)) if costs else None,
            )
        )
    note = "All targets together, by whole hours; each target's own is in spent.csv. Cost in the currency of the "
    note += "configured prices."
    columns = ["day", "requests", "tokens", "cost"]
    return Table("spent", "What the probes used", columns, rows, frozenset({1, 2, 3}), note, "Nothing was used.", True)
