"""The table of latencies."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from tensorix_reports.page._tables import NOTHING, Cell, Table, number
from tensorix_reports.uptime._cells import MOST_ROWS, named, sentences
from tensorix_reports.uptime._days import DAY_NS
from tensorix_reports.uptime._durations import QUANTITIES, Taken
from tensorix_reports.uptime._report import UptimeReport
from tensorix_reports.uptime._words import clock, day

__all__ = ["latency_table"]


def latency_table(report: UptimeReport) -> Table:
    """Percentiles of each phase, by hour or by day."""
    hourly = report.step_ns < DAY_NS
    names = [quantity.name for quantity in QUANTITIES]
    names = [name for name in names if any(row.quantity == name for row in report.durations)]
    columns = ["target", "hour" if hourly else "day"]
    columns += [f"{name}, {figure}" for name in names for figure in ("p50", "p95")]
    rows = []
    ordered = sorted(report.durations, key=lambda row: (row.target, row.location or "", -row.start_unix_ns))
    for (target, location, start), group in groupby(ordered, lambda row: (row.target, row.location, row.start_unix_ns)):
        by_name = {row.quantity: row for row in group}
        when = clock(start)[:16] if hourly else day(start)
        cells = [cell for name in names for cell in _taken(by_name.get(name))]
        rows.append([named(target, location), Cell(when), *cells])
    sources = {row.source for row in report.durations}
    note = "Good answers outside of maintenance. Below each p50 how many there were; a percentile with fewer than five "
    note += f"beyond it is withheld. {_sources(sources)}"
    note = sentences(note, "All of it is in latency.csv." if len(rows) > MOST_ROWS else None) or ""
    empty = "Not enough data: no probe got a good answer whose phases were kept."
    title = f"Latency by {'hour' if hourly else 'day'}"
    return Table(
        "latency", title, columns, rows[:MOST_ROWS], frozenset(range(2, len(columns))), note, empty, folded=True
    )


def _sources(sources: set[str]) -> str:
    if sources <= {"rounds"}:
        return "From each probe."
    if "rounds" in sources or "both" in sources:
        return "Where probes are gone, from hourly histograms, which are within 3.1 %."
    return "From hourly histograms, which are within 3.1 %."


def _taken(row: Taken | None) -> Sequence[Cell]:
    if row is None:
        return (Cell(NOTHING, tone="muted"), Cell(NOTHING, tone="muted"))
    detail = f"{row.count:,}{'' if row.source == 'rounds' else ', histogram'}"
    return (
        Cell(_ms(row.p50_s), detail, "muted" if row.p50_s is None else None),
        Cell(_ms(row.p95_s), "too few" if row.p95_s is None else None, "muted" if row.p95_s is None else None),
    )


def _ms(value: float | None) -> str:
    if value is None:
        return NOTHING
    return number(value, "s") if value >= 1 else number(value * 1000, "ms")
