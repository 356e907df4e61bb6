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
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tensorix_tracing._errors import COMPLETED, Ending, error_of_exception, is_cancellation
from tensorix_tracing._events import ExactEvents
from tensorix_tracing._reading import LARGEST_BODY, read_whole
from tensorix_tracing._tasks import watch
from tensorix_tracing._watch import OPEN, is_safe_here

if TYPE_CHECKING:
    from tensorix_tracing._attempts import Attempt
    from tensorix_tracing._call import Call

__all__ = ["EVENTS", "Body"]

log = logging.getLogger("tensorix_tracing")

_ENDS = (b"\n\n", b"\r\n\r\n")
_ENCODED = {b"gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}
_CUT = Ending("cut", "cut", is_error=True)
EVENTS = b"text/event-stream"
_NO_EVENTS = (b"application/json", b"text/html")
_NO_EVENT = (b"{", b"<", b"[")


class Body:
    """Follows one response. `ends_call`: its end is the end of the call (else the caller's client decides)."""

    response: weakref.ref[Any] | None = None
    events: ExactEvents | None = None
    blind = by_looks = _sniff = False
    """Not to be read here, since another compression than those known or a defect of ours is in the way; only looked
    at; whether it is a stream at all is yet to be seen."""
    _kept: bytearray | None = None
    _decoder: Any = None

    def __init__(self, call: Call, attempt: Attempt, *, ends_call: bool) -> None:
        self.call = call
        self.status = attempt.status or 0
        self.ends_call = ends_call
        # What the caller handles while it asks, an earlier call's failure perhaps, is not what ends this one.
        self._handled = sys.exc_info()[1]
        if not self.by_looks:
            self._prepare(attempt)
        if ends_call:
            # Handed to the caller bit by bit: from here on its end is the call's.
            call.reading = True
            OPEN.add(call)
            if call.task is not None or "gevent" in sys.modules:
                call.watched = watch(call)

    def _prepare(self, attempt: Attempt) -> None:
        """Make ready what reads the body."""
        if attempt.encoding not in (None, b"", b"identity"):
            self.blind = attempt.encoding not in _ENCODED
            self._decoder = None if self.blind else zlib.decompressobj(_ENCODED[attempt.encoding])
        kind = attempt.content_type
        if self.status < 400 and (kind == EVENTS or (self.call.streamed and kind not in _NO_EVENTS)):
            self.events = ExactEvents(self.call)
            self._sniff = kind != EVENTS
        else:
            self._kept = bytearray()

    def take(self, piece: bytes, now_ns: int) -> Iterator[bytes] | None:
        """A read that came at `now_ns` passes to the caller: as it is (None), or in parts. Never raises."""
        in_events = self.events is not None and self._decoder is None
        parts = self.parts(piece, now_ns) if in_events else None
        if parts is None:
            self.feed(piece, now_ns)
        return parts

    def parts(self, piece: bytes, now_ns: int) -> Iterator[bytes] | None:
        """A read taken apart into what ends with an event each; None for one that needs not be."""
        if piece.find(b"\n\n", 0, -2) < 0 and (b"\r" not in piece or piece.find(b"\r\n\r\n", 0, -4) < 0):
            return None
        return self._in_parts(piece, now_ns)

    def _in_parts(self, piece: bytes, now_ns: int) -> Iterator[bytes]:
        for part in _split(piece):
            self.take(part, now_ns)
            yield part

    def feed(self, part: bytes, now_ns: int) -> None:
        """Learn what the bytes say that came at `now_ns`. Never raises."""
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
        if not self.call.open:
            return
        kept = bytes(self._kept or b"")
        if self.status >= 400:
            read_whole(self.call, self.status, kept)
            self._end(Ending(None, str(self.status), is_error=True))
        elif self.blind:
            self._end(COMPLETED)
        elif self._kept is None:
            # Of a stream the last event may be without its empty line.
            ending = self.events.exhausted() if self.events is not None else None
            self._end(ending or (COMPLETED if self.finished else _CUT))
        else:
            wrong = read_whole(self.call, self.status, kept)
            self._end(Ending("malformed", wrong, is_error=True) if wrong else COMPLETED)

    def failed(self, error: BaseException) -> None:
        """Reading raised."""
        kind = error_of_exception(error, answered=True)
        if kind == "cancelled":
            self._end(Ending("cancelled"))
        elif self.finished and kind == "cut":
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
        """The caller, or the client for it, closes the response of an open call. Never raises."""
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
        if self.finished:
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
        """Nobody holds the response of an open call. May be run by the garbage collector, anywhere. Never raises."""
        if not self.ends_call:
            return
        try:
            self._dropped()
        except Exception:
            log.debug("a response's end could not be told", exc_info=True)

    def _dropped(self) -> None:
        ending = COMPLETED if self.finished else self.call.if_abandoned()
        if self.call.recording:
            self.learn()
        if is_safe_here(3):
            self.call.end(ending)
        else:
            OPEN.put_off(self.call, ending)

    def _is_gone(self) -> bool:
        """Whether nobody holds the response any more: what closes it is a generator that was dropped with it."""
        return self.response is not None and self.response() is None

    @property
    def finished(self) -> bool:
        """Whether a stream has said all that it has to say."""
        return self.events is not None and self.events.finished

    def _end(self, ending: Ending) -> None:
        self._handled = None
        if self.ends_call:
            if self.call.recording:
                self.learn()
            self.call.end(ending)

    def learn(self) -> None:
        """A recorded call ends: what was put off is read now. Never raises."""


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
