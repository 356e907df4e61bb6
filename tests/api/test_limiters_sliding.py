"""Sliding log and sliding counter: edges to the nanosecond, settlement, and limits that change."""

from __future__ import annotations

import pickle
import random

import pytest

from tensorix_api.limiters import Cost, Decision, SlidingCounter, SlidingLog

SECOND = 1_000_000_000


def admit(limiter: SlidingLog | SlidingCounter, now_ns: int, amount: int = 1) -> Decision:
    return limiter.admit(now_ns, Cost(amount, amount))


def test_a_log_counts_each_charge_for_exactly_a_window() -> None:
    """A charge at t counts at t + window - 1 and no longer at t + window."""
    limiter = SlidingLog("requests", 2, 100)
    assert [admit(limiter, at_ns).admitted for at_ns in (0, 40, 41, 99, 100, 101, 139, 140)] == [
        True, True, False, False, True, False, False, True,
    ]  # fmt: skip


def test_a_log_says_when_enough_of_the_oldest_run_out() -> None:
    """For 1 the first charge has to go, for more also the second; more than the limit never passes."""
    limiter = SlidingLog("tokens", 10, 100)
    for at_ns, amount in ((0, 3), (10, 4), (20, 3)):
        assert admit(limiter, at_ns, amount).admitted
    assert [limiter.earliest(30, Cost(1, amount)) for amount in (0, 1, 3, 4, 7, 8, 10, 11)] == [
        100, 100, 100, 110, 110, 120, 120, None,
    ]  # fmt: skip


def test_no_window_of_a_log_sees_more_than_the_limit() -> None:
    """Whatever the traffic: between an admitted request and the one `limit` later there lies a window."""
    rng = random.Random(1)
    limiter, now_ns = SlidingLog("requests", 7, 1_000), 0
    admitted: list[int] = []
    for _ in range(5_000):
        now_ns += rng.choice([0, 1, 50, 300, rng.randrange(1_000)])
        if admit(limiter, now_ns).admitted:
            admitted.append(now_ns)
    assert len(admitted) > 1_000
    assert min(later - sooner for sooner, later in zip(admitted, admitted[7:], strict=False)) == 1_000


def test_a_log_is_settled_where_the_charge_stands() -> None:
    """What is used more or less counts from the reservation's time, and not at all once that has run out."""
    limiter = SlidingLog("tokens", 100, 100)
    first, second = admit(limiter, 0, 60).grant, admit(limiter, 50, 30).grant
    assert first is not None
    assert second is not None
    limiter.settle(60, first, Cost(1, 10))
    assert limiter.remaining(60) == {"tokens": 60}
    limiter.settle(70, second, Cost(1, 200))
    assert limiter.standing(70)["tokens"].left == -110
    assert limiter.remaining(149) == {"tokens": 0}
    limiter.settle(150, second, Cost(1, 500))
    limiter.release(150, first)
    assert limiter.standing(150)["tokens"].left == 100


def test_a_log_keeps_no_more_than_a_window() -> None:
    """100,000 charges take no more room than those of a few windows, and each is still settled by its own number."""
    limiter = SlidingLog("requests", 10**9, 100)
    sizes = []
    for at_ns in range(0, 200_000, 2):
        grant = limiter.charge(at_ns, Cost(3, 0))
        limiter.settle(at_ns + 1, grant, Cost(1, 0))
        if at_ns % 20_000 == 10_000:
            sizes.append(len(pickle.dumps(limiter)))
            assert limiter.standing(at_ns)["requests"].left == 10**9 - 50
    assert max(sizes) < 6_000


def test_a_log_follows_a_changed_window() -> None:
    """A shorter window lets charges run out at once, a longer one brings back those that no call saw run out."""
    limiter = SlidingLog("requests", 5, 100)
    for at_ns in (0, 10, 90):
        admit(limiter, at_ns)
    limiter.window_ns = 50
    assert limiter.remaining(95) == {"requests": 4}
    limiter.window_ns = 1_000
    assert limiter.remaining(96) == {"requests": 4}
    assert limiter.remaining(1_089) == {"requests": 4}
    assert limiter.remaining(1_090) == {"requests": 5}


