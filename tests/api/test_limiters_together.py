"""Limiters at once, requests in flight, and what a server prints as limit, remaining and reset."""

from __future__ import annotations

import pytest

from tensorix_api.limiters import (
    AllOf,
    Cost,
    Decision,
    FixedWindow,
    InFlight,
    Limiter,
    SlidingCounter,
    SlidingLog,
    Standing,
    TokenBucket,
)

SECOND = 1_000_000_000


def admit(limiter: Limiter, now_ns: int, requests: int = 1, tokens: int = 0) -> Decision:
    return limiter.admit(now_ns, Cost(requests, tokens))


def test_nothing_is_charged_unless_all_admit() -> None:
    """A refusal for tokens costs no request, and the one that holds longest is named."""
    limiter = AllOf([FixedWindow("requests", 1, SECOND), FixedWindow("tokens", 10, 5 * SECOND)])
    assert admit(limiter, 0, tokens=11).binding == "tokens"
    assert limiter.remaining(0) == {"requests": 1, "tokens": 10}
    assert admit(limiter, 0, tokens=10).admitted
    refusal = admit(limiter, 1, tokens=10)
    assert (refusal.binding, refusal.retry_at_ns) == ("tokens", 5 * SECOND)


def test_the_least_of_a_resource_is_what_remains() -> None:
    """A second's sub-limit inside the minute: the header's number is the smaller one."""
    minute = FixedWindow("requests", 60, 60 * SECOND)
    second = FixedWindow("requests", 2, SECOND, name="requests a second")
    limiter = AllOf([minute, second])
    admit(limiter, 0)
    assert limiter.remaining(0) == {"requests": 1}
    admit(limiter, 0)
    assert admit(limiter, 0).binding == "requests a second"
    assert limiter.remaining(SECOND) == {"requests": 2}


def test_no_limiter_admits_everything() -> None:
    """An empty set of limits has nothing to refuse and nothing to show."""
    limiter = AllOf([])
    decision = admit(limiter, 5, tokens=10**9)
    assert decision.admitted
    assert decision.remaining == {}
    assert limiter.earliest(5, Cost(1, 1)) == 5


def test_a_refusal_names_the_limiter_inside_that_holds_longest() -> None:
    """A model's limits may be a limiter of their own: the name is still that of the window that is spent."""
    model = AllOf([FixedWindow("tokens", 100, 60 * SECOND, name="model tokens")], name="model")
    limiter = AllOf([FixedWindow("requests", 1, SECOND), model])
    grant = admit(limiter, 0, tokens=100).grant
    refusal = admit(limiter, 1, tokens=1)
    assert (refusal.binding, refusal.retry_at_ns) == ("model tokens", 60 * SECOND)
    assert grant is not None
    limiter.settle(2, grant, Cost(1, 40))
    assert limiter.remaining(3) == {"requests": 0, "tokens": 60}
    assert admit(limiter, 3, tokens=60).binding == "requests"
    # More than the model ever lets through.
    refusal = admit(limiter, SECOND, tokens=101)
    assert (refusal.binding, refusal.retry_at_ns) == ("model tokens", None)


def test_places_in_flight_are_freed_by_settling_and_releasing() -> None:
    """So many at once, whatever they cost; waiting alone frees nothing."""
    limiter = InFlight(2)
    grants = [admit(limiter, at_ns, tokens=at_ns).grant for at_ns in (0, 5)]
    refusal = admit(limiter, 10**18)
    assert (refusal.admitted, refusal.binding, refusal.retry_at_ns) == (False, "in_flight", None)
    assert limiter.earliest(10**18, Cost()) is None
    assert grants[0] is not None
    assert grants[1] is not None
    limiter.settle(10**18, grants[0], Cost(1, 70))
    assert limiter.earliest(10**18, Cost()) == 10**18
    assert admit(limiter, 10**18).admitted
    assert limiter.running == 2
    limiter.release(10**18, grants[1])
    assert limiter.running == 1
    limiter.limit = 1
    assert not admit(limiter, 10**18).admitted


def test_a_full_flight_charges_no_window() -> None:
    """Nothing is charged unless all admit, and a spent window takes no place."""
    window, flight = FixedWindow("requests", 3, SECOND), InFlight(1)
    limiter = AllOf([window, flight])
    grant = admit(limiter, 0).grant
    assert grant is not None
    refusal = admit(limiter, 1)
    assert (refusal.binding, refusal.remaining) == ("in_flight", {"requests": 2})
    limiter.release(2, grant)
    assert limiter.remaining(2) == {"requests": 3}
    window.limit = 0
    assert admit(limiter, 3).binding == "requests"
    assert flight.running == 0


def test_what_is_charged_without_being_admitted_is_not_in_flight() -> None:
    """A refused request that counts takes no place, so none is left behind."""
    window, flight = FixedWindow("requests", 3, SECOND), InFlight(1)
    limiter = AllOf([window, flight])
    for _ in range(5):
        limiter.release(1, limiter.charge(0, Cost()))
        limiter.charge(0, Cost())
    assert flight.running == 0
    assert window.standing(1)["requests"].left == -2


