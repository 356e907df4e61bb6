"""The tables of availability: as it is now, over the windows, and day by day."""

from __future__ import annotations

from tensorix_reports.page._tables import NOTHING, Cell, Table, row_of
from tensorix_reports.uptime._availability import Availability
from tensorix_reports.uptime._cells import TONES, instant, named, tone_of
from tensorix_reports.uptime._days import DAY_NS
from tensorix_reports.uptime._report import UptimeReport
from tensorix_reports.uptime._words import day, failed, length, percent

__all__ = ["availability_table", "calendar_table", "now_table", "windows_table"]


def now_table(report: UptimeReport) -> Table:
    """The state of each target, since when, and why."""
    rows = [
        row_of(
            named(now.target, now.location),
            Cell(
                now.state or NOTHING, now.maintenance and f"maintenance: {now.maintenance}", TONES.get(now.state or "")
            ),
            instant(now.since_unix_ns),
            instant(now.last_unix_ns),
            length(now.interval_s),
            Cell(failed(now.cause) if now.cause else NOTHING, now.reason, None if now.cause else "muted"),
        )
        for now in report.now
    ]
    columns = ["target", "state", "since", "last probe", "a probe each", "because of"]
    note = "Times are UTC, everywhere."
    return Table(
        "now", "As the last probes found it", columns, rows, frozenset(), note, "No target was probed in this time."
    )


def availability_table(report: UptimeReport) -> Table:
    """The whole of the report's time, and the shares of shorter windows beside it."""
    goals = {standing.target: standing.objective.availability for standing in report.standings}
    shorter = list(dict.fromkeys(row.window for row in report.availability if row.window not in ("all", "objective")))
    columns = ["target", "available", *(f"last {name}" for name in shorter), *_COUNTED]
    by_view: dict[tuple[str, str | None, bool], dict[str, Availability]] = {}
    for row in report.availability:
        by_view.setdefault((row.target, row.location, row.pooled), {})[row.window] = row
    rows = []
    for (target, location, pooled), windows in by_view.items():
        whole, goal = windows["all"], goals[target]
        recent = (_share(windows[name], goal) for name in shorter)
        rows.append([named(target, location, pooled=pooled), _share(whole, goal), *recent, *_counted(whole)])
    note = (
        "Shares, and below each its 95 % interval; then, over the whole time, the probes. Not watched is the time in "
    )
    note += (
        "which no probe ran, missed how many would have; neither counts as up. For all locations together it is the "
    )
    note += "time in which none of them looked."
    numeric = frozenset(range(1, len(columns)))
    return Table("availability", "Availability", columns, rows, numeric, note, "No target was probed.")


def windows_table(report: UptimeReport) -> Table:
    """Each window of each target with its counts."""
    goals = {standing.target: standing.objective.availability for standing in report.standings}
    rows = [
        [
            named(row.target, row.location, pooled=row.pooled),
            _window(row),
            _share(row, goals[row.target]),
            *_counted(row),
        ]
        for row in report.availability
    ]
    columns = ["target", "over", "available", *_COUNTED]
    title = "Availability and counts of each window"
    return Table("windows", title, columns, rows, frozenset(range(2, 11)), None, "No target was probed.", folded=True)


def calendar_table(report: UptimeReport) -> Table:
    """The days of UTC, the latest first, a column for each target."""
    goals = {standing.target: standing.objective.availability for standing in report.standings}
    targets = report.targets
    by_day: dict[int, dict[str, Availability]] = {}
    for row in report.days:
        by_day.setdefault(row.since_unix_ns // DAY_NS, {})[row.target] = row
    rows = [
        [Cell(day(number * DAY_NS)), *(_day(row.get(target), goals.get(target, 1)) for target in targets)]
        for number, row in sorted(by_day.items(), reverse=True)
    ]
    note = (
        "Days of UTC, all locations together. Below: probes that were down of those that were conclusive, and the time "
    )
    note += "in which nobody looked."
    columns = ["day", *targets]
    empty = "No target was probed in this time."
    return Table("days", "Day by day", columns, rows, frozenset(range(1, len(columns))), note, empty, folded=True)


def _share(availability: Availability, objective: float) -> Cell:
    share = availability.counts.share
    if share.value is None:
        return Cell(NOTHING, "no conclusive probe", "muted")
    return Cell(percent(share.value), f"{percent(share.low)} to {percent(share.high)}", tone_of(share.value, objective))


def _window(row: Availability) -> Cell:
    seconds = (row.until_unix_ns - row.since_unix_ns) / 1e9
    return Cell(row.window if row.window not in ("all", "objective") else length(seconds))


_COUNTED = ("conclusive", "down", "degraded", "inconclusive", "payment", "maintenance", "not watched", "missed")


def _counted(row: Availability) -> list[Cell]:
    counts = row.counts
    return row_of(
        counts.conclusive,
        Cell(f"{counts.down:,}", tone="problem" if counts.down else None),
        counts.degraded,
        counts.inconclusive,
        Cell(f"{counts.payment:,}", tone="problem" if counts.payment else None),
        Cell(f"{counts.maintenance:,}", f"{counts.maintenance_down:,} down" if counts.maintenance_down else None),
        Cell(length(row.unknown_s) if row.unknown_s else "0", tone="notice" if row.unknown_s else None),
        row.missed,
    )


def _day(row: Availability | None, objective: float) -> Cell:
    if row is None:
        return Cell(NOTHING, tone="muted")
    share = row.counts.share.value
    if share is None:
        return Cell(NOTHING, "not watched" if row.unknown_s else "nothing conclusive", "muted")
    detail = f"{row.counts.down:,} of {row.counts.conclusive:,} down"
    detail += f", {length(row.unknown_s)} unwatched" if row.unknown_s >= 1 else ""
    return Cell(percent(share), detail, tone_of(share, objective))
