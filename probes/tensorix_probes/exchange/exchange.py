"""One request of a target, over a connection of its own."""

from __future__ import annotations

from typing import Any

from tensorix_api import Secret
from tensorix_probes.exchange.answer import Answer
from tensorix_probes.settings import Target

__all__ = ["Exchange"]


class Exchange:
    """Asks one target. Keeps what is dear to make (the TLS context), but no connection.

    `cancel()` may be called from another thread: what is under way fails at once.
    """

    def __init__(self, target: Target) -> None:
        self._target = target

    def ask(
        self,
        method: str,
        path: str,
        *,
        kind: str,
        body: Any = None,
        key: Secret | None = None,
        trace: tuple[str, str] | None = None,
    ) -> Answer:
        """Make one request and read all of its answer, within the target's timeouts. Never raises for the server's part."""
        raise NotImplementedError

    def cancel(self) -> None:
        """End what is under way, from another thread."""
        raise NotImplementedError

    def close(self) -> None:
        """Give back what is kept."""
