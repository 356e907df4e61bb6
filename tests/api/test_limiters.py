"""Limiters: fixed windows to the nanosecond, and what is charged. Random traffic is in `test_limiter_traces.py`."""

from __future__ import annotations

import pytest

from tensorix_api.limiters import AllOf, Charging, Cost, Decision, FixedWindow, Limiter

SECOND = 1_000_000_000


def admit(limiter: Limiter, now_ns: int, requests: int = 1, tokens: int = 0) -> Decision:
    return limiter.admit(now_ns, Cost(requests, tokens))


def test_window_opens_with_the_first_request_and_not_on_the_clock() -> None:
    """The limit is whole again exactly a window after the first request, to the ns."""
    limiter = FixedWindow("requests", 2, 60 * SECOND)
    start = 12_345
    assert [admit(limiter, start + k).admitted for k in (0, 59 * SECOND, 60 * SECOND - 1)] == [True, True, False]
    assert admit(limiter, start + 60 * SECOND - 1).retry_at_ns == start + 60 * SECOND
    assert admit(limiter, start + 60 * SECOND).remaining == {"requests": 1}


def test_two_windows_pass_twice_the_limit_across_their_edge() -> None:
    """The known weakness of the kind: a burst at the end and one after it."""
    limiter = FixedWindow("requests", 60, 60 * SECOND)
    admit(limiter, 0)
    end = 60 * SECOND
    passed = sum(admit(limiter, end - 1).admitted for _ in range(100)) + sum(
        admit(limiter, end).admitted for _ in range(100)
    )
    assert passed == 59 + 60


def test_refused_requests_open_and_charge_nothing() -> None:
    """Knocking while limited extends nothing, and a cost above the limit leaves no window open."""
    limiter = FixedWindow("tokens", 100, SECOND)
    refusal = admit(limiter, 0, tokens=101)
    assert (refusal.admitted, refusal.retry_at_ns, refusal.binding) == (False, None, "tokens")
    admit(limiter, 500, tokens=100)
    for now_ns in range(600, SECOND, SECOND // 7):
        assert not admit(limiter, now_ns, tokens=1).admitted
    assert admit(limiter, 500 + SECOND, tokens=100).admitted


def test_settlement_after_the_window_changes_nothing() -> None:
    """A charge belongs to the window in which it was reserved: a long reply neither frees nor burdens a later one."""
    limiter = FixedWindow("tokens", 100, SECOND)
    long_reply = admit(limiter, 0, tokens=60).grant
    assert long_reply is not None
    admit(limiter, SECOND, tokens=50)
    limiter.settle(SECOND + 1, long_reply, Cost(1, 5))
    assert limiter.remaining(SECOND + 1) == {"tokens": 50}
    limiter.settle(SECOND + 1, long_reply, Cost(1, 500))
    assert limiter.remaining(SECOND + 1) == {"tokens": 50}


def test_a_window_that_was_over_when_it_was_settled_stays_as_it_was() -> None:
    """Made longer, a window that no other has followed counts again what was charged in it, as it was at its end."""
    limiter = FixedWindow("tokens", 100, SECOND)
    grant = admit(limiter, 0, tokens=60).grant
    assert grant is not None
    limiter.settle(SECOND, grant, Cost(1, 5))
    limiter.window_ns = 2 * SECOND
    assert limiter.remaining(SECOND + 1) == {"tokens": 40}
    assert limiter.remaining(2 * SECOND) == {"tokens": 100}


def test_overdrawn_tokens_show_as_none_left() -> None:
    """What is charged afterwards may overdraw the limit; then nothing passes, not even a cost of 0."""
    limiter = FixedWindow("tokens", 100, SECOND)
    grants = [admit(limiter, 0).grant for _ in range(3)]
    for grant in grants:
        assert grant is not None
        limiter.settle(1, grant, Cost(1, 70))
    assert limiter.remaining(2) == {"tokens": 0}
    assert not admit(limiter, 2).admitted
    assert admit(limiter, SECOND).admitted


def test_a_changed_limit_holds_from_the_next_decision_on() -> None:
    """What was used stays used when the limit or the window is changed."""
    limiter = FixedWindow("requests", 10, SECOND)
    for _ in range(5):
        admit(limiter, 0)
    limiter.limit = 5
    assert not admit(limiter, 1).admitted
    limiter.limit = 6
    assert admit(limiter, 1).admitted
    limiter.window_ns = SECOND // 2
    assert limiter.remaining(SECOND // 2) == {"requests": 6}


@pytest.mark.parametrize(
    ("charging", "reserved", "settled"),
    [(Charging.ACTUAL, 0, 30), (Charging.RESERVE, 110, 30), (Charging.PROMPT, 10, 10)],
)
def test_charging_policies(charging: Charging, reserved: int, settled: int) -> None:
    """A prompt of 10, at most 100 asked for, 20 generated."""
    assert charging.reserved(10, 100) == reserved
    assert charging.settled(10, 20) == settled


def test_reserved_tokens_bind_where_used_ones_would_not() -> None:
    """With max_tokens reserved, short answers in flight reach the token limit; settled, they free it again."""
    limiter = AllOf([FixedWindow("requests", 60, 60 * SECOND), FixedWindow("tokens", 1_000, 60 * SECOND)])
    grants = [admit(limiter, 0, tokens=Charging.RESERVE.reserved(10, 490)).grant for _ in range(2)]
    assert admit(limiter, 1, tokens=500).binding == "tokens"
    for grant in grants:
        assert grant is not None
        limiter.settle(2, grant, Cost(1, Charging.RESERVE.settled(10, 5)))
    assert limiter.remaining(3) == {"requests": 58, "tokens": 970}


def test_wrong_costs_and_limits_are_refused() -> None:
    """Negative amounts would give budget away."""
    with pytest.raises(ValueError, match="never negative"):
        Cost(1, -1)
    with pytest.raises(ValueError, match="longer than 0"):
        FixedWindow("requests", 1, 0)
