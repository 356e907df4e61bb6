"""A response's bytes as they pass to the caller: what they mean for the call, and how they end.

What is handed on is what came, to the byte. A read that brings several events is handed on event by event, so that
what the caller has taken, and no more, counts as received: who stops at the second of ten has closed early, even if
all ten had arrived.
"""

from __future__ import annotations

import logging
import sys
import time
import weakref
import zlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from tensorix_tracing._errors import COMPLETED, Ending, error_of_exception, is_cancellation
from tensorix_tracing._events import ExactEvents, PassingEvents
from tensorix_tracing._reading import LARGEST_BODY, read_whole
from tensorix_tracing._watch import OPEN, is_safe_here

if TYPE_CHECKING:
    from tensorix_tracing._call import Call

__all__ = ["Body"]

log = logging.getLogger("tensorix_tracing")

_ENDS = (b"\n\n", b"\r\n\r\n")
_ENCODED = {b"gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}
_CUT = Ending("cut", "cut", is_error=True)
_EVENTS = b"text/event-stream"
_NO_EVENTS = (b"application/json", b"text/html")
_NO_EVENT = (b"{", b"<", b"[")


class Body:
    """Follows one response. `ends_call`: its end is the end of the call (else the caller's client decides)."""

    response: weakref.ref[Any] | None = None
    encoded = blind = _sniff = False
    """Compressed; and: not to be read here, since another compression or a defect of ours is in the way."""

    def __init__(self, call: Call, status: int, raw_headers: Iterable[tuple[bytes, bytes]], *, ends_call: bool) -> None:
        self.call = call
        self.status = status
        self.ends_call = ends_call
        # What the caller handles while it asks, an earlier call's failure perhaps, is not what ends this one.
        self._handled = sys.exc_info()[1]
        self.events: ExactEvents | PassingEvents | None = None
        self._kept: bytearray | None = None
        self._decoder = None
        kind = b""
        for name, value in raw_headers:
            small = name.lower()
            if small == b"content-type":
                kind = value.partition(b";")[0].strip().lower()
            elif small == b"content-encoding" and (encoding := value.strip().lower()) not in (b"", b"identity"):
                self.encoded = True
                self.blind = encoding not in _ENCODED
                self._decoder = None if self.blind else zlib.decompressobj(_ENCODED[encoding])
        if status < 400 and (kind == _EVENTS or (call.streamed and kind not in _NO_EVENTS)):
            self.events = PassingEvents(call) if call.passing else ExactEvents(call)
            self._sniff = kind != _EVENTS
        else:
            self._kept = bytearray()
        if ends_call:
            call.read_begun()

    def parts(self, piece: bytes) -> tuple[bytes, ...] | Iterator[bytes]:
        """A read taken apart into what ends with an event each."""
        if self.events is None or self.encoded:
            return (piece,)
        if piece.find(b"\n\n", 0, -2) < 0 and (b"\r" not in piece or piece.find(b"\r\n\r\n", 0, -4) < 0):
            return (piece,)
        return _split(piece)

    def feed(self, part: bytes, now_ns: int) -> None:
        """Bytes that came at `now_ns` pass to the caller. Never raises."""
        self.call.last_activity_ns = now_ns
        if self.blind:
            return
        try:
            if self._decoder is not None:
                part = self._decoder.decompress(part)
            if self._sniff and (begin := part.lstrip()):
                # A stream that does not say it is one: events begin with a name or a colon.
                self._sniff = False
                if begin[:1] in _NO_EVENT:
                    self.events, self._kept = None, bytearray()
            if self.events is not None:
                ending = self.events.feed(part, now_ns)
                if ending is not None:
                    self._end(ending)
            elif self._kept is not None and len(self._kept) <= LARGEST_BODY:
                self._kept += part
        except Exception:  # the caller's bytes come first
            self.blind = True
            log.debug("a response could not be read", exc_info=True)

    def exhausted(self) -> None:
        """The last byte was handed on."""
        if self.call.ended:
            return
        kept = bytes(self._kept or b"")
        if self.status >= 400:
            read_whole(self.call, self.status, kept)
            self._end(Ending(None, str(self.status), is_error=True))
        elif self.blind:
            self._end(COMPLETED)
        elif self.events is not None:
            self._end(self.events.exhausted() or _CUT)
        else:
            wrong = read_whole(self.call, self.status, kept)
            self._end(Ending("malformed", wrong, is_error=True) if wrong else COMPLETED)

    def failed(self, error: BaseException) -> None:
        """Reading raised."""
        kind = error_of_exception(error, answered=True)
        if kind == "cancelled":
            self._end(Ending("cancelled"))
        elif self._finished and kind == "cut":
            self._end(COMPLETED)
        else:
            self._end(Ending(kind if kind in ("timeout", "malformed") else "cut", kind, is_error=True))

    def came_whole(self, content: bytes) -> None:
        """All of it is there at once, decoded."""
        self.blind, self._decoder = False, None
        self.call.untimed = True
        now_ns = time.perf_counter_ns()
        self.feed(content, now_ns)
        self.exhausted()

    def closed(self) -> None:
        """The caller, or the client for it, closes the response before its last byte. Never raises."""
        if self.call.ended:
            return
        try:
            self._closed()
        except Exception:
            log.debug("a response's end could not be told", exc_info=True)

    def _closed(self) -> None:
        if self.status >= 400:
            self._end(Ending(None, str(self.status), is_error=True))
            return
        error = sys.exc_info()[1]
        if error is self._handled:
            error = None
        if self._finished:
            self._end(COMPLETED)
        elif self.call.stopped or (error is not None and is_cancellation(error)):
            self._end(Ending("cancelled"))
        elif isinstance(error, GeneratorExit) and self._is_gone():
            self._dropped()
        elif _by_openai():
            # Its generator closes what it reads, whatever ended it: [DONE] that could not be seen here, or it was
            # dropped, or could not go on.
            if error is None and self.blind:
                self._end(COMPLETED)
            elif error is None or isinstance(error, GeneratorExit):
                self._dropped()
            else:
                self._end(Ending("malformed", "malformed", is_error=True))
        else:
            self._end(Ending("closed_early"))

    def dropped(self) -> None:
        """Nobody holds the response any more. May be run by the garbage collector, anywhere. Never raises."""
        if not self.ends_call or self.call.ended:
            return
        try:
            self._dropped()
        except Exception:
            log.debug("a response's end could not be told", exc_info=True)

    def _dropped(self) -> None:
        ending = COMPLETED if self._finished else self.call.if_abandoned()
        self._learn()
        if is_safe_here(3):
            self.call.end(ending)
        else:
            OPEN.put_off(self.call, ending)

    def _is_gone(self) -> bool:
        """Whether nobody holds the response any more: what closes it is a generator that was dropped with it."""
        return self.response is not None and self.response() is None

    @property
    def _finished(self) -> bool:
        return self.events is not None and self.events.finished

    def _end(self, ending: Ending) -> None:
        self._handled = None
        if self.ends_call:
            self._learn()
            self.call.end(ending)

    def _learn(self) -> None:
        events = self.events
        if isinstance(events, PassingEvents):
            try:
                events.learn()
            except Exception:  # the call has ended all the same
                log.debug("a response could not be read", exc_info=True)


def _split(piece: bytes) -> Iterator[bytes]:
    """The parts of a read, each up to and with the empty line that ends an event; the last may be without."""
    start = 0
    while start < len(piece):
        ends = [at + len(mark) for mark in _ENDS if (at := piece.find(mark, start)) >= 0]
        end = min(ends, default=len(piece))
        yield piece[start:end]
        start = end


def _by_openai() -> bool:
    """Whether the generator of openai's stream closes the response: a few frames up, it or the caller stands."""
    frame = sys._getframe(2)
    for _ in range(6):
        above = frame.f_back
        if above is None:
            return False
        frame = above
        if frame.f_globals.get("__name__") == "openai._streaming":
            return frame.f_code.co_name == "__stream__"
    return False
