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

    __slots__ = (
        "_at_start",
        "_between",
        "_data",
        "_data_bytes",
        "_partial",
        "_skip_lf",
        "_type",
        "comments",
        "max_bytes",
    )

    def __init__(self, max_bytes: int = 4 * 2**20) -> None:
        self.max_bytes = max_bytes
        self.comments = 0
        # A bytearray, so that a long line in many small pieces is not copied for each of them.
        self._partial = bytearray()
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._type = b""
        self._skip_lf = False
        self._at_start = True
        self._between = True
        """Nothing is held: the next byte starts an event."""

    def feed(self, piece: bytes) -> list[Event]:
        """The events that `piece` completes, in order."""
        # Nearly every read of a paced stream is one whole event of one line, or some: those skip the general path.
        if self._between and piece[-2:] == b"\n\n" and piece[:6] == b"data: " and b"\r" not in piece:
            if piece.find(b"\n") == len(piece) - 2:
                self._at_start = False
                return [Event(piece[6:-2])]
            lines = piece[:-2].split(b"\n\n")
            if piece.count(b"\n") == 2 * len(lines) and all(line[:6] == b"data: " for line in lines):
                self._at_start = False
                return [Event(line[6:]) for line in lines]
        # Nothing (a decompressor may yet give nothing) must not pass for what follows a CR.
        return self._feed_lines(piece) if piece else []

    def _feed_lines(self, piece: bytes) -> list[Event]:
        if self._skip_lf:
            # The CR at the end of the last piece ended a line; an LF after it belongs to it.
            piece = piece.removeprefix(b"\n")
        if self._at_start:
            piece = bytes(self._partial) + piece
            if len(piece) < 3 and _BOM.startswith(piece):
                self._partial = bytearray(piece)
                self._between = False
                return []
            piece = piece.removeprefix(_BOM)
            self._partial.clear()
            self._at_start = False
        events: list[Event] = []
        start = 0
        for end in _LINE_END.finditer(piece):
            line = piece[start : end.start()]
            if self._partial:
                line = bytes(self._partial) + line
                self._partial.clear()
            self._take_line(line, events)
            start = end.end()
        self._skip_lf = piece.endswith(b"\r")
        self._partial += piece[start:]
        self._between = not (self._partial or self._data or self._type or self._skip_lf)
        if len(self._partial) + self._data_bytes > self.max_bytes:
            raise EventTooLargeError(f"an event is larger than {self.max_bytes} bytes")
        return events

    def _take_line(self, line: bytes, events: list[Event]) -> None:
        if not line:
            if self._data:
                events.append(Event(b"\n".join(self._data), self._type))
                self._forget_data()
            self._type = b""
            return
        name, colon, value = line.partition(b":")
        if not name and colon:
            self.comments += 1
            return
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
            # With the LF that joins it to the next line, so that empty lines count too.
            self._data_bytes += len(value) + 1
        elif name == b"event":
            self._type = value

    def _forget_data(self) -> None:
        self._data = []
        self._data_bytes = 0

    @property
    def idle(self) -> bool:
        """Whether the next byte starts an event: nothing is held of one that is not whole."""
        return self._between and not self._at_start

    def close(self) -> Event | None:
        """What was left unfinished when the bytes ended: the event so far, or None where there is nothing.

        The standard drops it. Some servers leave out the last blank line or line end, so the caller may look whether
        what came makes sense.
        """
        if self._partial:
            self._take_line(bytes(self._partial), [])
            self._partial.clear()
        if not self._data:
            return None
        event = Event(b"\n".join(self._data), self._type)
        self._forget_data()
        return event
