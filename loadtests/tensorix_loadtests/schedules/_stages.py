"""Arrivals at a rate that changes with time: a process of rate 1, put through the inverse of the rate's integral.

A non-homogeneous Poisson process of rate r(t) is a homogeneous one of rate 1 whose time is L(t), the integral of r
(Cinlar, Introduction to Stochastic Processes, 1975, section 4.7). Constant and gamma gaps are taken the same way: the
gaps have mean 1 in the time of L, so at a constant rate they are what they are called.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence

from tensorix_loadtests.plan import Stage
from tensorix_loadtests.plan._arrivals import Gaps

__all__ = ["staged"]

# Rounding of sums must not lose the last of evenly spaced arrivals, nor add one.
_SLACK = 1e-9


def _unit_times(gaps: Gaps, variation: float, rng: random.Random) -> Iterator[float]:
    """Instants of a process of rate 1. Evenly spaced ones begin at 0, random ones with a gap."""
    if gaps == "constant":
        number = 0
        while True:
            yield float(number)
            number += 1
    shape = 1 / variation**2
    at = 0.0
    while True:
        # A gamma gap of mean 1 has the variance 1 / shape.
        at += rng.expovariate(1.0) if gaps == "poisson" else rng.gammavariate(shape, 1 / shape)
        yield at


def _arrivals_in(stage: Stage) -> float:
    """The integral of its rate: how many arrivals it brings on average."""
    return stage.duration_s * (stage.rate + (stage.rate if stage.end_rate is None else stage.end_rate)) / 2


def _instant_s(stage: Stage, arrivals: float) -> float:
    """When, after the stage's start, the integral of its rate comes to `arrivals`."""
    slope = 0.0 if stage.end_rate is None else (stage.end_rate - stage.rate) / stage.duration_s
    # The root of rate * t + slope / 2 * t^2 = arrivals, in the form that loses no digits for a small slope.
    root = stage.rate + math.sqrt(max(0.0, stage.rate**2 + 2 * slope * arrivals))
    return min(stage.duration_s, 2 * arrivals / root) if root else 0.0


def staged(stages: Sequence[Stage], gaps: Gaps, variation: float, seed: int) -> Iterator[tuple[int, int]]:
    """The offsets (ns) of all arrivals of the stages, in order, and the number of the stage of each."""
    times = _unit_times(gaps, variation, random.Random(f"gaps {seed}"))  # noqa: S311 - repeatable, not secret
    at = next(times)
    before, start_s = 0.0, 0.0
    for number, stage in enumerate(stages):
        within = _arrivals_in(stage)
        while at < before + within - _SLACK:
            yield round((start_s + _instant_s(stage, at - before)) * 1e9), number
            at = next(times)
        before += within
        start_s += stage.duration_s
