"""A history as arrays: the rounds of each target and location, and the hours of which only counts are left."""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tensorix_records.history import HourRow, RoundRow
from tensorix_reports.uptime._durations import Durations, lightened

__all__ = ["HOUR_NS", "STATES", "Key", "Rows", "Seen", "Track", "read"]

STATES = ("up", "degraded", "inconclusive", "payment", "down")
HOUR_NS = 3_600_000_000_000
MOST_IN_FULL = 50_000
"""Up to so many rounds all results are read, for exact percentiles; of more, the durations come from the roll-ups."""

Key: TypeAlias = tuple[str, str | None]
"""A target and the location that probed it."""

_CODES = {state: code for code, state in enumerate(STATES)}
_Ints: TypeAlias = NDArray[np.int64]


class Rows(Protocol):
    """What a report needs of a history: `tensorix_records.history.History` is one."""

    def rounds(
        self,
        *,
        target: str | None = None,
        since_unix_ns: int = 0,
        until_unix_ns: int | None = None,
        results: bool = True,
    ) -> Iterator[RoundRow]:
        """The rounds of a target that started in [since, until), oldest first."""
        ...

    def hours(self, *, since_unix_ns: int = 0, until_unix_ns: int | None = None) -> Iterator[HourRow]:
        """Roll-ups of every hour in [since, until), also of those whose rounds are there."""
        ...


@dataclass(slots=True)
class Track:
    """What one location saw of one target, in the order of time."""

    target: str
    location: str | None
    at_ns: _Ints
    """When each round started."""
    state: _Ints
    """Places in `STATES`."""
    maintenance: NDArray[np.bool_]
    words: dict[int, tuple[str, str | None]]
    """By the start of a round that was not up: what decided (`check.assertion`), and the reason."""
    windows: dict[int, str]
    """By the start of a round in maintenance: the name of the window."""
    rolled: list[HourRow]
    """The hours of which rounds are gone, by their counts; no round of such an hour is in the arrays."""

    @classmethod
    def empty(cls, target: str) -> Track:
        """That of a target which nobody probed."""
        nothing = np.array([], dtype=np.int64)
        return cls(target, None, nothing, nothing, nothing.astype(bool), {}, {}, [])

    @property
    def key(self) -> Key:
        """The target and the location."""
        return self.target, self.location

    def between(self, since_ns: int, until_ns: int) -> slice:
        """The rounds that started in [since, until)."""
        low, high = np.searchsorted(self.at_ns, [since_ns, until_ns])
        return slice(int(low), int(high))

    def rolled_between(self, since_ns: int, until_ns: int) -> Iterator[HourRow]:
        """The hours without rounds that lie wholly in [since, until)."""
        for hour in self.rolled:
            start_ns = hour.hour_unix_s * 1_000_000_000
            if since_ns <= start_ns and start_ns + HOUR_NS <= until_ns:
                yield hour


@dataclass(slots=True)
class Seen:
    """All that a report rests on."""

    since_ns: int
    until_ns: int
    tracks: list[Track]
    """By target, then location."""
    durations: Durations
    spends: list[HourRow]
    """The roll-ups of rounds, of all hours: they say what was used."""
    in_full: bool
    """Whether the durations of rounds that are there were read one by one."""

    @property
    def rounds(self) -> int:
        """Rounds that are there one by one."""
        return sum(len(track.at_ns) for track in self.tracks)


@dataclass(slots=True)
class _Gathered:
    at: array[int] = field(default_factory=lambda: array("q"))
    state: array[int] = field(default_factory=lambda: array("b"))
    maintenance: array[int] = field(default_factory=lambda: array("b"))
    words: dict[int, tuple[str, str | None]] = field(default_factory=dict)
    windows: dict[int, str] = field(default_factory=dict)


def _wanted(name: str | None, names: Collection[str | None]) -> bool:
    return not names or name in names


def count(hour: HourRow) -> int:
    """The rounds, or results, of an hour."""
    return hour.up + hour.degraded + hour.inconclusive + hour.payment + hour.down


