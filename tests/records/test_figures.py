from __future__ import annotations

from fractions import Fraction
from math import comb, inf, nan
from statistics import NormalDist

import numpy as np
import pytest
from numpy.typing import NDArray

from tensorix_records.figures import (
    Figure,
    _binomial_ranks,
    fraction,
    percentile,
    percentiles,
    rate,
)


def _autoregressive(share: float, count: int, runs: int, seed: int) -> NDArray[np.float64]:
    """`runs` series of standard normal values, each correlated with the one before it by `share`."""
    rng = np.random.default_rng(seed)
    series = np.empty((runs, count))
    value = rng.normal(size=runs)
    for index in range(count):
        series[:, index] = value
        value = share * value + np.sqrt(1 - share**2) * rng.normal(size=runs)
    return series


def _coverage(figures: list[Figure], truth: float) -> float:
    held = [
        figure.low <= truth <= figure.high for figure in figures if figure.low is not None and figure.high is not None
    ]
    # One of eight independent runs looks as if it were not, and may go without an interval.
    assert len(held) > 0.85 * len(figures)
    return sum(held) / len(held)


@pytest.mark.parametrize("count", [10, 61, 500, 12_345])
def test_percentiles_are_numpys(count: int) -> None:
    """The value is NumPy's default, with values that are not there left out of it and of the count."""
    samples = np.random.default_rng(count).lognormal(size=count)
    with_gaps = np.insert(samples, [0, 3, count], nan)
    for percent in (1, 10, 50, 90, 99, 99.9):
        figure = percentile(with_gaps, percent)
        assert figure.count == count
        if figure.withheld is None:
            assert figure.value == pytest.approx(np.percentile(samples, percent), rel=1e-12)
            assert figure.value is not None
            assert figure.low is not None
            assert figure.high is not None
            assert figure.low <= figure.value <= figure.high


@pytest.mark.parametrize(
    ("percent", "needed"), [(50, 10), (90, 50), (95, 100), (99, 500), (99.9, 5000), (10, 50), (99.99, 50_000)]
)
def test_fewer_than_five_samples_beyond_withhold_a_percentile(percent: float, needed: int) -> None:
    """With one sample fewer than needed there is no figure, and it says how many it takes."""
    rng = np.random.default_rng(1)
    assert percentile(rng.normal(size=needed), percent).value is not None
    figure = percentile(rng.normal(size=needed - 1), percent)
    assert (figure.value, figure.low, figure.high, figure.count) == (None, None, None, needed - 1)
    assert figure.needed == needed
    assert figure.withheld == f"not enough data: p{percent:g} needs {needed} samples, there are {needed - 1}"


def test_no_samples_are_no_figure() -> None:
    """Nothing, or nothing but gaps, is withheld rather than an error."""
    assert percentile([], 50).withheld is not None
    assert percentile([nan, nan], 50).count == 0
    assert percentile([inf] * 30, 50).value == inf


@pytest.mark.parametrize("percent", [0, 100, -1, 101, nan])
def test_a_percentile_lies_between_0_and_100(percent: float) -> None:
    """The ends are no percentiles but extremes, which have no interval."""
    with pytest.raises(ValueError, match="between 0 and 100"):
        percentile([1, 2, 3], percent)


@pytest.mark.parametrize("count", [10, 11, 50, 137, 500])
@pytest.mark.parametrize("share", [Fraction(1, 2), Fraction(9, 10), Fraction(19, 20), Fraction(1, 20)])
def test_ranks_are_those_of_the_exact_binomial(count: int, share: Fraction) -> None:
    """Each rank is the innermost beyond which at most 2.5 % lie, computed with whole numbers."""
    chances = [comb(count, k) * share**k * (1 - share) ** (count - k) for k in range(count + 1)]
    upto = [sum(chances[: k + 1], Fraction(0)) for k in range(count + 1)]
    tail = Fraction(25, 1000)
    low = sum(chance <= tail for chance in upto)
    high = next(k for k, chance in enumerate(upto) if chance >= 1 - tail) + 1
    assert _binomial_ranks(count, float(share)) == (max(low, 1), min(high, count))


def test_ranks_of_a_million_are_near_those_of_the_normal() -> None:
    """Large numbers neither overflow nor drift."""
    for share in (0.5, 0.99, 0.999):
        low, high = _binomial_ranks(10**6, share)
        half = 1.96 * np.sqrt(10**6 * share * (1 - share))
        assert low == pytest.approx(10**6 * share - half, abs=3)
        assert high == pytest.approx(10**6 * share + half, abs=3)


@pytest.mark.parametrize(("count", "percent"), [(10, 50), (60, 90), (600, 50), (600, 99), (5000, 99.9)])
def test_intervals_of_independent_samples_cover_the_truth(count: int, percent: float) -> None:
    """In 95 % of made-up runs, not many fewer and not many more, the true percentile lies within."""
    rng = np.random.default_rng(round(count + percent))
    truth = np.exp(NormalDist().inv_cdf(percent / 100))
    figures = [percentile(rng.lognormal(size=count), percent) for _ in range(1000)]
    assert 0.93 <= _coverage(figures, truth) <= 0.99


