"""A response's bytes as they pass to the caller: what they mean for the call, and how they end.

What is handed on is what came, to the byte. A read that brings several events is handed on event by event, so that
what the caller has taken, and no more, counts as received: who stops at the second of ten has closed early, even if
all ten had arrived.
"""

from __future__ import annotations

import logging
import sys
import time
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tensorix_api.chat import CHUNK, DONE, ERROR, MALFORMED, OUTPUT, TOKEN, ChatStream, MalformedError, parse_reply
from tensorix_api.errors import parse_error_body
from tensorix_api.sse import SSEReader
from tensorix_tracing._call import COMPLETED
from tensorix_tracing._errors import Ending, error_of_exception, is_cancellation
from tensorix_tracing._watch import OPEN, is_safe_here

if TYPE_CHECKING:
    from tensorix_tracing._call import Call

__all__ = ["Body", "read_whole"]

log = logging.getLogger("tensorix_tracing")

_ENDS = (b"\n\n", b"\r\n\r\n")
# A body that is not streamed is kept up to here to be read at its end.
_LARGEST_BODY = 4 * 2**20
_ENCODED = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


def read_whole(call: Call, status: int, body: bytes) -> str | None:
    """Learn what a whole body says. Returns `malformed` for a chat reply that is none, else None."""
    if status >= 400:
        call.reply.error = parse_error_body(body[:_LARGEST_BODY])
        return None
    if call.operation != "chat":
        return None
    if call.content is not None:
        call.content.whole(body)
    try:
        call.reply = parse_reply(body)
    except MalformedError:
        return "malformed"
    return None


class Body:
    """Follows one response. `ends_call`: its end is the end of the call (else the caller's client decides)."""

    def __init__(self, call: Call, status: int, content_type: str, encoding: str, *, ends_call: bool) -> None:
        self.call = call
        self.status = status
        self.ends_call = ends_call
        self.events = status < 400 and content_type.partition(";")[0].strip().lower() == "text/event-stream"
        self.encoded = bool(encoding) and encoding != "identity"
        self._decoder = zlib.decompressobj(_ENCODED[encoding]) if encoding in _ENCODED else None
        self._content = call.content
        self._reader = SSEReader()
        self._chat = ChatStream(call.reply)
        self._kept = bytearray()
        self._done = False
        self._blind = self.encoded and self._decoder is None
        """What passes cannot be read here: another compression, or a defect of ours."""
        if ends_call:
            call.read_begun()

    def parts(self, piece: bytes) -> tuple[bytes, ...] | Iterator[bytes]:
        """A read taken apart into what ends with an event each."""
        if not self.events or self.encoded or piece.find(b"\n\n", 0, -2) < 0 and piece.find(b"\r\n\r\n", 0, -4) < 0:
            return (piece,)
        return _split(piece)

    def feed(self, part: bytes, now_ns: int) -> None:
        """Bytes that came at `now_ns` pass to the caller. Never raises."""
        self.call.last_activity_ns = now_ns
        if self._blind:
            return
        try:
            if self._decoder is not None:
                part = self._decoder.decompress(part)
            if not self.events:
                if len(self._kept) <= _LARGEST_BODY:
                    self._kept += part
                return
            for event in self._reader.feed(part):
                if self._content is not None:
                    self._content.event(event.data)
                self._event(self._chat.feed(event.data, event.type), now_ns)
        except Exception:  # noqa: BLE001 - the caller's bytes come first
            self._blind = True
            log.debug("a response could not be read", exc_info=True)

    def _event(self, flags: int, now_ns: int) -> None:
        if flags & CHUNK:
            self.call.chunk(now_ns, token=bool(flags & TOKEN), output=bool(flags & OUTPUT))
        if flags & (DONE | ERROR | MALFORMED):
            if flags & DONE:
                self._done = True
                self._end(COMPLETED)
            elif flags & ERROR:
                self._end(Ending("error_event", "error_event", is_error=True))
            else:
                self._end(Ending("malformed", "malformed", is_error=True))

    def exhausted(self) -> None:
        """The last byte was handed on."""
        if self.status >= 400:
            read_whole(self.call, self.status, bytes(self._kept))
            self._end(Ending(None, str(self.status), is_error=True))
        elif self.events:
            if (left := self._reader.close()) is not None:
                # Some servers leave out the last empty line.
                if self._content is not None:
                    self._content.event(left.data)
                self._event(self._chat.feed(left.data, left.type), time.perf_counter_ns())
            whole = self._done or self._chat.finished or self._blind
            self._end(COMPLETED if whole else Ending("cut", "cut", is_error=True))
        else:
            wrong = None if self._blind else read_whole(self.call, self.status, bytes(self._kept))
            self._end(Ending("malformed", wrong, is_error=True) if wrong else COMPLETED)

    def failed(self, error: BaseException) -> None:
        """Reading raised."""
        kind = error_of_exception(error, answered=True)
        if kind == "cancelled":
            self._end(Ending("cancelled"))
        elif self._chat.finished and kind == "cut":
            self._end(COMPLETED)
        else:
            self._end(Ending(kind if kind in ("timeout", "malformed") else "cut", kind, is_error=True))

    def closed(self) -> None:
        """The caller, or the client for it, closes the response before its last byte."""
        if self.status >= 400:
            self._end(Ending(None, str(self.status), is_error=True))
            return
        error = sys.exception() if sys.version_info >= (3, 12) else sys.exc_info()[1]
        if self._chat.finished:
            self._end(COMPLETED)
        elif error is not None and is_cancellation(error):
            self._end(Ending("cancelled"))
        elif _by_openai():
            # Its generator closes what it reads, whatever ended it: here it was dropped, or could not go on.
            if error is None or isinstance(error, GeneratorExit):
                self.dropped()
            else:
                self._end(Ending("malformed", "malformed", is_error=True))
        else:
            self._end(Ending("closed_early"))

    def dropped(self) -> None:
        """Nobody holds the response any more. May be run by the garbage collector, anywhere."""
        if not self.ends_call or self.call.ended:
            return
        ending = COMPLETED if self._chat.finished else self.call.if_abandoned()
        if is_safe_here(2):
            self.call.end(ending)
        else:
            OPEN.put_off(self.call, ending)

    def _end(self, ending: Ending) -> None:
        if self.ends_call:
            self.call.end(ending)


def _split(piece: bytes) -> Iterator[bytes]:
    """The parts of a read, each up to and with the empty line that ends an event; the last may be without."""
    start = 0
    while start < len(piece):
        ends = [at + len(mark) for mark in _ENDS if (at := piece.find(mark, start)) >= 0]
        end = min(ends, default=len(piece))
        yield piece[start:end]
        start = end


def _by_openai() -> bool:
    """Whether the generator of openai's stream is what closes the response: a few frames up, it or the caller stands."""
    frame = sys._getframe(2)
    for _ in range(6):
        above = frame.f_back
        if above is None:
            return False
        frame = above
        if frame.f_globals.get("__name__") == "openai._streaming":
            return frame.f_code.co_name == "__stream__"
    return False
