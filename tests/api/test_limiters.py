"""Limiters: the same decisions as an oracle that keeps the whole history and knows nothing of their state."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest

from tensorix_api.limiters import AllOf, Charging, Cost, Decision, FixedWindow, Grant, Limiter

SECOND = 1_000_000_000


@dataclass
class Entry:
    """A charge in the oracle's history."""

    at_ns: int
    requests: int
    tokens: int


class Oracle:
    """Fixed windows from the first charge, worked out anew from the whole history at each question."""

    def __init__(self, limits: dict[str, int], window_ns: int) -> None:
        self.limits = limits
        self.window_ns = window_ns
        self.history: list[Entry] = []

    def window(self, now_ns: int) -> tuple[int | None, list[Entry]]:
        """The window that is open at `now_ns` and what was charged in it, found by walking from the first charge."""
        start: int | None = None
        inside: list[Entry] = []
        for entry in self.history:
            if start is None or entry.at_ns - start >= self.window_ns:
                start, inside = entry.at_ns, []
            inside.append(entry)
        if start is None or now_ns - start >= self.window_ns:
            return None, []
        return start, inside

    def used(self, now_ns: int, resource: str) -> int:
        return sum(getattr(entry, resource) for entry in self.window(now_ns)[1])

    def passes(self, now_ns: int, cost: Cost) -> bool:
        for resource, limit in self.limits.items():
            used, wanted = self.used(now_ns, resource), getattr(cost, resource)
            if used + wanted > limit or (wanted == 0 and used >= limit):
                return False
        return True

    def charge(self, now_ns: int, cost: Cost) -> Entry:
        entry = Entry(now_ns, cost.requests, cost.tokens)
        self.history.append(entry)
        return entry

    def settle(self, now_ns: int, entry: Entry, actual: Cost) -> None:
        # Later windows never look at an entry that lies before them, so there is nothing to check here.
        entry.requests, entry.tokens = actual.requests, actual.tokens

    def remaining(self, now_ns: int) -> dict[str, int]:
        return {name: max(0, limit - self.used(now_ns, name)) for name, limit in self.limits.items()}

    def earliest(self, now_ns: int, cost: Cost) -> int | None:
        """Tried out: now, and each instant at which the open window could end."""
        if self.passes(now_ns, cost):
            return now_ns
        start, _ = self.window(now_ns)
        if start is not None and self.passes(start + self.window_ns, cost):
            return start + self.window_ns
        return None


def trim(oracle: Oracle, now_ns: int) -> None:
    """Forget windows that are over, so that 10,000 arrivals are walked in time; the walk's start stays a start."""
    start, inside = oracle.window(now_ns)
    if start is None and oracle.history and now_ns - oracle.history[-1].at_ns >= oracle.window_ns:
        oracle.history.clear()
    elif start is not None:
        oracle.history[:] = inside


def both(rpm: int, tpm: int, window_ns: int) -> AllOf:
    return AllOf([FixedWindow("requests", rpm, window_ns), FixedWindow("tokens", tpm, window_ns)])


TRACES = [
    (seed, limits, mean_gap_ns)
    for seed, (limits, mean_gap_ns) in enumerate(
        [
            ({"requests": 60}, SECOND // 2),
            ({"tokens": 2_000}, SECOND // 2),
            ({"requests": 60, "tokens": 2_000}, SECOND // 2),
            ({"requests": 3, "tokens": 500}, SECOND * 7),
            ({"requests": 600, "tokens": 100_000}, SECOND // 15),
            ({"requests": 1}, SECOND * 30),
            ({"requests": 10, "tokens": 0}, SECOND),
        ]
    )
]


@pytest.mark.parametrize(("seed", "limits", "mean_gap_ns"), TRACES)
def test_ten_thousand_arrivals_decide_as_the_oracle_does(seed: int, limits: dict[str, int], mean_gap_ns: int) -> None:
    """Decision, what remains, when to come back: equal on 10,000 arrivals with reservation, settlement and release."""
    rng = random.Random(seed)
    window_ns = 60 * SECOND
    limiter: Limiter = AllOf(
        [
            FixedWindow("requests" if name == "requests" else "tokens", limit, window_ns)
            for name, limit in limits.items()
        ]
    )
    oracle = Oracle(limits, window_ns)
    open_grants: list[tuple[Grant, Entry]] = []
    now_ns, admitted, refused = 10**15, 0, 0
    for _ in range(10_000):
        gap = rng.expovariate(1 / mean_gap_ns)
        # Now and then a pause of exactly a window, a burst at one instant, or a step of a single ns.
        now_ns += rng.choice([round(gap), round(gap), round(gap), 0, 1, window_ns if rng.random() < 0.01 else 0])
        trim(oracle, now_ns)
        while open_grants and rng.random() < 0.5:
            grant, entry = open_grants.pop(rng.randrange(len(open_grants)))
            if rng.random() < 0.2:
                limiter.release(now_ns, grant)
                oracle.settle(now_ns, entry, Cost(0, 0))
            else:
                actual = Cost(grant.cost.requests, rng.randrange(200))
                limiter.settle(now_ns, grant, actual)
                oracle.settle(now_ns, entry, actual)
        cost = Cost(rng.choice([0, 1, 1, 1, 2]), rng.choice([0, 1, rng.randrange(100), rng.randrange(700)]))
        assert limiter.remaining(now_ns) == oracle.remaining(now_ns)
        assert limiter.earliest(now_ns, cost) == oracle.earliest(now_ns, cost)
        if rng.random() < 0.02:
            open_grants.append((limiter.charge(now_ns, cost), oracle.charge(now_ns, cost)))
            continue
        decision = limiter.admit(now_ns, cost)
        expected = oracle.passes(now_ns, cost)
        assert decision.admitted is expected
        if expected:
            admitted += 1
            assert decision.grant is not None
            assert decision.binding is None
            assert decision.retry_at_ns is None
            open_grants.append((decision.grant, oracle.charge(now_ns, cost)))
        else:
            refused += 1
            assert decision.grant is None
            assert decision.binding in limits
            assert decision.retry_at_ns == oracle.earliest(now_ns, cost)
        assert decision.remaining == oracle.remaining(now_ns)
    assert min(admitted, refused) > 100 or limits.get("tokens") == 0, (admitted, refused)


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


def test_no_limiter_admits_everything() -> None:
    """An empty set of limits has nothing to refuse and nothing to show."""
    limiter = AllOf([])
    decision = admit(limiter, 5, tokens=10**9)
    assert decision.admitted
    assert decision.remaining == {}
    assert limiter.earliest(5, Cost(1, 1)) == 5


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
    limiter = both(60, 1_000, 60 * SECOND)
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
