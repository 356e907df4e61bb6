"""Sending the trace on: `traceparent`, baggage and whatever else the global propagators write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry import propagate, trace

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.propagators.textmap import TextMapPropagator

__all__ = ["send_on"]

# Where a request keeps the names of the headers that were written here.
_WRITTEN = "tensorix_tracing.headers"
_TRACEPARENT = ("traceparent",)

_PROBE = trace.set_span_in_context(
    trace.NonRecordingSpan(trace.SpanContext(0x1F, 0x2E, is_remote=False, trace_flags=trace.TraceFlags(1)))
)
_NO_STATE = trace.INVALID_SPAN_CONTEXT.trace_state
# The propagators that were looked at last, and whether all that they write for a plain span is its `traceparent`.
_known: list[tuple[object, bool]] = [(None, False)]


def send_on(request: Any, context: Context, span: trace.Span) -> None:
    """Write a span and the rest of its context into the headers of a request of httpx, unless the caller has done so.

    What was written here at an earlier sending of the same request is written anew.

    Where the propagators are the usual ones and there is nothing to tell but the span, which is nearly always, its line
    is written here, in a fraction of the time.
    """
    headers = request.headers
    if _WRITTEN in request.extensions:
        for name in request.extensions.pop(_WRITTEN):
            headers.pop(name, None)
    propagators = propagate.get_global_textmap()
    known, is_plain = _known[0]
    if propagators is not known:
        is_plain = _writes_traceparent_only(propagators)
        _known[0] = (propagators, is_plain)
    # httpx's own list of (name as written, name in small letters, value): through the mapping, each look into it and
    # each change encodes and compares all headers. Where the list is not what is expected, the mapping serves.
    rows = getattr(headers, "_list", None)
    if type(rows) is list and rows and len(rows[0]) == 3:
        # A loop, for a generator would be resumed for each header.
        for row in rows:
            if row[1] == b"traceparent":
                return
        # A context of one entry holds the span alone: no baggage.
        if is_plain and len(context) == 1 and (line := _line(span.get_span_context())) is not None:
            rows.append((b"traceparent", b"traceparent", line))
            request.extensions[_WRITTEN] = _TRACEPARENT
            return
    elif "traceparent" in headers:
        return
    written: dict[str, str] = {}
    propagators.inject(written, context)  # pyright: ignore[reportArgumentType]
    headers.update(written)
    request.extensions[_WRITTEN] = tuple(written)


def _line(span: trace.SpanContext) -> bytes | None:
    """W3C Trace Context, version 00; None where there is no span, or more to tell of it."""
    # As the tuple that it is: each of its properties runs code of its own.
    trace_id, span_id, _, flags, state, is_valid = span
    if not is_valid or (state is not _NO_STATE and state):
        return None
    return b"00-%032x-%016x-%02x" % (trace_id, span_id, flags)


def _writes_traceparent_only(propagators: TextMapPropagator) -> bool:
    written: dict[str, str] = {}
    propagators.inject(written, _PROBE)  # pyright: ignore[reportArgumentType]
    line = _line(trace.get_current_span(_PROBE).get_span_context())
    return line is not None and written == {"traceparent": line.decode()}
