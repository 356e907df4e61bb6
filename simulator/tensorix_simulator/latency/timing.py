"""Who says when a reply's tokens are due: the seam between what is answered and how long it takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from tensorix_simulator.chat.replies import Reply
from tensorix_simulator.latency.pacing import Pacer

__all__ = ["Independent", "Ticket", "Timing", "TokenDue"]

TokenDue = Callable[[int], bool]
"""Called with a due time, at or after it, for each token of a reply in turn; returns whether there are more."""


class Ticket(Protocol):
    """A reply that is being worked on."""

    queue_ns: int
    """How long it waited for a slot, as far as it is known."""

    def cancel(self) -> None:
        """The client has gone: no more calls, and the slot is free."""
        ...


class Timing(Protocol):
    """Decides when tokens are due."""

    def begin(self, start_ns: int, prompt_tokens: int, reply: Reply, due: TokenDue, *, whole: bool) -> Ticket | None:
        """Work on a reply from `start_ns` on; None where there is no room for it.

        `due` is called for each token; where `whole`, once, for the last of them.
        """
        ...


class _Unbounded:
    """The ticket of a reply that waits for nobody."""

    __slots__ = ("cancelled",)
    queue_ns = 0

    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        """No more calls."""
        self.cancelled = True


class Independent:
    """Each reply takes the times that were drawn for it, whatever else goes on."""

    def __init__(self, pacer: Pacer) -> None:
        self._pacer = pacer

    def begin(self, start_ns: int, prompt_tokens: int, reply: Reply, due: TokenDue, *, whole: bool) -> Ticket | None:
        """Plan the first token, or the last where the reply is sent whole."""
        ticket = _Unbounded()
        next_gap_ns = reply.next_gap_ns

        def job(due_ns: int) -> int | None:
            if ticket.cancelled or not due(due_ns):
                return None
            return due_ns + int(next_gap_ns())

        self._pacer.add(start_ns + reply.ttft_ns + (reply.rest_ns() if whole else 0), job)
        return ticket
