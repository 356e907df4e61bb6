"""The uptime report as data."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd

from tensorix_reports.uptime._availability import Availability, Standing, availability_of, standing_of
from tensorix_reports.uptime._days import DAY_NS, Cause, Spend, causes_of, days_of, spends_of
from tensorix_reports.uptime._durations import Taken
from tensorix_reports.uptime._incidents import Incident, MaintenanceStretch, Outage, incidents_of, maintenance_of
from tensorix_reports.uptime._objective import Objective
from tensorix_reports.uptime._seen import HOUR_NS, MOST_IN_FULL, STATES, Rows, Track, read
from tensorix_reports.uptime._watch import Gap, Watch, watch_of

__all__ = ["Now", "UptimeReport", "uptime_report"]

_SHORT_NS = 3 * DAY_NS
_WINDOWS = {"7 d": 7 * DAY_NS, "24 h": DAY_NS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Now:
    """How a target stood at its last probe from one location."""

    target: str
    location: str | None
    state: str | None
    """None where only hourly counts are left."""
    since_unix_ns: int | None
    """The first of the probes in a row that found it so."""
    last_unix_ns: int | None
    rounds: int
    interval_s: float | None
    """The usual distance between two probes; None where there is none."""
    cause: str | None
    reason: str | None
    maintenance: str | None


@dataclass(frozen=True, slots=True)
class UptimeReport:
    """Everything that the page shows. Times are Unix ns; days are those of UTC."""

    since_unix_ns: int
    until_unix_ns: int
    now: list[Now]
    availability: list[Availability]
    """By target, location and window; the whole of the report's window first."""
    standings: list[Standing]
    incidents: list[Incident]
    """Oldest first."""
    gaps: list[Gap]
    maintenance: list[MaintenanceStretch]
    durations: list[Taken]
    step_ns: int
    """How much time a row of `durations` covers: a day, or an hour in a short report."""
    in_full: bool
    """Whether durations of all rounds that are there were read one by one."""
    days: list[Availability]
    spends: list[Spend]
    causes: list[Cause]

    @property
    def targets(self) -> list[str]:
        """Their names, in order."""
        return list(dict.fromkeys(row.target for row in self.now))

    @property
    def overall(self) -> list[Standing]:
        """One standing a target: that of all its locations together."""
        several = {standing.target for standing in self.standings if standing.pooled}
        return [one for one in self.standings if one.pooled or one.target not in several]

    def frames(self) -> dict[str, pd.DataFrame]:
        """The tables for pandas: `availability`, `objectives`, `incidents`, `gaps`, `latency`, `days`, ..."""
        return {name: pd.DataFrame(rows) for name, rows in self.to_dict().items() if isinstance(rows, list)}

    def to_dict(self) -> dict[str, Any]:
        """All figures as JSON takes them; `reports/UPTIME.md` describes the keys."""
        return {
            "since_unix_ns": self.since_unix_ns,
            "until_unix_ns": self.until_unix_ns,
            "now": [asdict(row) for row in self.now],
            "objectives": [_standing(row) for row in self.standings],
            "availability": [_availability(row) for row in self.availability],
            "incidents": [
                row.to_dict() | {"outages": [_outage(outage) for outage in row.outages]} for row in self.incidents
            ],
            "gaps": [asdict(row) for row in self.gaps],
            "maintenance": [asdict(row) for row in self.maintenance],
            "latency": [asdict(row) for row in self.durations],
            "latency_step_s": self.step_ns // 1_000_000_000,
            "latency_in_full": self.in_full,
            "days": [_availability(row) for row in self.days],
            "spent": [asdict(row) for row in self.spends],
            "causes": [asdict(row) for row in self.causes],
        }


def _outage(outage: Outage) -> dict[str, Any]:
    row = asdict(outage) | {"least_ns": outage.least_ns, "most_ns": outage.most_ns}
    return {name: value for name, value in row.items() if name != "target"}


def _availability(row: Availability) -> dict[str, Any]:
    share = row.counts.share
    flat = {name: value for name, value in asdict(row).items() if name != "counts"}
    figures = {"availability": share.value, "availability_low": share.low, "availability_high": share.high}
    return flat | asdict(row.counts) | {"conclusive": row.counts.conclusive} | figures


def _standing(row: Standing) -> dict[str, Any]:
    share = row.counts.share
    return {
        "target": row.target,
        "location": row.location,
        "pooled": row.pooled,
        "objective": row.objective.availability,
        "objective_told": row.objective.told,
        "objective_window_s": row.objective.window_s,
        "window_s": row.window_s,
        "known_s": row.known_s,
        "met": row.met,
        "sure": row.sure,
        "availability": share.value,
        "availability_low": share.low,
        "availability_high": share.high,
        "conclusive": row.counts.conclusive,
        "down": row.counts.down,
        "budget": row.allowed,
        "budget_left": row.left,
        "budget_left_share": row.left_share,
        "budget_left_minutes": row.left_minutes,
        "interval_s": row.interval_s,
        "burn": {name: asdict(burn) for name, burn in row.burns.items()},
    }


