"""Figures that say how far they can be trusted: percentiles, fractions and rates with their counts and intervals.

Pure functions of arrays. NaN stands for a value that is not there, and is left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, floor, sqrt
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tensorix_records._autocorrelation import Series
from tensorix_records._dependence import (
    Dependence,
    correlated_ranks,
    dense_ranks,
    dependence_of,
    looks_correlated,
    perhaps_correlated,
)

__all__ = [
    "NEEDED_BEYOND",
    "Figure",
    "Method",
    "fraction",
    "percentile",
    "percentiles",
    "rate",
]

Method: TypeAlias = Literal["order statistics", "long-run variance", "Wilson score", "none"]

NEEDED_BEYOND = 5
"""A percentile with fewer samples beyond it is withheld: p99 takes 500 samples, p99.9 takes 5,000."""

_TAIL = 0.025
_MANY = 200_000
_Z = 1.959963984540054

_Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Figure:
    """A value with its 95 % interval, in the unit of its samples.

    `value` is None where it is withheld, and `withheld` says why. `low` and `high` are None where no interval is known
    (`method` is then "none"): a rate, or a percentile of samples so alike their neighbours that few would count.
    """

    value: float | None
    low: float | None
    high: float | None
    count: int
    """Samples behind it."""
    method: Method
    """How the interval was found."""
    withheld: str | None = None
    needed: int | None = None
    """How many samples it would take, where too few is why it is withheld."""


def percentile(values: ArrayLike, percent: float, *, correlated: bool | None = None) -> Figure:
    """One percentile; see `percentiles`."""
    return percentiles(values, (percent,), correlated=correlated)[percent]


def percentiles(values: ArrayLike, percents: Iterable[float], *, correlated: bool | None = None) -> dict[float, Figure]:
    """Percentiles of a sample as `numpy.percentile` gives them, each with its 95 % interval.

    `values` stand in the order in which they were seen. `correlated` None looks whether neighbours are correlated and
    chooses: for independent samples the interval lies between two order statistics whose ranks follow from the exact
    binomial distribution (David and Nagaraja, Order Statistics, 3rd ed., 7.1); for correlated ones the spread of the
    rank comes from its long-run variance. Withheld where `NEEDED_BEYOND` is not met; without an interval where
    correlated samples are worth too few independent ones.

    Raises ValueError for a percent that is not between 0 and 100.
    """
    samples = np.asarray(values, dtype=np.float64).ravel()
    samples = samples[~np.isnan(samples)]
    ordered = np.sort(samples)
    if correlated is False or samples.size < 2:
        return {percent: _percentile(samples, ordered, percent, None, 1.0) for percent in percents}
    ranks = Series(dense_ranks(_stretches(samples)))
    sure = looks_correlated(ranks) if correlated is None else correlated
    # What is too weak to be sure of is allowed for all the same: it costs a few percent of width.
    series = dependence_of(ranks) if sure or perhaps_correlated(ranks) else None
    wider = sqrt(series.near) if series else 1.0
    return {percent: _percentile(samples, ordered, percent, series if sure else None, wider) for percent in percents}


def _stretches(samples: _Floats) -> _Floats:
    """Of very many samples 16 stretches, evenly spread: enough to see how alike neighbours are, in less time."""
    if samples.size <= _MANY:
        return samples
    length = _MANY // 16
    begins = np.linspace(0, samples.size - length, 16).astype(np.int64)
    return np.concatenate([samples[begin : begin + length] for begin in begins.tolist()])


def _percentile(
    samples: _Floats, ordered: _Floats, percent: float, correlated: Dependence | None, wider: float
) -> Figure:
    if not 0 < percent < 100:
        raise ValueError(f"a percentile lies between 0 and 100, not at {percent}")
    method: Method = "long-run variance" if correlated else "order statistics"
    count = ordered.size
    # Rounded, as 100 - 99.9 is a little less than a tenth.
    beyond = round(count * min(percent, 100 - percent) / 100, 6)
    if beyond < NEEDED_BEYOND:
        needed = ceil(round(NEEDED_BEYOND * 100 / min(percent, 100 - percent), 6))
        reason = f"not enough data: p{percent:g} needs {needed} samples, there are {count}"
        return Figure(None, None, None, count, method, reason, needed)
    value = _interpolated(ordered, percent / 100 * (count - 1))
    if correlated:
        ranks = correlated_ranks(Series(samples <= value), percent / 100, correlated)
    else:
        ranks = _wider(_binomial_ranks(count, percent / 100), count, percent / 100, wider)
    if ranks is None:
        return Figure(value, None, None, count, "none")
    return Figure(value, float(ordered[ranks[0] - 1]), float(ordered[ranks[1] - 1]), count, method)


def _interpolated(ordered: _Floats, rank: float) -> float:
    low = int(rank)
    below, above = ordered[low], ordered[min(low + 1, ordered.size - 1)]
    return float(below + (above - below) * (rank - low)) if below != above else float(below)


def _binomial_ranks(count: int, probability: float) -> tuple[int, int]:
    """The ranks (from 1) of two order statistics that enclose the quantile with at least 95 %.

    The number of samples below the quantile is binomial. Its probabilities are the running product of the ratios of
    neighbours, taken over ten standard deviations about the mean and brought to the sum 1: beyond lies less than the
    precision of a float.
    """
    mean, deviation = count * probability, sqrt(count * probability * (1 - probability))
    first = max(0, int(mean - 10 * deviation - 20))
    last = min(count, int(mean + 10 * deviation + 20))
    k = np.arange(first, last, dtype=np.float64)
    logs = np.concatenate([[0.0], np.cumsum(np.log((count - k) / (k + 1)) + np.log(probability / (1 - probability)))])
    weights = np.exp(logs - logs.max())
    upto = np.cumsum(weights / weights.sum())
    # P(fewer than `low` below) <= 2.5 % and P(at least `high` below) <= 2.5 %.
    low = first + int(np.searchsorted(upto, _TAIL, side="right"))
    high = first + int(np.searchsorted(upto, 1 - _TAIL, side="left")) + 1
    return max(low, 1), min(high, count)


def _wider(ranks: tuple[int, int], count: int, probability: float, times: float) -> tuple[int, int]:
    """The same ranks, so many times as far from the middle."""
    if times == 1:
        return ranks
    middle = count * probability
    low, high = floor(middle - times * (middle - ranks[0])), ceil(middle + times * (ranks[1] - middle))
    return max(low, 1), min(high, count)


def fraction(hits: int, total: int) -> Figure:
    """`hits` out of `total` (an error rate, say) with the Wilson score interval (Wilson 1927)."""
    if total == 0:
        return Figure(None, None, None, 0, "Wilson score", "not enough data: there are none")
    share, spread = hits / total, _Z**2 / total
    centre = (share + spread / 2) / (1 + spread)
    half = _Z * sqrt(share * (1 - share) / total + spread / (4 * total)) / (1 + spread)
    return Figure(
        share, max(0.0, min(centre - half, share)), min(1.0, max(centre + half, share)), total, "Wilson score"
    )


def rate(amount: float, seconds: float, *, count: int | None = None) -> Figure:
    """`amount` a second; `count` is the number of requests behind it where the amount is not that number.

    Without an interval: how the arrivals vary is the doing of the test, not of chance.
    """
    samples = int(amount) if count is None else count
    if seconds <= 0:
        return Figure(None, None, None, samples, "none", "not enough data: the window has no length")
    return Figure(amount / seconds, None, None, samples, "none")
