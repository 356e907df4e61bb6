"""Availability over windows, the error budget and how fast it burns.

Availability = (up + degraded) / (up + degraded + down), over rounds outside of maintenance. The error budget is the
number of conclusive probes that the objective lets fail; the burn rate is the share that failed, divided by the share
that may: at 1 the budget lasts exactly its window (Beyer et al., The Site Reliability Workbook, chapter 5).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tensorix_records.figures import Figure, fraction
from tensorix_reports.uptime._objective import Objective
from tensorix_reports.uptime._seen import STATES, Track
from tensorix_reports.uptime._spans import Span, both, length_ns, within
from tensorix_reports.uptime._watch import Watch

__all__ = ["BURN_WINDOWS", "Availability", "Burn", "Counts", "Standing", "availability_of", "counts_of", "standing_of"]

_S = 1_000_000_000
ENOUGH_ROUNDS = 20
ENOUGH_S = 3_600.0
"""With fewer conclusive probes, or known for less, nothing is said of an objective."""
_MOSTLY = 0.5
"""A burn rate is told of windows of which at least so much was watched."""
BURN_WINDOWS = {"1 h": 3_600 * _S, "6 h": 6 * 3_600 * _S, "24 h": 86_400 * _S}


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Rounds by what became of them."""

    up: int = 0
    degraded: int = 0
    inconclusive: int = 0
    payment: int = 0
    down: int = 0
    maintenance: int = 0
    """Of any state, in maintenance: on neither side, and in none of the others."""
    maintenance_down: int = 0
    """Those of them that were down."""

    @property
    def conclusive(self) -> int:
        """Those that availability rests on."""
        return self.up + self.degraded + self.down

    @property
    def share(self) -> Figure:
        """The availability."""
        return fraction(self.up + self.degraded, self.conclusive)

    def __add__(self, other: Counts) -> Counts:
        return Counts(**{name: getattr(self, name) + getattr(other, name) for name in Counts.__slots__})


@dataclass(frozen=True, slots=True, kw_only=True)
class Availability:
    """One target from one location, or from all of them, over one window."""

    target: str
    location: str | None
    pooled: bool
    """All locations of the target together."""
    window: str
    since_unix_ns: int
    until_unix_ns: int
    counts: Counts
    unknown_s: float
    """Seconds in which no probe ran; for all locations together, in which none of them looked."""
    missed: int
    """Probes that would have fallen into them."""


@dataclass(frozen=True, slots=True)
class Burn:
    """How fast the error budget went in the last so many hours."""

    window: str
    down: int
    conclusive: int
    rate: float | None
    """1 lasts just as long as the objective's window; None where nothing is conclusive, nothing may fail, or less than
    half of this window was watched.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a target stands against its objective."""

    target: str
    location: str | None
    pooled: bool
    objective: Objective
    window_s: float
    """Judged over: the objective's window, or the report's where that is shorter."""
    known_s: float
    """How much of that lies after the first probe."""
    counts: Counts
    allowed: float
    """Conclusive probes that the objective lets fail, with those that would have fallen before the first probe."""
    interval_s: float
    """A probe stands for so long: what turns probes into minutes."""
    burns: Mapping[str, Burn]

    @property
    def met(self) -> bool | None:
        """Whether the objective is met, so far at least; None where there is too little to say."""
        # In whole probes, so that no rounding of the share decides.
        return self.counts.down <= self.allowed + 1e-9 if self.enough else None

    @property
    def enough(self) -> bool:
        """Whether enough is known to say anything."""
        known = self.known_s >= min(ENOUGH_S, self.window_s) * 0.95
        return known and self.counts.conclusive >= ENOUGH_ROUNDS

    @property
    def whole(self) -> bool:
        """Whether the window is known from its beginning, or nearly."""
        return self.known_s >= 0.95 * self.window_s

    @property
    def sure(self) -> bool:
        """Whether the whole 95 % interval lies on the side that `met` says."""
        share = self.counts.share
        if self.met is False and not self.whole:
            return True
        if not self.whole or share.low is None or share.high is None:
            return False
        return share.low >= self.objective.availability or share.high < self.objective.availability

    @property
    def left(self) -> float:
        """Probes of the error budget that are left; below 0 where it is overdrawn."""
        return self.allowed - self.counts.down

    @property
    def left_share(self) -> float | None:
        """The same as a share of the budget; None where there is none."""
        return self.left / self.allowed if self.allowed > 0 else None

    @property
    def left_minutes(self) -> float:
        """The same in minutes, each probe standing for the time to the next."""
        return self.left * self.interval_s / 60


