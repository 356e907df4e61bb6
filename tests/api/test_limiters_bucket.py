"""Token bucket: bursts, refill to the nanosecond, and the same decisions as GCRA on paper."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest

from tensorix_api.limiters import Cost, Decision, TokenBucket

SECOND = 1_000_000_000


def admit(limiter: TokenBucket, now_ns: int, amount: int = 1) -> Decision:
    return limiter.admit(now_ns, Cost(amount, amount))


def test_a_burst_passes_at_once_and_the_rest_at_the_rate() -> None:
    """60 a minute with a burst of 5: five at once, then one a second, to the ns."""
    limiter = TokenBucket("requests", 60, 60 * SECOND, burst=5)
    start = 10**15
    assert [admit(limiter, start).admitted for _ in range(6)] == [True] * 5 + [False]
    assert admit(limiter, start).retry_at_ns == start + SECOND
    assert not admit(limiter, start + SECOND - 1).admitted
    assert admit(limiter, start + SECOND).admitted
    assert not admit(limiter, start + SECOND).admitted
    assert limiter.remaining(start + 6 * SECOND - 1) == {"requests": 4}
    assert limiter.remaining(start + 6 * SECOND) == {"requests": 5}
    assert limiter.remaining(start + 600 * SECOND) == {"requests": 5}


def test_a_bucket_without_a_burst_of_its_own_holds_its_limit() -> None:
    """The limit at once, and it follows the limit when that is changed."""
    limiter = TokenBucket("tokens", 100, SECOND)
    assert limiter.capacity == 100
    assert admit(limiter, 0, 100).admitted
    assert not admit(limiter, 0, 0).admitted
    limiter.limit = 150
    assert limiter.remaining(0) == {"tokens": 50}


def test_a_rate_that_divides_nothing_loses_nothing() -> None:
    """7 in 1,000,003 ns, taken as soon as they come: after 7,000 of them exactly 1,000 windows have passed."""
    limiter, now_ns = TokenBucket("requests", 7, 1_000_003, burst=1), 0
    for _ in range(7_000):
        retry_at_ns = limiter.earliest(now_ns, Cost())
        assert retry_at_ns is not None
        now_ns = retry_at_ns
        assert admit(limiter, now_ns).admitted
    # The bucket may not fill above one: each ns that a request comes late for rounding is lost, below one each.
    assert 0 <= now_ns - Fraction(6_999 * 1_000_003, 7) < 7_000
    generous = TokenBucket("requests", 7, 1_000_003, burst=8)
    passed = [at_ns for at_ns in range(0, 40_000_000, 997) for _ in range(3) if admit(generous, at_ns).admitted]
    # Full at 0, and never full again: everything that flowed back has passed.
    assert len(passed) == 8 + passed[-1] * 7 // 1_000_003


def test_no_interval_passes_more_than_the_burst_and_the_rate() -> None:
    """Whatever the traffic: at most burst + limit * length / window in any interval."""
    rng = random.Random(2)
    limiter, now_ns = TokenBucket("requests", 10, 1_000, burst=4), 0
    admitted: list[int] = []
    for _ in range(5_000):
        now_ns += rng.choice([0, 1, 50, rng.randrange(400)])
        if admit(limiter, now_ns).admitted:
            admitted.append(now_ns)
    assert len(admitted) > 1_000
    # Every interval of up to 30 admitted requests, which is far longer than a burst.
    for first in range(len(admitted)):
        for last in range(first, min(first + 30, len(admitted))):
            assert last - first + 1 <= 4 + Fraction(10 * (admitted[last] - admitted[first]), 1_000)


@pytest.mark.parametrize(("limit", "window_ns", "burst"), [(3, 100, 1), (3, 100, 5), (7, 1_000, 7), (13, 60_001, 2)])
def test_decisions_are_those_of_gcra_as_published(limit: int, window_ns: int, burst: int) -> None:
    """One cell at a time: it conforms if it is not before TAT - tau, with tau = (burst - 1) T; then TAT grows by T."""
    rng = random.Random(limit)
    limiter = TokenBucket("requests", limit, window_ns, burst=burst)
    interval = Fraction(window_ns, limit)
    tau = (burst - 1) * interval
    tat, now_ns, decisions = Fraction(0), 0, set()
    for _ in range(10_000):
        now_ns += rng.choice([0, 1, round(interval), rng.randrange(2 * window_ns // limit), int(interval * 2) + 1])
        conforms = now_ns >= tat - tau
        if conforms:
            tat = max(tat, Fraction(now_ns)) + interval
        assert admit(limiter, now_ns).admitted is conforms
        decisions.add(conforms)
    assert decisions == {True, False}


def test_a_bucket_is_settled_when_the_reply_ends() -> None:
    """What was reserved too much comes back then, but not above the burst; what was used more is owed."""
    limiter = TokenBucket("tokens", 100, 1_000, burst=200)
    grant = admit(limiter, 0, 180).grant
    assert grant is not None
    assert limiter.remaining(500) == {"tokens": 70}
    limiter.settle(500, grant, Cost(1, 30))
    assert limiter.remaining(500) == {"tokens": 200}
    more = admit(limiter, 500, 100).grant
    assert more is not None
    limiter.settle(500, more, Cost(1, 350))
    standing = limiter.standing(500)["tokens"]
    assert (standing.limit, standing.left, standing.remaining, standing.whole_at_ns) == (200, -150, 0, 4_000)
    assert limiter.earliest(500, Cost(1, 0)) == 500 + 1_510
    late = admit(limiter, 4_000, 200).grant
    assert late is not None
    limiter.release(100_000, late)
    assert limiter.remaining(100_000) == {"tokens": 200}


def test_changes_keep_what_was_taken() -> None:
    """A changed burst moves what is left, a changed rate and window only how fast it comes back."""
    limiter = TokenBucket("tokens", 100, 1_000)
    limiter.charge(0, Cost(1, 80))
    limiter.burst = 300
    assert limiter.remaining(0) == {"tokens": 220}
    limiter.burst = 50
    assert limiter.standing(0)["tokens"].left == -30
    limiter.limit = 10
    assert limiter.remaining(1_000) == {"tokens": 0}
    assert limiter.standing(1_000)["tokens"].left == -20
    limiter.window_ns = 10
    assert limiter.standing(1_000)["tokens"].left == -20
    assert limiter.standing(1_010)["tokens"].left == -10
    assert limiter.standing(1_010)["tokens"].whole_at_ns == 1_070
    limiter.window_ns = 3
    assert limiter.standing(1_010)["tokens"].left == -10


def test_a_bucket_that_nothing_flows_into_is_never_whole() -> None:
    """A limit of 0 with a burst lets the burst pass once; a cost above the burst never passes."""
    limiter = TokenBucket("requests", 0, 1_000, burst=2)
    assert [admit(limiter, at_ns).admitted for at_ns in (0, 1, 10**9)] == [True, True, False]
    assert limiter.earliest(10**9, Cost()) is None
    assert limiter.standing(10**9)["requests"].whole_at_ns is None
    assert TokenBucket("tokens", 100, 1_000, burst=5).earliest(0, Cost(1, 6)) is None
    assert not admit(TokenBucket("requests", 100, 1_000, burst=0), 0).admitted


def test_time_before_zero_fills_nothing() -> None:
    """A clock may begin below 0: a full bucket stays full, and no more."""
    limiter = TokenBucket("requests", 5, 1_000)
    assert limiter.remaining(-500) == {"requests": 5}
    admit(limiter, -500, 5)
    assert limiter.remaining(-301) == {"requests": 0}
    assert limiter.remaining(-300) == {"requests": 1}


def test_a_negative_burst_is_refused() -> None:
    """It would mean nothing."""
    with pytest.raises(ValueError, match="burst is at least 0"):
        TokenBucket("requests", 5, 1_000, burst=-1)
