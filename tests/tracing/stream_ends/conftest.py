"""The ways in which a stream can end, as a server and a caller bring them about, and what is told of each."""

from __future__ import annotations

import gc
import gzip
import json
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, ExitStack
from typing import Any, NamedTuple

import pytest
from opentelemetry.trace import StatusCode

from tensorix_tracing._watch import OPEN

# What a server sends


def _chunk(text: str | None = "word", *, finish: str | None = None, index: int = 0) -> bytes:
    choice = {"index": index, "delta": {} if text is None else {"content": text}, "finish_reason": finish}
    value = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return json.dumps(value, ensure_ascii=False).encode()


def _stop(index: int = 0) -> bytes:
    return _chunk(None, finish="stop", index=index)


ERROR = b'{"error":{"message":"No more.","type":"server_error","code":"oops"}}'
COMPLETION = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "word"}, "finish_reason": "stop"}],
    }
).encode()


def _sends(
    *events: bytes, end: bytes = b"\n\n", last: Callable[[Any], object] | None = None
) -> Callable[[Any], object]:
    """A server that sends a head and these events, and ends the body in order unless told otherwise."""

    def answer(peer: Any) -> object:
        peer.head()
        peer.events(*events, end=end)
        return last(peer) if last is not None else peer.last()

    return answer


def _pieces(*pieces: bytes, **headers: str) -> Callable[[Any], object]:
    """A server that sends a body in these pieces."""

    def answer(peer: Any) -> None:
        peer.head(**headers)
        for piece in pieces:
            peer.part(piece)
        peer.last()

    return answer


def _leave(_: Any) -> bool:
    return True


def _reset(peer: Any) -> bool:
    peer.reset()
    return True


def _hold(peer: Any) -> bool:
    peer.hold()
    return True


WORDS = [_chunk("first"), _chunk("second"), _chunk("third")]
WHOLE = [*WORDS, _stop(), b"[DONE]"]
BODY = b"".join(b"data: " + event + b"\n\n" for event in WHOLE)
NOT_ASCII = b"".join(b"data: " + event + b"\n\n" for event in (_chunk("größer"), _chunk("日本"), _stop(), b"[DONE]"))
TEN = b"".join(b"data: " + _chunk(f"word {k}") + b"\n\n" for k in range(10)) + BODY


class End(NamedTuple):
    """What a server does, what the caller does, and what is then told."""

    answer: Callable[[Any], object]
    outcome: str | None
    error_type: str | None = None
    is_error: bool = False
    chunks: int | None = None
    take: int | None = None
    """After so many items the caller takes no more, and closes."""
    timeout: float = 20.0
    compared: bool = True
    """Whether it is also tried untraced, to compare what the caller gets."""


def _error(answer: Callable[[Any], object], outcome: str | None, error_type: str | None = None, **more: Any) -> End:
    return End(answer, outcome, error_type or outcome, is_error=True, **more)


