"""Two clocks compared by messages."""

from __future__ import annotations

import random

from tensorix_loadtests._distributed._clocks import ClockComparison

_MS = 1_000_000


def test_the_offset_is_within_its_uncertainty() -> None:
    """Whatever the ways there and back take, the offset found is off by no more than is said of it."""
    rng = random.Random(2)
    for offset in (0, 3 * _MS, -70 * _MS, 5_000 * _MS):
        clock, now = ClockComparison(), 10_000 * _MS
        for _ in range(8):
            there, back = (int(rng.expovariate(1 / (0.3 * _MS))) + 50_000 for _ in range(2))
            clock.add(now, now + there + offset, now + there + offset + 20_000, now + there + 20_000 + back)
            now += 20 * _MS
        found = clock.best(now)
        assert found is not None
        assert abs(found.offset_ns - offset) <= found.uncertainty_ns < 5 * _MS
        assert found.is_told_apart == (offset != 0)


def test_an_older_comparison_counts_less() -> None:
    """A tight exchange of an hour ago gives way to a looser one of now, since clocks drift; without any is none."""
    clock = ClockComparison()
    assert clock.best(0) is None
    clock.add(0, 50_000, 50_000, 100_000)
    hour = 3_600 * 1_000 * _MS
    clock.add(hour, hour + 9 * _MS, hour + 9 * _MS, hour + 4 * _MS)
    first, later = clock.best(100_000), clock.best(hour + 4 * _MS)
    assert first is not None
    assert later is not None
    assert (first.offset_ns, first.uncertainty_ns) == (0, 50_000)
    assert (later.offset_ns, later.uncertainty_ns) == (7 * _MS, 2 * _MS)


def test_a_clock_that_was_set_meanwhile() -> None:
    """An exchange that would have taken less than no time tells nothing."""
    clock = ClockComparison()
    clock.add(100, 50, 40, 200)
    clock.add(100, 90, 95, 60)
    assert clock.exchanges == 0
