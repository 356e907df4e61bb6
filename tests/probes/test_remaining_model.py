"""What remains, as any limiter and a gateway count it, with any other users: in virtual time, never a false alarm."""

from __future__ import annotations

import heapq
import math
import random
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from typing import Any

import pytest

from tensorix_api import Secret
from tensorix_api.limiters import AllOf, Charging, Cost, FixedWindow, Limiter, SlidingCounter, SlidingLog, TokenBucket
from tensorix_api.ratelimit_headers import RateLimits
from tensorix_probes.check import Finding
from tensorix_probes.checks.ratelimit import CHECK
from tensorix_probes.limits.observation import Observation
from tensorix_probes.settings import Headers, Target
from tensorix_simulator.limits.gateway_window import GatewayLimit, GatewayWindow

SECOND = 10**9
WINDOW = 60 * SECOND
START = 1_800_000_000 * SECOND


@dataclass(frozen=True)
class World:
    """One server, its other users, and how it is probed."""

    kind: str
    others: str
    charging: Charging
    seed: int
    limit: int = 60
    tokens: int = 2_000_000
    told: bool = True
    interval_s: float = 60.0
    jitter_s: float = 0.0
    latency_s: tuple[float, float] = (0.001, 2.0)
    counts_models: bool = False
    counts_bad: bool = False
    at_admission: bool = False
    headers_on: tuple[str, ...] = ("models", "chat", "stream", "bad_request", "throttled")
    checks: tuple[str, ...] = ("models", "chat", "stream")
    lie: str | None = None
    clock_jumps: bool = False