def test_requests_in_flight_are_no_number_of_a_window() -> None:
    """They lower neither what remains nor any other number that is printed."""
    limiter = AllOf([FixedWindow("requests", 60, SECOND), InFlight(1)])
    assert admit(limiter, 0).remaining == {"requests": 59}
    assert set(limiter.standing(0)) == {"requests"}
    assert InFlight(1).remaining(0) == {}
    assert InFlight(1).standing(0) == {}


@pytest.mark.parametrize(
    ("limiter", "left", "whole_at_ns"),
    [
        (FixedWindow("tokens", 10, 100), 2, 110),
        (FixedWindow("tokens", 10, 100, phase_ns=70), 2, 70),
        (SlidingLog("tokens", 10, 100), 2, 140),
        (SlidingCounter("tokens", 10, 100, phase_ns=30), 2, 230),
        (TokenBucket("tokens", 10, 100), 5, 90),
        (TokenBucket("tokens", 10, 100, burst=20), 15, 90),
    ],
)
def test_each_kind_says_when_it_is_whole_again(limiter: Limiter, left: int, whole_at_ns: int) -> None:
    """4 at 10 and 4 at 40, asked at 41: what is left then, and the first ns at which all of it is."""
    most = 20 if isinstance(limiter, TokenBucket) and limiter.burst else 10
    assert limiter.standing(5) == {"tokens": Standing("tokens", most, most, 5)}
    admit(limiter, 10, tokens=4)
    assert admit(limiter, 40, tokens=4).admitted
    # A charge of 0 keeps nothing from being whole.
    limiter.charge(41, Cost(1, 0))
    assert limiter.standing(41) == {"tokens": Standing("tokens", most, left, whole_at_ns)}
    assert limiter.standing(whole_at_ns) == {"tokens": Standing("tokens", most, most, whole_at_ns)}


def test_of_several_the_tightest_stands_for_the_resource() -> None:
    """The least remaining; where both are spent, the one that is whole last, or never."""
    second = TokenBucket("requests", 2, SECOND, name="second")
    minute = FixedWindow("requests", 3, 60 * SECOND, name="minute")
    limiter = AllOf([second, minute])
    assert limiter.standing(0)["requests"] == Standing("second", 2, 2, 0)
    admit(limiter, 0)
    admit(limiter, 0)
    assert limiter.standing(0)["requests"] == Standing("second", 2, 0, SECOND)
    admit(limiter, SECOND)
    assert limiter.standing(SECOND)["requests"] == Standing("minute", 3, 0, 60 * SECOND)
    for _ in range(3):
        second.charge(SECOND, Cost())
    assert second.standing(SECOND)["requests"].left == -2
    assert limiter.standing(SECOND)["requests"].name == "minute"
    second.limit = 0
    assert limiter.standing(SECOND)["requests"] == Standing("second", 0, -4, None)
    assert AllOf([minute, second]).standing(SECOND)["requests"].name == "second"


def test_windows_on_the_clock_begin_on_their_phase() -> None:
    """A charge at 1:59 is forgotten at 2:00, and one at 2:00 a minute later; nothing opens a window earlier."""
    minute = 60 * SECOND
    limiter = FixedWindow("requests", 2, minute, phase_ns=10 * minute)
    assert [admit(limiter, 2 * minute - SECOND).admitted for _ in range(3)] == [True, True, False]
    assert admit(limiter, 2 * minute - 1).retry_at_ns == 2 * minute
    assert admit(limiter, 2 * minute).remaining == {"requests": 1}
    assert limiter.remaining(3 * minute - 1) == {"requests": 1}
    assert limiter.remaining(3 * minute) == {"requests": 2}


def test_a_window_on_the_clock_keeps_what_was_used_when_it_is_changed() -> None:
    """Until the end of the window that holds the last charge by the new length; a settlement reaches it so long."""
    limiter = FixedWindow("tokens", 100, 60, phase_ns=0)
    limiter.charge(5, Cost(1, 30))
    grant = limiter.charge(50, Cost(1, 30))
    limiter.window_ns = 10
    assert limiter.remaining(59) == {"tokens": 40}
    limiter.settle(59, grant, Cost(1, 10))
    assert limiter.remaining(59) == {"tokens": 60}
    assert limiter.remaining(60) == {"tokens": 100}
    limiter.window_ns = 60
    limiter.phase_ns = 15
    assert limiter.remaining(74) == {"tokens": 60}
    assert limiter.remaining(75) == {"tokens": 100}
    limiter.phase_ns = None
    assert limiter.remaining(64) == {"tokens": 60}
    assert limiter.remaining(65) == {"tokens": 100}


def test_wrong_limits_are_refused_by_every_kind() -> None:
    """Windows are longer than nothing and limits not negative."""
    for kind in (FixedWindow, SlidingLog, SlidingCounter, TokenBucket):
        for limit, window_ns in ((-1, 1), (1, 0), (1, -5)):
            with pytest.raises(ValueError, match="longer than 0 ns"):
                kind("requests", limit, window_ns)
    with pytest.raises(ValueError, match="at least 0"):
        InFlight(-1)
