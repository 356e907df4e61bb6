"""What the span of a call says at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tensorix_api import semantic_names as names
from tensorix_tracing._errors import bounded_code
from tensorix_tracing._headers import limits_of, plain_limits
from tensorix_tracing._keys import guard_of

if TYPE_CHECKING:
    from tensorix_api.chat import Usage
    from tensorix_tracing._attributes import AttributeValue
    from tensorix_tracing._call import Call
    from tensorix_tracing._errors import Ending
    from tensorix_tracing._headers import Rows

__all__ = ["span_attributes"]

# By the fields of `RateLimits`.
_LIMITS = {
    "remaining_requests": names.REMAINING["requests"],
    "remaining_tokens": names.REMAINING["tokens"],
    "limit_requests": names.LIMIT["requests"],
    "limit_tokens": names.LIMIT["tokens"],
}


def span_attributes(call: Call, ending: Ending) -> dict[str, AttributeValue]:
    """What the span of a call that has ended is given, besides what it began with."""
    found: dict[str, AttributeValue] = {**call.parameters, names.ATTEMPTS: len(call.attempts)}
    if ending.error_type is not None:
        found[names.ERROR_TYPE] = ending.error_type
    if call.telemetry.settings.key_alias is not None:
        found[names.KEY_ALIAS] = call.telemetry.settings.key_alias
    if call.streamed:
        found[names.REQUEST_STREAM] = True
    if (call.streamed or call.reading) and ending.outcome is not None:
        found[names.STREAM_OUTCOME] = ending.outcome
    if call.attempts:
        last = call.attempts[-1]
        if last.status is not None:
            found[names.HTTP_STATUS] = last.status
        if last.about_limits is not None:
            _add_limits(found, last.about_limits)
    _add_reply(found, call)
    if call.chunks:
        _add_stream(found, call)
    return found


def _add_limits(found: dict[str, AttributeValue], headers: Rows) -> None:
    plain = plain_limits(headers)
    if plain is not None:
        for field, value in plain.items():
            found[_LIMITS[field]] = value
        return
    limits = limits_of(headers)
    if limits is None:
        return
    if limits.retry_after_ns is not None:
        found[names.RETRY_AFTER] = limits.retry_after_ns / 1e9
    for field, name in _LIMITS.items():
        if (said := getattr(limits, field)) is not None:
            found[name] = said


def _add_reply(found: dict[str, AttributeValue], call: Call) -> None:
    reply = call.reply
    guard = guard_of(call.request_headers)
    if reply.response_id:
        found[names.RESPONSE_ID] = guard.unique(reply.response_id)
    if reply.model:
        found[names.RESPONSE_MODEL] = guard.name(reply.model)
    if reply.choice_reasons:
        found[names.FINISH_REASONS] = [guard.name(reason) for reason in reply.finish_reasons]
    elif reply.finish_reason:
        found[names.FINISH_REASONS] = [guard.name(reply.finish_reason)]
    if reply.error and (code := bounded_code(reply.error.code)) is not None:
        found[names.ERROR_CODE] = guard.name(code)
    if call.content is not None:
        found.update(call.content.attributes(guard.key.reveal() if guard.key else None))
    if reply.tool_calls:
        found[names.TOOL_CALLS] = reply.tool_calls
    if reply.usage is not None:
        _add_usage(found, reply.usage)


def _add_usage(found: dict[str, AttributeValue], usage: Usage) -> None:
    if usage.prompt_tokens is not None:
        found[names.INPUT_TOKENS] = usage.prompt_tokens
    if usage.completion_tokens is not None:
        found[names.OUTPUT_TOKENS] = usage.completion_tokens
    if usage.cached_tokens is not None:
        found[names.CACHED_TOKENS] = usage.cached_tokens
    if usage.reasoning_tokens is not None:
        found[names.REASONING_TOKENS] = usage.reasoning_tokens


def _add_stream(found: dict[str, AttributeValue], call: Call) -> None:
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
