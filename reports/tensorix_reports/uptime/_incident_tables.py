"""The tables of what was not up or not seen: incidents and their causes, maintenance, gaps."""

from __future__ import annotations

from tensorix_reports.page._tables import NOTHING, Cell, Table, row_of
from tensorix_reports.uptime._cells import MOST_ROWS, TONES, cut, instant, named, sentences
from tensorix_reports.uptime._incidents import Incident, Outage
from tensorix_reports.uptime._report import UptimeReport
from tensorix_reports.uptime._words import clock, failed, length, percent, place

__all__ = ["causes_table", "gaps_table", "incidents_table", "maintenance_table"]


def incidents_table(report: UptimeReport) -> Table:
    """The incidents, the latest first."""
    columns = ["target", "first failed probe", "first good probe", "lasted", "failed probes", "cause"]
    columns += ["seen from"] if _several(report) else []
    latest = report.incidents[::-1][:MOST_ROWS]
    rows = []
    for one in latest:
        cells = row_of(
            one.target,
            instant(one.start_unix_ns),
            instant(one.end_unix_ns),
            _bounds(one),
            one.failed,
            _cause(one.first),
        )
        rows.append([*cells, _scope(one)] if _several(report) else cells)
    note = (
        "An incident is sure to have lasted from its first failed probe to its last, and less than from the good probe "
    )
    note += "before to the good probe after."
    note = sentences(note, cut(report.incidents, "incidents", "incidents.csv")) or ""
    return Table("incidents", "Incidents", columns, rows, frozenset({4}), note, "No probe found a target down.")


def causes_table(report: UptimeReport) -> Table:
    """What decided the probes that were not up, and how often."""
    totals = {row.target: 0 for row in report.causes}
    for row in report.availability:
        if row.window == "all" and not row.pooled and row.target in totals:
            counts = row.counts
            totals[row.target] += counts.conclusive + counts.inconclusive + counts.payment
    rows = [
        row_of(
            one.target,
            Cell(one.state, tone=TONES.get(one.state)),
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


def maintenance_table(report: UptimeReport) -> Table:
    """The stretches of maintenance that were probed, the latest first."""
    rows = [
        row_of(
            named(one.target, one.location),
            one.name,
            clock(one.first_unix_ns),
            clock(one.last_unix_ns),
            one.rounds,
            one.down,
        )
        for one in report.maintenance[::-1][:MOST_ROWS]
    ]
    columns = ["target", "window", "first probe", "last probe", "probes", "down"]
    note = sentences("In none of the figures above.", cut(report.maintenance, "stretches", "maintenance.csv"))
    return Table(
        "maintenance", "Maintenance", columns, rows, frozenset({4, 5}), note, "No probe fell into maintenance."
    )


def gaps_table(report: UptimeReport) -> Table:
    """The stretches in which nobody looked, the latest first."""
    words = {
        "before": "before the first probe",
        "between": "between two probes",
        "after": "after the last probe",
        "hours": "somewhere in this hour, by its count",
    }
    gaps = sorted(report.gaps, key=lambda gap: gap.start_unix_ns, reverse=True)
    rows = [
        row_of(
            named(gap.target, gap.location),
            clock(gap.start_unix_ns),
            clock(gap.end_unix_ns),
            length((gap.end_unix_ns - gap.start_unix_ns) / 1e9),
            gap.missed,
            words[gap.why],
        )
        for gap in gaps[:MOST_ROWS]
    ]
    columns = ["target", "from", "to", "length", "missed", "where"]
    note = cut(report.gaps, "stretches", "gaps.csv")
    empty = "There was always somebody watching."
    return Table("gaps", "Not watched", columns, rows, frozenset({3, 4}), note, empty, folded=bool(rows))


def _several(report: UptimeReport) -> bool:
    return any(now.location is not None for now in report.now)


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
