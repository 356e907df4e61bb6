"""A stream as it passes to openai's own reader, which decodes each event and raises at what is no JSON.

So an event of the usual shape need only be looked at: the few fields that matter are found by their names, at a
fraction of the cost. From the first on that does not look as usual everything is decoded.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from random import random

from tensorix_tracing._body import Body
from tensorix_tracing._errors import COMPLETED
from tensorix_tracing._events import ExactEvents

__all__ = ["PassingBody"]

log = logging.getLogger("tensorix_tracing")

# Fields, with something in them, that take more than a look.
_ODD = re.compile(rb'"(?:tool_calls|function_call|logprobs)":\s?(?!null)').search
# Generated text: of an answer (group 1), or of reasoning; as a list of parts it is looked at exactly.
_TEXT = re.compile(rb'"(?:(content|refusal)|reasoning_content|reasoning)":\s?(?:"(?!")|\[)').search
# Names of plain characters only; what is longer or has others in it is decoded.
_ID = re.compile(rb'data: \{"id":\s?"([\w.:/@+-]{1,200})"').match
_MODEL = re.compile(rb'"model":\s?"([\w.:/@+ -]{1,200})"').search
_REASON = re.compile(rb'"finish_reason":\s?"([\w-]{1,200})"').search
_NONE = (b"null", b'""')


class PassingBody(Body):
    """Events of the usual shape by their looks, all others exactly. One choice only.

    A field is known by its name, quotes and colon: inside a text the quotes would be escaped.
    """

    by_looks = True
    _first: bytes | None = None
    _last: bytes | None = None
    """The event with the finish reason."""

    def take(self, piece: bytes, now_ns: int) -> Iterator[bytes] | None:
        """All in one, for this is done for each chunk."""
        if not self.by_looks:
            return super().take(piece, now_ns)
        if piece == b"data: [DONE]\n\n":
            self._end(COMPLETED)
            return None
        call = self.call
        # One event on one line, a chunk, and of more than the first choice nothing: several indices (tool calls have
        # them) or another.
        if (
            piece[:7] != b"data: {"
            or piece[-3:] != b"}\n\n"
            or piece.find(b"\n", 7) != len(piece) - 2
            or b'"choices":' not in piece
            or b'"error"' in piece
            or (count := piece.count(b'"index":')) > 1
            or (count == 1 and b'"index":0' not in piece and b'"index": 0' not in piece)
            or (call.recording and _ODD(piece) is not None)
        ):
            return self._take_otherwise(piece, now_ns)
        call.last_activity_ns = now_ns
        if call.last_chunk_ns:
            gap_ns = call.last_gap_ns = now_ns - call.last_chunk_ns
            if gap_ns > call.largest_gap_ns:
                call.largest_gap_ns = gap_ns
            if random() < call.telemetry.settings.chunk_gap_share:  # noqa: S311 - a sample, no secret
                call.gaps_ns.append(gap_ns)
        else:
            call.first_chunk_ns = now_ns
            self._first = piece
        call.last_chunk_ns = now_ns
        if call.recording:
            call.chunks += 1
            text = _TEXT(piece)
            if text is not None:
                call.last_token_ns = now_ns
                if not call.first_token_ns:
                    call.first_token_ns = now_ns
                if not call.first_output_ns and text[1] is not None:
                    call.first_output_ns = now_ns
        at = piece.rfind(b'"finish_reason":')
        if at >= 0 and not piece[at + 16 : at + 21].lstrip().startswith(_NONE):
            self._last = piece
        at = piece.rfind(b'"usage":')
        if at >= 0 and not piece[at + 8 : at + 13].lstrip().startswith(b"null"):
            # Where it stands in every chunk, the last is what counts.
            call.kept = piece
        return None

    def _take_otherwise(self, piece: bytes, now_ns: int) -> Iterator[bytes] | None:
        """Several events, each of which may look as usual; else from here on everything is decoded."""
        parts = self.parts(piece, now_ns)
        if parts is None:
            self._begin_to_decode()
            self.feed(piece, now_ns)
        return parts

    def _begin_to_decode(self) -> None:
        """First what was only looked at, without its time."""
        self.by_looks = False
        self.events = ExactEvents(self.call)
        try:
            for seen in (self._first, self._last, self.call.kept):
                if seen is not None:
                    self.events.kept(seen)
        except Exception:  # the caller's bytes come first
            self.blind = True
            log.debug("a response could not be read", exc_info=True)
        self.call.kept = None

    @property
    def finished(self) -> bool:
        """Whether the choice has its finish reason."""
        return self._last is not None if self.by_looks else super().finished

    def learn(self) -> None:
        """What the span tells of the reply."""
        call, first, last = self.call, self._first, self._last
        if not self.by_looks or first is None:
            return
        try:
            found, model = _ID(first), _MODEL(first)
            if found is not None and model is not None and first.count(b'"model":') == 1:
                call.reply.response_id, call.reply.model = found[1].decode(), model[1].decode()
            else:
                self._decode(first)
            if last is not None:
                reason = _REASON(last)
                if reason is not None and last.count(b'"finish_reason":') == 1:
                    call.reply.finish_reason = reason[1].decode()
                else:
                    self._decode(last)
            if call.kept is not None:
                self._decode(call.kept)
                call.kept = None
        except Exception:  # the call has ended all the same
            log.debug("a response could not be read", exc_info=True)

    def _decode(self, event: bytes) -> None:
        ExactEvents(self.call).kept(event)
