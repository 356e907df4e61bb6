"""How long answers took, by day or by hour: from each probe where those are few, else from roll-ups."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tensorix_records.figures import NEEDED_BEYOND
from tensorix_records.history import HourRow, RoundRow, merge_phases, phase_of, phase_percentile_ns

__all__ = ["QUANTITIES", "Durations", "Quantity", "Taken", "lightened"]

_HOUR_NS = 3_600_000_000_000
_GOOD = ("up", "degraded")


@dataclass(frozen=True, slots=True)
class Quantity:
    """Something that takes time: a phase of a check, or of every check that has it."""

    name: str
    check: str | None
    phase: str


QUANTITIES = (
    Quantity("TTFT", "stream", "first_token"),
    Quantity("stream, total", "stream", "total"),
    Quantity("chat, total", "chat", "total"),
    Quantity("connect", None, "connect"),
)


def _quantities(check: str) -> Iterator[Quantity]:
    return (quantity for quantity in QUANTITIES if quantity.check in (check, None))


def lightened(hour: HourRow) -> HourRow:
    """An hour with the histograms of these quantities alone: the others are most of what a month weighs."""
    names = {quantity.phase for quantity in _quantities(hour.check)} if hour.check is not None else set()
    return replace(hour, phases={name: phase for name, phase in hour.phases.items() if name in names})


@dataclass(frozen=True, slots=True)
class Taken:
    """What one quantity came to in one stretch of time."""

    target: str
    location: str | None
    quantity: str
    start_unix_ns: int
    count: int
    p50_s: float | None
    p95_s: float | None
    """None where fewer than five samples lie beyond it."""
    source: str
    """`rounds`: exact; `roll-ups`: within 3.1 %, whole hours only; `both`: some hours of each."""


@dataclass(slots=True)
class _Samples:
    at: array[int] = field(default_factory=lambda: array("q"))
    ns: array[int] = field(default_factory=lambda: array("q"))
    hours: dict[int, list[Mapping[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    """Histograms by the hour (Unix s)."""


@dataclass(slots=True)
class Durations:
    """Samples by target, location and quantity: of good answers, outside of maintenance."""

    _samples: dict[tuple[str, str | None, str], _Samples] = field(default_factory=lambda: defaultdict(_Samples))

    def see(self, one: RoundRow) -> None:
        """Take the phases of a round that was read in full."""
        if one.maintenance is not None:
            return
        for result in one.results:
            if result.state in _GOOD:
                for quantity in _quantities(result.check):
                    if (took := result.phases_ns.get(quantity.phase)) is not None:
                        samples = self._samples[one.target, one.location, quantity.name]
                        samples.at.append(one.started_unix_ns)
                        samples.ns.append(took)

    def see_hour(self, hour: HourRow) -> None:
        """Take the histograms of an hour of a check, in place of its rounds."""
        if hour.maintenance or hour.check is None:
            return
        for quantity in _quantities(hour.check):
            phase = hour.phases.get(quantity.phase)
            if phase and phase.get("count"):
                samples = self._samples[hour.target, hour.location, quantity.name]
                samples.hours[hour.hour_unix_s].append(phase)

    def taken(self, step_ns: int) -> list[Taken]:
        """Percentiles by stretches of `step_ns` since 1970 (UTC days, or hours), in order."""
        rows = []
        for (target, location, name), samples in self._samples.items():
            for start_ns, count, p50_s, p95_s, source in _stretches(samples, step_ns):
                rows.append(Taken(target, location, name, start_ns, count, p50_s, p95_s, source))
        order = [quantity.name for quantity in QUANTITIES]
        return sorted(
            rows, key=lambda row: (row.target, row.location or "", order.index(row.quantity), row.start_unix_ns)
        )


def _stretches(samples: _Samples, step_ns: int) -> Iterator[tuple[int, int, float | None, float | None, str]]:
    at, ns = np.array(samples.at, dtype=np.int64), np.array(samples.ns, dtype=np.int64)
    # An hour is taken from one source only: where it is rolled up, what is left of its rounds is in the counts.
    kept = ~np.isin(at // _HOUR_NS * 3600, list(samples.hours))
    at, ns = at[kept], ns[kept]
    starts = at // step_ns * step_ns
    rolled: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for hour, phases in samples.hours.items():
        rolled[hour * 1_000_000_000 // step_ns * step_ns].extend(phases)
    for start in sorted({*starts.tolist(), *rolled}):
        exact = ns[starts == start]
        if start not in rolled:
            yield start, len(exact), _exact(exact, 50), _exact(exact, 95), "rounds"
            continue
        merged = merge_phases([*rolled[start], *map(phase_of, exact.tolist())])
        assert merged is not None
        source = "both" if len(exact) else "roll-ups"
        yield start, merged["count"], _rolled(merged, 50), _rolled(merged, 95), source


def _too_few(count: int, percent: int) -> bool:
    return count * (100 - percent) < 100 * NEEDED_BEYOND


def _exact(ns: np.ndarray, percent: int) -> float | None:
    return None if _too_few(len(ns), percent) else float(np.percentile(ns, percent)) / 1e9


def _rolled(phase: Mapping[str, Any], percent: int) -> float | None:
    return None if _too_few(phase["count"], percent) else phase_percentile_ns(phase, percent) / 1e9