@pytest.mark.parametrize(
    ("share", "count", "percent"),
    [(0.3, 2000, 50), (0.3, 5000, 95), (0.6, 3000, 90), (0.6, 10_000, 95), (0.9, 10_000, 50)],
)
def test_intervals_of_correlated_samples_cover_the_truth(share: float, count: int, percent: float) -> None:
    """Correlated neighbours are noticed, and 95 % means 95 % there too, where independence would promise too much."""
    series = _autoregressive(share, count, 300, seed=5)
    truth = NormalDist().inv_cdf(percent / 100)
    figures = [percentile(row, percent) for row in series]
    # One that looks slower than it is goes without an interval; most have one.
    assert {figure.method for figure in figures} <= {"long-run variance", "none"}
    # Three standard deviations of the simulation itself are 3.8 %.
    assert 0.92 <= _coverage(figures, truth) <= 0.99
    if share > 0.5:
        assert _coverage([percentile(row, percent, correlated=False) for row in series], truth) < 0.92


def test_no_interval_where_few_samples_count() -> None:
    """600 samples that hardly differ from their neighbours are no 600 samples: their p99 stands without an interval."""
    (series,) = _autoregressive(0.99, 600, 1, seed=6)
    figure = percentile(series, 99)
    assert figure.value is not None
    assert (figure.low, figure.high, figure.method) == (None, None, "none")


def _queue(load: float, count: int, runs: int, seed: int) -> NDArray[np.float64]:
    """Sojourn times of M/M/1, begun in its stationary state (Lindley's recursion); their mean is 1 / (1 - load)."""
    rng = np.random.default_rng(seed)
    wait = np.where(rng.random(runs) < load, rng.exponential(1 / (1 - load), runs), 0.0)
    series = np.empty((runs, count))
    for index in range(count):
        series[:, index] = wait + rng.exponential(1.0, runs)
        wait = np.maximum(0.0, series[:, index] - rng.exponential(1 / load, runs))
    return series


@pytest.mark.parametrize(("load", "percent"), [(0.5, 90), (0.7, 50)])
def test_intervals_of_a_queues_times_cover_the_truth(load: float, percent: float) -> None:
    """Of a queue, whose slow requests stay together, 95 % means 95 % too."""
    figures = [percentile(row, percent) for row in _queue(load, 10_000, 200, seed=10)]
    # Three standard deviations of the simulation itself are 4.6 %.
    assert _coverage(figures, -np.log(1 - percent / 100) / (1 - load)) >= 0.91


def test_a_calm_stretch_of_a_busy_queue_has_no_interval() -> None:
    """A thousand requests of a queue at nine tenths of what it can do are a few busy periods: none looks like more."""
    figures = [percentiles(row, (50, 90, 95)) for row in _queue(0.9, 1000, 300, seed=11)]
    assert {figure.method for run in figures for figure in run.values()} == {"none"}


def test_independent_samples_are_seldom_called_correlated() -> None:
    """Noise is in one of ten runs; a constant never; a drift and a slow wave always."""
    rng = np.random.default_rng(7)
    noise = [percentile(rng.pareto(1.1, size=300), 50).method for _ in range(300)]
    assert noise.count("order statistics") / 300 >= 0.85
    assert percentile(np.ones(300), 50).method == "order statistics"
    assert percentile(np.arange(300) + rng.normal(size=300), 50).method == "none"
    assert percentile(np.sin(np.arange(1000) / 20) + rng.normal(size=1000), 50).method == "none"


def test_figures_are_the_same_each_time() -> None:
    """A report made twice says the same, as no interval is drawn by lot."""
    (series,) = _autoregressive(0.6, 1000, 1, seed=8)
    assert percentiles(series, (50, 90, 95)) == percentiles(series, (50, 90, 95))
    assert percentile(series, 90) == percentiles(series, (50, 90, 95))[90]


def test_fractions_stay_between_0_and_1() -> None:
    """No failure in 50 is an error rate of 0 that may be up to 7 %; nothing out of nothing is withheld."""
    figure = fraction(0, 50)
    assert (figure.value, figure.low, figure.count) == (0.0, 0.0, 50)
    assert figure.high == pytest.approx(0.0713, abs=1e-4)
    assert fraction(50, 50).high == 1.0
    assert fraction(0, 0).withheld is not None
    rng = np.random.default_rng(9)
    held = [fraction(int(hits), 200) for hits in rng.binomial(200, 0.1, size=2000)]
    assert 0.93 <= _coverage(held, 0.1) <= 0.99


def test_a_rate_needs_a_window() -> None:
    """An amount a second, with the number behind it; a window without length gives none."""
    assert rate(120, 60) == Figure(2.0, None, None, 120, "none")
    assert rate(1500.0, 10, count=30).count == 30
    assert rate(5, 0).value is None
    assert rate(5, 0).withheld is not None
