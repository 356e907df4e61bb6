"""The tables of the uptime report."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from tensorix_reports._tables import NOTHING, Cell, Table, number, row_of
from tensorix_reports.uptime._availability import Availability, Standing
from tensorix_reports.uptime._days import DAY_NS
from tensorix_reports.uptime._durations import QUANTITIES, Taken
from tensorix_reports.uptime._incidents import Incident, Outage
from tensorix_reports.uptime._report import UptimeReport
from tensorix_reports.uptime._words import clock, counted, day, failed, length, minutes, percent, place, rate

__all__ = ["tables_of", "tone_of"]

MOST_ROWS = 200
_TONES = {"up": "good", "degraded": "notice", "down": "problem", "payment": "problem", "inconclusive": "muted"}


def _several(report: UptimeReport) -> bool:
    return any(now.location is not None for now in report.now)


def _named(target: str, location: str | None, *, pooled: bool = False) -> Cell:
    return Cell(target, "all locations" if pooled else location)


def tone_of(share: float | None, objective: float) -> str:
    """The tone of an availability beside its objective."""
    if share is None:
        return "muted"
    return "problem" if share < objective else "notice" if share < 1 else "good"


def _when(unix_ns: int | None) -> Cell:
    """An instant of UTC: the day, and the time below it."""
    return Cell(NOTHING, tone="muted") if unix_ns is None else Cell(day(unix_ns), clock(unix_ns)[11:])


def _cut(rows: list[Any], what: str, where: str) -> str | None:
    return f"The latest {MOST_ROWS} of {len(rows):,} {what}; all are in {where}." if len(rows) > MOST_ROWS else None


def _sentences(*parts: str | None) -> str | None:
    return " ".join(part for part in parts if part) or None


def _now_table(report: UptimeReport) -> Table:
    rows = [
        row_of(
            _named(now.target, now.location),
            Cell(
                now.state or NOTHING, now.maintenance and f"maintenance: {now.maintenance}", _TONES.get(now.state or "")
            ),
            _when(now.since_unix_ns),
            _when(now.last_unix_ns),
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


def _share(availability: Availability, objective: float) -> Cell:
    share = availability.counts.share
    if share.value is None:
        return Cell(NOTHING, "no conclusive probe", "muted")
    return Cell(percent(share.value), f"{percent(share.low)} to {percent(share.high)}", tone_of(share.value, objective))


def _window(row: Availability) -> Cell:
    seconds = (row.until_unix_ns - row.since_unix_ns) / 1e9
    return Cell(row.window if row.window not in ("all", "objective") else length(seconds))


def _availability_table(report: UptimeReport) -> Table:
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
        rows.append([_named(target, location, pooled=pooled), _share(whole, goal), *recent, *_counted(whole)])
    note = (
        "Shares, and below each its 95 % interval; then, over the whole time, the probes. Not watched is the time in "
    )
    note += (
        "which no probe ran, missed how many would have; neither counts as up. For all locations together it is the "
    )
    note += "time in which none of them looked."
    numeric = frozenset(range(1, len(columns)))
    return Table("availability", "Availability", columns, rows, numeric, note, "No target was probed.")


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


def _windows_table(report: UptimeReport) -> Table:
    goals = {standing.target: standing.objective.availability for standing in report.standings}
    rows = [
        [
            _named(row.target, row.location, pooled=row.pooled),
            _window(row),
            _share(row, goals[row.target]),
            *_counted(row),
        ]
        for row in report.availability
    ]
    columns = ["target", "over", "available", *_COUNTED]
    title = "Availability and counts of each window"
    return Table("windows", title, columns, rows, frozenset(range(2, 11)), None, "No target was probed.", folded=True)


def _budget_table(report: UptimeReport) -> Table:
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
                _named(row.target, row.location, pooled=row.pooled),
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


def _bounds(incident: Incident) -> Cell:
    least = incident.least_ns / 1e9
    if incident.end_unix_ns is None:
        return Cell(f"over {length(least)}", "not over at the last probe", "problem")
    if incident.most_ns is None:
        return Cell(f"over {length(least)}", "its beginning was not seen")
    if any(outage.hourly for outage in incident.outages):
        return Cell(f"up to {length(incident.most_ns / 1e9)}", "by hourly counts")
    most = length(incident.most_ns / 1e9)
    return Cell(f"{length(least)} to {most}" if least else f"under {most}")


def _scope(incident: Incident) -> Cell:
    names = ", ".join(place(name) for name in incident.locations)
    if incident.scope == "some":
        return Cell(names, f"not from {', '.join(place(name) for name in incident.well)}")
    return Cell("all" if incident.scope == "all" else names, names if incident.scope == "all" else None)


def _cause(outage: Outage) -> Cell:
    later = f"later {', '.join(outage.later)}" if outage.later else None
    return Cell(failed(outage.cause), "; ".join(filter(None, (outage.reason, later))) or None)


def _incidents_table(report: UptimeReport) -> Table:
    columns = ["target", "first failed probe", "first good probe", "lasted", "failed probes", "cause"]
    columns += ["seen from"] if _several(report) else []
    latest = report.incidents[::-1][:MOST_ROWS]
    rows = []
    for one in latest:
        cells = row_of(
            one.target,
            _when(one.start_unix_ns),
            _when(one.end_unix_ns),
            _bounds(one),
            one.failed,
            _cause(one.first),
        )
        rows.append([*cells, _scope(one)] if _several(report) else cells)
    note = (
        "An incident is sure to have lasted from its first failed probe to its last, and less than from the good probe "
    )
    note += "before to the good probe after."
    note = _sentences(note, _cut(report.incidents, "incidents", "incidents.csv")) or ""
    return Table("incidents", "Incidents", columns, rows, frozenset({4}), note, "No probe found a target down.")


def _maintenance_table(report: UptimeReport) -> Table:
    rows = [
        row_of(
            _named(one.target, one.location),
            one.name,
            clock(one.first_unix_ns),
            clock(one.last_unix_ns),
            one.rounds,
            one.down,
        )
        for one in report.maintenance[::-1][:MOST_ROWS]
    ]
    columns = ["target", "window", "first probe", "last probe", "probes", "down"]
    note = _sentences("In none of the figures above.", _cut(report.maintenance, "stretches", "maintenance.csv"))
    return Table(
        "maintenance", "Maintenance", columns, rows, frozenset({4, 5}), note, "No probe fell into maintenance."
    )


def _gaps_table(report: UptimeReport) -> Table:
    words = {
        "before": "before the first probe",
        "between": "between two probes",
        "after": "after the last probe",
        "hours": "somewhere in this hour, by its count",
    }
    gaps = sorted(report.gaps, key=lambda gap: gap.start_unix_ns, reverse=True)
    rows = [
        row_of(
            _named(gap.target, gap.location),
            clock(gap.start_unix_ns),
            clock(gap.end_unix_ns),
            length((gap.end_unix_ns - gap.start_unix_ns) / 1e9),
            gap.missed,
            words[gap.why],
        )
        for gap in gaps[:MOST_ROWS]
    ]
    columns = ["target", "from", "to", "length", "missed", "where"]
    note = _cut(report.gaps, "stretches", "gaps.csv")
    empty = "There was always somebody watching."
    return Table("gaps", "Not watched", columns, rows, frozenset({3, 4}), note, empty, folded=bool(rows))


def _calendar_table(report: UptimeReport) -> Table:
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


def _day(row: Availability | None, objective: float) -> Cell:
    if row is None:
        return Cell(NOTHING, tone="muted")
    share = row.counts.share.value
    if share is None:
        return Cell(NOTHING, "not watched" if row.unknown_s else "nothing conclusive", "muted")
    detail = f"{row.counts.down:,} of {row.counts.conclusive:,} down"
    detail += f", {length(row.unknown_s)} unwatched" if row.unknown_s >= 1 else ""
    return Cell(percent(share), detail, tone_of(share, objective))


def _latency_table(report: UptimeReport) -> Table:
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
        rows.append([_named(target, location), Cell(when), *cells])
    sources = {row.source for row in report.durations}
    note = "Good answers outside of maintenance. Below each p50 how many there were; a percentile with fewer than five "
    note += f"beyond it is withheld. {_sources(sources)}"
    note = _sentences(note, "All of it is in latency.csv." if len(rows) > MOST_ROWS else None) or ""
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


def _causes_table(report: UptimeReport) -> Table:
    totals = {row.target: 0 for row in report.causes}
    for row in report.availability:
        if row.window == "all" and not row.pooled and row.target in totals:
            counts = row.counts
            totals[row.target] += counts.conclusive + counts.inconclusive + counts.payment
    rows = [
        row_of(
            one.target,
            Cell(one.state, tone=_TONES.get(one.state)),
            one.cause,
            one.rounds,
            percent(one.rounds / totals[one.target], 2) if totals[one.target] else NOTHING,
            Cell(one.last_reason or NOTHING, tone=None if one.last_reason else "muted"),
        )
        for one in report.causes[:MOST_ROWS]
    ]
    columns = ["target", "state", "decided by", "probes", "of all", "in the last one's words"]
    note = "Each probe that was not up, by the assertion that decided it, outside of maintenance."
    return Table(
        "causes", "What was wrong, and how often", columns, rows, frozenset({3, 4}), note, "Every probe was up."
    )


def _spent_table(report: UptimeReport) -> Table:
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


def tables_of(report: UptimeReport) -> list[Table]:
    """All tables, in the order of the Markdown report."""
    return [
        _now_table(report),
        _budget_table(report),
        _availability_table(report),
        _windows_table(report),
        _incidents_table(report),
        _causes_table(report),
        _calendar_table(report),
        _latency_table(report),
        _maintenance_table(report),
        _gaps_table(report),
        _spent_table(report),
    ]


def totals(report: UptimeReport) -> str:
    """How much the report rests on, in a few words."""
    probes = sum(
        row.counts.conclusive + row.counts.inconclusive + row.counts.payment + row.counts.maintenance
        for row in report.availability
        if row.window == "all" and not row.pooled
    )
    return f"{counted(len(report.targets), 'target')}, {counted(probes, 'probe')}"
