"""A limiter behind a network, in simulated time: what a design of the experiment asks for is played against it.

No sockets and no waiting: a heap of events. Requests are sent as `tensorix_experiments.limits._drive` sends them, each
is decided somewhere on its way, and somebody else may use the key at the same time.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Generator
from dataclasses import dataclass, field

from tensorix_api.limiters import AllOf, Cost, FixedWindow, Limiter, SlidingCounter, SlidingLog, TokenBucket
from tensorix_experiments.limits._design import Answer, Send
from tensorix_reports.limiter import Kind

__all__ = ["KINDS", "MOST_IN_A_TRIP", "Cell", "Played", "World", "play"]

KINDS: tuple[Kind, ...] = ("fixed_window", "clock_window", "sliding_log", "sliding_counter", "token_bucket")
MOST_IN_A_TRIP = 5.0
"""Where a window's pace lets more pass in a round trip, their order is lost and nothing is promised."""
_JITTER = 0.2
"""By how much a round trip is longer or shorter, at most, as a share of it."""
_ARRIVES = (0.3, 0.7)
"""When the limiter decides, as a share of the round trip."""
_LEAST_TRIP_S = 0.001
"""Of a server on the same machine."""
_EACH_S = 0.0002
"""What a client needs to send one more at the same time."""
_CLOCK_ERROR_S = 0.03
"""Standard deviation of what is known of the server's clock after many readings of `Date`."""
_ONE = Cost(requests=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One trial: the limiter as it is, what is documented of it, the network, and who else is there."""

    kind: Kind
    limit: int
    window_s: float
    documented_window_s: float
    trip_s: float
    header: bool = False
    """Whether an answer that passed says what remains."""
    foreign: float = 0.0
    """What somebody else sends on the key, as a share of limit / window."""
    burst: int | None = None
    """Of a bucket: where it is not the limit."""
    second: int | None = None
    """How many a second, besides."""
    seed: int = 0

    @property
    def in_a_trip(self) -> float:
        """How many a window's pace lets pass in a round trip."""
        return self.limit / self.window_s * self.trip_s

    @property
    def plain(self) -> bool:
        """Whether it is one of those that the goals are about: the others are told apart."""
        return self.in_a_trip <= MOST_IN_A_TRIP and self.window_s == self.documented_window_s and self.second is None

    def limiter(self, rng: random.Random) -> Limiter:
        """As it is; its clock is the server's Unix time."""
        window_ns = round(self.window_s * 1e9)
        main: Limiter
        if self.kind == "token_bucket":
            main = TokenBucket("requests", self.limit, window_ns, burst=self.burst)
        elif self.kind == "sliding_log":
            main = SlidingLog("requests", self.limit, window_ns)
        elif self.kind == "sliding_counter":
            main = SlidingCounter("requests", self.limit, window_ns)
        else:
            phase_ns = 0 if self.kind == "clock_window" else None
            main = FixedWindow("requests", self.limit, window_ns, phase_ns=phase_ns)
        if self.second is None:
            return main
        of_a_second: Limiter = SlidingLog("requests", self.second, 10**9, name="second")
        if (phase := rng.choice((None, 0, -1))) != -1:
            of_a_second = FixedWindow("requests", self.second, 10**9, phase_ns=phase, name="second")
        return AllOf([main, of_a_second])


@dataclass(frozen=True, slots=True)
class _Event:
    """A place that is free, for the next request; one on its way to be decided, until `seen_s`; or one answered."""

    sent_s: float = 0.0
    seen_s: float = 0.0
    answer: Answer | None = None


@dataclass(slots=True)
class World:
    """A cell under way; seconds of the client's clock."""

    cell: Cell
    rng: random.Random = field(init=False)
    now_s: float = field(init=False)
    told_unix_s: float = field(init=False)
    """The server's clock at the beginning, as the client knows it."""
    foreign_passed: int = 0
    _limiter: Limiter = field(init=False)
    _ahead_s: float = field(init=False)
    """The server's clock without the client's."""
    _foreign_s: float = field(init=False)
    """When somebody else sends next."""

    def __post_init__(self) -> None:
        cell = self.cell
        self.rng = random.Random(f"{cell}")
        self.now_s = self.rng.uniform(100, 10_000)
        self._ahead_s = 1.7e9 + self.rng.uniform(0, 1e6)
        self.told_unix_s = self.now_s + self._ahead_s + self.rng.gauss(0, _CLOCK_ERROR_S)
        self._limiter = cell.limiter(self.rng)
        self._foreign_s = self.now_s - 2 * cell.window_s + self._gap_s()

    def _gap_s(self) -> float:
        rate = self.cell.foreign * self.cell.limit / self.cell.window_s
        return self.rng.expovariate(rate) if rate else float("inf")

    def _ns(self, at_s: float) -> int:
        return round((at_s + self._ahead_s) * 1e9)

    def trip_s(self) -> float:
        """How long the next request takes to come back."""
        return max(self.cell.trip_s, _LEAST_TRIP_S) * self.rng.uniform(1 - _JITTER, 1 + _JITTER)

    def decide(self, at_s: float) -> tuple[bool, float | None]:
        """Whether a request passes that arrives now, and what its answer says is left. Never back in time."""
        while self._foreign_s <= at_s:
            self.foreign_passed += self._limiter.admit(self._ns(self._foreign_s), _ONE).admitted
            self._foreign_s += self._gap_s()
        decision = self._limiter.admit(self._ns(at_s), _ONE)
        told = float(decision.remaining["requests"]) if self.cell.header and decision.admitted else None
        return decision.admitted, told

    def send(self, action: Send) -> list[Answer]:
        """Do one action, as the driver does it; `now_s` is then when its last answer was there."""
        began_s = max(self.now_s, action.at_s)
        order = itertools.count()
        events: list[tuple[float, int, _Event]] = []

        def at(instant_s: float, event: _Event) -> None:
            heapq.heappush(events, (instant_s, next(order), event))

        for place in range(max(1, min(action.in_flight, action.count))):
            at(began_s + place * _EACH_S, _Event())
        answers: list[Answer] = []
        begun = refused = 0
        self.now_s = began_s
        while events:
            now_s, _, event = heapq.heappop(events)
            if event.seen_s > now_s:
                passed, remaining = self.decide(now_s)
                at(event.seen_s, _Event(answer=Answer(event.sent_s, event.seen_s, passed, remaining)))
                continue
            self.now_s = now_s
            if event.answer is not None:
                answers.append(event.answer)
                refused += not event.answer.passed
            if begun < action.count and refused < action.until_refused:
                begun += 1
                trip_s = self.trip_s()
                arrives_s = now_s + self.rng.uniform(*_ARRIVES) * trip_s
                at(arrives_s, _Event(sent_s=now_s, seen_s=now_s + trip_s))
        return sorted(answers, key=lambda answer: answer.sent_s)


@dataclass(frozen=True, slots=True)
class Played:
    """What came of a play."""

    answers: list[Answer]
    actions: list[tuple[Send, int]]
    """Each action, and how many requests it sent."""
    began_s: float
    """When the first request was sent."""
    asked_s: float
    """When the design was asked first."""
    ended_s: float
    foreign_passed: int


def play(actions: Generator[Send, list[Answer], None], world: World, *, most_requests: int | None = None) -> Played:
    """Play all actions. RuntimeError where more is asked for than `most_requests`, before it is sent."""
    asked_s = world.now_s
    seen: list[Answer] = []
    done: list[tuple[Send, int]] = []
    try:
        action = next(actions)
        while True:
            if most_requests is not None and len(seen) + action.count > most_requests:
                raise RuntimeError(
                    f"{len(seen)} sent and {action.count} more asked for: {most_requests} were announced"
                )
            answers = world.send(action)
            seen += answers
            done.append((action, len(answers)))
            action = actions.send(answers)
    except StopIteration:
        pass
    began_s = seen[0].sent_s if seen else asked_s
    return Played(seen, done, began_s, asked_s, world.now_s, world.foreign_passed)
