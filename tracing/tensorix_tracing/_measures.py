"""What the metrics are given of a call that has ended: some time later, when many are told together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from opentelemetry import trace
from opentelemetry.context import Context

from tensorix_api import semantic_names as names
from tensorix_tracing._errors import MALFORMED, OTHER, Ending
from tensorix_tracing._reading import read_reply, usage_of_event

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

    from tensorix_api.chat import Usage
    from tensorix_tracing._attempts import Attempt
    from tensorix_tracing._instruments import Attributes
    from tensorix_tracing._telemetry import Begin, Meter, Telemetry

__all__ = ["Note", "measure"]

# A call that was not sampled is nobody's example. It names a span that is none: the SDK takes an empty context for no
# context, and looks what span is there where the notes are passed on.
_NO_SPAN = trace.set_span_in_context(trace.INVALID_SPAN, Context())


class Note(NamedTuple):
    """All that the metrics need of a call; itself, with what hangs on it, it is gone when they are told."""

    telemetry: Telemetry
    begin: Begin
    meter: Meter
    span: SpanContext | None
    """Its ids, and not all that it says; None where it is not recorded."""
    ending: Ending
    duration_ns: int
    begun_ns: int
    first_chunk_ns: int
    """0 where none came."""
    gaps_ns: Sequence[int]
    last_gap_ns: int | None
    usage: Usage | None
    kept: bytes | None
    whole: bytes | None
    reading: bool
    attempts: Sequence[Attempt]
    """Those that were followed by another."""


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
    begin = note.begin
    plain = note.telemetry.labels_of(begin.operation, begin.server, begin.model)
    if note.span is not None:
        context = trace.set_span_in_context(trace.NonRecordingSpan(note.span), _NO_SPAN)
    attributes = plain
    if ending.error_type is not None:
        attributes = {**attributes, names.ERROR_TYPE: ending.error_type}
    if ending.outcome is not None and ending.outcome != "completed" and ending.outcome != ending.error_type:
        attributes = {**attributes, names.STREAM_OUTCOME: ending.outcome}
    for histogram in meter.duration:
        histogram.record(note.duration_ns / 1e9, attributes, context)
    if note.first_chunk_ns:
        for histogram in meter.first_chunk:
            histogram.record((note.first_chunk_ns - note.begun_ns) / 1e9, plain, context)
    gaps_ns = note.gaps_ns
    if not gaps_ns and note.last_gap_ns is not None and note.telemetry.settings.chunk_gap_share:
        # Of a stream of which chance took no gap its last: a stream of a few chunks is to be seen too.
        gaps_ns = (note.last_gap_ns,)
    for gap_ns in gaps_ns:
        for histogram in meter.chunk_gap:
            histogram.record(gap_ns / 1e9, plain, context)
    if usage is not None:
        _measure_tokens(meter, plain, context, "input", usage.prompt_tokens)
        _measure_tokens(meter, plain, context, "output", usage.completion_tokens)
        if meter.token_counters["input"]:
            _measure_tokens(meter, plain, context, "cache_read.input", usage.cached_tokens)
            _measure_tokens(meter, plain, context, "reasoning.output", usage.reasoning_tokens)
    for attempt in note.attempts:
        meter.retries.add(1, {**plain, names.ERROR_TYPE: attempt.error_type or OTHER}, context)


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
