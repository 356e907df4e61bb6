"""What a style decides: the form of everything that is answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from tensorix_simulator.http.wire import Headers

__all__ = ["Refusal", "StreamEvents", "Style"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a request gets no answer of the kind it asked for."""

    decision: str
    """As the truth names it."""
    status: int
    message: str
    code: str
    param: str | None = None
    headers: Headers | None = None
    """Besides those of every response."""


class StreamEvents(Protocol):
    """The bytes of one streamed completion's events, each framed as it goes out."""

    def role(self, choice: int) -> bytes:
        """The first chunk of a choice: who speaks, and nothing said yet."""
        ...

    def token(self, choice: int, token: int, reasoning: bool) -> bytes:
        """One token of one choice, by its index in the cycle of tokens."""
        ...

    def finish(self, choice: int, reason: str) -> bytes:
        """The chunk that says why a choice ended."""
        ...

    def usage(self, usage: dict[str, Any]) -> bytes:
        """The chunk that says what it has cost."""
        ...

    def done(self) -> bytes:
        """`data: [DONE]` and the end of the body."""
        ...


class Style(Protocol):
    """The form of bodies and errors."""

    def refusal(self, refusal: Refusal) -> tuple[bytes, Headers]:
        """The body and the headers of an error."""
        ...

    def models(self, names: tuple[str, ...]) -> dict[str, Any]:
        """The body of the list of models."""
        ...

    def model(self, name: str) -> dict[str, Any]:
        """The body of one model."""
        ...

    def completion(
        self, *, identity: str, created: int, model: str, choices: list[dict[str, Any]], usage: dict[str, Any]
    ) -> dict[str, Any]:
        """The body of a completion that is not streamed."""
        ...

    def stream(
        self, *, identity: str, created: int, model: str, n: int, include_usage: bool, chunked: bool
    ) -> StreamEvents:
        """The events of a completion that is."""
        ...
