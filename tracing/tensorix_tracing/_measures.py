"""What the metrics are given of a call that has ended: some time later, when many are told together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.context import Context

from tensorix_api import semantic_names as names
from tensorix_tracing._errors import MALFORMED, OTHER, Ending
from tensorix_tracing._reading import read_reply, usage_of_event

if TYPE_CHECKING:
    from tensorix_api.chat import Usage
    from tensorix_tracing._call import Call
    from tensorix_tracing._instruments import Attributes
    from tensorix_tracing._telemetry import Meter

__all__ = ["Note", "measure"]

# A call that was not sampled is nobody's example. It names a span that is none: the SDK takes an empty context for no
# context, and looks what span is there where the notes are passed on.
_NO_SPAN = trace.set_span_in_context(trace.INVALID_SPAN, Context())


class Note:
    """All that the metrics need of a call; itself, with what hangs on it, it is gone when they are told."""

    __slots__ = (
        "duration_ns",
        "ending",
        "first_chunk_ns",
        "gaps_ns",
        "kept",
        "meter",
        "model",
        "operation",
        "reading",
        "retried",
        "server",
        "span",
        "telemetry",
        "usage",
        "whole",
    )

    def __init__(self, call: Call, ending: Ending, duration_ns: int) -> None:
        self.telemetry = call.telemetry
        self.operation = call.operation
        self.server = call.server
        self.model = call.begin.model
        self.meter = call.meter
        # Its ids, and not all that it says.
        self.span = call.span.get_span_context() if call.recording else None
        self.ending = ending
        self.duration_ns = duration_ns
        self.first_chunk_ns = call.first_chunk_ns - call.begun_ns if call.first_chunk_ns else None
        # Of a stream of which chance took no gap its last: a stream of a few chunks is to be seen too.
        one = call.last_gap_ns if call.telemetry.settings.chunk_gap_share else None
        self.gaps_ns = call.gaps_ns or ([] if one is None else [one])
        self.usage = call.reply.usage
        self.kept = call.kept
        self.whole = call.whole
        self.reading = call.reading
        attempts = call.attempts
        self.retried = [attempt.error_type or OTHER for attempt in attempts[:-1]] if len(attempts) > 1 else ()


def _read(note: Note) -> tuple[Ending, Usage | None]:
    """How the call has really ended and what it used, now that what waited is read."""
    if note.whole is not None:
        reply = read_reply(note.whole)
        if reply is not None:
            return note.ending, reply.usage
        if note.ending.error_type is None:
            return Ending(MALFORMED.outcome if note.reading else None, MALFORMED.error_type, is_error=True), None
    if note.kept is not None:
        return note.ending, usage_of_event(note.kept) or note.usage
    return note.ending, note.usage


def measure(note: Note) -> None:
    """Record everything of one call."""
    ending, usage = _read(note)
    meter, context = note.meter, _NO_SPAN
    plain = note.telemetry.labels_of(note.operation, note.server, note.model)
    if note.span is not None:
        context = trace.set_span_in_context(trace.NonRecordingSpan(note.span), _NO_SPAN)
    attributes = plain
    if ending.error_type is not None:
        attributes = {**attributes, names.ERROR_TYPE: ending.error_type}
    if ending.outcome is not None and ending.outcome != "completed" and ending.outcome != ending.error_type:
        attributes = {**attributes, names.STREAM_OUTCOME: ending.outcome}
    for histogram in meter.duration:
        histogram.record(note.duration_ns / 1e9, attributes, context)
    if note.first_chunk_ns is not None:
        for histogram in meter.first_chunk:
            histogram.record(note.first_chunk_ns / 1e9, plain, context)
    for gap_ns in note.gaps_ns:
        for histogram in meter.chunk_gap:
            histogram.record(gap_ns / 1e9, plain, context)
    if usage is not None:
        _measure_tokens(meter, plain, context, "input", usage.prompt_tokens)
        _measure_tokens(meter, plain, context, "output", usage.completion_tokens)
        if meter.token_counters["input"]:
            _measure_tokens(meter, plain, context, "cache_read.input", usage.cached_tokens)
            _measure_tokens(meter, plain, context, "reasoning.output", usage.reasoning_tokens)
    for error_type in note.retried:
        meter.retries.add(1, {**plain, names.ERROR_TYPE: error_type}, context)


def _measure_tokens(meter: Meter, plain: Attributes, context: Context, kind: str, count: int | None) -> None:
    if count is None:
        return
    if meter.token_usage and kind in meter.tokens:
        with_kind = {**plain, names.TOKEN_TYPE: kind}
        for histogram in meter.token_usage:
            histogram.record(count, with_kind, context)
    for histogram in meter.tokens.get(kind, ()):
        histogram.record(count, plain, context)
    for counter in meter.token_counters[kind]:
        counter.add(count, {**plain, names.TOKEN_MODALITY: "unknown"}, context)
