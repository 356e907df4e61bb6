"""What a limiter is asked and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

__all__ = ["Cost", "Decision", "Grant", "Limiter", "Resource", "Standing", "check_window", "decide", "needed"]

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
    """When the same cost could pass if nothing else came; None where it was admitted, or where waiting alone never
    lets it pass: more than the limit was asked for, or `InFlight` is full until a request ends."""
    grant: Grant | None = None
    """What was reserved; None where it was refused."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How one resource stands: what servers print as limit, remaining and reset."""

    name: str
    """The limiter's."""
    limit: int
    """What is left when nothing is used: the limit, of a bucket its burst."""
    left: int
    """The limit without what was used, in whole units rounded down; below 0 where it was overdrawn."""
    whole_at_ns: int | None
    """When all of the limit is left again if nothing else comes, not before now; None for never."""

    @property
    def remaining(self) -> int:
        """What is left, never below 0."""
        return max(0, self.left)


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
        """Put what was really used in place of what was reserved; the request has ended."""
        ...

    def release(self, now_ns: int, grant: Grant) -> None:
        """Give the whole reservation back; the request has ended."""
        ...

    def earliest(self, now_ns: int, cost: Cost) -> int | None:
        """The first time, not before `now_ns`, at which `cost` would pass if nothing else came; None for never."""
        ...

    def remaining(self, now_ns: int) -> Mapping[Resource, int]:
        """What is left of each limited resource, never below 0."""
        ...

    def standing(self, now_ns: int) -> Mapping[Resource, Standing]:
        """Limit, what is left and when it is whole again, of each limited resource; agrees with `remaining`."""
        ...


def decide(limiter: Limiter, now_ns: int, cost: Cost) -> Decision:
    """The decision of a limiter that admits what could pass now."""
    at_ns = limiter.earliest(now_ns, cost)
    if at_ns != now_ns:
        return Decision(False, limiter.remaining(now_ns), limiter.name, at_ns)
    grant = limiter.charge(now_ns, cost)
    return Decision(True, limiter.remaining(now_ns), grant=grant)


def needed(amount: int) -> int:
    """What must be left for `amount` to pass: a cost of 0 needs one unit, or spent limits would let it through."""
    return amount or 1


def check_window(limit: int, window_ns: int) -> None:
    """Raises ValueError for a limit or a window that means nothing."""
    if limit < 0 or window_ns <= 0:
        raise ValueError("a window is longer than 0 ns and its limit at least 0")
