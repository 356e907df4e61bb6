"""Block bootstrap of two runs: how far apart their figures would lie if nothing but chance had been at work.

A run's window is cut into slices, and whole slices are drawn anew, all figures from the same draw (Künsch 1989). The
widest of all studentised differences then says how wide an interval has to be for all of them to hold at once (Romano
and Wolf 2005, in one step): sharper than counting the figures, as most of them move together. The figures that are
read first are a family of their own, with most of the 5 % that chance may claim: what is asked of most comparisons is
found the more readily, and the two families' chances add up to no more than 5 %.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from tensorix_reports.comparison._measures import Key, Measure

__all__ = ["BEYOND", "HEADLINES", "RESAMPLES", "Interval", "drawn", "intervals_of"]

RESAMPLES = 2000
BEYOND = 10
"""A percentile with fewer samples beyond it, in either run, is not compared."""

HEADLINES = ("p50", "p95", "share", "a second")
"""The statistics that are read first; p90, p99 and means are the rest. Fixed, so that no run chooses its family."""
_HEADLINES_MAY = 0.04
_REST_MAY = 0.01
"""How often chance alone may claim a difference in a family."""

_Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """The difference of a figure between a run and the baseline, its interval holding for all at once."""

    difference: float
    low: float
    high: float
    relative: bool
    """Whether the three are logarithms of the ratio; else differences in the unit of the figure."""

    @property
    def shown(self) -> bool:
        """Whether the data can show that there is a difference: none is outside the interval."""
        return not self.low <= 0 <= self.high


def drawn(measures: Mapping[Key, Measure], slices: int, generator: np.random.Generator) -> dict[Key, _Floats]:
    """Every figure in each of `RESAMPLES` draws of a run's slices."""
    chosen = generator.multinomial(slices, np.full(slices, 1 / slices), size=RESAMPLES).astype(np.float64)
    above = chosen @ np.array([one.above for one in measures.values()]).T
    below = chosen @ np.array([one.below for one in measures.values()]).T
    shares = np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)
    return {one.key: _values(one, shares[:, place]) for place, one in enumerate(measures.values())}


def _values(one: Measure, shares: _Floats) -> _Floats:
    if one.ordered is None:
        return shares
    # How many more or fewer samples a draw has below the percentile, so far the percentile moves the other way.
    moved = one.probability - (shares - float(one.above.sum() / one.below.sum()))
    return np.interp(moved * (one.ordered.size - 1), np.arange(one.ordered.size), one.ordered)


def _least(one: Measure) -> float:
    """The standard error that a count has at least, also where all draws are alike: no failure is not no risk."""
    if one.kind == "share":
        of = float(one.below.sum())
        share = (float(one.above.sum()) + 2) / (of + 4)
        return float(np.sqrt(share * (1 - share) / of))
    if one.key[2] == "a second":
        events = float(one.above.sum())
        # What was refused or failed comes by chance; what was sent is known to a request.
        spread = np.sqrt(events + 2) if one.key[1] in ("throttled", "failed") else 1.0
        return float(spread / one.below.sum())
    return 0.0


def _comparable(one: Measure) -> bool:
    if one.ordered is None:
        return one.count >= 2 * BEYOND or one.kind != "time"
    return round(one.count * min(one.probability, 1 - one.probability), 6) >= BEYOND


def _beyond(one: Measure) -> float:
    """The samples on the rarer side of a percentile; of a sum all count."""
    return one.count * (1.0 if one.ordered is None else min(one.probability, 1 - one.probability))


def _student(deviate: float, freedom: float) -> float:
    """The normal deviate as one of Student's t (Cornish-Fisher): a spread from little is uncertain itself."""
    z = deviate
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    return z + first / freedom + second / freedom**2


def _widest(deviations: Sequence[_Floats], may: float) -> float:
    """How many standard errors all of a family's figures keep within, but for that share of the draws."""
    # Never less than a single figure asks for.
    return max(float(np.quantile(np.max(deviations, axis=0), 1 - may)) if deviations else 0.0, 1.959963984540054)


def intervals_of(
    baseline: tuple[Mapping[Key, Measure], Mapping[Key, _Floats]],
    others: Sequence[tuple[Mapping[Key, Measure], Mapping[Key, _Floats]]],
    slices: int,
    keys: Sequence[Key] | None = None,
) -> list[dict[Key, Interval]]:
    """For each run the intervals of its differences from the baseline; 95 % for all figures of all runs together.

    `keys` limits them to a few that were named beforehand: one family, whose intervals are then narrower.
    """
    base, base_draws = baseline
    found: list[tuple[int, Key, float, float, bool, float]] = []
    # By family: whether it is that of the headlines.
    deviations: dict[bool, list[_Floats]] = {True: [], False: []}
    for place, (measures, draws) in enumerate(others):
        for key, one in measures.items():
            first = base.get(key)
            if first is None or (keys is not None and key not in keys) or not (_comparable(first) and _comparable(one)):
                continue
            a, b = base_draws[key], draws[key]
            least = np.hypot(_least(first), _least(one))
            freedom = max(1.0, min(slices - 1.0, _beyond(first), _beyond(one)))
            relative = one.kind != "share" and key[1] not in ("throttled", "failed")
            relative = relative and min(first.value, one.value, float(np.nanmin(a)), float(np.nanmin(b))) > 0
            if relative:
                moved, difference = np.log(b) - np.log(a), float(np.log(one.value / first.value))
                least = np.hypot(_least(first) / first.value, _least(one) / one.value)
            else:
                moved, difference = b - a, one.value - first.value
            moved = np.nan_to_num(moved - np.nanmean(moved))
            error = max(float(moved.std()), float(least))
            if error <= 0:
                # Samples that are all the same: what differs, differs.
                found.append((place, key, difference, 0.0, relative, freedom))
                continue
            found.append((place, key, difference, error, relative, freedom))
            deviations[keys is not None or key[2] in HEADLINES].append(np.abs(moved) / error)
    may = {True: _HEADLINES_MAY, False: _REST_MAY} if all(deviations.values()) else {True: 0.05, False: 0.05}
    deviate = {family: _widest(some, may[family]) for family, some in deviations.items()}
    intervals: list[dict[Key, Interval]] = [{} for _ in others]
    for place, key, difference, error, relative, freedom in found:
        half = _student(deviate[keys is not None or key[2] in HEADLINES], freedom) * error
        intervals[place][key] = Interval(difference, difference - half, difference + half, relative)
    return intervals
