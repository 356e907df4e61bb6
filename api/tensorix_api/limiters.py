"""Limiters: what may pass, what remains, and when to come back. Pure: the time is an argument, in integer ns.

The simulator enforces with them, load tests pace themselves by them and reports fit them to what was seen; so they
know no clock, no thread and no key (a key has a limiter of its own).

A request's way through a limiter::

    decision = limiter.admit(now_ns, cost)      # reserves `cost`, or refuses and charges nothing
    limiter.settle(now_ns, decision.grant, actual)   # the reservation becomes what was really used; or
    limiter.release(now_ns, decision.grant)          # the reservation never was

A grant is settled or released once. What is settled after its window has passed changes nothing: a charge belongs to
the window in which it was reserved, so a long reply neither frees nor burdens a later window.

Two questions are apart from the limiters because no documentation answers them: which requests are charged at all
(`Counting`) and how many tokens each is charged (`Charging`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Protocol, TypeAlias

__all__ = ["AllOf", "Charging", "Cost", "Counting", "Decision", "FixedWindow", "Grant", "Limiter", "Resource"]

Resource: TypeAlias = Literal["requests", "tokens"]


@dataclass(frozen=True, slots=True)
class Cost:
    """What one request takes of each resource."""

    requests: int = 1
    tokens: int = 0

    def __post_init__(self) -> None:
        if self.requests < 0 or self.tokens < 0:
            raise ValueError(f"a cost is never negative: {self}")

    def of(self, resource: Resource) -> int:
        """The amount of one resource."""
        return self.requests if resource == "requests" else self.tokens


@dataclass(frozen=True, slots=True)
class Grant:
    """A reservation: what `settle` and `release` need. `mark` has a meaning only to the limiter that made it."""

    cost: Cost
    mark: int = 0
    parts: tuple[Grant, ...] = ()
    """One a limiter, where several decided together."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a request passed, and why not."""

    admitted: bool
    remaining: Mapping[Resource, int]
    """What is left of each limited resource after this decision, never below 0."""
    binding: str | None = None
    """The name of the limiter that refused: of several, the one that holds longest; None where it was admitted."""
    retry_at_ns: int | None = None
    """When the same cost could pass if nothing else came; None where it was admitted, or never can be."""
    grant: Grant | None = None
    """What was reserved; None where it was refused."""


class Limiter(Protocol):
    """What passes and when. `now_ns` never runs backwards between two calls on one limiter."""

    name: str

    def admit(self, now_ns: int, cost: Cost) -> Decision:
        """Reserve `cost` if it fits; charge nothing if not."""
        ...

    def charge(self, now_ns: int, cost: Cost) -> Grant:
        """Take `cost` whether it fits or not: requests that count though they are refused, and observed traffic."""
        ...

    def settle(self, now_ns: int, grant: Grant, actual: Cost) -> None:
        """Put what was really used in place of what was reserved."""
        ...

    def release(self, now_ns: int, grant: Grant) -> None:
        """Give the whole reservation back."""
        ...

    def earliest(self, now_ns: int, cost: Cost) -> int | None:
        """The first time, not before `now_ns`, at which `cost` would pass if nothing else came; None for never."""
        ...

    def remaining(self, now_ns: int) -> Mapping[Resource, int]:
        """What is left of each limited resource, never below 0."""
        ...


class FixedWindow:
    """So many requests, or tokens, in a window that a key's first request opens.

    The window holds [start, start + window_ns). The first charge at or after its end opens the next one there; a
    refused request opens nothing. Two such windows back to back let about twice the limit pass in a short time.

    A cost of 0 (tokens that are charged only afterwards) passes while anything is left. `limit` and `window_ns` may be
    assigned at any time; what was used so far stays.
    """

    __slots__ = ("_start_ns", "_used", "limit", "name", "resource", "window_ns")

    def __init__(self, resource: Resource, limit: int, window_ns: int, *, name: str | None = None) -> None:
        if limit < 0 or window_ns <= 0:
            raise ValueError("a window is longer than 0 ns and its limit at least 0")
        self.resource: Resource = resource
        self.limit = limit
        self.window_ns = window_ns
        self.name = name or resource
        self._start_ns: int | None = None
        self._used = 0

    def _used_at(self, now_ns: int) -> int:
        return self._used if self._start_ns is not None and now_ns < self._start_ns + self.window_ns else 0

    def _fits(self, used: int, amount: int) -> bool:
        return used + amount <= self.limit if amount else used < self.limit

    def admit(self, now_ns: int, cost: Cost) -> Decision:
        """Reserve `cost` if it fits; charge nothing if not."""
        if not self._fits(self._used_at(now_ns), cost.of(self.resource)):
            return Decision(False, self.remaining(now_ns), self.name, self.earliest(now_ns, cost))
        grant = self.charge(now_ns, cost)
        return Decision(True, self.remaining(now_ns), grant=grant)

    def charge(self, now_ns: int, cost: Cost) -> Grant:
        """Take `cost` whether it fits or not; opens a window where none is open."""
        if self._start_ns is None or now_ns >= self._start_ns + self.window_ns:
            self._start_ns, self._used = now_ns, 0
        self._used += cost.of(self.resource)
        return Grant(cost, mark=self._start_ns)

    def settle(self, now_ns: int, grant: Grant, actual: Cost) -> None:
        """Put `actual` in place of the reservation, if its window is still open."""
        start_ns = self._start_ns
        if start_ns is not None and grant.mark == start_ns and now_ns < start_ns + self.window_ns:
            self._used += actual.of(self.resource) - grant.cost.of(self.resource)

    def release(self, now_ns: int, grant: Grant) -> None:
        """Give the reservation back, if its window is still open; the window stays where it is."""
        self.settle(now_ns, grant, Cost(0, 0))

    def earliest(self, now_ns: int, cost: Cost) -> int | None:
        """Now, or when the open window ends; None where `cost` is more than a whole window's limit."""
        amount = cost.of(self.resource)
        if self._fits(self._used_at(now_ns), amount):
            return now_ns
        if self._start_ns is None or not self._fits(0, amount):
            return None
        return self._start_ns + self.window_ns

    def remaining(self, now_ns: int) -> Mapping[Resource, int]:
        """What is left in the window that is open, or would open now."""
        return {self.resource: max(0, self.limit - self._used_at(now_ns))}


