"""What the span of a call says at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tensorix_api import semantic_names as names
from tensorix_tracing._attributes import AttributeValue, key_of, without_key
from tensorix_tracing._errors import bounded_code

if TYPE_CHECKING:
    from tensorix_tracing._call import Call
    from tensorix_tracing._errors import Ending

__all__ = ["span_attributes"]


def span_attributes(call: Call, ending: Ending) -> dict[str, AttributeValue]:
    """What the span of a call that has ended is given, besides what it began with."""
    found: dict[str, AttributeValue | None] = dict(call.parameters)
    last = call.attempts[-1] if call.attempts else None
    reply, usage = call.reply, call.reply.usage
    limits = last.limits if last else None
    found[names.ERROR_TYPE] = ending.error_type
    found[names.REQUEST_STREAM] = call.streamed or None
    found[names.ATTEMPTS] = len(call.attempts)
    found[names.KEY_ALIAS] = call.settings.key_alias
    found[names.HTTP_STATUS] = last.status if last else None
    found[names.RETRY_AFTER] = last.retry_after_s if last else None
    key = key_of(call.headers)
    found[names.RESPONSE_ID] = without_key(reply.response_id, key, unique=True)
    found[names.RESPONSE_MODEL] = without_key(reply.model, key)
    found[names.FINISH_REASONS] = [without_key(reason, key) or "" for reason in reply.finish_reasons] or None
    found[names.TOOL_CALLS] = reply.tool_calls or None
    found[names.ERROR_CODE] = without_key(bounded_code(reply.error.code), key) if reply.error else None
    if call.content is not None:
        found.update(call.content.attributes(key.reveal() if key else None))
    if usage is not None:
        found[names.INPUT_TOKENS] = usage.prompt_tokens
        found[names.OUTPUT_TOKENS] = usage.completion_tokens
        found[names.CACHED_TOKENS] = usage.cached_tokens
        found[names.REASONING_TOKENS] = usage.reasoning_tokens
    if limits is not None:
        found[names.REMAINING["requests"]] = limits.remaining_requests
        found[names.REMAINING["tokens"]] = limits.remaining_tokens
        found[names.LIMIT["requests"]] = limits.limit_requests
        found[names.LIMIT["tokens"]] = limits.limit_tokens
    if call.streamed or call.reading:
        found[names.STREAM_OUTCOME] = ending.outcome
    for name, at_ns in (
        (names.TIME_TO_FIRST_CHUNK, call.first_chunk_ns),
        (names.TIME_TO_FIRST_TOKEN, call.first_token_ns),
        (names.TIME_TO_FIRST_OUTPUT, call.first_output_ns),
        (names.TIME_TO_LAST_TOKEN, call.last_token_ns),
    ):
        if at_ns:
            found[name] = (at_ns - call.begun_ns) / 1e9
    if call.chunks:
        found[names.STREAM_CHUNKS] = call.chunks
    if call.largest_gap_ns:
        found[names.LARGEST_GAP] = call.largest_gap_ns / 1e9
    return {name: value for name, value in found.items() if value is not None}
