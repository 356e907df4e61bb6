"""The table of the objectives and their error budgets."""

from __future__ import annotations

from tensorix_reports.page._tables import Cell, Table, row_of
from tensorix_reports.uptime._availability import Standing
from tensorix_reports.uptime._cells import named
from tensorix_reports.uptime._report import UptimeReport
from tensorix_reports.uptime._words import length, minutes, percent, rate

__all__ = ["budget_table"]


def budget_table(report: UptimeReport) -> Table:
    """Whether each objective is met, what is left of its budget, and how fast that goes."""
    columns = ["target", "objective", "standing", "error budget", "left, probes", "left, time"]
    columns += [f"burn, {name}" for name in ("1 h", "6 h", "24 h")]
    rows = []
    for row in report.standings:
        goal = row.objective
        word, tone = {None: ("too little data", "muted"), True: ("met", "good"), False: ("missed", "problem")}[row.met]
        word += " so far" if row.met and not row.whole else ""
        left = None if row.left_share is None else percent(row.left_share, 1)
        rows.append(
            row_of(
                named(row.target, row.location, pooled=row.pooled),
                Cell(percent(goal.availability), f"over {length(goal.window_s)}{'' if goal.told else ', the default'}"),
                Cell(word, _doubt(row), tone),
                Cell(f"{row.allowed:,.1f}", f"{row.counts.down:,} used"),
                Cell(_signed(row.left), left, "problem" if row.left < 0 else None),
                Cell(minutes(row.left_minutes), tone="problem" if row.left < 0 else None),
                *(_burn(row, name) for name in row.burns),
            )
        )
    note = (
        "The error budget is the number of conclusive probes that the objective lets fail. A burn rate above 1 uses it "
    )
    note += "up before the objective's window is over; single failures make it jump where probes are few."
    return Table("objectives", "Objectives and error budgets", columns, rows, frozenset(range(3, 9)), note)


def _doubt(row: Standing) -> str | None:
    if row.met is None or not row.whole:
        return f"known for {length(row.known_s)}" if row.counts.conclusive else "nothing known"
    return None if row.sure else "by chance, perhaps"


def _signed(value: float) -> str:
    return f"{value:,.1f}".replace("-", "\N{MINUS SIGN}")


def _burn(row: Standing, name: str) -> Cell:
    burn = row.burns[name]
    detail = f"{burn.down:,} of {burn.conclusive:,}"
    tone = "problem" if burn.rate is not None and burn.rate > 1 else None
    return Cell(rate(burn.rate), f"too little known, {detail}" if burn.rate is None else detail, tone)
