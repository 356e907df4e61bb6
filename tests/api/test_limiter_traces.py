"""Limiters against brute-force oracles, over random traffic with every charging and counting policy.

A server is played as the simulator is one: bad requests and lists of models are admitted or free, completions reserve,
end after a while and are settled, fail, or go away; refused ones are charged or not. Whatever the limiters are asked is
asked of the oracles of `conftest.py` as well.
"""

from __future__ import annotations

import copy
import heapq
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING

import pytest

from tensorix_api.limiters import (
    AllOf,
    Charging,
    Cost,
    Counting,
    FixedWindow,
    Grant,
    InFlight,
    Limiter,
    Resource,
    SlidingCounter,
    SlidingLog,
    TokenBucket,
)

if TYPE_CHECKING:
    from tests.api.conftest import Charge, History

ARRIVALS, MANY = 2_500, 10_000
WINDOW_NS = 60_000_000_007  # divides nothing
PHASE_NS = 21_345_678_901
LIMITS: dict[Resource, int] = {"requests": 13, "tokens": 701}
KINDS = ("first", "clock", "log", "counter", "bucket", "small bucket", "large bucket")

MakeHistory = Callable[..., "History"]


@dataclass(slots=True)
class Limited:
    """A limiter of one resource and its oracle."""

    limiter: FixedWindow | SlidingLog | SlidingCounter | TokenBucket
    oracle: History

    @property
    def resource(self) -> Resource:
        return self.limiter.resource


