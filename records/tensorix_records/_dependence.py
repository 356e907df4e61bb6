"""How much a series depends on its own past, and what that does to the count of samples below a percentile."""

from __future__ import annotations

from math import ceil, floor, sqrt
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["correlated_ranks", "correlation_time", "dense_ranks", "looks_correlated", "student"]

_Floats: TypeAlias = NDArray[np.float64]

_Z = 1.959963984540054
_LAGS = 5
_BINS = 4096
_COSINES_MOST = 400

_COSINES = 0.2
"""Cosines for each stretch that is worth an independent sample: more would miss the slow waves."""
_COSINES_LEAST = 12
_BEYOND_LEAST = 8.0
"""Independent samples that those beyond a percentile must be worth."""
_STUDENTISED = 0.8


def dense_ranks(samples: _Floats) -> _Floats:
    """Ranks from 0; ties share one, so that a constant is not correlated with anything."""
    order = np.argsort(samples)
    ordered = samples[order]
    ranks = np.zeros(samples.size)
    ranks[order[1:]] = np.cumsum(ordered[1:] != ordered[:-1])
    return ranks


def _correlation(centred: _Floats, variance: float, lag: int) -> float:
    return float(centred[lag:] @ centred[:-lag]) / variance


def looks_correlated(series: _Floats, errors: float = 3.0) -> bool:
    """Whether neighbours are alike: one of the first five autocorrelations exceeds that many standard errors."""
    if series.size < 4 * _LAGS:
        return False
    centred = series - series.mean()
    variance = float(centred @ centred)
    least = errors / sqrt(series.size)
    return variance > 0 and any(_correlation(centred, variance, lag) > least for lag in range(1, _LAGS + 1))


def correlation_time(series: _Floats) -> float:
    """How many samples are worth one that is independent: the slowest decay that the autocorrelations tell of.

    At lags 1, 2, 4, ... as long as they stand out, each taken for that of an autoregression of the first order, whose
    time is (1 + a) / (1 - a); the estimate's own bias, about -(1 + 3a) / n (Kendall 1954), is made up for.
    """
    count = series.size
    centred = series - series.mean()
    variance = float(centred @ centred)
    time, lag = 1.0, 1
    while variance > 0 and lag <= count // 4:
        found = _correlation(centred, variance, lag)
        found += (1 + 3 * max(found, 0.0)) / count
        if found <= 0 or (lag > 1 and found < 3 / sqrt(count)):
            break
        base = min(found, 0.9999) ** (1 / lag)
        time = max(time, (1 + base) / (1 - base))
        lag *= 2
    return time


def _inflation(series: _Floats, cosines: int) -> float:
    """How many times the variance of the series' sum is that of independent samples.

    The long-run variance is the mean square of the first cosine transforms (Müller 2004; Lazarus, Lewis, Stock and
    Watson 2018), of sums of neighbours where there are many samples: the waves that count are longer.
    """
    centred = series - series.mean()
    own = float(centred @ centred)
    if centred.size > _BINS:
        centred = np.add.reduceat(centred, np.arange(_BINS) * centred.size // _BINS)
    size = centred.size
    waves = np.fft.rfft(np.concatenate([centred, centred[::-1]]))[1 : cosines + 1]
    turned = waves * np.exp(-1j * np.pi * np.arange(1, cosines + 1) / (2 * size))
    return 2 * float(np.square(turned.real / 2).mean()) / own if own > 0 else 1.0


def correlated_ranks(below: _Floats, probability: float, time: float) -> tuple[int, int] | None:
    """The ranks (from 1) that enclose a quantile with about 95 %, for samples whose neighbours are correlated.

    `below` is 1 where a sample is at or below it, `time` the correlation time of the ranks. As with independent samples
    it is the number below that varies; how much, its long-run variance says, and Student's t for how few waves that
    rests on. What lies beyond comes in clusters, so the number is skewed, and its variance was found from the same
    samples: the first term of Edgeworth's expansion for a studentised sum (Hall 1992, 2.6), in part, as `_STUDENTISED`
    says, which was found by trial (benchmarks/intervals.py). None where the samples are worth too few independent ones:
    an interval found there would not hold.
    """
    count, rarer = below.size, min(probability, 1 - probability)
    time = max(time, correlation_time(below))
    cosines = int(min(_COSINES * count / time, _COSINES_MOST))
    if cosines < _COSINES_LEAST or count * rarer / time < _BEYOND_LEAST:
        return None
    inflation = max(_inflation(below, cosines), 1.0)
    spread = sqrt(count * probability * (1 - probability) * inflation)
    skew = (1 - 2 * probability) * inflation / spread
    turned = _STUDENTISED * (1 - 1 / inflation)

    def at(deviate: float) -> float:
        square = deviate * deviate
        return count * probability + spread * (deviate + skew * (square - 1 - 3 * turned * square) / 6)

    # The correlation time is an estimate too, and those that came out short are printed the more readily.
    deviate = student(cosines) * (1 + sqrt(time / count))
    low, high = floor(at(-deviate)), ceil(at(deviate)) + 1
    return (low, high) if low >= 1 and high <= count else None


def student(freedom: int) -> float:
    """The 97.5 % point of Student's t, to a percent from three degrees of freedom on."""
    return _Z + (_Z**3 + _Z) / (4 * freedom) + (5 * _Z**5 + 16 * _Z**3 + 3 * _Z) / (96 * freedom**2)
