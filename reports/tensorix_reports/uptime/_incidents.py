"""Outages as one location saw them, and incidents: the outages of a target that overlap.

An outage is a run of `down` among the conclusive rounds outside of maintenance. It began between the last good probe
and the first bad one, and ended between the last bad one and the next good one, so its length is known within bounds
only. Inconclusive and unpaid rounds neither begin nor end one. A good probe ends it also in maintenance.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tensorix_reports.uptime._seen import HOUR_NS, STATES, Track

__all__ = ["Incident", "MaintenanceStretch", "Outage", "incidents_of", "maintenance_of", "outages_of"]

_DOWN = STATES.index("down")
_GOOD = (STATES.index("up"), STATES.index("degraded"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """One location's view."""

    target: str
    location: str | None
    start_unix_ns: int
    """The first failed probe."""
    end_unix_ns: int | None
    """The first good probe after it; None while there is none."""
    last_good_unix_ns: int | None
    """The last good probe before it; None where there is none in the report's window."""
    last_bad_unix_ns: int
    failed: int
    """Probes that failed, outside of maintenance."""
    cause: str
    """The `check.assertion` that decided the first failed probe; of hourly counts, the most frequent."""
    reason: str | None
    """In the words of that probe."""
    later: tuple[str, ...] = ()
    """What else decided later ones, the most frequent first."""
    hourly: bool = False
    """Known by hourly counts only: start and end are those of the hours, and nothing finer is known."""

    @property
    def least_ns(self) -> int:
        """It lasted at least so long: between two bad probes."""
        return 0 if self.hourly else self.last_bad_unix_ns - self.start_unix_ns

    @property
    def most_ns(self) -> int | None:
        """It lasted less than so long: between two good probes; None where one of these is missing."""
        if self.end_unix_ns is None or (self.last_good_unix_ns is None and not self.hourly):
            return None
        before = self.start_unix_ns if self.last_good_unix_ns is None else self.last_good_unix_ns
        return self.end_unix_ns - before


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """The outages of a target that overlap, as one."""

    target: str
    outages: tuple[Outage, ...]
    well: tuple[str | None, ...]
    """Locations that had a good probe within it, and no bad one: from there the target was up."""

    @property
    def start_unix_ns(self) -> int:
        """The first failed probe anywhere."""
        return min(outage.start_unix_ns for outage in self.outages)

    @property
    def end_unix_ns(self) -> int | None:
        """When the last location had a good probe again; None while one has not."""
        ends = [outage.end_unix_ns for outage in self.outages if outage.end_unix_ns is not None]
        return max(ends) if len(ends) == len(self.outages) else None

    @property
    def failed(self) -> int:
        """Failed probes of all locations."""
        return sum(outage.failed for outage in self.outages)

    @property
    def locations(self) -> tuple[str | None, ...]:
        """Where it was seen from."""
        return tuple(dict.fromkeys(outage.location for outage in self.outages))

    @property
    def scope(self) -> str:
        """`all` locations that looked, or `some`; `only` where there is one."""
        if self.well:
            return "some"
        return "all" if len(self.locations) > 1 else "only"

    @property
    def first(self) -> Outage:
        """The outage that it began with: its cause and reason are the incident's."""
        return min(self.outages, key=lambda outage: outage.start_unix_ns)

    @property
    def least_ns(self) -> int:
        """It lasted at least so long: from the first bad probe to the last, or as long as its longest outage."""
        if any(outage.hourly for outage in self.outages):
            return max(outage.least_ns for outage in self.outages)
        return max(outage.last_bad_unix_ns for outage in self.outages) - self.start_unix_ns

    @property
    def most_ns(self) -> int | None:
        """It lasted less than so long; None where the good probe before or after it is missing."""
        starts = []
        for outage in self.outages:
            if outage.most_ns is None or outage.end_unix_ns is None:
                return None
            starts.append(outage.end_unix_ns - outage.most_ns)
        end = self.end_unix_ns
        return None if end is None else end - min(starts)

    def to_dict(self) -> dict[str, Any]:
        """Its figures by name."""
        return {
            "target": self.target,
            "start_unix_ns": self.start_unix_ns,
            "end_unix_ns": self.end_unix_ns,
            "least_ns": self.least_ns,
            "most_ns": self.most_ns,
            "failed": self.failed,
            "cause": self.first.cause,
            "reason": self.first.reason,
            "later": list(self.first.later),
            "scope": self.scope,
            "locations": list(self.locations),
            "well": list(self.well),
            "hourly": any(outage.hourly for outage in self.outages),
        }


