"""Figures that say how far they can be trusted: percentiles, fractions and rates with their counts and intervals.

Pure functions of arrays. NaN stands for a value that is not there, and is left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, floor, log10, sqrt
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "NEEDED_BEYOND",
    "Figure",
    "Method",
    "fraction",
    "neighbours_correlated",
    "percentile",
    "percentiles",
    "rate",
]

Method: TypeAlias = Literal["order statistics", "moving-block bootstrap", "Wilson score", "none"]

NEEDED_BEYOND = 5
"""A percentile with fewer samples beyond it is withheld: p99 takes 500 samples, p99.9 takes 5,000."""

_TAIL = 0.025
_Z = 1.959963984540054
_RESAMPLES = 2000
_LAGS = 5
_BLOCKS_MAX = 1000

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


def percentile(values: ArrayLike, percent: float, *, correlated: bool | None = None, seed: int = 0) -> Figure:
    """One percentile; see `percentiles`."""
    return percentiles(values, (percent,), correlated=correlated, seed=seed)[percent]


def percentiles(
    values: ArrayLike, percents: Iterable[float], *, correlated: bool | None = None, seed: int = 0
) -> dict[float, Figure]:
    """Percentiles of a sample as `numpy.percentile` gives them, each with its 95 % interval.

    `values` stand in the order in which they were seen. `correlated` None looks whether neighbours are correlated and
    chooses: for independent samples the interval lies between two order statistics whose ranks follow from the exact
    binomial distribution (David and Nagaraja, Order Statistics, 3rd ed., 7.1); for correlated ones the spread of the
    rank comes from a moving-block bootstrap (Künsch 1989), seeded. Withheld where `NEEDED_BEYOND` is not met.

    Raises ValueError for a percent that is not between 0 and 100.
    """
    samples = np.asarray(values, dtype=np.float64).ravel()
    samples = samples[~np.isnan(samples)]
    ordered = np.sort(samples)
    if correlated is None:
        correlated = neighbours_correlated(samples)
    return {percent: _percentile(samples, ordered, percent, correlated, seed) for percent in percents}


def _percentile(samples: _Floats, ordered: _Floats, percent: float, correlated: bool, seed: int) -> Figure:
    if not 0 < percent < 100:
        raise ValueError(f"a percentile lies between 0 and 100, not at {percent}")
    method: Method = "moving-block bootstrap" if correlated else "order statistics"
    count = ordered.size
    # Rounded, as 100 - 99.9 is a little less than a tenth.
    beyond = round(count * min(percent, 100 - percent) / 100, 6)
    if beyond < NEEDED_BEYOND:
        needed = ceil(round(NEEDED_BEYOND * 100 / min(percent, 100 - percent), 6))
        reason = f"not enough data: p{percent:g} needs {needed} samples, there are {count}"
        return Figure(None, None, None, count, method, reason, needed)
    value = _interpolated(ordered, percent / 100 * (count - 1))
    if correlated:
        ranks = _bootstrap_ranks(samples, value, percent / 100, seed)
    else:
        ranks = _binomial_ranks(count, percent / 100)
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


def neighbours_correlated(values: ArrayLike) -> bool:
    """Whether values that follow each other are alike: one of the first five autocorrelations of their ranks exceeds
    three standard errors. Ranks, so that a few very slow requests do not hide it.
    """
    samples = np.asarray(values, dtype=np.float64)
    if samples.size < 4 * _LAGS:
        return False
    # Ties share a rank: a constant is not correlated with anything.
    _, ranks = np.unique(samples, return_inverse=True)
    return bool((_autocorrelation(ranks.astype(np.float64), _LAGS)[1:] > 3 / sqrt(samples.size)).any())


def _autocorrelation(series: _Floats, lags: int) -> _Floats:
    """The autocorrelation at 0 to `lags`; by Fourier transform, as hundreds of lags of a million samples are asked."""
    centred = series - series.mean()
    variance = float(centred @ centred)
    if variance == 0:
        return np.concatenate([[1.0], np.zeros(lags)])
    padded = 1 << int(series.size + lags).bit_length()
    power = np.abs(np.fft.rfft(centred, padded)) ** 2
    return np.fft.irfft(power, padded)[: lags + 1] / variance


@dataclass(frozen=True, slots=True)
class _Dependence:
    """How a series depends on its own past."""

    length: int
    """Neighbours to be drawn together."""
    inflation: float
    """How many times the variance of its mean is that of independent samples; at least 1."""


def _dependence(series: _Floats) -> _Dependence:
    """The length of blocks for the mean of a series, chosen from its autocorrelation.

    Politis and White 2004 with the correction of Patton, Politis and White 2009: flat-top weights up to twice the lag
    after which nothing is significant, then (2 G²/D)^(1/3) n^(1/3).
    """
    count = series.size
    insignificant = 2 * sqrt(log10(count) / count)
    in_a_row = max(5, ceil(sqrt(log10(count))))
    most = min(ceil(sqrt(count)) + in_a_row, count // 3)
    correlation = _autocorrelation(series, most)
    small = np.abs(correlation[1:]) < insignificant
    runs = np.convolve(small, np.ones(in_a_row), "valid") == in_a_row
    significant = int(np.argmax(runs)) if runs.any() else most // 2
    lags = np.arange(1, min(2 * max(significant, 1), most) + 1)
    weighted = np.minimum(1.0, 2 * (1 - lags / lags[-1])) * correlation[lags]
    inflation = float(1 + 2 * weighted.sum())
    slope = float(2 * (lags * weighted).sum())
    length = count ** (1 / 3)
    if inflation > 0 and slope > 0:
        length *= (1.5 * slope**2 / inflation**2) ** (1 / 3)
    # Longer blocks cost nothing as long as there are many, and more than so many say nothing new.
    length = max(min(length, 3 * sqrt(count), count / 3), count / _BLOCKS_MAX, 1)
    return _Dependence(ceil(length), max(inflation, 1.0))


def _bootstrap_ranks(samples: _Floats, value: float, probability: float, seed: int) -> tuple[int, int] | None:
    """The ranks (from 1) that enclose the quantile with about 95 %, for samples whose neighbours are correlated.

    As with independent samples it is the number below the quantile that varies; how much, blocks of neighbours say
    that are drawn together. Only sums of blocks are drawn, so a million samples take milliseconds. None where the
    samples beyond are worth fewer than five independent ones: no interval found there would hold.
    """
    count = samples.size
    below = (samples <= value).astype(np.float64)
    dependence = _dependence(below)
    if count * min(probability, 1 - probability) / dependence.inflation < NEEDED_BEYOND:
        return None
    sums = np.concatenate([[0.0], np.cumsum(below)])
    sums = sums[dependence.length :] - sums[: -dependence.length]
    blocks = max(2, ceil(count / dependence.length))
    generator = np.random.default_rng(seed)
    drawn = np.zeros(_RESAMPLES)
    for _ in range(blocks):
        drawn += sums[generator.integers(0, sums.size, _RESAMPLES)]
    spread = (drawn - drawn.mean()) * count / (blocks * dependence.length)
    # Blocks cut what reaches from one into the next, and a variance from few blocks is uncertain itself: widened to
    # the variance that the autocorrelation tells, and by Student's t for the normal deviate (Cornish-Fisher).
    told = sqrt(count * probability * (1 - probability) * dependence.inflation)
    spread *= max(1.0, told / max(float(spread.std()), 1e-9)) * _student(blocks - 1) / _Z
    fewest, most = np.quantile(spread, [_TAIL, 1 - _TAIL])
    low = floor(count * probability - most)
    high = ceil(count * probability - fewest) + 1
    return max(low, 1), min(high, count)


def _student(freedom: int) -> float:
    """The 97.5 % point of Student's t, to a percent from three degrees of freedom on."""
    return _Z + (_Z**3 + _Z) / (4 * freedom) + (5 * _Z**5 + 16 * _Z**3 + 3 * _Z) / (96 * freedom**2)


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
