"""Autocorrelations, against the definition written out."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tensorix_records._autocorrelation import Series


def _by_definition(values: NDArray[np.float64], lag: int) -> float:
    mean = sum(values.tolist()) / len(values)
    apart = [value - mean for value in values.tolist()]
    pairs = zip(apart[lag:], apart[:-lag], strict=True)
    return float(sum(one * other for one, other in pairs) / sum(one * one for one in apart))


@pytest.mark.parametrize("lag", [1, 2, 7, 64, 499])
def test_numbers_and_truths_have_the_autocorrelations_of_the_definition(lag: int) -> None:
    """Both forms of a series agree with the sum of products, at the largest lag, too."""
    rng = np.random.default_rng(3)
    waves = np.cumsum(rng.normal(size=500))
    low = waves <= np.quantile(waves, 0.3)
    assert Series(waves).correlation(lag) == pytest.approx(_by_definition(waves, lag), abs=1e-12)
    assert Series(low).correlation(lag) == pytest.approx(_by_definition(low.astype(float), lag), abs=1e-12)


def test_sums_of_stretches_are_those_of_what_differs_from_the_mean() -> None:
    """Truths are counted and numbers are added up, to the same sums."""
    low = np.random.default_rng(4).random(1_003) < 0.2
    begins = np.arange(16) * len(low) // 16
    apart = low - low.mean()
    wanted = [apart[one:other].sum() for one, other in zip(begins, [*begins[1:], len(low)], strict=True)]
    for series in (Series(low), Series(low.astype(float))):
        assert series.sums(begins) == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("values", [np.full(50, 3.0), np.zeros(50, dtype=bool), np.ones(50, dtype=bool)])
def test_of_a_constant_nothing_differs_from_the_mean(values: NDArray[np.float64]) -> None:
    """So that whoever divides by it can ask first."""
    assert Series(values).squares == 0
