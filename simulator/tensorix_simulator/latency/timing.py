"""Who says when a reply's tokens are due: the seam between what is answered and how long it takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from tensorix_simulator.chat.replies import Reply

__all__ = ["Ticket", "Timing", "TokenDue"]

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

    def begin(
        self, start_ns: int, prompt_tokens: int, reply: Reply, due: TokenDue, *, whole: bool, sequences: int = 1
    ) -> Ticket | None:
        """Work on a reply from `start_ns` on; None where there is no room for it.

        `due` is called for each token (of all `sequences`: the reply's choices) from the pacer, never from within;
        where `whole`, once, for the last of them.
        """
        ...
