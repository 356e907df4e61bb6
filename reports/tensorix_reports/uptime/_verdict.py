"""The uptime report in a few sentences: does each target keep its objective, what is left, what is going on now."""

from __future__ import annotations

from tensorix_reports.page._statement import Statement, Verdict
from tensorix_reports.uptime._availability import ENOUGH_ROUNDS, ENOUGH_S, Availability, Standing
from tensorix_reports.uptime._incidents import Incident
from tensorix_reports.uptime._report import UptimeReport
from tensorix_reports.uptime._words import clock, counted, failed, length, minutes, percent, rate, seen_from

__all__ = ["FAST_BURN", "verdict_of"]

FAST_BURN = 6.0
"""From here on a burn rate is worth a word at the top: the budget of 30 days would be gone in 5."""
_MANY_INCONCLUSIVE = 0.05
_MOST = 12


def _ongoing(report: UptimeReport) -> list[Incident]:
    return [incident for incident in report.incidents if incident.end_unix_ns is None]


def _where(incident: Incident) -> str:
    if incident.scope == "only":
        return ""
    names = ", ".join(str(name) for name in incident.locations)
    return f" from all {len(incident.locations)} locations" if incident.scope == "all" else f" from {names} only"


def _now(report: UptimeReport) -> list[Statement]:
    found = []
    for incident in _ongoing(report):
        text = f"{incident.target} has been down{_where(incident)} since {clock(incident.start_unix_ns)} UTC "
        text += f"({counted(incident.failed, 'probe')} failed): {failed(incident.first.cause)}"
        text += f", {incident.first.reason}" if incident.first.reason else ""
        text += f"; later {', '.join(incident.first.later[:2])}" if incident.first.later else ""
        found.append(Statement("now", "problem", "down now", text.rstrip(".") + "."))
    several = _several(report)
    for now in report.now:
        if now.state == "payment":
            text = f"{seen_from(now.target, now.location, several=now.target in several)} asks for payment"
            text += f": {now.reason}." if now.reason else "."
            found.append(Statement("now", "problem", "payment", text))
        elif now.state == "degraded":
            text = f"{seen_from(now.target, now.location, several=now.target in several)} is degraded since "
            text += f"{clock(now.since_unix_ns)} UTC: {failed(now.cause)}"
            text += f", {now.reason}" if now.reason else ""
            found.append(Statement("now", "notice", "degraded", text.rstrip(".") + "."))
    return found


def _several(report: UptimeReport) -> set[str]:
    return {standing.target for standing in report.standings if standing.pooled}


def _burning(standing: Standing) -> bool:
    # One failure burns fast for an hour: as with the alerts, it takes three.
    burn = standing.burns["1 h"]
    return burn.rate is not None and burn.rate >= FAST_BURN and burn.down >= 3


def _objective(standing: Standing) -> Statement:
    goal = standing.objective
    told = "" if goal.told else " (the default)"
    asked = f"the objective of {percent(goal.availability)}{told} over {length(goal.window_s)}"
    share, counts = standing.counts.share, standing.counts
    if share.value is None:
        text = f"{standing.target}: no probe of the last {length(standing.window_s)} was conclusive, "
        text += f"so nothing is known of {asked}."
        return Statement("objective", "unknown", "not known", text)
    text = f"{standing.target}: {percent(share.value)} of {counted(counts.conclusive, 'conclusive probe')} found it up"
    text += f" (95 % interval {percent(share.low)} to {percent(share.high)}); {asked}"
    if standing.window_s < goal.window_s * 0.999:
        text += f", judged over {length(standing.window_s)},"
    elif not standing.whole:
        text += f", known for {length(standing.known_s)} of it,"
    if standing.met is None:
        text = f"{standing.target}: too little data: {counted(counts.conclusive, 'conclusive probe')} in "
        text += f"{length(standing.known_s)}, {counts.down:,} down. An objective is judged from {ENOUGH_ROUNDS} "
        text += f"conclusive probes and {length(ENOUGH_S)} on; this is {asked}."
        return Statement("objective", "unknown", "too little data", text)
    so_far = " so far" if standing.met and not standing.whole else ""
    text += f" is {'met' if standing.met else 'missed'}{so_far}. {_left(standing)}"
    burns = [f"{rate(burn.rate)} ({name})" for name, burn in standing.burns.items() if burn.rate is not None]
    text += f" It burns at {', '.join(burns)}." if burns else ""
    if not standing.met:
        return Statement("objective", "problem", "missed", text)
    if _burning(standing):
        return Statement("objective", "problem", "burning", text)
    if not standing.whole:
        return Statement("objective", "notice", "met so far", text)
    if not standing.sure:
        text += f" With {counted(counts.conclusive, 'probe')} chance could have decided this."
        return Statement("objective", "notice", "met so far", text)
    return Statement("objective", "good", "met", text)


