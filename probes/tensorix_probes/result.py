"""What a probe found: named assertions, timed phases and a state, as data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

__all__ = ["Assertion", "Phases", "ProbeResult", "Request", "Round", "Spent", "State", "badness", "worst"]


class State(StrEnum):
    """What became of a check, or of a round of them. The order here is from best to worst."""

    UP = "up"
    DEGRADED = "degraded"
    """It answers, but slowly, or a promise is broken. Counts as available."""
    INCONCLUSIVE = "inconclusive"
    """Nothing can be said: no budget, limited by our own or somebody else's traffic, or a check above it failed."""
    PAYMENT = "payment"
    """The server asks for money first (402): whether it works stays open."""
    DOWN = "down"

    @property
    def conclusive(self) -> bool:
        """Whether it stands on either side of the availability."""
        return self in (State.UP, State.DEGRADED, State.DOWN)


_BADNESS = {state: number for number, state in enumerate(State)}


def badness(state: State) -> int:
    """How bad a state is: a key to sort by."""
    return _BADNESS[state]


def worst(states: Iterable[State], default: State = State.UP) -> State:
    """The worst of some states, in the order down, payment, inconclusive, degraded, up."""
    return max(states, key=badness, default=default)


@dataclass(frozen=True, slots=True)
class Assertion:
    """One thing that a check looked at. Names are stable: metrics, alerts and people's notes refer to them."""

    name: str
    """Small letters and underscores: `status_is_200`."""
    held: bool | None
    """None: it could not be judged."""
    detail: str | None = None
    """What was seen, on one line, bounded and redacted."""
    otherwise: State = State.DOWN
    """The state of the check where it does not hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phases:
    """How long the parts of a request took, in ns; None for what did not come about.

    `dns`, `connect`, `tls` and `send` are the lengths of these parts. `first_byte`, `first_chunk`, `first_token` and
    `last_byte` count from the start of the sending, once the connection stands: the toolkit's definition of TTFT.
    `total` is from the beginning of the look-up to the last byte, or to where it failed.
    """

    dns_ns: int | None = None
    connect_ns: int | None = None
    tls_ns: int | None = None
    send_ns: int | None = None
    first_byte_ns: int | None = None
    first_chunk_ns: int | None = None
    first_token_ns: int | None = None
    last_byte_ns: int | None = None
    total_ns: int | None = None

    def seconds(self) -> dict[str, float]:
        """Those that came about, in seconds, by the name of the phase."""
        return {
            name.removesuffix("_ns"): value / 1e9
            for name in self.__slots__
            if (value := getattr(self, name)) is not None
        }


@dataclass(frozen=True, slots=True)
class Spent:
    """What was used of a key's limits and of somebody's money."""

    requests: int = 0
    tokens: int = 0
    cost: float | None = None
    """In the currency of the prices that were configured; None where none are."""

    def __add__(self, other: Spent) -> Spent:
        costs = [cost for cost in (self.cost, other.cost) if cost is not None]
        return Spent(self.requests + other.requests, self.tokens + other.tokens, sum(costs) if costs else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request that a check made, or a handshake without one."""

    span_id: str
    """Went out in `traceparent`, under the trace of the round."""
    request_id: str
    method: str | None
    """None: only a handshake."""
    path: str
    started_unix_ns: int
    started_monotonic_ns: int
    """The same on the monotonic clock, which nobody sets: it means something within this process only."""
    phases: Phases
    status: int | None = None
    error_kind: str | None = None
    error_phase: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """What one check of a target found."""

    check: str
    target: str
    state: State
    reason: str | None = None
    """One line for whoever is woken by it; None where all is well."""
    assertions: tuple[Assertion, ...] = ()
    phases: Phases = Phases()
    figures: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    """Other numbers by name, units in it: `tokens_per_second`, `certificate_days_left`, `remaining_requests`."""
    spent: Spent = Spent()
    started_unix_ns: int
    duration_ns: int = 0
    status: int | None = None
    error_kind: str | None = None
    """A value of `tensorix_api.errors.ErrorKind`."""
    error_phase: str | None = None
    request_id: str | None = None
    """Of the request that decided: sent as `x-request-id`."""
    trace_id: str | None = None
    span_id: str | None = None
    location: str | None = None
    key_alias: str | None = None
    model: str | None = None
    requests: tuple[Request, ...] = ()
    """All that it made, in their order."""

    @property
    def failed(self) -> tuple[Assertion, ...]:
        """The assertions that do not hold."""
        return tuple(assertion for assertion in self.assertions if assertion.held is False)

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON takes it; durations in ns."""
        from dataclasses import asdict

        parts = ("assertions", "phases", "spent", "requests")
        return {
            **{name: getattr(self, name) for name in self.__slots__ if name not in parts},
            "state": str(self.state),
            "figures": dict(self.figures),
            "assertions": [asdict(one) | {"otherwise": str(one.otherwise)} for one in self.assertions],
            "phases": asdict(self.phases),
            "spent": asdict(self.spent),
            "requests": [
                {name: value for name, value in asdict(one).items() if name != "started_monotonic_ns"}
                for one in self.requests
            ],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One probe of a target: the checks that were due, cheapest first, and what they say together."""

    round_id: str
    target: str
    location: str | None = None
    state: State
    reason: str | None = None
    cause_check: str | None = None
    """The check that made the state what it is; None where all is up."""
    cause: str | None = None
    """The name of the assertion that did."""
    slot_unix_ns: int | None = None
    """When the schedule wanted it; None for one that was asked for."""
    started_unix_ns: int
    duration_ns: int = 0
    maintenance: str | None = None
    """The name of the maintenance window that it fell into."""
    trace_id: str | None = None
    results: tuple[ProbeResult, ...] = ()

    @property
    def spent(self) -> Spent:
        """What all its checks used."""
        return sum((result.spent for result in self.results), Spent())

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON takes it; durations in ns."""
        from dataclasses import asdict

        return {
            **{name: getattr(self, name) for name in self.__slots__ if name != "results"},
            "state": str(self.state),
            "spent": asdict(self.spent),
            "results": [result.to_dict() for result in self.results],
        }
