"""The events of a stream, each decoded where it must be: when it came, and what those say that end it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tensorix_api.chat import CHUNK, DONE, ERROR, OUTPUT, TOKEN, ChatStream
from tensorix_api.chat import MALFORMED as WRONG
from tensorix_api.sse import SSEReader
from tensorix_tracing._errors import COMPLETED, ERROR_EVENT, MALFORMED, Ending

if TYPE_CHECKING:
    from tensorix_tracing._call import Call

__all__ = ["ExactEvents"]


class ExactEvents:
    """Reads every event of a stream; what could say nothing new is not decoded (`tensorix_api.chat`)."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._reader = SSEReader()
        self._chat = ChatStream(call.reply)

    @property
    def finished(self) -> bool:
        """Whether every choice has its finish reason."""
        return self._chat.finished

    def feed(self, part: bytes, now_ns: int) -> Ending | None:
        """Bytes that came at `now_ns`: how the stream has ended, None while it goes on."""
        ending = None
        content = self._call.content
        for event in self._reader.feed(part):
            if content is not None:
                content.event(event.data)
            ending = ending or self._read(event.data, event.type, now_ns)
        return ending

    def exhausted(self) -> Ending | None:
        """The bytes have ended; some servers leave out the last empty line."""
        left = self._reader.close()
        ending = self._read(left.data, left.type, time.perf_counter_ns()) if left is not None else None
        if ending is MALFORMED:
            # An event that the end of the bytes has cut is no event.
            ending = None
        return ending or (COMPLETED if self._chat.finished else None)

    def kept(self, part: bytes) -> None:
        """An event whose time was noted already: only what it says."""
        for event in self._reader.feed(part):
            self._chat.feed(event.data, event.type)

    def _read(self, data: bytes, event_type: bytes, now_ns: int) -> Ending | None:
        flags = self._chat.feed(data, event_type)
        if flags & CHUNK:
            self._call.chunk(now_ns, token=flags & TOKEN > 0, output=flags & OUTPUT > 0)
        return COMPLETED if flags & DONE else ERROR_EVENT if flags & ERROR else MALFORMED if flags & WRONG else None