def _left(standing: Standing) -> str:
    share, left = standing.left_share, standing.left
    if share is None:
        return "Such an objective has no error budget."
    if left < 0:
        return f"The error budget is overdrawn by {-left:,.1f} probes ({minutes(-standing.left_minutes)})."
    text = f"{percent(share, 1)} of the error budget is left: {left:,.1f} of {standing.allowed:,.1f} probes"
    return f"{text} ({minutes(standing.left_minutes)})."


def _doubts(report: UptimeReport) -> list[Statement]:
    found = []
    whole = [row for row in report.availability if row.window == "all" and not row.pooled]
    several = _several(report)
    for now in report.now:
        after = [
            gap for gap in report.gaps if (gap.target, gap.location, gap.why) == (now.target, now.location, "after")
        ]
        if after:
            text = f"Nobody has looked at {seen_from(now.target, now.location, several=now.target in several)} since "
            text += f"{clock(after[0].start_unix_ns)} UTC."
            found.append(Statement("gaps", "problem", "not watched", text))
    unknown = {(gap.target, gap.location): 0 for gap in report.gaps if gap.why in ("between", "hours")}
    for gap in report.gaps:
        if gap.why in ("between", "hours"):
            unknown[gap.target, gap.location] += gap.end_unix_ns - gap.start_unix_ns
    if unknown:
        worst = max(unknown, key=lambda key: unknown[key])
        text = f"Probes are missing: for {length(unknown[worst] / 1e9)} nobody looked at "
        text += f"{seen_from(*worst, several=worst[0] in several)}"
        others = len(unknown) - 1
        text += f" (and at {others} more for less)" if others else ""
        found.append(Statement("gaps", "notice", "gaps", f"{text}. That time counts neither as up nor as down."))
    vague = [row for row in whole if _vague(row)]
    if vague:
        worst_row = max(vague, key=_inconclusive_share)
        counts = worst_row.counts
        name = seen_from(worst_row.target, worst_row.location, several=worst_row.target in several)
        text = f"{percent(_inconclusive_share(worst_row), 1)} of the probes of {name} were inconclusive"
        text += f" ({counts.inconclusive:,})"
        text += f", and too many of {len(vague) - 1} more" if len(vague) > 1 else ""
        found.append(Statement("inconclusive", "notice", "inconclusive", f"{text}: the figures rest on the others."))
    return found


def _inconclusive_share(row: Availability) -> float:
    total = row.counts.conclusive + row.counts.inconclusive + row.counts.payment
    return row.counts.inconclusive / total if total else 0.0


def _vague(row: Availability) -> bool:
    return _inconclusive_share(row) > _MANY_INCONCLUSIVE


def _headline(report: UptimeReport) -> str:
    overall = report.overall
    met = [standing.met for standing in overall]
    if not any(one.counts.conclusive for one in overall):
        if not report.now:
            return "Nothing is known: there are no probes"
        return f"Nothing is known: no probe of the last {length(max(one.window_s for one in overall))} was conclusive"
    if len(overall) == 1:
        (only,) = overall
        text = {None: "Too little data", True: "Objective met", False: "Objective missed"}[only.met]
        text += "" if only.whole or only.met is not True else " so far"
        text += f": {percent(only.counts.share.value)} available"
        if only.met is None:
            text += f" by {counted(only.counts.conclusive, 'conclusive probe')} in {length(only.known_s)}"
        elif only.left_share is not None:
            left = f"{percent(only.left_share, 1)} of the error budget left"
            text += f", {left}" if only.left >= 0 else ", error budget overdrawn"
    else:
        good, unknown = sum(value is True for value in met), sum(value is None for value in met)
        text = f"{good} of {len(met)} targets {'meets its' if good == 1 else 'meet their'} objective"
        text += " so far" if any(one.met and not one.whole for one in overall) else ""
        text += f", too little is known of {unknown}" if unknown else ""
    down = list(dict.fromkeys(incident.target for incident in _ongoing(report)))
    if down:
        text += "; down now" if len(overall) == 1 else f"; down now: {', '.join(down[:3])}"
        text += f" and {len(down) - 3} more" if len(down) > 3 else ""
    elif any(_burning(standing) for standing in overall):
        text += "; burning fast"
    return text


_RANK = {"problem": 0, "unknown": 1, "notice": 2, "good": 3}


def _bounded(statements: list[Statement]) -> list[Statement]:
    """The first of them; of the others how many there are."""
    ordered = sorted(statements, key=lambda statement: _RANK[statement.standing])
    if len(ordered) <= _MOST:
        return ordered
    rest = ordered[_MOST:]
    text = f"{len(rest)} more of these are in the tables below."
    return [*ordered[:_MOST], Statement(rest[0].topic, rest[0].standing, "and more", text)]


def verdict_of(report: UptimeReport) -> Verdict:
    """The verdict of an uptime report."""
    statements = [*_bounded(_now(report)), *_bounded(list(map(_objective, report.overall)))]
    statements += _bounded(_doubts(report))
    if not report.now:
        text = "The history holds no probe of these targets in this time."
        statements.append(Statement("history", "unknown", "empty", text))
    return Verdict(_headline(report), statements)
