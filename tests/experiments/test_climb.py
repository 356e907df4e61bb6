"""Which loads a search tries, against servers whose knee is known."""

from __future__ import annotations

import pytest

from tensorix_experiments._climb import Climb


def _search(climb: Climb, knee: float) -> list[float]:
    tried: list[float] = []
    while (load := climb.next()) is not None:
        assert load not in tried
        tried.append(load)
        climb.told(load, load <= knee)
        assert len(tried) < 40
    return tried


@pytest.mark.parametrize("knee", [0.3, 1.0, 3.7, 64.0, 100.0, 777.7])
def test_the_knee_of_a_rate_is_found_within_the_resolution(knee: float) -> None:
    """Doubling, then bisection: the highest rate that was met lies below the knee, by no more than was asked for."""
    climb = Climb(first=1.0, most=10_000.0, resolution=0.05)
    tried = _search(climb, knee)
    assert climb.best is not None
    assert climb.broken is not None
    assert climb.best <= knee < climb.broken <= climb.best * 1.0501
    assert len(tried) <= 18


@pytest.mark.parametrize("knee", [1, 2, 3, 13, 97])
def test_users_are_whole(knee: int) -> None:
    """Of users no finer than one, or than the resolution."""
    climb = Climb(first=1, most=1_000, resolution=0.05, whole=True)
    assert all(load == int(load) for load in _search(climb, knee))
    assert climb.best is not None
    assert knee * 0.95 - 1 <= climb.best <= knee


def test_it_goes_no_further_than_told() -> None:
    """Where all is met it ends at the most that was to be tried; where nothing is, far below the first."""
    climb = Climb(first=10, most=35, resolution=0.05)
    assert _search(climb, 1e9) == [10, 20, 35]
    climb = Climb(first=10, most=35, resolution=0.05)
    assert _search(climb, 0.0)[-1] == pytest.approx(10 / 64, rel=1e-3)
    assert climb.best is None


def test_a_load_met_by_chance_is_forgotten() -> None:
    """A load above one that is broken counts as broken too."""
    climb = Climb(first=8, most=100, resolution=0.05)
    for load, met in ((8, True), (16, True), (32, False), (12, False)):
        climb.told(load, met)
    assert (climb.best, climb.broken, climb.next()) == (None, 12, 6)


@pytest.mark.parametrize(
    ("first", "most", "whole", "knee", "last"),
    [(1.0, 1234.4, False, 1e9, 1234.0), (3.0, 1000.0, False, 0.0, 0.04688), (1.0, 100.5, True, 1e9, 100.0)],
)
def test_it_ends_at_loads_that_are_rounded(first: float, most: float, whole: bool, knee: float, last: float) -> None:
    """The highest and the lowest load to try may have more digits than any load that is tried."""
    assert _search(Climb(first, most, 0.05, whole=whole), knee)[-1] == last
