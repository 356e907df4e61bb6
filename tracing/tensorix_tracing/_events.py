"""The events of a stream as they pass: when each came, and what those say that end it.

Two ways to read them. `ExactEvents` decodes whatever could be new (`tensorix_api.chat`). `PassingEvents` looks for the
few fields that matter by their names, at a fraction of the cost, and decodes what does not look as usual. It serves
where openai's own reader is about to decode the same event, and raises at what is no JSON.
"""

from __future__ import annotations

import re
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

# Fields, with something in them, that take more than a look.
_ODD = re.compile(rb'"(?:tool_calls|function_call|logprobs)":\s?(?!null)').search
# Generated text: of an answer (group 1), or of reasoning; as a list of parts it is looked at exactly.
_TEXT = re.compile(rb'"(?:(content|refusal)|reasoning_content|reasoning)":\s?(?:"(?!")|\[)').search
# Names of plain characters only; what is longer or has others in it is decoded.
_ID = re.compile(rb'data: \{"id":\s?"([\w.:/@+-]{1,200})"').match
_MODEL = re.compile(rb'"model":\s?"([\w.:/@+ -]{1,200})"').search
_REASON = re.compile(rb'"finish_reason":\s?"([\w-]{1,200})"').search
_NONE = (b"null", b'""')


def _has_other_choices(part: bytes) -> bool:
    """Whether an event may tell of more than the first choice: several indices (tool calls have them) or another."""
    count = part.count(b'"index":')
    return count > 1 or (count == 1 and b'"index":0' not in part and b'"index": 0' not in part)


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


class PassingEvents:
    """Events of the usual shape by their looks, all others exactly. One choice only.

    A field is known by its name, quotes and colon: inside a text the quotes would be escaped.
    """

    def __init__(self, call: Call) -> None:
        self._call = call
        self._share = call.settings.chunk_gap_share
        self._recording = call.recording
        self._exact: ExactEvents | None = None
        self._first: bytes | None = None
        self._last: bytes | None = None
        """The event with the finish reason."""

    @property
    def finished(self) -> bool:
        """Whether the choice has its finish reason."""
        return self._last is not None if self._exact is None else self._exact.finished

    def feed(self, part: bytes, now_ns: int) -> Ending | None:
        """Bytes that came at `now_ns`: how the stream has ended, None while it goes on."""
        if self._exact is not None:
            return self._exact.feed(part, now_ns)
        if part[:7] != b"data: {" or part[-3:] != b"}\n\n" or part.find(b"\n", 7) != len(part) - 2:
            return COMPLETED if part == b"data: [DONE]\n\n" else self._exactly(part, now_ns)
        if b'"choices":' not in part or b'"error"' in part or _has_other_choices(part):
            return self._exactly(part, now_ns)
        call = self._call
        if self._recording:
            if _ODD(part) is not None:
                return self._exactly(part, now_ns)
            text = _TEXT(part)
            call.chunk(now_ns, token=text is not None, output=text is not None and text[1] is not None)
            if self._first is None:
                self._first = part
        elif call.untimed:
            pass
        elif call.last_chunk_ns:
            call.last_gap_ns = now_ns - call.last_chunk_ns
            if random() < self._share:  # noqa: S311 - a sample, no secret
                call.gaps_ns.append(call.last_gap_ns)
            call.last_chunk_ns = now_ns
        else:
            call.first_chunk_ns = call.last_chunk_ns = now_ns
        at = part.rfind(b'"finish_reason":')
        if at >= 0 and not part[at + 16 : at + 21].lstrip().startswith(_NONE):
            self._last = part
        at = part.rfind(b'"usage":')
        if at >= 0 and not part[at + 8 : at + 13].lstrip().startswith(b"null"):
            # Where it stands in every chunk, the last is what counts.
            call.kept = part
        return None

    def exhausted(self) -> Ending | None:
        """The bytes have ended."""
        if self._exact is not None:
            return self._exact.exhausted()
        return COMPLETED if self._last is not None else None

    def learn(self) -> None:
        """The call ends: what its span tells of the reply is read now, if it has one."""
        call, reply = self._call, self._call.reply
        if self._exact is not None or not self._recording or self._first is None:
            return
        found, model = _ID(self._first), _MODEL(self._first)
        if found is not None and model is not None and self._first.count(b'"model":') == 1:
            reply.response_id, reply.model = found[1].decode(), model[1].decode()
        else:
            self._decode(self._first)
        if self._last is not None:
            reason = _REASON(self._last)
            if reason is not None and self._last.count(b'"finish_reason":') == 1:
                reply.finish_reason = reason[1].decode()
            else:
                self._decode(self._last)
        if call.kept is not None:
            self._decode(call.kept)
            call.kept = None

    def _decode(self, part: bytes) -> None:
        ExactEvents(self._call).kept(part)

    def _exactly(self, part: bytes, now_ns: int) -> Ending | None:
        """From here on everything is decoded; first what was only looked at, without its time."""
        self._exact = exact = ExactEvents(self._call)
        for seen in (self._first, self._last, self._call.kept):
            if seen is not None:
                exact.kept(seen)
        self._call.kept = None
        return exact.feed(part, now_ns)