def test_a_counter_weighs_the_last_window_by_what_is_left_of_this_one() -> None:
    """8 in the last window count as 8 at the edge, 4 in the middle, 2 after three quarters, 0 at the next edge."""
    limiter = SlidingCounter("requests", 10, 1_000)
    for at_ns in range(8):
        assert admit(limiter, at_ns).admitted
    left = [limiter.standing(at_ns)["requests"].left for at_ns in (999, 1_000, 1_001, 1_125, 1_500, 1_750, 2_000)]
    assert left == [2, 2, 2, 3, 6, 8, 10]


def test_a_counter_rounds_what_is_left_down() -> None:
    """With a share of one and a bit used, nothing passes that needs the bit."""
    limiter = SlidingCounter("requests", 2, 1_000)
    admit(limiter, 0)
    assert limiter.remaining(1_001) == {"requests": 1}
    assert admit(limiter, 1_001).admitted
    refusal = admit(limiter, 1_002)
    assert (refusal.admitted, refusal.remaining, refusal.retry_at_ns) == (False, {"requests": 0}, 2_000)
    assert not admit(limiter, 1_999).admitted
    assert admit(limiter, 2_000).admitted


def test_windows_of_a_counter_begin_on_their_phase() -> None:
    """Windows of 1,000 from 250 on: a charge at 1,249 lies in the last window at 1,250."""
    limiter = SlidingCounter("requests", 10, 1_000, phase_ns=250)
    limiter.charge(1_249, Cost(10, 0))
    assert [limiter.remaining(at_ns)["requests"] for at_ns in (1_249, 1_250, 1_350, 2_150, 2_250)] == [0, 0, 1, 9, 10]


def test_a_counter_is_settled_in_the_window_of_the_reservation() -> None:
    """Late by one window it changes the share, late by two it changes nothing."""
    limiter = SlidingCounter("tokens", 100, 1_000)
    grants = [limiter.charge(at_ns, Cost(1, 20)) for at_ns in (0, 1, 2)]
    limiter.settle(500, grants[0], Cost(1, 40))
    assert limiter.remaining(500) == {"tokens": 20}
    limiter.settle(1_500, grants[1], Cost(1, 0))
    assert limiter.remaining(1_500) == {"tokens": 70}
    limiter.settle(2_000, grants[2], Cost(1, 90))
    assert limiter.remaining(2_000) == {"tokens": 100}
    late = SlidingCounter("tokens", 100, 1_000)
    grant = late.charge(0, Cost(1, 50))
    late.charge(2_500, Cost(1, 10))
    late.release(2_600, grant)
    assert late.standing(2_600)["tokens"].left == 90


@pytest.mark.parametrize("length_ns", [500, 3_000])
def test_counts_stay_with_the_window_of_the_last_call(length_ns: int) -> None:
    """A changed length or phase moves the edges; what was counted counts on until the edges that hold then."""
    limiter = SlidingCounter("requests", 10, 1_000)
    limiter.charge(600, Cost(4, 0))
    limiter.window_ns = length_ns
    end_ns = 1_000 if length_ns == 500 else 3_000
    assert [limiter.remaining(at_ns)["requests"] for at_ns in (700, end_ns - 1, end_ns, end_ns + length_ns // 2)] == [
        6, 6, 6, 8,
    ]  # fmt: skip


def test_changed_limits_hold_from_the_next_decision_on() -> None:
    """What was used stays used."""
    for limiter in (SlidingLog("requests", 10, SECOND), SlidingCounter("requests", 10, SECOND)):
        for _ in range(5):
            admit(limiter, 0)
        limiter.limit = 5
        assert not admit(limiter, 1).admitted
        limiter.limit = 6
        assert admit(limiter, 1).admitted
        limiter.limit = 0
        assert limiter.standing(2)["requests"].left == -6
        assert limiter.earliest(2, Cost(1, 0)) is None