def counts_of(track: Track, since_ns: int, until_ns: int) -> Counts:
    """Count the rounds of [since, until)."""
    rows = track.between(since_ns, until_ns)
    state, aside = track.state[rows], track.maintenance[rows]
    numbers = np.bincount(state[~aside], minlength=len(STATES)).tolist()
    down = STATES.index("down")
    total = Counts(
        **dict(zip(STATES, numbers, strict=True)),
        maintenance=int(aside.sum()),
        maintenance_down=int((state[aside] == down).sum()),
    )
    for hour in track.rolled_between(since_ns, until_ns):
        states = {name: getattr(hour, name) for name in STATES}
        if hour.maintenance:
            total += Counts(maintenance=sum(states.values()), maintenance_down=hour.down)
        else:
            total += Counts(**states)
    return total


def _together(tracks: Sequence[Track], since_ns: int, until_ns: int) -> Counts:
    return sum((counts_of(track, since_ns, until_ns) for track in tracks), Counts())


def _unwatched(watches: Sequence[Watch], since_ns: int, until_ns: int) -> list[Span]:
    spans = within(watches[0].spans, since_ns, until_ns)
    for watch in watches[1:]:
        spans = both(spans, watch.spans)
    return spans


def availability_of(
    tracks: Sequence[Track], watches: Sequence[Watch], window: str, since_ns: int, until_ns: int
) -> Availability:
    """The availability of a target as one location saw it, or several together."""
    missed = sum(
        round(gap.missed * length_ns(within([gap.span], since_ns, until_ns)) / max(length_ns([gap.span]), 1))
        for watch in watches
        for gap in watch.gaps
    )
    return Availability(
        target=tracks[0].target,
        location=tracks[0].location if len(tracks) == 1 else None,
        pooled=len(tracks) > 1,
        window=window,
        since_unix_ns=since_ns,
        until_unix_ns=until_ns,
        counts=_together(tracks, since_ns, until_ns),
        unknown_s=length_ns(_unwatched(watches, since_ns, until_ns)) / 1e9,
        missed=missed,
    )


def _before(watch: Watch) -> list[Span]:
    """From the beginning to the first probe, where that is no matter of an interval."""
    return [gap.span for gap in watch.gaps if gap.why == "before"]


def standing_of(
    tracks: Sequence[Track], watches: Sequence[Watch], objective: Objective, since_ns: int, until_ns: int
) -> Standing:
    """How a target stands against its objective at `until`."""
    start_ns = max(since_ns, until_ns - round(objective.window_s * 1e9))
    counts = _together(tracks, start_ns, until_ns)
    may_fail = 1 - objective.availability
    unseen = [length_ns(within(_before(watch), start_ns, until_ns)) for watch in watches]
    expected = sum(ns / watch.interval_ns for ns, watch in zip(unseen, watches, strict=True))
    burns = {}
    for name, length in BURN_WINDOWS.items():
        begin_ns = max(since_ns, until_ns - length)
        recent = _together(tracks, begin_ns, until_ns)
        watched_ns = until_ns - begin_ns - length_ns(_unwatched(watches, begin_ns, until_ns))
        known = recent.conclusive > 0 and may_fail > 0 and watched_ns >= _MOSTLY * length
        rate = recent.down / recent.conclusive / may_fail if known else None
        burns[name] = Burn(name, recent.down, recent.conclusive, rate)
    return Standing(
        target=tracks[0].target,
        location=tracks[0].location if len(tracks) == 1 else None,
        pooled=len(tracks) > 1,
        objective=objective,
        window_s=(until_ns - start_ns) / 1e9,
        known_s=(until_ns - start_ns - min(unseen)) / 1e9,
        counts=counts,
        allowed=(counts.conclusive + expected) * may_fail,
        interval_s=1 / sum(1e9 / watch.interval_ns for watch in watches),
        burns=burns,
    )
