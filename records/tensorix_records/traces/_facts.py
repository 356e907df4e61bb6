"""What a span's attributes say, as the columns of a record; what has the wrong type or cannot be true is None."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from tensorix_api import semantic_names as names
from tensorix_api.secret import Redactor
from tensorix_records.traces._span import Span

__all__ = ["kept_share", "said", "seconds_ns", "text", "whole"]

_redact = Redactor()
_LONGEST_RETRY_S = 10 * 86_400.0
# Stamps of a call and the ends of its span are of two clocks.
_SLACK_NS = 1_000_000_000
_REPEATED = 200
# OpenTelemetry's own member of a trace state, and in it the threshold of consistent sampling: 56 bits in hex.
_THRESHOLD = re.compile(r"(?:^|,)\s*ot=(?:[^,]*;)?th:([0-9a-f]{1,14})(?:[;,]|$)")


@lru_cache(maxsize=4096)
def _repeated(value: str, limit: int) -> str:
    return _redact(value, limit)


def text(value: Any, limit: int) -> str | None:
    """A text from elsewhere: redacted and bounded."""
    if not isinstance(value, str) or not value:
        return None
    value = value.encode("utf-8", "replace").decode()
    return _repeated(value, limit) if len(value) <= _REPEATED else _redact(value, limit)


def whole(value: Any) -> int | None:
    """A number that counts something; some writers have it as a float."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value < 2**53 else None


def seconds_ns(value: Any, most_s: float) -> int | None:
    """Seconds as nanoseconds; None for what is no number, negative or longer than `most_s`."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return round(value * 1e9) if 0 <= value <= most_s else None


def kept_share(trace_state: str) -> str | None:
    """The share of traces that were kept, as a trace state says it (OpenTelemetry's probability sampling)."""
    found = _THRESHOLD.search(trace_state)
    return f"{1 - int(found[1].ljust(14, '0'), 16) / 2**56:.3g}" if found else None


def said(span: Span) -> dict[str, Any]:
    """The columns that a call's attributes fill whatever became of it; times from the span's own start."""
    of = span.attributes.get
    length_s = (span.end_unix_ns - span.start_unix_ns + _SLACK_NS) / 1e9
    finish = of(names.FINISH_REASONS)
    output = whole(of(names.OUTPUT_TOKENS, of("gen_ai.usage.completion_tokens")))
    return {
        "model_requested": text(of(names.REQUEST_MODEL), 200),
        "max_tokens": whole(of(names.REQUEST_PARAMETERS["max_tokens"])),
        "n": whole(of(names.REQUEST_PARAMETERS["n"])),
        "first_chunk_at_ns": seconds_ns(of(names.TIME_TO_FIRST_CHUNK), length_s),
        "first_token_at_ns": seconds_ns(of(names.TIME_TO_FIRST_TOKEN), length_s),
        "first_output_at_ns": seconds_ns(of(names.TIME_TO_FIRST_OUTPUT), length_s),
        "last_token_at_ns": seconds_ns(of(names.TIME_TO_LAST_TOKEN), length_s),
        "response_id": text(of(names.RESPONSE_ID), 200),
        "model_served": text(of(names.RESPONSE_MODEL), 200),
        "finish_reason": text(finish[0] if isinstance(finish, list) and finish else finish, 50),
        "tool_calls": whole(of(names.TOOL_CALLS)),
        "prompt_tokens": whole(of(names.INPUT_TOKENS, of("gen_ai.usage.prompt_tokens"))),
        "completion_tokens": output,
        "reasoning_tokens": whole(of(names.REASONING_TOKENS)),
        "cached_tokens": whole(of(names.CACHED_TOKENS)),
        "token_source": None if output is None else "usage",
        "limit_requests": whole(of(names.LIMIT["requests"])),
        "limit_tokens": whole(of(names.LIMIT["tokens"])),
        "remaining_requests": whole(of(names.REMAINING["requests"])),
        "remaining_tokens": whole(of(names.REMAINING["tokens"])),
        "retry_after_ns": seconds_ns(of(names.RETRY_AFTER), _LONGEST_RETRY_S),
    }
