"""Who may run at once and who waits: so many slots, and a queue of bounded length before them."""

from __future__ import annotations

from collections import deque
from typing import Generic, Protocol, TypeVar

__all__ = ["Arrived", "Slots"]


class Arrived(Protocol):
    """What can wait for a slot."""

    @property
    def at_ns(self) -> int:
        """When it came."""
        ...


T = TypeVar("T", bound=Arrived)


class Slots(Generic[T]):
    """At most `slots` run, at most `queue` wait, first come, first served; None: no such bound.

    No clock of its own. One that came is in line until `take` gives it a slot, and has that until `release`; so those
    in line are at most `queue` more than the slots that are free. Both bounds may be changed at any time: who runs or
    waits already stays.
    """

    def __init__(self, slots: int | None = None, queue: int | None = None) -> None:
        self.slots = slots
        self.queue = queue
        self.running = 0
        self._line: deque[T] = deque()

    @property
    def waiting(self) -> int:
        """How many are in line."""
        return len(self._line)

    @property
    def full(self) -> bool:
        """Whether one that came now would have to be turned away."""
        if self.slots is None or self.queue is None:
            return False
        return len(self._line) >= max(0, self.slots - self.running) + self.queue

    @property
    def next_at_ns(self) -> int | None:
        """When the first in line came; None where nobody waits."""
        return self._line[0].at_ns if self._line else None

    def join(self, one: T) -> bool:
        """Stand in line; False, and nothing is kept, where it is full."""
        if self.full:
            return False
        self._line.append(one)
        return True

    def take(self, until_ns: int | None = None) -> T | None:
        """Give a slot to the first in line, if one is free (and it had come by `until_ns`)."""
        if not self._line or (self.slots is not None and self.running >= self.slots):
            return None
        if until_ns is not None and self._line[0].at_ns > until_ns:
            return None
        self.running += 1
        return self._line.popleft()

    def release(self) -> None:
        """One that ran is over: its slot is free."""
        self.running -= 1

    def quit(self, one: T) -> bool:
        """Leave the line; False for one that is not in it (and may have a slot)."""
        try:
            self._line.remove(one)
        except ValueError:
            return False
        return True
