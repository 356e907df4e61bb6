"""Server-sent events from bytes that arrive in any pieces.

The format is that of the WHATWG's HTML standard ("Server-sent events", interpreting an event stream): lines end with
LF, CRLF or CR; a line that starts with a colon is a comment; several `data` lines join with LF; a blank line ends an
event; an event without data is none.
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["Event", "EventTooLargeError", "SSEReader"]

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"


class EventTooLargeError(ValueError):
    """A server sent more than the allowed bytes without ending an event."""


class Event(NamedTuple):
    """One event. `data` is undecoded; `type` is empty where the server named none."""

    data: bytes
    type: bytes = b""


class SSEReader:
    """Feed it bytes as they come; it gives back the events that are whole.

    `max_bytes` bounds what is held for an event that does not end; past it `feed` raises EventTooLargeError.
    `comments` counts comment lines (keep-alives).
    """

    __slots__ = ("_at_start", "_data", "_partial", "_skip_lf", "_type", "comments", "max_bytes")

    def __init__(self, max_bytes: int = 4 * 2**20) -> None:
        self.max_bytes = max_bytes
        self.comments = 0
        self._partial = b""
        self._data: list[bytes] = []
        self._type = b""
        self._skip_lf = False
        self._at_start = True

    def feed(self, piece: bytes) -> list[Event]:
        """The events that `piece` completes, in order."""
        # Nearly every read of a paced stream is one whole event, so that shape skips the general path.
        if (
            piece[-2:] == b"\n\n"
            and piece[:6] == b"data: "
            and not (self._partial or self._data or self._type or self._skip_lf)
            and piece.find(b"\n") == len(piece) - 2
            and b"\r" not in piece
        ):
            self._at_start = False
            return [Event(piece[6:-2])]
        return self._feed_lines(piece)

    def _feed_lines(self, piece: bytes) -> list[Event]:
        if self._skip_lf and piece:
            # The CR at the end of the last piece ended a line; an LF after it belongs to it.
            piece = piece.removeprefix(b"\n")
            self._skip_lf = False
        text = self._partial + piece
        if self._at_start:
            if len(text) < 3 and _BOM.startswith(text):
                self._partial = text
                return []
            text = text.removeprefix(_BOM)
            self._at_start = False
        events: list[Event] = []
        start = 0
        for end in _LINE_END.finditer(text, 0 if not self._partial else max(0, len(text) - len(piece))):
            self._take_line(text[start : end.start()], events)
            start = end.end()
        self._skip_lf = text.endswith(b"\r")
        self._partial = text[start:]
        if len(self._partial) + sum(map(len, self._data)) > self.max_bytes:
            raise EventTooLargeError(f"an event is larger than {self.max_bytes} bytes")
        return events

    def _take_line(self, line: bytes, events: list[Event]) -> None:
        if not line:
            if self._data:
                events.append(Event(b"\n".join(self._data), self._type))
                self._data = []
            self._type = b""
            return
        name, colon, value = line.partition(b":")
        if not name and colon:
            self.comments += 1
            return
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._type = value

    def close(self) -> Event | None:
        """What was left unfinished when the bytes ended: the event so far, or None where there is nothing.

        The standard drops it. Some servers leave out the last blank line or line end, so the caller may look whether
        what came makes sense.
        """
        if self._partial:
            self._take_line(self._partial, [])
            self._partial = b""
        if not self._data:
            return None
        event = Event(b"\n".join(self._data), self._type)
        self._data = []
        return event
