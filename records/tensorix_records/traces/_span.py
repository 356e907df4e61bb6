"""Spans out of OTLP's JSON, in every spelling that its writers use.

The specification has camelCase names, ids in hex and 64-bit integers as strings. Protobuf's own JSON has the ids in
base64, may have names as in the schema (`resource_spans`) and enumerations by their names; others write numbers, or an
array of `resourceSpans` over many lines.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tensorix_api import semantic_names as names

__all__ = ["RESOURCE_NAMES", "Span", "is_otlp", "spans_of"]

_SPANS = ("resourceSpans", "resource_spans", "batches")
_OTHER_SIGNALS = ("resourceMetrics", "resource_metrics", "resourceLogs", "resource_logs")
_SCOPES = ("scopeSpans", "scope_spans", "instrumentationLibrarySpans")
_LONGEST_TEXT = 4_000
_MOST_ITEMS = 64
_LARGEST = 2**63 - 1

RESOURCE_NAMES = {
    *("service.name", "service.instance.id", "host.name", "k8s.pod.name", "process.pid"),
    "deployment.environment.name",
}
# The rest of a span's attributes is not even converted: prompts may be among them.
_WANTED = {
    value
    for value in vars(names).values()
    if isinstance(value, str) and value.startswith(("gen_ai.", "tensorix.", "error.", "server.", "http."))
} - {names.INPUT_MESSAGES, names.OUTPUT_MESSAGES, names.SYSTEM_INSTRUCTIONS, names.TOOL_DEFINITIONS}
_WANTED |= {*names.REMAINING.values(), *names.LIMIT.values(), *names.REQUEST_PARAMETERS.values()}
# Names of earlier versions of the conventions.
_WANTED |= {"gen_ai.system", "gen_ai.usage.prompt_tokens", "gen_ai.usage.completion_tokens", "http.status_code"}


@dataclass(frozen=True, slots=True)
class Span:
    """What a record can need of a span. Texts are as they were sent, of at most 4,000 characters."""

    trace_id: str
    span_id: str
    parent_id: str
    """Empty for none."""
    name: str
    is_serving: bool
    """The server's or a consumer's side of a call."""
    start_unix_ns: int
    end_unix_ns: int
    attributes: dict[str, Any]
    is_error: bool
    message: str | None
    """Of its status, or of the exception that it notes."""
    trace_state: str
    scope: str
    resource: dict[str, Any] = field(default_factory=dict)


def is_otlp(value: Any) -> bool:
    """Whether a JSON value is an export of OTLP's: of spans, or of metrics or logs, which hold none."""
    if isinstance(value, list):
        return bool(value) and all(isinstance(item, dict) and (is_otlp(item) or _get(item, *_SCOPES)) for item in value)
    return isinstance(value, dict) and any(isinstance(value.get(name), list) for name in (*_SPANS, *_OTHER_SIGNALS))


def spans_of(value: Any) -> Iterator[Span | None]:
    """The spans of an export; None for what has no id or no times."""
    for resource_spans in _resources(value):
        resource = _get(resource_spans, "resource")
        about = _attributes(_get(resource, "attributes"), RESOURCE_NAMES)
        for scope_spans in _list(_get(resource_spans, *_SCOPES)):
            scope = _text(_get(_get(scope_spans, "scope", "instrumentationLibrary"), "name"))
            for span in _list(_get(scope_spans, "spans")):
                yield _span(span, scope, about)


def _resources(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for item in value:
            if _get(item, *_SCOPES) is not None:
                yield item
            else:
                yield from _list(_get(item, *_SPANS))
    else:
        yield from _list(_get(value, *_SPANS))


def _get(value: Any, *spellings: str) -> Any:
    if isinstance(value, dict):
        for name in spellings:
            if name in value:
                return value[name]
    return None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value[:_LONGEST_TEXT] if isinstance(value, str) else ""


def _span(raw: Any, scope: str, resource: dict[str, Any]) -> Span | None:
    trace_id = _id(_get(raw, "traceId", "trace_id"), 16)
    span_id = _id(_get(raw, "spanId", "span_id"), 8)
    start = _whole(_get(raw, "startTimeUnixNano", "start_time_unix_nano"))
    end = _whole(_get(raw, "endTimeUnixNano", "end_time_unix_nano"))
    if trace_id is None or span_id is None or not start or not end or end < start:
        return None
    status = _get(raw, "status")
    return Span(
        trace_id=trace_id,
        span_id=span_id,
        parent_id=_id(_get(raw, "parentSpanId", "parent_span_id"), 8) or "",
        name=_text(_get(raw, "name")),
        is_serving=_get(raw, "kind") in (2, 5, "SPAN_KIND_SERVER", "SPAN_KIND_CONSUMER"),
        start_unix_ns=start,
        end_unix_ns=end,
        attributes=_attributes(_get(raw, "attributes"), _WANTED),
        is_error=_get(status, "code") in (2, "2", "STATUS_CODE_ERROR"),
        message=_text(_get(status, "message")) or _exception(_get(raw, "events")),
        trace_state=_text(_get(raw, "traceState", "trace_state")),
        scope=scope,
        resource=resource,
    )


def _exception(events: Any) -> str | None:
    for event in _list(events)[:_MOST_ITEMS]:
        if _get(event, "name") == "exception":
            return _attributes(_get(event, "attributes"), {"exception.message"}).get("exception.message")
    return None


def _id(value: Any, size: int) -> str | None:
    """An id in hex, whichever way it is written; None for none, and for the invalid one of zeros."""
    if not isinstance(value, str) or len(value) > 4 * size:
        return None
    try:
        raw = bytes.fromhex(value) if len(value) == 2 * size else base64.b64decode(value, validate=True)
    except (ValueError, binascii.Error):
        return None
    return raw.hex() if len(raw) == size and any(raw) else None


def _whole(value: Any) -> int | None:
    """A 64-bit integer that is not negative, of a number or a text."""
    if isinstance(value, str) and len(value) <= 20 and value.isascii() and value.isdigit():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= _LARGEST else None


def _attributes(pairs: Any, wanted: set[str]) -> dict[str, Any]:
    """Those that are wanted, by name. A plain object, which some write, is taken too."""
    if isinstance(pairs, dict):
        return {name: _value(pairs[name]) for name in wanted & pairs.keys()}
    found = {}
    for pair in _list(pairs):
        if isinstance(pair, dict):
            name = pair.get("key")
            if isinstance(name, str) and name in wanted:
                found[name] = _value(pair.get("value"))
    return found


def _value(raw: Any, *, in_list: bool = False) -> Any:
    """A text, number, flag or list of these; None for anything else."""
    if isinstance(raw, dict):
        kind, raw = next(iter(raw.items()), ("", None))
        if kind == "stringValue" and isinstance(raw, str):
            return raw[:_LONGEST_TEXT]
        if kind in ("intValue", "int_value") and isinstance(raw, str):
            digits = raw.removeprefix("-")
            return int(raw) if digits.isascii() and digits.isdigit() and len(digits) <= 19 else None
        if kind in ("doubleValue", "double_value") and isinstance(raw, str):
            try:
                return float(raw)
            except ValueError:
                return None
        if kind in ("arrayValue", "array_value"):
            raw = _list(_get(raw, "values"))
    if isinstance(raw, str):
        return raw[:_LONGEST_TEXT]
    if isinstance(raw, list) and not in_list:
        return [_value(item, in_list=True) for item in raw[:_MOST_ITEMS]]
    return raw if isinstance(raw, bool | int | float) else None
