"""What the span of a call says at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tensorix_api import semantic_names as names
from tensorix_tracing._attributes import AttributeValue, key_of, without_key
from tensorix_tracing._errors import bounded_code

if TYPE_CHECKING:
    from tensorix_tracing._attempts import Attempt
    from tensorix_tracing._call import Call
    from tensorix_tracing._errors import Ending

__all__ = ["span_attributes"]

_REMAINING_REQUESTS, _REMAINING_TOKENS = names.REMAINING["requests"], names.REMAINING["tokens"]
_LIMIT_REQUESTS, _LIMIT_TOKENS = names.LIMIT["requests"], names.LIMIT["tokens"]


def span_attributes(call: Call, ending: Ending) -> dict[str, AttributeValue]:
    """What the span of a call that has ended is given, besides what it began with."""
    found: dict[str, AttributeValue | None] = {**call.parameters, names.ATTEMPTS: len(call.attempts)}
    if ending.error_type is not None:
        found[names.ERROR_TYPE] = ending.error_type
    if call.settings.key_alias is not None:
        found[names.KEY_ALIAS] = call.settings.key_alias
    if call.streamed:
        found[names.REQUEST_STREAM] = True
    if (call.streamed or call.reading) and ending.outcome is not None:
        found[names.STREAM_OUTCOME] = ending.outcome
    if call.attempts:
        _add_answer(found, call.attempts[-1])
    _add_reply(found, call)
    if call.chunks:
        _add_stream(found, call)
    return {name: value for name, value in found.items() if value is not None}


def _add_answer(found: dict[str, AttributeValue | None], last: Attempt) -> None:
    found[names.HTTP_STATUS] = last.status
    limits = last.limits
    if limits is not None:
        found[names.RETRY_AFTER] = last.retry_after_s
        found[_REMAINING_REQUESTS] = limits.remaining_requests
        found[_REMAINING_TOKENS] = limits.remaining_tokens
        found[_LIMIT_REQUESTS] = limits.limit_requests
        found[_LIMIT_TOKENS] = limits.limit_tokens


def _add_reply(found: dict[str, AttributeValue | None], call: Call) -> None:
    reply, usage = call.reply, call.reply.usage
    if reply.response_id or reply.model or reply.finish_reasons or reply.error or call.content:
        key = key_of(call.headers)
        found[names.RESPONSE_ID] = without_key(reply.response_id, key, unique=True)
        found[names.RESPONSE_MODEL] = without_key(reply.model, key)
        if reply.finish_reasons:
            found[names.FINISH_REASONS] = [without_key(reason, key) or "" for reason in reply.finish_reasons]
        if reply.error:
            found[names.ERROR_CODE] = without_key(bounded_code(reply.error.code), key)
        if call.content is not None:
            found.update(call.content.attributes(key.reveal() if key else None))
    if reply.tool_calls:
        found[names.TOOL_CALLS] = reply.tool_calls
    if usage is not None:
        found[names.INPUT_TOKENS] = usage.prompt_tokens
        found[names.OUTPUT_TOKENS] = usage.completion_tokens
        found[names.CACHED_TOKENS] = usage.cached_tokens
        found[names.REASONING_TOKENS] = usage.reasoning_tokens


def _add_stream(found: dict[str, AttributeValue | None], call: Call) -> None:
    begun_ns = call.begun_ns
    found[names.STREAM_CHUNKS] = call.chunks
    if call.first_chunk_ns:
        found[names.TIME_TO_FIRST_CHUNK] = (call.first_chunk_ns - begun_ns) / 1e9
    if call.first_token_ns:
        found[names.TIME_TO_FIRST_TOKEN] = (call.first_token_ns - begun_ns) / 1e9
        found[names.TIME_TO_LAST_TOKEN] = (call.last_token_ns - begun_ns) / 1e9
    if call.first_output_ns:
        found[names.TIME_TO_FIRST_OUTPUT] = (call.first_output_ns - begun_ns) / 1e9
    if call.largest_gap_ns:
        found[names.LARGEST_GAP] = call.largest_gap_ns / 1e9
