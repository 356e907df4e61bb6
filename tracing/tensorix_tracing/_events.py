"""The events of a stream as they pass: when each came, and what those say that end it.

Two ways to read them. `ExactEvents` decodes whatever could be new (`tensorix_api.chat`); it serves calls whose span is
recorded, and callers that read bytes themselves. `PassingEvents` serves the rest: nothing but times, tokens and the
end is asked of a call that was not sampled, and openai's own reader, which is about to decode the same event, raises at
what is no JSON. It looks for the fields that matter by their names, and keeps the event with the usage for later.
"""

from __future__ import annotations

import time
from random import random
from typing import TYPE_CHECKING

from tensorix_api.chat import CHUNK, DONE, ERROR, OUTPUT, TOKEN, ChatStream
from tensorix_api.chat import MALFORMED as WRONG
from tensorix_api.sse import SSEReader
from tensorix_tracing._errors import COMPLETED, ERROR_EVENT, MALFORMED, Ending

if TYPE_CHECKING:
    from tensorix_tracing._call import Call

__all__ = ["ExactEvents", "PassingEvents"]

# What an event that ended the choice said, as far as it matters.
_FINISHED = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
_NONE = (b"null", b'""')


class ExactEvents:
    """Every event, decoded where it must be."""

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


class PassingEvents:
    """Events of the usual shape by their looks, the others exactly. One choice only."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._share = call.settings.chunk_gap_share
        self._exact: ExactEvents | None = None
        self._finished = False

    @property
    def finished(self) -> bool:
        """Whether the choice has its finish reason."""
        return self._finished if self._exact is None else self._exact.finished

    def feed(self, part: bytes, now_ns: int) -> Ending | None:
        """Bytes that came at `now_ns`: how the stream has ended, None while it goes on."""
        if self._exact is not None:
            return self._exact.feed(part, now_ns)
        if part[:7] != b"data: {" or part[-3:] != b"}\n\n" or part.find(b"\n", 7) != len(part) - 2:
            return COMPLETED if part == b"data: [DONE]\n\n" else self._exactly(part, now_ns)
        if b'"error"' in part:
            return self._exactly(part, now_ns)
        call = self._call
        if call.last_chunk_ns:
            if random() < self._share:  # noqa: S311 - a sample, no secret
                call.gaps_ns.append(now_ns - call.last_chunk_ns)
        else:
            call.first_chunk_ns = now_ns
        call.last_chunk_ns = now_ns
        # A name with its quotes and colon is a field: inside a text the quotes would be escaped.
        at = part.rfind(b'"finish_reason":')
        if at >= 0 and not part[at + 16 : at + 21].lstrip().startswith(_NONE):
            self._finished = True
        at = part.rfind(b'"usage":')
        if at >= 0 and not part[at + 8 : at + 13].lstrip().startswith(b"null"):
            # Where it stands in every chunk, the last is what counts.
            call.kept = part
        return None

    def exhausted(self) -> Ending | None:
        """The bytes have ended."""
        if self._exact is not None:
            return self._exact.exhausted()
        return COMPLETED if self._finished else None

    def _exactly(self, part: bytes, now_ns: int) -> Ending | None:
        return self._switch().feed(part, now_ns)

    def _switch(self) -> ExactEvents:
        self._exact = exact = ExactEvents(self._call)
        if self._call.kept is not None:
            exact.kept(self._call.kept)
            self._call.kept = None
        if self._finished:
            exact.kept(_FINISHED)
        return exact
