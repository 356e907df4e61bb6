"""How long each phase of a request may take."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Timeouts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long to wait, in seconds, for each phase of a request."""

    connect_s: float = 10.0
    """DNS, TCP and TLS together."""
    first_token_s: float = 60.0
    """From the start to the first token of a stream, or to the end of a list of models. A chat reply that is not
    streamed is as late as its last token, so only `total_s` bounds it."""
    chunk_s: float = 30.0
    """Between two reads of a stream."""
    total_s: float = 300.0
    """The whole request, connection set-up included."""
