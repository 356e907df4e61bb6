"""As Tensorix documents it, and as OpenAI does where its documentation is silent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tensorix_api.limiters import Charging, Cost
from tensorix_simulator.chat.parameters import BadParameter, read_chat_request
from tensorix_simulator.chat.words import TOKENS
from tensorix_simulator.http.wire import Headers, encode_json, frame, last_chunk
from tensorix_simulator.settings import SimulatorSettings
from tensorix_simulator.styles.style import Context, Reading, Refusal

__all__ = ["TOKEN_BYTES", "StreamText", "Tensorix", "error_body"]

_LISTED_SINCE = 1_735_689_600
TOKEN_BYTES = tuple(json.dumps(token)[1:-1].encode() for token in TOKENS)
"""The tokens as JSON writes them."""
# What begins a chunk of HTTP, by its size: to format it each time costs as much as all the rest of a chunk.
_SIZES = tuple(b"%x\r\n" % size for size in range(1024))
_KINDS = {
    401: "authentication_error",
    402: "insufficient_credits",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
}


def error_body(message: str, kind: str, code: str, param: str | None = None) -> bytes:
    """The documented error object; `param` only where a parameter is meant."""
    error = {"message": message, "type": kind, "code": code}
    if param is not None:
        error["param"] = param
    return encode_json({"error": error})


_SERVED: Mapping[str, tuple[str, ...]] = {
    "/chat/completions": ("POST", "OPTIONS"),
    "/models": ("GET", "HEAD", "OPTIONS"),
}


class Tensorix:
    """The documented form."""

    schemes: tuple[str, ...] = ("bearer",)
    server: str | None = "tensorix-simulator"
    routes_first = False

    def methods(self, page: str) -> tuple[str, ...]:
        """OpenAI's, and what is of use to whoever looks."""
        return _SERVED["/models"] if page.startswith("/models/") else _SERVED.get(page, ())

    def read(self, body: bytes, settings: SimulatorSettings) -> Reading:
        """A valid body is charged as is set; another one as a request where those count."""
        request = read_chat_request(body, settings)
        if isinstance(request, BadParameter):
            return Reading(request=request, cost=Cost(1, 0) if settings.counting.bad_requests else None)
        most = (request.max_tokens or settings.default_max_tokens) * request.n
        reserved = Charging(settings.charging).reserved(request.prompt_tokens, most)
        return Reading(request=request, cost=Cost(1, reserved), model=request.model)

    def headers(self, context: Context) -> Headers:
        """The request's id."""
        return [("x-request-id", context.request_id)]

    def refusal(self, refusal: Refusal, context: Context) -> tuple[bytes, Headers]:
        """The documented error object."""
        kind = _KINDS.get(refusal.status, "server_error" if refusal.status >= 500 else "invalid_request_error")
        return error_body(refusal.message, kind, refusal.code, refusal.param), refusal.headers or []

    def models(self, names: tuple[str, ...]) -> dict[str, Any]:
        """OpenAI's list."""
        return {"object": "list", "data": [self.model(name) for name in names]}

    def model(self, name: str) -> dict[str, Any]:
        """OpenAI's model object."""
        return {"id": name, "object": "model", "created": _LISTED_SINCE, "owned_by": name.split("/")[0]}

    def completion(
        self, *, identity: str, created: int, model: str, choices: list[dict[str, Any]], usage: dict[str, Any]
    ) -> dict[str, Any]:
        """The documented body."""
        return {
            "id": identity,
            "object": "chat.completion",
            "created": created,
            "model": model,
            "choices": choices,
            "usage": usage,
        }

    def stream(
        self, *, identity: str, created: int, model: str, n: int, include_usage: bool, chunked: bool
    ) -> StreamText:
        """OpenAI's chunks."""
        return StreamText(
            identity=identity, created=created, model=model, n=n, include_usage=include_usage, chunked=chunked
        )


class StreamText:
    """The events of one streamed completion. What is the same in every chunk is encoded once."""

    __slots__ = ("_chunked", "_common", "_openings", "_tail", "_usage")

    def __init__(self, *, identity: str, created: int, model: str, n: int, include_usage: bool, chunked: bool) -> None:
        common = encode_json({"id": identity, "object": "chat.completion.chunk", "created": created, "model": model})[
            :-1
        ]
        self._common = b"data: " + common
        self._chunked = chunked
        # OpenAI sends `usage: null` in every chunk but the last where usage is asked for.
        self._usage = b',"usage":null' if include_usage else b""
        self._tail = b'"},"logprobs":null,"finish_reason":null}]' + self._usage + b"}\n\n"
        self._openings: dict[bool, list[bytes]] = {}

    def _opening(self, reasoning: bool, choice: int) -> bytes:
        """What comes before a token; made for all choices up to this one."""
        made = self._openings.setdefault(reasoning, [])
        while len(made) <= choice:
            field = b"reasoning_content" if reasoning else b"content"
            made.append(self._common + b',"choices":[{"index":%d,"delta":{"%s":"' % (len(made), field))
        return made[choice]

    def token(self, choice: int, token: int, reasoning: bool) -> bytes:
        """One token of one choice, by its index in the cycle of tokens."""
        try:
            opening = self._openings[reasoning][choice]
        except LookupError:
            opening = self._opening(reasoning, choice)
        word, tail = TOKEN_BYTES[token], self._tail
        size = len(opening) + len(word) + len(tail)
        if self._chunked and size < 1024:
            return b"".join((_SIZES[size], opening, word, tail, b"\r\n"))
        return frame(opening + word + tail, self._chunked)

    def delta(self, choice: int, delta: Mapping[str, Any]) -> bytes:
        """A token that is no word of the cycle."""
        return self._choice(choice, encode_json(delta), b"null")

    def _choice(self, index: int, delta: bytes, finish: bytes) -> bytes:
        choice = b'{"index":%d,"delta":%s,"logprobs":null,"finish_reason":%s}' % (index, delta, finish)
        return frame(self._common + b',"choices":[' + choice + b"]" + self._usage + b"}\n\n", self._chunked)

    def role(self, choice: int) -> bytes:
        """The first chunk: who speaks, and nothing said yet."""
        return self._choice(choice, b'{"role":"assistant"}', b"null")

    def finish(self, choice: int, reason: str) -> bytes:
        """The chunk that says why it ended."""
        return self._choice(choice, b"{}", encode_json(reason))

    def usage(self, usage: dict[str, Any]) -> bytes:
        """The chunk that says what it has cost; it has no choices."""
        return frame(self._common + b',"choices":[],"usage":' + encode_json(usage) + b"}\n\n", self._chunked)

    def done(self) -> bytes:
        """`data: [DONE]` and the end of the body."""
        return frame(b"data: [DONE]\n\n", self._chunked) + last_chunk(self._chunked)
