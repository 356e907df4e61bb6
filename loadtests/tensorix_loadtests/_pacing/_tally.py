"""What was sent in the last window."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

__all__ = ["Sent", "Tally", "requests_of"]


@dataclass(slots=True, eq=False)
class Sent:
    """One request that was sent, and what is known of its cost so far."""

    at_ns: int
    number: int
    """How many were sent before it."""
    worst_tokens: int
    likely_tokens: float = 0.0
    """What it is charged in the end, as far as can be told; exact once it has ended."""
    held_tokens: float = 0.0
    """What a server may hold for it until it has ended."""
    requests: int = 1
    prompt_tokens: int | None = None
    """By the server's word; this and the next are None until it has ended."""
    completion_tokens: int | None = None
    most_completion_tokens: int | None = None
    """The most that it might have generated."""
    ended: bool = False
    started_ns: int | None = None
    """When it really went, behind the opening of a connection; known once it has ended."""
    in_flight_then: int = 0
    """How many were under way when it went, without it."""


def requests_of(one: Sent) -> float:
    """What it takes of a limit of requests."""
    return one.requests


class Tally:
    """The sum of an amount over the requests of the last `window_ns`: one sent at t counts in [t, t + window_ns)."""

    __slots__ = ("_amount", "_sent", "_total", "window_ns")

    def __init__(self, window_ns: int, amount: Callable[[Sent], float]) -> None:
        self.window_ns = window_ns
        self._total = 0.0
        self._amount = amount
        self._sent: deque[Sent] = deque()

    def at(self, now_ns: int) -> float:
        """The sum, once what ran out is forgotten."""
        sent = self._sent
        while sent and sent[0].at_ns + self.window_ns <= now_ns:
            self._total -= self._amount(sent.popleft())
        if not sent:
            self._total = 0.0
        return self._total

    def add(self, one: Sent) -> None:
        """One goes."""
        self._sent.append(one)
        self._total += self._amount(one)

    def correct(self, one: Sent, more: float) -> None:
        """The amount of one has become so much more, below 0 less."""
        if self._sent and one.number >= self._sent[0].number:
            self._total += more

    def recount(self) -> None:
        """The amounts of many have changed."""
        self._total = sum(map(self._amount, self._sent))

    def fits_at_ns(self, now_ns: int, amount: float, most: float) -> int:
        """When `amount` more is at most `most`; what is more than `most` by itself fits where nothing else counts."""
        over = self.at(now_ns) + amount - most
        at_ns = now_ns
        for one in self._sent:
            if over <= 1e-6:
                break
            over -= self._amount(one)
            at_ns = one.at_ns + self.window_ns
        return at_ns

    def since(self, since_ns: int) -> list[Sent]:
        """Those that count and went at `since_ns` or later, newest first."""
        found = []
        for one in reversed(self._sent):
            if one.at_ns < since_ns:
                break
            found.append(one)
        return found

    def newest(self) -> Iterator[Sent]:
        """Those that counted at the last look, newest first."""
        return reversed(self._sent)

    def oldest(self) -> Iterator[Sent]:
        """The same, oldest first."""
        return iter(self._sent)
