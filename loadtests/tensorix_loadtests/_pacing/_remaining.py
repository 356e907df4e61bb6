"""What the headers say is left of a limit, one response after the other."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Heard", "Remaining"]

_ABSURD = 10**12
_MANY = 400


@dataclass(frozen=True, slots=True)
class Heard:
    """One response's word on one resource."""

    at_ns: int
    """When its head came."""
    remaining: int
    count: int = 0
    """How many we had sent by then, from the first."""


class Remaining:
    """The row of what was said of one resource since it last rose, oldest first."""

    __slots__ = ("heard", "nonsense")

    def __init__(self) -> None:
        self.heard: list[Heard] = []
        self.nonsense = 0
        """How often it was what cannot be."""

    def hear(self, at_ns: int, remaining: int, count: int) -> bool:
        """One response; False where its word is nonsense, or was overtaken by a later one."""
        if not 0 <= remaining < _ABSURD:
            self.nonsense += 1
            return False
        if self.heard and at_ns < self.heard[-1].at_ns:
            return False
        if self.heard and remaining > self.heard[-1].remaining:
            self.heard.clear()
        self.heard.append(Heard(at_ns, remaining, count))
        if len(self.heard) > _MANY:
            del self.heard[1 : _MANY // 2]
        return True
