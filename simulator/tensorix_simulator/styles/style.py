"""What a style decides: the form of everything that is answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from tensorix_api.limiters import Cost, Resource
from tensorix_simulator.chat.parameters import BadParameter, ChatRequest
from tensorix_simulator.http.wire import Headers
from tensorix_simulator.limits.ledger import OverLimit
from tensorix_simulator.limits.rate_headers import AnswerKind
from tensorix_simulator.settings import SimulatorSettings

__all__ = ["Context", "Reading", "Refusal", "StreamEvents", "Style"]


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
    model: str | None = None
    """The model that was meant, where one was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a response is about, as far as its form depends on it."""

    settings: SimulatorSettings
    kind: AnswerKind
    chat: bool
    """Whether it was asked of chat completions."""
    request_id: str
    call_id: str
    """The client's `x-litellm-call-id`, or empty."""
    alias: str | None
    """Of the key."""
    model: str
    """Of an admitted completion; else empty."""
    elapsed_ns: int
    """Since the request was whole."""
    body_bytes: int | None
    """Of a response that is not streamed."""
    refusal: Refusal | None
    remaining: Mapping[Resource, int]
    over: OverLimit | None
    """With a 429, the limit."""
    usage: Mapping[str, Any]
    """Of a completion that is whole: prompt_tokens, completion_tokens, reasoning_tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A chat completion's body as it was understood, and what is asked of the limits before it is answered."""

    request: ChatRequest | BadParameter
    cost: Cost | None = None
    """None: the limits are not asked."""
    model: str | None = None
    """The model that was meant, where that is known."""


class StreamEvents(Protocol):
    """The bytes of one streamed completion's events, each framed as it goes out."""

    def role(self, choice: int) -> bytes:
        """The first chunk of a choice: who speaks, and nothing said yet."""
        ...

    def token(self, choice: int, token: int, reasoning: bool) -> bytes:
        """One token of one choice, by its index in the cycle of tokens."""
        ...

    def delta(self, choice: int, delta: Mapping[str, Any]) -> bytes:
        """One token of one choice that is not a word of the cycle: a piece of a known text, or of a call."""
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
    """The form of bodies and errors, and in which order a request is looked at."""

    schemes: tuple[str, ...]
    """What may stand before the key, in lower case."""
    server: str | None
    """What the header of that name says; None: there is none."""
    routes_first: bool
    """Whether a wrong path or method is refused before the key is looked at."""

    def methods(self, page: str) -> tuple[str, ...]:
        """What a page below the prefix takes; nothing where there is no such page."""
        ...

    def read(self, body: bytes, settings: SimulatorSettings) -> Reading:
        """The body of a chat completion."""
        ...

    def headers(self, context: Context) -> Headers:
        """Headers that do not depend on the limits, besides content type and length."""
        ...

    def refusal(self, refusal: Refusal, context: Context) -> tuple[bytes, Headers]:
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
