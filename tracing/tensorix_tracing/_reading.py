"""What a whole body says: read at once for a recorded call, later for one that is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tensorix_api.chat import ChatReply, ChatStream, MalformedError, Usage, parse_reply
from tensorix_api.errors import parse_error_body
from tensorix_api.sse import SSEReader

if TYPE_CHECKING:
    from tensorix_tracing._call import Call

__all__ = ["LARGEST_BODY", "read_reply", "read_whole", "usage_of_event"]

LARGEST_BODY = 4 * 2**20
"""Bytes of a body that is read at its end; what is longer is not read."""
# Of a call that is not recorded a body waits to be read, if it is small.
_WAITS = 64 * 1024


def read_whole(call: Call, status: int, body: bytes) -> str | None:
    """Learn what a whole body says. Returns `malformed` for a chat reply that is none, else None."""
    if status >= 400:
        call.reply.error = parse_error_body(body[:LARGEST_BODY])
        return None
    if call.begin.operation != "chat":
        return None
    if not call.recording and len(body) <= _WAITS:
        call.whole = body
        call.whole_read = True
        return None
    reply = read_reply(body)
    if reply is None:
        return "malformed"
    call.known_reply = reply
    call.whole_read = True
    if call.content is not None:
        call.content.whole(body)
    return None


def read_reply(body: bytes) -> ChatReply | None:
    """A chat reply that is not streamed; None for what is none."""
    try:
        return parse_reply(body)
    except MalformedError:
        return None


def usage_of_event(part: bytes) -> Usage | None:
    """The tokens that an event of a stream tells of."""
    chat = ChatStream()
    for event in SSEReader().feed(part):
        chat.feed(event.data, event.type)
    return chat.reply.usage
