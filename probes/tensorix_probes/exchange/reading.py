"""An answer as it is read: a body of bounded size, or the events of a stream with a stamp each."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tensorix_api.chat import DONE, ERROR, MALFORMED, TOKEN, ChatStream
from tensorix_api.errors import ErrorKind, Phase
from tensorix_api.sse import EventTooLargeError, SSEReader
from tensorix_probes.exchange.answer import StreamEvent
from tensorix_probes.exchange.failures import Ended
from tensorix_probes.exchange.wire import Wire

__all__ = ["Reading"]

_MOST_BODY_BYTES = 4 * 2**20
_MOST_EVENTS = 100_000
_MOST_EVENT_BYTES = 32 * 2**20


@dataclass(slots=True)
class Reading:
    """What was read of one answer so far. Stamps are monotonic ns."""

    wire: Wire
    wants_stream: bool
    status: int | None = None
    headers: tuple[tuple[str, str], ...] = ()
    head_unix_ns: int = 0
    body: bytearray = field(default_factory=bytearray)
    events: list[StreamEvent] = field(default_factory=list)
    first_chunk_ns: int | None = None
    first_token_ns: int | None = None
    whole: bool = False
    """The answer came to its end."""
    _chat: ChatStream = field(default_factory=ChatStream)
    _event_bytes: int = 0

    @property
    def content_type(self) -> str:
        """Without its parameters, in small letters."""
        return self._header("content-type").partition(";")[0].strip().lower()

    def _header(self, wanted: str) -> str:
        return next((text for name, text in self.headers if name.lower() == wanted), "")

    @property
    def _is_stream(self) -> bool:
        # As the load client has it: whatever is not plainly JSON is read as the stream that was asked for.
        return self.wants_stream and self.status == 200 and self.content_type != "application/json"

    def take_head(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """The head is there. Raises Ended for a redirect, and where the body cannot be read as it is encoded."""
        self.status = status
        self.headers = tuple((name.decode("latin-1"), text.decode("latin-1")) for name, text in headers)
        self.head_unix_ns = time.time_ns()
        if status < 200 or 300 <= status < 400:
            text = f"status {status} leads to {self._header('location') or 'nowhere'}, which is not followed"
            raise Ended(ErrorKind.UNEXPECTED_STATUS, Phase.HEADERS, text)
        encoding = self._header("content-encoding").strip().lower()
        if encoding not in ("", "identity", "gzip", "x-gzip", "deflate"):
            raise Ended(ErrorKind.MALFORMED, Phase.HEADERS, f"content-encoding {encoding!r} was not asked for")
        self.wire.phase = Phase.FIRST_TOKEN if self._is_stream else Phase.BODY

    def take_body(self, pieces: Iterator[bytes]) -> None:
        """Read to the end. Raises Ended where that is not the end of a whole answer."""
        if self._is_stream:
            self._take_events(pieces)
        else:
            for piece in pieces:
                self.body += piece
                if len(self.body) > _MOST_BODY_BYTES:
                    del self.body[_MOST_BODY_BYTES:]
                    raise Ended(ErrorKind.MALFORMED, Phase.BODY, "a body of over 4 MiB")
            if self.wants_stream and self.status == 200:
                raise self._no_stream()
        self.whole = True

    def _no_stream(self) -> Ended:
        what = self.content_type or "of no type"
        return Ended(ErrorKind.MALFORMED, Phase.BODY, f"a stream was asked for, and the answer is {what}")

    def _take_events(self, pieces: Iterator[bytes]) -> None:
        reader = SSEReader()
        for piece in pieces:
            try:
                events = reader.feed(piece)
            except EventTooLargeError as error:
                raise Ended(ErrorKind.MALFORMED, self.wire.phase, str(error)) from None
            for data, kind in events:
                self._take_event(data, kind)
        rest = None if self.wire.done else reader.close()
        if rest is not None and rest.data.strip() == b"[DONE]":
            # Some servers leave out the last line end.
            self._take_event(rest.data, b"")
        if self.wire.done or self._chat.finished:
            return
        if self.first_chunk_ns is None and self.content_type != "text/event-stream":
            raise self._no_stream()
        raise Ended(ErrorKind.CUT, self.wire.phase, "the stream ended without a finish reason or [DONE]")

    def _take_event(self, data: bytes, kind: bytes) -> None:
        if kind == b"ping" and b'"choices"' not in data:
            # A comment by another name, whatever it holds.
            return
        wire = self.wire
        at_ns = wire.read_ns
        self._event_bytes += len(data)
        if len(self.events) >= _MOST_EVENTS or self._event_bytes > _MOST_EVENT_BYTES:
            raise Ended(ErrorKind.MALFORMED, wire.phase, "a stream of over 100,000 events or 32 MiB")
        self.events.append(StreamEvent(at_ns - (wire.sending_ns or at_ns), data))
        if wire.done:
            # Kept, since none is due: the check of streams tells of it.
            return
        self.first_chunk_ns = self.first_chunk_ns or at_ns
        flags = self._chat.feed(data, kind)
        if flags & TOKEN and self.first_token_ns is None:
            self.first_token_ns = at_ns
            wire.phase = Phase.STREAM
        if flags & DONE:
            wire.done = True
        elif flags & ERROR:
            error = self._chat.reply.error
            text = (error and error.message) or "an error as an event of the stream"
            raise Ended(ErrorKind.ERROR_EVENT, wire.phase, text)
        elif flags & MALFORMED:
            raise Ended(ErrorKind.MALFORMED, wire.phase, f"an event of the stream: {self._chat.malformed_because}")
