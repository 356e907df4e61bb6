"""What the metrics are given of a call that has ended: some time later, when many are told together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tensorix_api import semantic_names as names
from tensorix_tracing._errors import OTHER, Ending
from tensorix_tracing._reading import read_later

if TYPE_CHECKING:
    from tensorix_tracing._call import Call
    from tensorix_tracing._telemetry import Attributes, Meter

__all__ = ["measure"]


def measure(call: Call, ending: Ending, duration_ns: int, meter: Meter) -> None:
    """Record everything of one call. `duration_ns` is from its begin to its end."""
    ending = read_later(call, ending)
    plain, context = call.telemetry.labels_of(call.operation, call.server, call.model), call.context
    attributes = plain
    if ending.error_type is not None:
        attributes = {**attributes, names.ERROR_TYPE: ending.error_type}
    if ending.outcome is not None and ending.outcome != "completed" and ending.outcome != ending.error_type:
        attributes = {**attributes, names.STREAM_OUTCOME: ending.outcome}
    for histogram in meter.duration:
        histogram.record(duration_ns / 1e9, attributes, context)
    if call.first_chunk_ns:
        for histogram in meter.first_chunk:
            histogram.record((call.first_chunk_ns - call.begun_ns) / 1e9, attributes, context)
    for gap_ns in call.gaps_ns:
        for histogram in meter.chunk_gap:
            histogram.record(gap_ns / 1e9, plain, context)
    if (usage := call.reply.usage) is not None:
        _measure_tokens(call, meter, plain, "input", usage.prompt_tokens)
        _measure_tokens(call, meter, plain, "output", usage.completion_tokens)
        if meter.token_counters["input"]:
            _measure_tokens(call, meter, plain, "cache_read.input", usage.cached_tokens)
            _measure_tokens(call, meter, plain, "reasoning.output", usage.reasoning_tokens)
    for attempt in call.attempts[:-1]:
        meter.retries.add(1, {**plain, names.ERROR_TYPE: attempt.error_type or OTHER}, context)


def _measure_tokens(call: Call, meter: Meter, plain: Attributes, kind: str, count: int | None) -> None:
    if count is None:
        return
    context = call.context
    if meter.token_usage and kind in meter.tokens:
        with_kind = {**plain, names.TOKEN_TYPE: kind}
        for histogram in meter.token_usage:
            histogram.record(count, with_kind, context)
    for histogram in meter.tokens.get(kind, ()):
        histogram.record(count, plain, context)
    for counter in meter.token_counters[kind]:
        counter.add(count, {**plain, names.TOKEN_MODALITY: "unknown"}, context)