def limited(make: MakeHistory, kind: str, resource: Resource, limit: int, window_ns: int, name: str) -> Limited:
    """A limiter of that kind and an oracle of the same description."""
    burst = {"small bucket": limit * 2 // 3, "large bucket": limit * 2}.get(kind)
    oracle = make(kind=kind.split()[-1], limit=limit, window_ns=window_ns, phase_ns=PHASE_NS, burst=burst)
    match oracle.kind:
        case "first":
            return Limited(FixedWindow(resource, limit, window_ns, name=name), oracle)
        case "clock":
            return Limited(FixedWindow(resource, limit, window_ns, phase_ns=PHASE_NS, name=name), oracle)
        case "log":
            return Limited(SlidingLog(resource, limit, window_ns, name=name), oracle)
        case "counter":
            return Limited(SlidingCounter(resource, limit, window_ns, phase_ns=PHASE_NS, name=name), oracle)
        case _:
            return Limited(TokenBucket(resource, limit, window_ns, burst=burst, name=name), oracle)


@dataclass(slots=True, eq=False)
class Running:
    """A request under way: the limiter's grant, and the oracles' charges in the order of their limiters."""

    grant: Grant
    charges: list[Charge]


@dataclass(slots=True)
class Pair:
    """One limiter over all, and the oracles of what is in it; each step is taken by both and compared."""

    limiter: Limiter
    parts: Sequence[Limited]
    in_flight: InFlight | None = None
    running: list[Running] = field(default_factory=list)
    admitted: int = 0
    refused: dict[str | None, int] = field(default_factory=dict)

    def _full(self) -> bool:
        return self.in_flight is not None and len(self.running) >= self.in_flight.limit

    def _passes(self, at_ns: int, cost: Cost) -> bool:
        return all(part.oracle.passes(at_ns, cost.of(part.resource)) for part in self.parts)

    def remaining(self, now_ns: int) -> dict[Resource, int]:
        least: dict[Resource, int] = {}
        for part in self.parts:
            left = max(0, part.oracle.left(now_ns))
            least[part.resource] = min(left, least.get(part.resource, left))
        return least

    def admit(self, now_ns: int, cost: Cost) -> Running | None:
        """Ask both: the request under way, or None."""
        assert self.limiter.remaining(now_ns) == self.remaining(now_ns)
        passes = self._passes(now_ns, cost) and not self._full()
        decision = self.limiter.admit(now_ns, cost)
        assert decision.admitted is passes
        if passes:
            assert decision.grant is not None
            assert (decision.binding, decision.retry_at_ns) == (None, None)
            self.admitted += 1
            self.running.append(Running(decision.grant, self._charge(now_ns, cost)))
        else:
            assert decision.grant is None
            self._check_refusal(now_ns, cost, decision.binding, decision.retry_at_ns)
            self.refused[decision.binding] = self.refused.get(decision.binding, 0) + 1
        assert decision.remaining == self.remaining(now_ns)
        return self.running[-1] if passes else None

    def _check_refusal(self, now_ns: int, cost: Cost, binding: str | None, retry_at_ns: int | None) -> None:
        """That time and no earlier one, and the limiter that holds so long."""
        if retry_at_ns is None:
            if self.in_flight is not None and binding == self.in_flight.name:
                assert self._full()
                return
            part = next(part for part in self.parts if part.limiter.name == binding)
            assert not part.oracle.passes(now_ns + 10 * part.oracle.window_ns, cost.of(part.resource))
            return
        assert not self._full()
        assert retry_at_ns > now_ns
        assert self._passes(retry_at_ns, cost)
        part = next(part for part in self.parts if part.limiter.name == binding)
        assert not part.oracle.passes(retry_at_ns - 1, cost.of(part.resource))

    def _charge(self, now_ns: int, cost: Cost) -> list[Charge]:
        return [part.oracle.charge(now_ns, cost.of(part.resource)) for part in self.parts]

    def charge(self, now_ns: int, cost: Cost) -> None:
        self.limiter.charge(now_ns, cost)
        self._charge(now_ns, cost)

    def end(self, now_ns: int, running: Running, actual: Cost | None) -> None:
        """Settle, or release where there is no actual cost."""
        self.running.remove(running)
        if actual is None:
            self.limiter.release(now_ns, running.grant)
        else:
            self.limiter.settle(now_ns, running.grant, actual)
        for part, charge in zip(self.parts, running.charges, strict=True):
            part.oracle.settle(now_ns, charge, (actual or Cost(0, 0)).of(part.resource))

    def look_ahead(self, now_ns: int, rng: random.Random) -> None:
        """How it stands, and that waiting only ever frees, as the oracles have it."""
        standing = self.limiter.standing(now_ns)
        assert {resource: one.remaining for resource, one in standing.items()} == self.remaining(now_ns)
        for resource, one in standing.items():
            part = next(part for part in self.parts if part.limiter.name == one.name)
            assert (part.resource, one.limit, one.left) == (resource, part.oracle.most, part.oracle.left(now_ns))
            assert one.whole_at_ns is not None
            assert part.oracle.left(one.whole_at_ns) == one.limit
            assert one.whole_at_ns == now_ns or part.oracle.left(one.whole_at_ns - 1) < one.limit
            for other in self.parts:
                equal = other.resource == resource and max(0, other.oracle.left(now_ns)) == one.remaining
                # Of those with as little left it is the last to be whole: another would still lack something then.
                assert not equal or other.oracle.left(one.whole_at_ns) == other.oracle.most
        waiting = copy.deepcopy(self.limiter)
        before = self.remaining(now_ns)
        longest_ns = 3 * max(part.oracle.window_ns for part in self.parts)
        for at_ns in sorted(now_ns + rng.randrange(longest_ns) for _ in range(6)):
            after = self.remaining(at_ns)
            assert waiting.remaining(at_ns) == after
            assert all(after[resource] >= left for resource, left in before.items())
            before = after

    def change(self, now_ns: int, quarters: int) -> None:
        """Other limits from now on, in quarters of those at first."""
        for part in self.parts:
            limit = LIMITS[part.resource] * quarters // 4
            burst = None if part.oracle.burst is None else limit * 2 // 3
            part.oracle.change(now_ns, limit, burst)
            part.limiter.remaining(now_ns)  # brings a bucket's refill at the old rate up to now
            part.limiter.limit = limit
            if isinstance(part.limiter, TokenBucket):
                part.limiter.burst = burst

    def trim(self, now_ns: int) -> None:
        for part in self.parts:
            part.oracle.trim(now_ns)


@dataclass(slots=True)
class Traffic:
    """Random traffic around what the limits let through: busy and quiet, bursts, steps of 1 ns and exact edges."""

    pair: Pair
    charging: Charging
    counting: Counting
    rng: random.Random
    now_ns: int = 10**15
    gap_ns: int = 0
    ends: list[tuple[int, int, Running, Cost | None]] = field(default_factory=list)
    """Requests under way, by the time they end; with None for an actual cost they are released."""
    knocks: list[tuple[int, Cost]] = field(default_factory=list)
    """Refused requests that come again, the next one last."""

    def wait(self, arrivals_a_window: int) -> Cost | None:
        """Go on to the next arrival; its cost where it comes again."""
        self.gap_ns = round(self.rng.expovariate(arrivals_a_window / WINDOW_NS))
        again: Cost | None = None
        if self.knocks:
            self.now_ns, again = self.knocks.pop()  # what ends until then may let it through earlier
        else:
            gaps_ns = (self.gap_ns, self.gap_ns, self.gap_ns, 0, 1, WINDOW_NS if self.rng.random() < 0.05 else 0)
            self.now_ns += self.rng.choice(gaps_ns)
        while self.ends and self.ends[0][0] <= self.now_ns:
            end_ns, _, running, actual = heapq.heappop(self.ends)
            self.pair.end(end_ns, running, actual)
        self.pair.trim(self.now_ns)
        return again

    def ask(self, cost: Cost) -> Running | None:
        """Admit, and charge what was refused where that counts."""
        admitted = self.pair.admit(self.now_ns, cost)
        if admitted is None and self.counting.refused:
            self.pair.charge(self.now_ns, Cost(1, 0))
        return admitted

    def over_at_once(self, counted: bool) -> None:
        """A list of models, or a chat completion that turns out to be a bad request."""
        if counted and (admitted := self.ask(Cost(1, 0))) is not None:
            self.pair.end(self.now_ns, admitted, Cost(1, 0))

    def complete(self, number: int, again: Cost | None) -> None:
        """A chat completion."""
        rng, charging = self.rng, self.charging
        prompt, most = rng.randrange(1, 80), rng.randrange(1, 120) * rng.choice((1, 1, 1, 2))
        if rng.random() < 0.01:
            prompt = 800  # more than ever passes
        cost = again or Cost(1, charging.reserved(prompt, most))
        admitted = self.ask(cost)
        if admitted is None:
            retry_at_ns = self.pair.limiter.earliest(self.now_ns, cost)
            if retry_at_ns is not None and again is None and rng.random() < 0.15:
                # Just in time, and just too early where that does not count.
                self.knocks = [(retry_at_ns, cost), (retry_at_ns - 1, cost)][: 1 if self.counting.refused else 2]
            return
        lasts_ns = rng.choice((0, self.gap_ns, 2 * self.gap_ns, 2 * self.gap_ns, WINDOW_NS // 5, WINDOW_NS * 3 // 2))
        actual = Cost(1, charging.settled(prompt, rng.randrange(most + 1)))
        # Some end in an error, which counts without its tokens, and some never were.
        ended = rng.choice((actual, actual, actual, actual, actual, actual, Cost(1, 0), None))
        heapq.heappush(self.ends, (self.now_ns + lasts_ns, number, admitted, ended))


def play(
    pair: Pair, charging: Charging, counting: Counting, seed: int, *, arrivals: int = ARRIVALS, changing: bool = False
) -> None:
    """So many arrivals."""
    rng = random.Random(seed)
    traffic = Traffic(pair, charging, counting, rng)
    arrivals_a_window = 20
    for number in range(arrivals):
        if number % 64 == 0:
            arrivals_a_window = rng.choice((8, 20, 50))
            pair.look_ahead(traffic.now_ns, rng)
        again = traffic.wait(arrivals_a_window)
        if changing and rng.random() < 0.02:
            pair.change(traffic.now_ns, rng.choice((1, 2, 3, 4, 6)))
        kind = rng.random()
        if again is None and kind < 0.15:
            traffic.over_at_once(counting.models if kind < 0.07 else counting.bad_requests)
        else:
            traffic.complete(number, again)


POLICIES = [Counting(refused=a, bad_requests=b, models=c) for a, b, c in product([False, True], repeat=3)]
SETS: list[tuple[Resource, ...]] = [("requests",), ("tokens",), ("requests", "tokens")]
Combination = tuple[str, tuple[Resource, ...], Charging, Counting]
EVERY: list[Combination] = list(product(KINDS, SETS, Charging, POLICIES))


def is_quick(number: int) -> bool:
    """Of each kind, set and charging one counting policy, the next one each time: each kind meets all eight.

    Buckets of a burst of their own only with both resources.
    """
    kind, resources, _, _ = EVERY[number]
    return number % 8 == number // 8 % 8 and (kind not in KINDS[5:] or len(resources) == 2)


FEW = [combination for number, combination in enumerate(EVERY) if is_quick(number)]


def name_of(value: object) -> str:
    if isinstance(value, Counting):
        counted = [name for name in ("refused", "bad_requests", "models") if getattr(value, name)]
        return "+".join(counted) or "completions"
    return "+".join(value) if isinstance(value, tuple) else str(value)


def compare(
    make: MakeHistory,
    kind: str,
    resources: tuple[Resource, ...],
    charging: Charging,
    counting: Counting,
    arrivals: int,
) -> None:
    parts = [limited(make, kind, resource, LIMITS[resource], WINDOW_NS, resource) for resource in resources]
    limiter = parts[0].limiter if len(parts) == 1 else AllOf([part.limiter for part in parts])
    pair = Pair(limiter, parts)
    play(pair, charging, counting, seed=EVERY.index((kind, resources, charging, counting)), arrivals=arrivals)
    assert min(pair.admitted, sum(pair.refused.values())) > arrivals / 20, (pair.admitted, pair.refused)


@pytest.mark.parametrize(("kind", "resources", "charging", "counting"), FEW, ids=name_of)
def test_arrivals_are_decided_as_the_oracles_do(
    history: MakeHistory, kind: str, resources: tuple[Resource, ...], charging: Charging, counting: Counting
) -> None:
    """Decision, remaining, time to come back and reset are equal on each of 2,500 arrivals."""
    compare(history, kind, resources, charging, counting, ARRIVALS)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "resources", "charging", "counting"), EVERY, ids=name_of)
def test_ten_thousand_arrivals_of_every_combination_are_decided_as_the_oracles_do(
    history: MakeHistory, kind: str, resources: tuple[Resource, ...], charging: Charging, counting: Counting
) -> None:
    """The same for all kinds, resources, charging and counting policies, four times as long."""
    compare(history, kind, resources, charging, counting, MANY)


@pytest.mark.parametrize("kind", KINDS)
def test_limits_that_change_under_way_are_followed(history: MakeHistory, kind: str) -> None:
    """5,000 arrivals with a limit that is changed 100 times: what was used stays used."""
    parts = [limited(history, kind, resource, limit, WINDOW_NS, resource) for resource, limit in LIMITS.items()]
    pair = Pair(AllOf([part.limiter for part in parts]), parts)
    play(pair, Charging.RESERVE, Counting(models=True), KINDS.index(kind), arrivals=5_000, changing=True)
    assert min(pair.admitted, *pair.refused.values()) > 100, (pair.admitted, pair.refused)


@pytest.mark.parametrize(
    ("charging", "counting"),
    [(Charging.ACTUAL, POLICIES[0]), (Charging.RESERVE, POLICIES[-1]), (Charging.PROMPT, POLICIES[4])],
    ids=name_of,
)
def test_limiters_of_every_kind_hold_together(history: MakeHistory, charging: Charging, counting: Counting) -> None:
    """A second's sub-limit, a model's limits in a limiter of their own, the minute, a day, and requests in flight."""
    second = limited(history, "first", "requests", 2, 1_000_000_000, "second")
    model_tokens = limited(history, "log", "tokens", 500, WINDOW_NS, "model tokens")
    model_requests = limited(history, "counter", "requests", 8, WINDOW_NS // 2, "model requests")
    minute = limited(history, "small bucket", "requests", 20, WINDOW_NS, "minute")
    day = limited(history, "clock", "tokens", 2_500, 20 * WINDOW_NS, "day")
    in_flight = InFlight(4)
    model = AllOf([model_tokens.limiter, model_requests.limiter], name="model")
    together = AllOf([second.limiter, model, minute.limiter, day.limiter, in_flight])
    pair = Pair(together, [second, model_tokens, model_requests, minute, day], in_flight)
    play(pair, charging, counting, seed=5, arrivals=5_000)
    assert set(pair.refused) >= {"second", "model tokens", "model requests", "day", "in_flight"}
    assert pair.admitted > 500
    assert in_flight.running == len(pair.running) > 0


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_oracles_drop_cannot_matter(history: MakeHistory, kind: str) -> None:
    """An oracle that drops history answers as one that keeps everything, now and later, settlements included."""
    rng = random.Random(kind)
    whole = limited(history, kind, "tokens", 100, 1_001, "").oracle
    trimmed = limited(history, kind, "tokens", 100, 1_001, "").oracle
    charged: list[tuple[Charge, Charge]] = []
    now_ns = 7_000
    for _ in range(200):
        now_ns += rng.choice([0, 1, rng.randrange(300), rng.randrange(300), 1_001, rng.randrange(4_000)])
        trimmed.trim(now_ns)
        for at_ns in (now_ns, now_ns + 1, now_ns + rng.randrange(3_000), now_ns + 1_001):
            assert trimmed.left(at_ns) == whole.left(at_ns)
        if charged and rng.random() < 0.6:
            old, kept = charged.pop(rng.randrange(len(charged)))
            amount = rng.randrange(60)
            whole.settle(now_ns, old, amount)
            trimmed.settle(now_ns, kept, amount)
            assert trimmed.left(now_ns) == whole.left(now_ns)
        amount = rng.randrange(60)
        charged.append((whole.charge(now_ns, amount), trimmed.charge(now_ns, amount)))
    assert kind.endswith("bucket") or len(trimmed.charges) < 50 < len(whole.charges) == 200