ENDS = {
    "done": End(_sends(*WHOLE), "completed", chunks=4),
    "done, connection held": End(_sends(*WHOLE, last=_hold), "completed", chunks=4, timeout=0.25, compared=False),
    "finished, no done": End(_sends(*WORDS, _stop()), "completed", chunks=4),
    "finished, then cut": End(_sends(*WORDS, _stop(), last=_leave), "completed", chunks=4),
    "last line missing": End(_pieces(BODY.rstrip(b"\n")), "completed", chunks=4),
    "in one read": End(_pieces(BODY), "completed", chunks=4),
    "CRLF": End(_sends(*WHOLE, end=b"\r\n\r\n"), "completed", chunks=4),
    "comments": End(_pieces(b": ping\n\n", BODY[:100], BODY[100:]), "completed", chunks=4),
    "split at each byte": End(_pieces(*(NOT_ASCII[k : k + 1] for k in range(len(NOT_ASCII)))), "completed", chunks=3),
    "gzip": End(_pieces(gzip.compress(BODY), content_encoding="gzip"), "completed", chunks=4),
    # As brotli is to us; httpx takes what it does not know for plain.
    "an unknown encoding": End(_pieces(BODY, content_encoding="x-own"), "completed"),
    "two choices": End(_sends(_chunk("a"), _chunk("b", index=1), _stop(), _stop(1), b"[DONE]"), "completed", chunks=4),
    "one choice of two finished": _error(_sends(_chunk("a"), _chunk("b", index=1), _stop()), "cut", chunks=3),
    "closed early": End(_sends(*WORDS, last=_hold), "closed_early", take=1),
    "closed early, all had come": End(_pieces(TEN), "closed_early", take=2),
    "cut": _error(_sends(*WORDS, last=_leave), "cut", chunks=3),
    "reset": _error(_sends(*WORDS, last=_reset), "cut"),
    "ends without a reason": _error(_sends(*WORDS), "cut", chunks=3),
    "empty": _error(_sends(), "cut"),
    "cut before the first event": _error(_sends(last=_leave), "cut"),
    "error event": _error(_sends(*WORDS, ERROR), "error_event", chunks=3),
    "error event, connection held": _error(
        _sends(*WORDS, ERROR, last=_hold), "error_event", chunks=3, timeout=0.25, compared=False
    ),
    "malformed": _error(_sends(*WORDS, b'{"id": oops'), "malformed", chunks=3),
    "malformed and cut": _error(_sends(b'{"choi', last=_leave), "malformed"),
    "read times out": _error(_sends(*WORDS, last=_hold), "timeout", chunks=3, timeout=0.25),
    "no first event": _error(_sends(last=_hold), "timeout", timeout=0.1, compared=False),
    "no headers": _error(_hold, "timeout", timeout=0.1, compared=False),
    "connection lost before headers": _error(_reset, None, "connection_error"),
    "429": _error(lambda peer: peer.whole(429, ERROR), None, "429"),
    "500 as events": _error(lambda peer: peer.whole(500, b"data: no\n\n", "text/event-stream"), None, "500"),
    "whole though a stream was asked for": End(lambda peer: peer.whole(200, COMPLETION), "completed"),
    "a page though a stream was asked for": _error(
        lambda peer: peer.whole(200, b"<html>Hello</html>", "text/html"), "malformed"
    ),
}


@pytest.fixture(params=list(ENDS))
def end(request: pytest.FixtureRequest) -> End:
    """One of all."""
    return ENDS[request.param]


def _texts(got: list[Any], take: int | None) -> list[str]:
    """Items to compare. Pieces of bytes are put together; of one piece's length nothing is promised."""
    if got and isinstance(got[0], bytes):
        return [] if take is not None else [b"".join(got).decode()]
    return list(map(str, got))


class Case:
    """One end: what to ask, and whether what was told of it is right."""

    def __init__(self, end: End, raw: Any, told: Any) -> None:
        self.end = end
        self.told = told
        self.asked = {"model": "m", "messages": [{"role": "user", "content": "Hello?"}], "timeout": end.timeout}
        self.base_url: str = raw.base_url
        raw.answer = end.answer

    def read(self, open_stream: Callable[[ExitStack], Iterable[Any]]) -> list[str]:
        """What a caller gets: the items, and the exception at last."""
        got: list[Any] = []
        problem = ""
        try:
            with ExitStack() as stack:
                for item in open_stream(stack):
                    got.append(item)
                    if len(got) == self.end.take:
                        break
        except Exception as error:
            problem = repr(error)
        return [*_texts(got, self.end.take), problem]

    async def read_async(self, open_stream: Callable[[AsyncExitStack], Awaitable[AsyncIterable[Any]]]) -> list[str]:
        """The same of a stream that is read asynchronously."""
        got: list[Any] = []
        problem = ""
        try:
            async with AsyncExitStack() as stack:
                async for item in await open_stream(stack):
                    got.append(item)
                    if len(got) == self.end.take:
                        break
        except Exception as error:
            problem = repr(error)
        return [*_texts(got, self.end.take), problem]

    def check(self) -> None:
        """One span, ended, that tells of this end; the metrics count one call; nothing is followed any more."""
        end, span = self.end, self.told.span()
        found = dict(span.attributes)
        assert (found.get("tensorix.stream.outcome"), found.get("error.type")) == (end.outcome, end.error_type)
        assert (span.status.status_code is StatusCode.ERROR) == end.is_error
        assert found["gen_ai.request.stream"] is True
        assert found["tensorix.attempts"] == 1
        if end.chunks is not None:
            assert found.get("tensorix.stream.chunks") == end.chunks
        if end.outcome == "error_event" or end.error_type == "429":
            assert found["tensorix.error.code"] == "oops"
        (point,) = self.told.points("gen_ai.client.operation.duration")
        assert [point.count, point.attributes.get("error.type")] == [1, end.error_type]
        assert len(OPEN) == 0


@pytest.fixture
def case(end: End, raw: Any, told: Any) -> Iterator[Case]:
    """The end that is due, at the server that brings it about; afterwards there is nothing more to tell."""
    yield Case(end, raw, told)
    gc.collect()
    told.span()