def _now(track: Track, watch: Watch) -> Now:
    rounds = len(track.at_ns)
    state = since = last = cause = reason = window = None
    if rounds:
        code = int(track.state[-1])
        state, last = STATES[code], int(track.at_ns[-1])
        # What is not conclusive ends nothing that is: an outage goes on through it.
        open_ = np.isin(track.state, [STATES.index(name) for name in ("inconclusive", "payment")])
        aside = open_ if not open_[-1] else np.zeros_like(open_)
        others = ((track.state != code) & ~aside).nonzero()[0]
        same = (track.state == code).nonzero()[0]
        since = int(track.at_ns[same[same > (others[-1] if len(others) else -1)][0]])
        cause, reason = track.words.get(last, (None, None))
        window = track.windows.get(last)
    return Now(
        target=track.target,
        location=track.location,
        state=state,
        since_unix_ns=since,
        last_unix_ns=last,
        rounds=rounds,
        interval_s=watch.interval_ns / 1e9 if rounds or track.rolled else None,
        cause=cause,
        reason=reason,
        maintenance=window,
    )


def unix_ns(instant: datetime) -> int:
    """The instant in Unix ns, exactly. Raises ValueError where it has no zone."""
    if instant.tzinfo is None:
        raise ValueError("a time of the report needs a zone: say which, as in datetime.now(UTC)")
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000


def _windows(since_ns: int, until_ns: int, objective: Objective) -> dict[str, tuple[int, int]]:
    windows = {"all": (since_ns, until_ns)}
    lengths = dict(_WINDOWS)
    if objective.window_s * 1e9 not in lengths.values():
        lengths = {"objective": round(objective.window_s * 1e9), **lengths}
    return windows | {name: (until_ns - ns, until_ns) for name, ns in lengths.items() if ns < until_ns - since_ns}


def uptime_report(
    history: Rows | str,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    objectives: Mapping[str, Objective] | Objective | None = None,
    targets: Collection[str] = (),
    locations: Collection[str | None] = (),
    most_in_full: int = MOST_IN_FULL,
) -> UptimeReport:
    """Read a history (open, or by its address) and say how available its targets were in [since, until).

    `until` is now where it is not given, `since` 30 days before. `objectives` are those of the targets by name, or one
    for all; without one it is 99.5 % over 30 days. `targets` and `locations` narrow it down. Of histories with more
    rounds than `most_in_full` the durations come from hourly histograms. Raises HistoryError where the history cannot
    be read, ValueError where the window is none.
    """
    until_ns = unix_ns(until or datetime.now(UTC))
    since_ns = unix_ns(since) if since is not None else until_ns - 30 * DAY_NS
    if since_ns >= until_ns:
        raise ValueError("the report's window has no length: `since` has to be before `until`")
    if isinstance(history, str):
        from tensorix_records.history import History

        opened = History.open(history, create=False)
        try:
            seen = read(opened, since_ns, until_ns, targets=targets, locations=locations, most_in_full=most_in_full)
        finally:
            opened.close()
    else:
        seen = read(history, since_ns, until_ns, targets=targets, locations=locations, most_in_full=most_in_full)

    def objective_of(target: str) -> Objective:
        if isinstance(objectives, Objective):
            return objectives
        return (objectives or {}).get(target) or Objective(told=False)

    report = UptimeReport(
        since_ns,
        until_ns,
        [],
        [],
        [],
        [],
        [],
        [],
        [],
        _step(since_ns, until_ns),
        seen.in_full,
        [],
        spends_of(seen),
        causes_of(seen.tracks),
    )
    report.durations.extend(seen.durations.taken(report.step_ns))
    known = {track.target for track in seen.tracks}
    # A target that was promised something and never probed is the one to be told of.
    silent = objectives if isinstance(objectives, Mapping) else {}
    tracks_of_all = [*seen.tracks, *(Track.empty(name) for name in silent if name not in known)]
    tracks_of_all.sort(key=lambda track: track.target)
    for target, group in groupby(tracks_of_all, key=lambda track: track.target):
        tracks, objective = list(group), objective_of(target)
        told = None if objective.interval_s is None else round(objective.interval_s * 1e9)
        watches = [watch_of(track, since_ns, until_ns, told) for track in tracks]
        views = [([track], [watch]) for track, watch in zip(tracks, watches, strict=True)]
        if len(tracks) > 1:
            views.insert(0, (tracks, watches))
        for some, their in views:
            report.standings.append(standing_of(some, their, objective, since_ns, until_ns))
            for name, window in _windows(since_ns, until_ns, objective).items():
                report.availability.append(availability_of(some, their, name, *window))
        report.days.extend(days_of(tracks, watches, since_ns, until_ns))
        report.incidents.extend(incidents_of(tracks))
        for track, watch in zip(tracks, watches, strict=True):
            report.now.append(_now(track, watch))
            report.gaps.extend(watch.gaps)
            report.maintenance.extend(maintenance_of(track, max(HOUR_NS, 3 * watch.interval_ns)))
    report.incidents.sort(key=lambda incident: (incident.start_unix_ns, incident.target))
    return report


def _step(since_ns: int, until_ns: int) -> int:
    return HOUR_NS if until_ns - since_ns <= _SHORT_NS else DAY_NS
