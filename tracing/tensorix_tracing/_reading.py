"""What a whole body says, or the events that were kept: at once for a recorded call, later for one that is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tensorix_api.chat import ChatStream, MalformedError, parse_reply
from tensorix_api.errors import parse_error_body
from tensorix_api.sse import SSEReader
from tensorix_tracing._errors import MALFORMED, Ending

if TYPE_CHECKING:
    from tensorix_tracing._call import Call

__all__ = ["LARGEST_BODY", "read_later", "read_whole"]

LARGEST_BODY = 4 * 2**20
"""Bytes of a body that is read at its end; what is longer is not read."""
# Of a call that is not recorded a body waits to be read, if it is small.
_WAITS = 64 * 1024


def read_whole(call: Call, status: int, body: bytes) -> str | None:
    """Learn what a whole body says. Returns `malformed` for a chat reply that is none, else None."""
    if not call.recording and len(body) <= _WAITS and status < 400:
        call.whole = body
        return None
    return _read(call, status, body)


def _read(call: Call, status: int, body: bytes) -> str | None:
    if status >= 400:
        call.reply.error = parse_error_body(body[:LARGEST_BODY])
        return None
    if call.operation != "chat":
        return None
    try:
        call.reply = parse_reply(body)
    except MalformedError:
        return "malformed"
    if call.content is not None:
        call.content.whole(body)
    return None


def read_later(call: Call, ending: Ending) -> Ending:
    """Read what waits, of a call that has ended so: how it has really ended."""
    whole, call.whole = call.whole, None
    if whole is not None and _read(call, 200, whole) is not None and ending.error_type is None:
        return Ending(MALFORMED.outcome if call.reading else None, MALFORMED.error_type, is_error=True)
    kept, call.kept = call.kept, None
    if kept is not None:
        reader, chat = SSEReader(), ChatStream(call.reply)
        for event in reader.feed(kept):
            chat.feed(event.data, event.type)
    return ending
