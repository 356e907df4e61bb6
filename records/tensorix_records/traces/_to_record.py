"""A span, or a call's span and those of its attempts, as records."""

from __future__ import annotations

from typing import Any, Literal

from tensorix_api import semantic_names as names
from tensorix_records._record import RequestRecord
from tensorix_records.traces._ending import ending_of
from tensorix_records.traces._facts import said, seconds_ns, text, whole
from tensorix_records.traces._span import Span

__all__ = ["Kind", "attempts_of", "kind_of", "number_of", "record_of_attempt", "record_of_call"]

Kind = Literal["call", "attempt"]

_SCOPE = "tensorix_tracing"
_STAMPS = ("first_chunk_at_ns", "first_token_at_ns", "first_output_at_ns", "last_token_at_ns", "end_at_ns")
# A request of the load tests cannot take longer either: `reports` leaves such records out.
_LONGEST_NS = 40 * 86_400 * 10**9
_LONGEST_RETRY_S = 10 * 86_400.0


def is_ours(span: Span) -> bool:
    """Whether `tensorix_tracing` told of it, also where a converter has lost the scope."""
    return span.scope == _SCOPE or names.ATTEMPTS in span.attributes


def kind_of(span: Span) -> Kind | None:
    """What a span stands for; None for one of other work, and for the side that was called."""
    if span.is_serving or span.end_unix_ns - span.start_unix_ns > _LONGEST_NS:
        return None
    if is_ours(span):
        # A model may be named so too: its calls say what they are.
        if span.name.endswith(" attempt") and span.attributes.get(names.OPERATION) is None:
            return "attempt"
        return "call" if span.name.partition(" ")[0] in ("chat", "models.list") else None
    return "call" if span.attributes.get(names.OPERATION) == "chat" else None


def attempts_of(span: Span) -> int:
    """How many requests a call says it took."""
    return whole(span.attributes.get(names.ATTEMPTS)) or 1


def number_of(span: Span) -> int:
    """Which attempt a span is of, from 1."""
    return (whole(span.attributes.get(names.HTTP_RESEND_COUNT)) or 0) + 1


def record_of_call(span: Span, run_id: str, last: Span | None = None) -> RequestRecord:
    """The record of a call; with several attempts that of the last of them, from when it was sent (`last`)."""
    columns: dict[str, Any] = said(span) | _plan(span)
    streamed = columns["stream"] is True
    ending = ending_of(span, streamed=streamed, token_came=columns["first_token_at_ns"] is not None)
    sent = last or span
    # What came, came before the end: a span's own clock may have been read a little late at its begin.
    came = [columns[name] for name in _STAMPS if columns.get(name) is not None]
    columns["end_at_ns"] = max([span.end_unix_ns - span.start_unix_ns, *came])
    late_ns = sent.start_unix_ns - span.start_unix_ns
    for name in _STAMPS:
        if columns[name] is not None:
            columns[name] = max(0, columns[name] - late_ns)
    return RequestRecord(
        **_identity(sent, run_id, span),
        **columns,
        attempt=attempts_of(span),
        start_unix_ns=sent.start_unix_ns,
        outcome=ending.outcome,
        stream_outcome=ending.stream_outcome,
        status=ending.status,
        error_kind=ending.kind,
        error_phase=ending.phase,
        error_code=text(span.attributes.get(names.ERROR_CODE), 100),
        **_words(span),
    )


def record_of_attempt(span: Span, run_id: str, call: Span | None) -> RequestRecord:
    """The record of an attempt that another one followed; what was asked is known if its call's span is there."""
    plan = _plan(call) if call is not None else _plan(span)
    known = said(call) if call is not None else {}
    asked: dict[str, Any] = {name: known.get(name) for name in ("model_requested", "max_tokens", "n")}
    ending = ending_of(span, streamed=plan["stream"] is True, token_came=False)
    length_ns = span.end_unix_ns - span.start_unix_ns
    return RequestRecord(
        **_identity(span, run_id, call),
        **plan,
        **asked,
        attempt=number_of(span),
        start_unix_ns=span.start_unix_ns,
        # A refusal is told of when its headers are there.
        headers_at_ns=length_ns if ending.status is not None and ending.status >= 400 else None,
        end_at_ns=length_ns,
        outcome=ending.outcome,
        stream_outcome=ending.stream_outcome,
        status=ending.status,
        error_kind=ending.kind,
        error_phase=ending.phase,
        retry_after_ns=seconds_ns(span.attributes.get(names.RETRY_AFTER), _LONGEST_RETRY_S),
        **_words(span),
    )


def _identity(span: Span, run_id: str, call: Span | None) -> dict[str, Any]:
    of = span.resource.get
    host = text(of("host.name") or of("k8s.pod.name"), 100)
    instance = text(of("service.instance.id"), 100) or (f"{host or ''}:{pid}" if (pid := of("process.pid")) else host)
    service = text(of("service.name"), 100)
    return {
        "run_id": run_id,
        "record_id": f"{span.trace_id}-{span.span_id}",
        "request_id": "",
        "logical_id": f"{call.trace_id}-{call.span_id}" if call is not None else f"{span.trace_id}-{span.parent_id}",
        "source": "trace",
        "process_id": "/".join(part for part in (service, instance) if part) or None,
        "host": host,
        "trace_id": span.trace_id,
        "span_id": span.span_id,
        "stamp_source": "user",
    }


def _plan(span: Span) -> dict[str, Any]:
    of = span.attributes.get
    server = text(of(names.SERVER_ADDRESS), 100)
    alias = text(of(names.KEY_ALIAS), 100)
    if span.name.startswith("models.list"):
        plan: dict[str, Any] = {"endpoint": "/models", "method": "GET", "stream": None}
    else:
        streamed = of(names.REQUEST_STREAM) is True or names.STREAM_OUTCOME in span.attributes
        streamed = streamed or names.TIME_TO_FIRST_CHUNK in span.attributes
        # Others leave the attribute out either way.
        known = is_ours(span) or isinstance(of(names.REQUEST_STREAM), bool)
        plan = {"endpoint": "/chat/completions", "method": "POST", "stream": streamed or (False if known else None)}
    # Limits are a key's: calls of two servers never share one.
    return plan | {"key_alias": alias or (server and f"unnamed, at {server}")}


def _words(span: Span) -> dict[str, Any]:
    """What was said of an error; our own spans repeat the type where others have a message."""
    kind = span.attributes.get(names.ERROR_TYPE)
    return {
        "error_type": text(kind, 100),
        "error_message": text(span.message, 500) if span.message != kind else None,
    }