def limiter_of(world: World, rng: random.Random) -> AllOf:
    def one(resource: Any, limit: int, phase_ns: int) -> Limiter:
        match world.kind:
            case "first":
                return FixedWindow(resource, limit, WINDOW)
            case "clock":
                return FixedWindow(resource, limit, WINDOW, phase_ns=phase_ns)
            case "log":
                return SlidingLog(resource, limit, WINDOW)
            case "counter":
                return SlidingCounter(resource, limit, WINDOW, phase_ns=phase_ns)
            case "small bucket":
                return TokenBucket(resource, limit, WINDOW, burst=max(1, limit // 6))
            case "gateway":
                return GatewayLimit(resource, limit, window)
            case _:
                return TokenBucket(resource, limit, WINDOW)

    window = GatewayWindow(WINDOW, rng.randrange(SECOND))
    phase_ns = rng.randrange(WINDOW)
    return AllOf([one("requests", world.limit, phase_ns), one("tokens", world.tokens, phase_ns)])


def arrivals(world: World, rng: random.Random) -> Iterator[tuple[float, int]]:
    """When others' requests come, in s, and how many at once."""
    at = rng.uniform(0, 60)
    phase = rng.uniform(0, 60)
    yield from ()
    while world.others != "none":
        match world.others:
            case "steady":
                at += 60 / (world.limit * 0.9)
                yield at, 1
            case "poisson":
                at += rng.expovariate(world.limit * 0.9 / 60)
                yield at, 1
            case "flood":
                at += rng.expovariate(world.limit * 3 / 60)
                yield at, 1
            case "bursts":
                at += rng.choice([0.01, 0.01, 0.01, 20.0])
                yield at, rng.randint(1, 5)
            case "each minute":
                phase += 60
                yield phase, world.limit * 2 // 3
            case "a twin":
                phase += 60 + rng.choice([0, 0, 0.01, -0.01])
                yield phase, 2
            case _:
                phase += 60.0005
                yield phase, 1


@dataclass
class Played:
    """The findings of each round."""

    world: World
    findings: list[Finding] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)
    others: int = 0

    def failed(self) -> list[tuple[int, str, str | None]]:
        """Round, name and detail of each assertion that did not hold."""
        return [
            (nth, one.name, one.detail)
            for nth, finding in enumerate(self.findings)
            for one in finding.assertions
            if one.held is False
        ]


class _Context:
    """What the check is given; of a `Context` it uses no more."""

    def __init__(self, target: Target) -> None:
        self.target, self.now = target, 0
        self.memory: dict[str, Any] = {}
        self.observations: list[Observation] = []

    def now_unix_ns(self) -> int:
        return self.now


class Play:
    """The events of a world in the order of their times."""

    def __init__(self, world: World) -> None:
        self.world, self.rng = world, random.Random(repr(world))
        self.limiter = limiter_of(world, self.rng)
        self.events: list[tuple[int, int, Callable[[int], object]]] = []
        self.number = count()
        headers = Headers(requests=world.limit if world.told else None)
        self.target = Target(
            name="virtual", base_url="http://127.0.0.1:1/v1", api_key=Secret("sk-virtual"), headers=headers
        )
        self.context = _Context(self.target)
        self.played = Played(world)
        self.apart_ns = START
        self.said: deque[RateLimits] = deque(maxlen=2)
        self.first: RateLimits | None = None
        self.others = arrivals(world, self.rng)

    def at(self, at_ns: int, what: Callable[[int], object]) -> None:
        heapq.heappush(self.events, (at_ns, next(self.number), what))

    def other(self, at_ns: int) -> None:
        """Somebody else's request; refused ones are not counted."""
        tokens = self.rng.choice([20, 500, 20_000])
        most = tokens * self.rng.choice([1, 2, 10])
        for _ in range(self.burst):
            decision = self.limiter.admit(at_ns, Cost(1, self.world.charging.reserved(10, most)))
            if decision.grant is not None:
                self.played.others += 1
                grant, actual = decision.grant, Cost(1, self.world.charging.settled(10, tokens))
                end_ns = at_ns + round(self.rng.uniform(0.01, 5) * SECOND)
                self.at(end_ns, partial(self.limiter.settle, grant=grant, actual=actual))
        self.next_other()

    def next_other(self) -> None:
        if (following := next(self.others, None)) is not None:
            at_s, self.burst = following
            self.at(round(at_s * SECOND), self.other)

    def reading(self, at_ns: int) -> RateLimits:
        left = self.limiter.remaining(at_ns)
        said = RateLimits(remaining_requests=left["requests"], remaining_tokens=left["tokens"], spelling="api_key")
        self.first = self.first or said
        before = self.said[-1] if self.said else said
        self.said.append(said)
        match self.world.lie:
            case "late":
                return before
            case "stuck":
                return self.first
            case "generous":
                return replace(said, remaining_requests=max(left["requests"], self.world.limit - 1))
            case "random":
                return replace(said, remaining_requests=self.rng.randint(0, self.world.limit))
            case _:
                return said

    def latency_ns(self) -> int:
        low, high = self.world.latency_s
        return round(math.exp(self.rng.uniform(math.log(low), math.log(high))) * SECOND)

    def round(self, at_ns: int, rounds: int) -> None:
        """One check after another, then the judgement; then the next round."""
        names = list(self.world.checks)
        if self.world.clock_jumps and self.rng.random() < 0.3:
            self.apart_ns += self.rng.choice([-3600, 3600, -20, 20, 90]) * SECOND

        def send(now_ns: int) -> None:
            if names:
                self.ask(names.pop(0), now_ns, send)
                return
            self.context.now = now_ns + self.apart_ns
            self.played.findings.append(CHECK.run(self.context))  # type: ignore[arg-type]
            if rounds > 1:
                jitter = self.rng.uniform(-self.world.jitter_s, self.world.jitter_s)
                due = max(now_ns + 1, at_ns + round((self.world.interval_s + jitter) * SECOND))
                self.at(due, lambda later_ns: self.round(due, rounds - 1))

        send(at_ns)

    def ask(self, kind: str, sent_ns: int, then: Callable[[int], None]) -> None:
        trip_ns, work_ns = self.latency_ns() // 4, self.latency_ns() // 2
        counts = {"models": self.world.counts_models, "bad_request": self.world.counts_bad}.get(kind, True)
        served = kind in ("chat", "stream")
        charging, most, used = self.world.charging, 36, 22

        def arrive(now_ns: int) -> None:
            cost = Cost(1, charging.reserved(20, 16) if served else 0)
            decision = self.limiter.admit(now_ns, cost) if counts else None
            refused = decision is not None and not decision.admitted
            early = self.reading(now_ns) if self.world.at_admission or refused or kind == "stream" else None
            ends_ns = now_ns + (0 if refused or not served else work_ns)

            def end(done_ns: int) -> None:
                if served and decision is not None and decision.grant is not None:
                    self.limiter.settle(done_ns, decision.grant, Cost(1, charging.settled(20, 2)))
                said = early or self.reading(done_ns)
                head_ns = (now_ns if early else done_ns) + trip_ns
                status = 429 if refused else 400 if kind == "bad_request" else 200
                name = "throttled" if refused else kind
                one = Observation(
                    kind=name,
                    sent_unix_ns=sent_ns + self.apart_ns,
                    head_unix_ns=head_ns + self.apart_ns,
                    end_unix_ns=done_ns + trip_ns + self.apart_ns,
                    status=status,
                    limits=said if name in self.world.headers_on else RateLimits(),
                    requests=1,
                    sure=served and not refused,
                    tokens=used if served and not refused else 0,
                    most_tokens=most if served else 0,
                    clocks_apart_ns=self.apart_ns,
                )
                self.context.observations = [*self.context.observations, one][-500:]
                self.at(done_ns + trip_ns, then)

            self.at(ends_ns, end)

        self.at(sent_ns + trip_ns, arrive)

    def run(self, rounds: int) -> Played:
        self.next_other()
        start_ns = round(self.rng.uniform(60, 180) * SECOND)
        self.at(start_ns, lambda now_ns: self.round(start_ns, rounds))
        while len(self.played.findings) < rounds:
            at_ns, _, what = heapq.heappop(self.events)
            what(at_ns)
        self.played.figures = dict(self.played.findings[-1].figures)
        return self.played


KINDS = ("first", "clock", "log", "counter", "bucket", "small bucket", "gateway")
OTHERS = ("none", "steady", "poisson", "flood", "bursts", "each minute", "a twin", "drifting")
ABOUT_REMAINING = (
    "headers_are_numbers",
    "remaining_is_not_negative",
    "remaining_within_limit",
    "remaining_falls_with_use",
    "remaining_agrees_with_ledger",
    "limit_is_as_expected",
    "retry_after_is_honest",
)


def some_world(rng: random.Random, kind: str, others: str, seed: int) -> World:
    """A world whose other traits are drawn."""
    return World(
        kind=kind,
        others=others,
        charging=rng.choice(list(Charging)),
        seed=seed,
        limit=rng.choice([20, 60, 60, 100, 600]),
        tokens=rng.choice([2_000_000, 2_000_000, 20_000]),
        told=rng.random() < 0.7,
        interval_s=rng.choice([60.0, 60.0, 60.0, 5.0, 10.0, 37.0, 61.0]),
        jitter_s=rng.choice([0.0, 0.0, 0.01, 2.0]),
        latency_s=rng.choice([(0.001, 0.01), (0.001, 2.0), (0.5, 8.0)]),
        counts_models=rng.random() < 0.3,
        counts_bad=rng.random() < 0.3,
        at_admission=rng.random() < 0.3,
        headers_on=rng.choice([World.headers_on, World.headers_on, ("chat",), ("chat", "stream")]),
        checks=rng.choice(
            [
                ("models", "chat", "stream"),
                ("models", "chat", "stream", "bad_request"),
                ("chat", "stream"),
                ("models", "models", "chat"),
            ]
        ),
        clock_jumps=rng.random() < 0.1,
    )


def play(world: World, rounds: int) -> list[tuple[int, str, str | None]]:
    """What failed about limits, in rounds that are counted from 1."""
    failed = Play(world).run(rounds).failed()
    return [(nth + 1, name, detail) for nth, name, detail in failed if name in ABOUT_REMAINING]


@pytest.mark.parametrize("kind", KINDS)
def test_other_users_never_make_it_fail(kind: str) -> None:
    """However others use the key, and the server counts: not one assertion about what remains fails."""
    rng = random.Random(kind)
    for seed, others in enumerate(OTHERS):
        world = some_world(rng, kind, others, seed)
        assert play(world, rounds=12) == [], world


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_other_users_never_make_it_fail_in_thousands_of_rounds(kind: str) -> None:
    """The same in 240 worlds of 25 rounds a way of counting."""
    rng = random.Random(f"many {kind}")
    for seed in range(30):
        for others in OTHERS:
            world = some_world(rng, kind, others, seed)
            assert play(world, rounds=25) == [], world


@pytest.mark.parametrize("kind", ["first", "clock", "log", "counter", "bucket"])
@pytest.mark.parametrize("told", [True, False], ids=["told", "untold"])
@pytest.mark.parametrize("interval_s", [5.0, 10.0, 60.0])
@pytest.mark.parametrize(
    ("lie", "name"), [("late", "remaining_agrees_with_ledger"), ("stuck", "remaining_falls_with_use")]
)
def test_a_lie_about_a_key_of_ones_own_is_caught_at_once(
    kind: str, told: bool, interval_s: float, lie: str, name: str
) -> None:
    """A response behind, or always the same: named in the first round, whether or not the limit is known."""
    quick = (0.001, 0.01)
    world = World(
        kind, "none", Charging.ACTUAL, 1, lie=lie, told=told, interval_s=interval_s, latency_s=quick, jitter_s=0.0
    )
    [(nth, failed, _), *_] = play(world, rounds=3)
    assert (nth, failed) == (1, name)


@pytest.mark.parametrize("kind", KINDS)
def test_a_number_that_never_moves_is_caught_under_heavy_traffic_too(kind: str) -> None:
    """With others at 90 % of the limit it takes some rounds, and no more than six."""
    world = World(kind, "poisson", Charging.ACTUAL, 3, lie="stuck", interval_s=5.0, latency_s=(0.001, 0.01))
    caught = [nth for nth, name, _ in play(world, rounds=8) if name == "remaining_falls_with_use"]
    assert caught[0] <= 6


def test_a_doubt_has_to_come_again_once_something_is_known() -> None:
    """A window that begins in the instant of a request is told as a lie on the first look only, or twice in a row."""
    world = World("clock", "none", Charging.ACTUAL, 1, lie="late", interval_s=900.0, latency_s=(0.001, 0.01))
    names = {nth: name for nth, name, _ in play(world, rounds=3)}
    assert names == dict.fromkeys((1, 2, 3), "remaining_agrees_with_ledger")
    play_it = Play(replace(world, lie=None))
    play_it.context.memory["looked"] = True
    play_it.at(0, lambda now_ns: setattr(play_it, "world", replace(play_it.world, lie="late")))
    failed = [nth + 1 for nth, name, _ in play_it.run(3).failed() if name == "remaining_agrees_with_ledger"]
    assert failed == [2, 3]


@pytest.mark.parametrize("kind", ["first", "log", "counter", "small bucket"])
def test_more_than_our_own_use_leaves_is_caught(kind: str) -> None:
    """A server that never says less than one below the limit: no way of counting gives back so quickly."""
    world = World(kind, "none", Charging.ACTUAL, 1, lie="generous", interval_s=5.0, latency_s=(0.001, 0.01))
    caught = {name for _, name, _ in play(world, rounds=6)}
    assert caught
    assert caught <= {"remaining_agrees_with_ledger", "remaining_falls_with_use"}


def test_a_window_that_is_shorter_is_told_apart_from_a_lie() -> None:
    """A server whose window is 6 s, not 60, breaks no promise that it made: the window is named, nothing fails."""
    play_it = Play(World("log", "none", Charging.ACTUAL, 1, interval_s=1.0, latency_s=(0.001, 0.01)))
    for limiter in play_it.limiter.limiters:
        assert isinstance(limiter, SlidingLog)
        limiter.window_ns = 6 * SECOND
    played = play_it.run(40)
    assert played.failed() == []
    [agrees] = [one for one in played.findings[-1].assertions if one.name == "remaining_agrees_with_ledger"]
    assert agrees.held is None
    assert "a window of 6 s would explain it" in (agrees.detail or "")


def test_the_use_of_others_is_told_apart() -> None:
    """What others used between our responses comes out as a figure: exactly, where no window begins anew meanwhile."""
    play_it = Play(World("first", "none", Charging.ACTUAL, 3, limit=600, interval_s=5.0, latency_s=(0.001, 0.01)))
    play_it.at(0, lambda now_ns: play_it.limiter.charge(now_ns, Cost(1, 0)))
    for at_s in (181, 183, 187):
        play_it.at(at_s * SECOND, lambda now_ns: play_it.limiter.charge(now_ns, Cost(4, 50_000)))
    played = play_it.run(60)
    seen = [dict(finding.figures) for finding in played.findings]
    assert max(figures["foreign_requests"] for figures in seen) == 12
    assert max(figures["foreign_tokens"] for figures in seen) >= 149_900
    assert {figures["counted_models"] for figures in seen[2:]} == {0.0}


@pytest.mark.parametrize("counts", [True, False])
def test_whether_lists_of_models_count_is_learnt(counts: bool) -> None:
    """From what remains before and after them."""
    world = World("log", "none", Charging.ACTUAL, 1, counts_models=counts, interval_s=7.0, latency_s=(0.001, 0.01))
    assert Play(world).run(6).figures["counted_models"] == float(counts)


def test_settled_tokens_are_told_apart_from_other_users() -> None:
    """What was set aside for our own and not used comes back, and is nobody's refill."""
    world = World("first", "none", Charging.RESERVE, 1, at_admission=True, interval_s=5.0, latency_s=(0.001, 0.01))
    figures = Play(world).run(4).figures
    assert figures["settled_tokens"] > 0
    assert figures["foreign_tokens"] == 0


def test_a_round_takes_little_time_to_judge() -> None:
    """Ten minutes of four responses every ten seconds: the check is a matter of ms, not of a share of a core."""
    play_it = Play(World("log", "poisson", Charging.ACTUAL, 1, interval_s=10.0, limit=600))
    play_it.run(70)
    start = time.thread_time()
    for _ in range(10):
        play_it.context.memory.clear()
        CHECK.run(play_it.context)  # type: ignore[arg-type]
    assert (time.thread_time() - start) / 10 < 0.03
