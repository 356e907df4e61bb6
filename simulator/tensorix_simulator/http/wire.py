"""Bytes as they go out: response heads, error bodies, chunked frames and server-sent events."""

from __future__ import annotations

import json
import time
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Any

from tensorix_simulator.chat.replies import TOKENS

__all__ = ["Headers", "StreamText", "encode_json", "error_body", "head", "last_chunk"]

Headers = list[tuple[str, str]]

_TOKEN_BYTES = tuple(json.dumps(token)[1:-1].encode() for token in TOKENS)


@lru_cache(maxsize=2)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)


def head(status: int, headers: Headers) -> bytes:
    """A status line and headers, `date` and `server` among them."""
    try:
        reason = HTTPStatus(status).phrase
    except ValueError:
        reason = "Unknown"
    lines = [f"HTTP/1.1 {status} {reason}", f"date: {_date(int(time.time()))}", "server: tensorix-simulator"]
    lines += [f"{name}: {value}" for name, value in headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")


def encode_json(value: Any) -> bytes:
    """JSON in ASCII without spaces: whatever a client sent, lone surrogates too, can be repeated."""
    return json.dumps(value, separators=(",", ":")).encode()


def error_body(message: str, kind: str, code: str, param: str | None = None) -> bytes:
    """The documented error object; `param` only where a parameter is meant."""
    error = {"message": message, "type": kind, "code": code}
    if param is not None:
        error["param"] = param
    return encode_json({"error": error})


def _frame(payload: bytes, chunked: bool) -> bytes:
    return b"%x\r\n%s\r\n" % (len(payload), payload) if chunked else payload


def last_chunk(chunked: bool) -> bytes:
    """What ends a body of unknown length."""
    return b"0\r\n\r\n" if chunked else b""


class StreamText:
    """The events of one streamed completion. What is the same in every chunk is encoded once."""

    __slots__ = ("_chunked", "_common", "_content", "_reasoning", "_tail", "_usage")

    def __init__(self, *, identity: str, created: int, model: str, n: int, include_usage: bool, chunked: bool) -> None:
        common = encode_json({"id": identity, "object": "chat.completion.chunk", "created": created, "model": model})[
            :-1
        ]
        self._common = b"data: " + common
        self._chunked = chunked
        # OpenAI sends `usage: null` in every chunk but the last where usage is asked for.
        self._usage = b',"usage":null' if include_usage else b""
        self._tail = b'"},"logprobs":null,"finish_reason":null}]' + self._usage + b"}\n\n"
        self._content = tuple(self._opening(index, b"content") for index in range(n))
        self._reasoning = tuple(self._opening(index, b"reasoning_content") for index in range(n))

    def _opening(self, index: int, field: bytes) -> bytes:
        return self._common + b',"choices":[{"index":%d,"delta":{"%s":"' % (index, field)

    def token(self, choice: int, token: int, reasoning: bool) -> bytes:
        """One token of one choice, by its index in the cycle of tokens."""
        payload = (self._reasoning if reasoning else self._content)[choice] + _TOKEN_BYTES[token] + self._tail
        return b"%x\r\n%s\r\n" % (len(payload), payload) if self._chunked else payload

    def _choice(self, index: int, delta: bytes, finish: bytes) -> bytes:
        choice = b'{"index":%d,"delta":%s,"logprobs":null,"finish_reason":%s}' % (index, delta, finish)
        return _frame(self._common + b',"choices":[' + choice + b"]" + self._usage + b"}\n\n", self._chunked)

    def role(self, choice: int) -> bytes:
        """The first chunk: who speaks, and nothing said yet."""
        return self._choice(choice, b'{"role":"assistant"}', b"null")

    def finish(self, choice: int, reason: str) -> bytes:
        """The chunk that says why it ended."""
        return self._choice(choice, b"{}", encode_json(reason))

    def usage(self, usage: dict[str, Any]) -> bytes:
        """The chunk that says what it has cost; it has no choices."""
        return _frame(self._common + b',"choices":[],"usage":' + encode_json(usage) + b"}\n\n", self._chunked)

    def done(self) -> bytes:
        """`data: [DONE]` and the end of the body."""
        return _frame(b"data: [DONE]\n\n", self._chunked) + last_chunk(self._chunked)
