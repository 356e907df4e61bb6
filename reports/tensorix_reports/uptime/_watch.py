"""When a target was watched: how often it was probed, and the stretches in which no probe ran."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from tensorix_reports.uptime._seen import HOUR_NS, Track, count
from tensorix_reports.uptime._spans import Span

__all__ = ["Gap", "Watch", "watch_of"]

_NEIGHBOURS = 10
_ENOUGH = 3
_LATE = 1.5
"""A probe is missing where the next came more than so many intervals after it was due."""
_UNKNOWN_INTERVAL_NS = 60_000_000_000


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch in which nobody looked."""

    target: str
    location: str | None
    start_unix_ns: int
    """When the next probe would have been due."""
    end_unix_ns: int
    missed: int
    """How many probes would have fallen into it."""
    why: str
    """`before` the first probe, `between` two, `after` the last, or `hours`: somewhere in hours that are rolled up."""

    @property
    def span(self) -> Span:
        """From when to when."""
        return self.start_unix_ns, self.end_unix_ns


@dataclass(frozen=True, slots=True)
class Watch:
    """How a target was watched from one location."""

    interval_ns: int
    """The usual distance between two probes."""
    gaps: list[Gap]

    @property
    def spans(self) -> list[Span]:
        """When nobody looked."""
        return [gap.span for gap in self.gaps]


def _intervals(at_ns: np.ndarray, fallback_ns: int) -> np.ndarray:
    """The interval that held from each round on: the lower quartile of the distances before it, or of those after it
    where these are wider. So a gap or two raise it nowhere, and a change of the configuration makes no gap.
    """
    if len(at_ns) < 2:
        return np.full(len(at_ns), fallback_ns, dtype=np.int64)
    apart = pd.Series(np.diff(at_ns))
    before = _quartiles(apart).shift(1)
    after = _quartiles(apart[::-1])[::-1].shift(-1)
    usual = np.fmax(before.to_numpy(), after.to_numpy())
    usual[np.isnan(usual)] = apart.quantile(0.25, interpolation="lower")
    return np.append(usual, usual[-1]).astype(np.int64)


def _quartiles(apart: pd.Series) -> pd.Series:
    return apart.rolling(_NEIGHBOURS, min_periods=_ENOUGH).quantile(0.25, interpolation="lower")


def watch_of(track: Track, since_ns: int, until_ns: int, told_interval_ns: int | None = None) -> Watch:
    """When a target was watched within [since, until). `told_interval_ns` serves where too few rounds show theirs."""
    hourly: dict[int, int] = {}
    for hour in track.rolled:
        start_ns = hour.hour_unix_s * 1_000_000_000
        hourly[start_ns] = hourly.get(start_ns, 0) + count(hour)
    fallback = HOUR_NS // max(hourly.values()) if hourly else told_interval_ns or _UNKNOWN_INTERVAL_NS
    each = _intervals(track.at_ns, fallback)
    usual = int(np.median(each)) if len(each) else fallback
    usual = usual if len(track.at_ns) > 1 else fallback
    starts = np.concatenate([track.at_ns, np.array(list(hourly), dtype=np.int64)])
    intervals = np.concatenate([each, np.full(len(hourly), fallback, dtype=np.int64)])
    ends = starts + np.concatenate([each, np.full(len(hourly), HOUR_NS, dtype=np.int64)])
    order = np.argsort(starts, kind="stable")
    starts, ends, intervals = starts[order], ends[order], intervals[order]
    if not len(starts):
        missed = max(1, round((until_ns - since_ns) / usual))
        return Watch(usual, [Gap(*track.key, since_ns, until_ns, missed, "before")])
    gaps = []

    def add(start: int, end: int, interval: int, why: str) -> None:
        missed = max(1, round((end - start) / max(interval, 1)))
        gaps.append(Gap(*track.key, start, end, missed, why))

    if starts[0] - since_ns > (1 + _LATE) * intervals[0]:
        add(since_ns, int(starts[0]), int(intervals[0]), "before")
    nexts = np.append(starts[1:], until_ns)
    for index in np.flatnonzero(nexts - ends > _LATE * intervals).tolist():
        why = "after" if index == len(starts) - 1 else "between"
        add(int(ends[index]), int(nexts[index]), int(intervals[index]), why)
    for start_ns, number in hourly.items():
        # Where in the hour is not known, so it is put at its end.
        missing_ns = HOUR_NS - number * fallback
        if missing_ns > _LATE * fallback:
            add(start_ns + HOUR_NS - missing_ns, start_ns + HOUR_NS, fallback, "hours")
    return Watch(usual, sorted(gaps, key=lambda gap: gap.start_unix_ns))
