"""How much a series depends on its own past, and what that does to the count of samples below a percentile."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor, sqrt
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from tensorix_records._autocorrelation import Series

__all__ = [
    "Dependence",
    "correlated_ranks",
    "correlation_time",
    "dense_ranks",
    "dependence_of",
    "looks_correlated",
    "perhaps_correlated",
    "student",
]

_Floats: TypeAlias = NDArray[np.float64]

_Z = 1.959963984540054
_LAGS = (1, 2, 3, 4, 5, 6, 8, 10)
_NEAR = (1, 2, 4, 8)
_BINS = 4096
_COSINES_MOST = 400

# What follows was found by trial (benchmarks/intervals.py).
_COSINES = 0.1
"""Cosines for each stretch that is worth an independent sample: more would miss the slow waves."""
_STUDENTISED = 0.8
_WORTH, _WORTH_SLOW = 250.0, 120.0
"""Independent samples that a series must be worth, by its near times and by its slow one."""
_BEYOND, _BEYOND_SLOW = 15.0, 12.0
"""Those that what lies beyond a percentile must be worth, likewise."""
_BEYOND_QUEUE = 40.0
"""And by the near times where the slow stay together, as in a queue: their clusters vary more."""
_QUEUE_FROM, _QUEUE_TO = 0.9, 1.5
"""How many times as long the slowest tenth stays together as the slower half: of a Gaussian autoregression 0.75 to 0.9,
of queues 1.5 and more."""
_QUEUE_WIDER = 0.5


@dataclass(frozen=True, slots=True)
class Dependence:
    """How a series depends on its past; both times in samples that are worth one."""

    near: float
    """By the first few lags: hardly varies from run to run."""
    slow: float
    """By the slowest decay that stands out: sees more, and varies much."""
    queue: float
    """From 0, where high and low stay together alike, to 1, where the high do so for longer."""


def dense_ranks(samples: _Floats) -> _Floats:
    """Ranks from 0; ties share one, so that a constant is not correlated with anything."""
    order = np.argsort(samples)
    ordered = samples[order]
    ranks = np.zeros(samples.size)
    ranks[order[1:]] = np.cumsum(ordered[1:] != ordered[:-1])
    return ranks


def _in_errors(series: Series) -> tuple[float, float]:
    """The highest of the first five autocorrelations, and the mean of more, in their standard errors."""
    if len(series) < 20 or series.squares <= 0:
        return 0.0, 0.0
    found = [series.correlation(lag) * sqrt(len(series)) for lag in _LAGS]
    return max(found[:5]), sum(found) / sqrt(len(found))


def looks_correlated(series: Series) -> bool:
    """Whether neighbours may be alike: an autocorrelation over two standard errors, or their mean over 1.64.

    Of ten series that are independent one looks so too. A queue that is taken for independent does more harm.
    """
    highest, mean = _in_errors(series)
    return highest > 2 or mean > 1.64


def perhaps_correlated(series: Series) -> bool:
    """Whether that cannot be ruled out: an autocorrelation over one and a half standard errors."""
    return _in_errors(series)[0] > 1.5


def _near_time(series: Series) -> float:
    """As `correlation_time`, from a few lags near by: those beyond the first where they exceed three errors."""
    count = len(series)
    time = 1.0
    for lag in _NEAR if series.squares > 0 else ():
        if lag > count // 4:
            break
        found = _unbiased(series.correlation(lag), count)
        if found > 0 and (lag == 1 or found > 3 / sqrt(count)):
            time = max(time, _time_of(found, lag))
    return time


def dependence_of(ranks: Series) -> Dependence:
    """Of a series of ranks, so that a few very slow requests do not hide it."""
    half, tenth = (_near_time(Series(ranks.values <= at)) for at in np.quantile(ranks.values, (0.5, 0.9)))
    queue = (tenth / half - _QUEUE_FROM) / (_QUEUE_TO - _QUEUE_FROM)
    return Dependence(_near_time(ranks), correlation_time(ranks), min(max(queue, 0.0), 1.0))


def _unbiased(found: float, count: int) -> float:
    """An autocorrelation with its bias, about -(1 + 3a) / n, made up for (Kendall 1954)."""
    return found + (1 + 3 * max(found, 0.0)) / count


def _time_of(correlation: float, lag: int) -> float:
    """(1 + a) / (1 - a) of the autoregression of the first order that has this correlation at that lag."""
    base: float = min(correlation, 0.9999) ** (1 / lag)
    return (1 + base) / (1 - base)


def correlation_time(series: Series) -> float:
    """How many samples are worth one that is independent: the slowest decay that the autocorrelations tell of.

    At lags 1, 2, 4, ... as long as they stand out, each taken for that of an autoregression of the first order.
    """
    count = len(series)
    time, lag = 1.0, 1
    while series.squares > 0 and lag <= count // 4:
        found = _unbiased(series.correlation(lag), count)
        if found <= 0 or (lag > 1 and found < 3 / sqrt(count)):
            break
        time = max(time, _time_of(found, lag))
        lag *= 2
    return time


def _inflation(series: Series, cosines: int) -> float:
    """How many times the variance of the series' sum is that of independent samples.

    The long-run variance is the mean square of the first cosine transforms (Müller 2004; Lazarus, Lewis, Stock and
    Watson 2018), of sums of neighbours where there are many samples: the waves that count are longer.
    """
    size = min(len(series), _BINS)
    centred = series.sums(np.arange(size) * len(series) // size)
    waves = np.fft.rfft(np.concatenate([centred, centred[::-1]]))[1 : cosines + 1]
    turned = waves * np.exp(-1j * np.pi * np.arange(1, cosines + 1) / (2 * size))
    return 2 * float(np.square(turned.real / 2).mean()) / series.squares if series.squares > 0 else 1.0


def correlated_ranks(below: Series, probability: float, series: Dependence) -> tuple[int, int] | None:
    """The ranks (from 1) that enclose a quantile with about 95 %, for samples whose neighbours are correlated.

    `below` says which samples are at or below it, `series` the dependence of the ranks. As with independent samples it
    is the number below that varies; how much, its long-run variance says, and Student's t for how few waves that rests
    on. What lies beyond comes in clusters, so the number is skewed, and its variance was found from the same samples:
    the first term of Edgeworth's expansion for a studentised sum (Hall 1992, 2.6), in part, as `_STUDENTISED` says.

    A run of a queue that saw little waiting looks both quicker and less dependent than the server is: where the slow
    stay together the upper end lies further out, the more so the nearer the samples are to being too few. None where
    they are: an interval found there would not hold.
    """
    count, rarer = len(below), min(probability, 1 - probability)
    near, slow = _near_time(below), max(series.slow, correlation_time(below))
    worth = count / max(near, series.near)
    margin = min(
        worth / _WORTH,
        count / slow / _WORTH_SLOW,
        count * rarer / near / (_BEYOND + (_BEYOND_QUEUE - _BEYOND) * series.queue),
        count * rarer / slow / _BEYOND_SLOW,
    )
    if margin < 1:
        return None
    cosines = int(min(_COSINES * worth, _COSINES_MOST))
    inflation = max(_inflation(below, cosines), 1.0)
    spread = sqrt(count * probability * (1 - probability) * inflation)
    skew = (1 - 2 * probability) * inflation / spread
    turned = _STUDENTISED * (1 - 1 / inflation)

    def at(deviate: float) -> float:
        square = deviate * deviate
        return count * probability + spread * (deviate + skew * (square - 1 - 3 * turned * square) / 6)

    deviate = student(cosines)
    further = spread * deviate * _QUEUE_WIDER * series.queue / margin**2
    low, high = floor(at(-deviate)), ceil(at(deviate) + further) + 1
    return (low, high) if low >= 1 and high <= count else None


def student(freedom: int) -> float:
    """The 97.5 % point of Student's t, to a percent from three degrees of freedom on."""
    return _Z + (_Z**3 + _Z) / (4 * freedom) + (5 * _Z**5 + 16 * _Z**3 + 3 * _Z) / (96 * freedom**2)