def read(
    rows: Rows,
    since_ns: int,
    until_ns: int,
    *,
    targets: Collection[str] = (),
    locations: Collection[str | None] = (),
    most_in_full: int = MOST_IN_FULL,
) -> Seen:
    """Read [since, until) of a history; `targets` and `locations` may narrow it down."""
    hours: dict[Key, list[HourRow]] = defaultdict(list)
    checks: list[HourRow] = []
    for hour in rows.hours(since_unix_ns=since_ns // HOUR_NS * HOUR_NS, until_unix_ns=until_ns):
        if not _wanted(hour.target, targets) or not _wanted(hour.location, locations):
            continue
        if hour.check is None:
            hours[hour.target, hour.location].append(lightened(hour))
        else:
            checks.append(lightened(hour))
    in_full = sum(map(count, (hour for some in hours.values() for hour in some))) <= most_in_full
    durations = Durations()
    gathered: dict[Key, _Gathered] = defaultdict(_Gathered)
    # Target by target, as the history's index goes; each that has a round has an hour.
    for target in sorted({target for target, _ in hours}):
        for one in rows.rounds(target=target, since_unix_ns=since_ns, until_unix_ns=until_ns, results=in_full):
            if _wanted(one.location, locations):
                _take(gathered[one.target, one.location], one)
                if in_full:
                    durations.see(one)
    keys = sorted({*gathered, *hours}, key=lambda key: (key[0], key[1] or ""))
    tracks = [_track(key, gathered[key], hours[key], since_ns, until_ns) for key in keys]
    _from_roll_ups(durations, checks, tracks, since_ns, until_ns, in_full=in_full)
    spends = [hour for some in hours.values() for hour in some]
    return Seen(since_ns, until_ns, tracks, durations, spends, in_full)


def _take(into: _Gathered, one: RoundRow) -> None:
    at = one.started_unix_ns
    into.at.append(at)
    into.state.append(_CODES[one.state])
    into.maintenance.append(one.maintenance is not None)
    if one.state != "up":
        parts = [part for part in (one.cause_check, one.cause) if part]
        into.words[at] = (".".join(parts) or "not known", one.reason)
    if one.maintenance is not None:
        into.windows[at] = one.maintenance


def _track(key: Key, seen: _Gathered, hours: list[HourRow], since_ns: int, until_ns: int) -> Track:
    at = np.array(seen.at, dtype=np.int64)
    state = np.array(seen.state, dtype=np.int64)
    maintenance = np.array(seen.maintenance, dtype=bool)
    order = np.argsort(at, kind="stable")
    at, state, maintenance = at[order], state[order], maintenance[order]
    # Retention forgets rounds before it forgets their counts. An hour that counts more than is there is taken by its
    # counts alone, so that nothing is counted twice.
    told: Counter[int] = Counter()
    for hour in hours:
        told[hour.hour_unix_s] += count(hour)
    of_hour = at // HOUR_NS * 3600
    there = dict(zip(*(values.tolist() for values in np.unique(of_hour, return_counts=True)), strict=True))
    short = {
        hour
        for hour, number in told.items()
        if number > there.get(hour, 0)
        and since_ns <= hour * 1_000_000_000
        and hour * 1_000_000_000 + HOUR_NS <= until_ns
    }
    kept = ~np.isin(of_hour, list(short))
    rolled = sorted((hour for hour in hours if hour.hour_unix_s in short), key=lambda hour: hour.hour_unix_s)
    return Track(*key, at[kept], state[kept], maintenance[kept], seen.words, seen.windows, rolled)


def _from_roll_ups(
    durations: Durations,
    checks: Iterable[HourRow],
    tracks: Iterable[Track],
    since_ns: int,
    until_ns: int,
    *,
    in_full: bool,
) -> None:
    """Take the durations of those hours whose rounds were not read in full."""
    gone = {(track.key, hour.hour_unix_s) for track in tracks for hour in track.rolled}
    for hour in checks:
        key = (hour.target, hour.location)
        start_ns = hour.hour_unix_s * 1_000_000_000
        inside = start_ns + HOUR_NS > since_ns and start_ns < until_ns
        if inside and (not in_full or (key, hour.hour_unix_s) in gone):
            durations.see_hour(hour)