class AllOf:
    """Several limiters that must all admit; where one refuses, none is charged.

    Of a resource that several of them limit, the least that remains is what remains. With no limiter in it,
    everything passes.
    """

    __slots__ = ("limiters", "name")

    def __init__(self, limiters: Sequence[Limiter], *, name: str = "all") -> None:
        self.limiters = tuple(limiters)
        self.name = name

    def admit(self, now_ns: int, cost: Cost) -> Decision:
        """Reserve `cost` with every limiter, or with none."""
        binding: str | None = None
        retry_at_ns: int | None = now_ns
        for limiter in self.limiters:
            at_ns = limiter.earliest(now_ns, cost)
            if at_ns is None:
                binding, retry_at_ns = limiter.name, None
                break
            if retry_at_ns is not None and at_ns > retry_at_ns:
                binding, retry_at_ns = limiter.name, at_ns
        if binding is not None:
            return Decision(False, self.remaining(now_ns), binding, retry_at_ns)
        grant = self.charge(now_ns, cost)
        return Decision(True, self.remaining(now_ns), grant=grant)

    def charge(self, now_ns: int, cost: Cost) -> Grant:
        """Charge every limiter, whether it fits or not."""
        return Grant(cost, parts=tuple(limiter.charge(now_ns, cost) for limiter in self.limiters))

    def settle(self, now_ns: int, grant: Grant, actual: Cost) -> None:
        """Settle with every limiter."""
        for limiter, part in zip(self.limiters, grant.parts, strict=True):
            limiter.settle(now_ns, part, actual)

    def release(self, now_ns: int, grant: Grant) -> None:
        """Give the reservation back to every limiter."""
        for limiter, part in zip(self.limiters, grant.parts, strict=True):
            limiter.release(now_ns, part)

    def earliest(self, now_ns: int, cost: Cost) -> int | None:
        """When the last of them would let `cost` pass: none of them closes again by waiting."""
        times = [limiter.earliest(now_ns, cost) for limiter in self.limiters]
        known = [at_ns for at_ns in times if at_ns is not None]
        return max(known, default=now_ns) if len(known) == len(times) else None

    def remaining(self, now_ns: int) -> Mapping[Resource, int]:
        """The least that any of them has left of each resource."""
        least: dict[Resource, int] = {}
        for limiter in self.limiters:
            for resource, left in limiter.remaining(now_ns).items():
                least[resource] = min(left, least.get(resource, left))
        return least


class Charging(StrEnum):
    """How many tokens a request is charged: what is reserved before it runs and what it is settled to afterwards.

    The documentation names a limit on tokens and no rule; all three are found in gateways.
    """

    ACTUAL = "actual"
    """Nothing beforehand, prompt and completion afterwards: requests in flight can overdraw the limit together."""
    RESERVE = "reserve"
    """The prompt and the most that may be generated beforehand, what was generated afterwards."""
    PROMPT = "prompt"
    """The prompt, beforehand; what is generated is free."""

    def reserved(self, prompt_tokens: int, max_completion_tokens: int) -> int:
        """Tokens to reserve; `max_completion_tokens` counts every reply where several are asked for."""
        match self:
            case Charging.ACTUAL:
                return 0
            case Charging.RESERVE:
                return prompt_tokens + max_completion_tokens
            case Charging.PROMPT:
                return prompt_tokens

    def settled(self, prompt_tokens: int, completion_tokens: int) -> int:
        """Tokens that the request has cost in the end."""
        return prompt_tokens if self is Charging.PROMPT else prompt_tokens + completion_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Counting:
    """Which requests are charged besides the chat completions that were admitted.

    The documentation does not say. LiteLLM, whose header names it shares, counts a 400 and not `/models`.
    """

    refused: bool = False
    """A request that the limiter refused (429)."""
    bad_requests: bool = False
    """A chat completion refused for its parameters (400)."""
    models: bool = False
    """`GET /models`."""