def _of_rounds(track: Track) -> Iterator[Outage]:
    """The outages among rounds that are there."""
    good = np.isin(track.state, _GOOD)
    bad = (track.state == _DOWN) & ~track.maintenance
    telling = np.flatnonzero(good | bad)
    at, failed = track.at_ns[telling], bad[telling]
    before = np.concatenate([[False], failed[:-1]])
    after = np.concatenate([failed[1:], [False]])
    for first, last in zip(
        np.flatnonzero(failed & ~before).tolist(), np.flatnonzero(failed & ~after).tolist(), strict=True
    ):
        words = [track.words.get(instant, ("not known", None)) for instant in at[first : last + 1].tolist()]
        yield Outage(
            target=track.target,
            location=track.location,
            start_unix_ns=int(at[first]),
            end_unix_ns=int(at[last + 1]) if last + 1 < len(at) else None,
            last_good_unix_ns=int(at[first - 1]) if first else None,
            last_bad_unix_ns=int(at[last]),
            failed=last - first + 1,
            cause=words[0][0],
            reason=words[0][1],
            later=tuple(name for name, _ in Counter(cause for cause, _ in words).most_common() if name != words[0][0]),
        )


def _of_hours(track: Track) -> Iterator[Outage]:
    """The outages of hours of which only counts are left: neighbouring hours with failures are one."""
    bad = [hour for hour in track.rolled if hour.down and not hour.maintenance]
    start = 0
    for index, hour in enumerate(bad):
        if index + 1 < len(bad) and bad[index + 1].hour_unix_s == hour.hour_unix_s + 3600:
            continue
        hours = bad[start : index + 1]
        causes: Counter[str] = Counter()
        for one in hours:
            causes.update(one.causes)
        yield Outage(
            target=track.target,
            location=track.location,
            start_unix_ns=hours[0].hour_unix_s * 1_000_000_000,
            end_unix_ns=hour.hour_unix_s * 1_000_000_000 + HOUR_NS,
            last_good_unix_ns=None,
            last_bad_unix_ns=hour.hour_unix_s * 1_000_000_000 + HOUR_NS,
            failed=sum(one.down for one in hours),
            cause=causes.most_common(1)[0][0] if causes else "not known",
            reason=None,
            hourly=True,
        )
        start = index + 1


def outages_of(track: Track) -> list[Outage]:
    """All outages of a track, oldest first."""
    return sorted([*_of_hours(track), *_of_rounds(track)], key=lambda outage: outage.start_unix_ns)


def incidents_of(tracks: Sequence[Track]) -> list[Incident]:
    """The incidents of one target from all its locations, oldest first."""
    outages = sorted((one for track in tracks for one in outages_of(track)), key=lambda outage: outage.start_unix_ns)
    groups: list[list[Outage]] = []
    until: float = -1
    for outage in outages:
        # One that ends with a good probe at the very instant of the next's first bad one does not touch it.
        if not groups or outage.start_unix_ns >= until or len(tracks) == 1:
            groups.append([])
            until = -1
        groups[-1].append(outage)
        until = max(until, float("inf") if outage.end_unix_ns is None else outage.end_unix_ns)
    return [_incident(group, tracks) for group in groups]


def _incident(outages: list[Outage], tracks: Iterable[Track]) -> Incident:
    ill = {outage.location for outage in outages}
    start = min(outage.start_unix_ns for outage in outages)
    open_ended = any(outage.end_unix_ns is None for outage in outages)
    end = max(outage.last_bad_unix_ns if outage.end_unix_ns is None else outage.end_unix_ns for outage in outages)
    well = []
    for track in tracks:
        rows = track.between(start, end + 1 if open_ended else end)
        if track.location not in ill and np.isin(track.state[rows], _GOOD).any():
            well.append(track.location)
    return Incident(target=outages[0].target, outages=tuple(outages), well=tuple(well))


@dataclass(frozen=True, slots=True, kw_only=True)
class MaintenanceStretch:
    """Rounds in a row that fell into the same maintenance window."""

    target: str
    location: str | None
    name: str
    first_unix_ns: int
    last_unix_ns: int
    rounds: int
    down: int


def maintenance_of(track: Track, apart_ns: int) -> list[MaintenanceStretch]:
    """The stretches of maintenance of a track; two of one name further apart than `apart_ns` are two."""
    found: list[MaintenanceStretch] = []
    at, state = track.at_ns[track.maintenance].tolist(), track.state[track.maintenance].tolist()
    rows: list[tuple[int, bool]] = []
    name = ""

    def close() -> None:
        if rows:
            down = sum(bad for _, bad in rows)
            ends = {"first_unix_ns": rows[0][0], "last_unix_ns": rows[-1][0]}
            found.append(
                MaintenanceStretch(
                    target=track.target, location=track.location, name=name, rounds=len(rows), down=down, **ends
                )
            )
            rows.clear()

    for instant, code in zip(at, state, strict=True):
        window = track.windows.get(instant, "")
        if rows and (window != name or instant - rows[-1][0] > apart_ns):
            close()
        name = window
        rows.append((instant, code == _DOWN))
    close()
    return found
