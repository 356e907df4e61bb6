"""The single requests of a call: a span for each once there is more than one."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from tensorix_api import semantic_names as names
from tensorix_api.ratelimit_headers import RateLimits, read_rate_limits
from tensorix_tracing._errors import error_of_exception

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer

__all__ = ["Attempt", "limits_of", "tell_of_the_first"]

_DOCUMENTED = {
    b"x-ratelimit-api_key-remaining-requests": "remaining_requests",
    b"x-ratelimit-api_key-remaining-tokens": "remaining_tokens",
    b"x-ratelimit-api_key-limit-requests": "limit_requests",
    b"x-ratelimit-api_key-limit-tokens": "limit_tokens",
}
_LONGEST_PLAIN = 15


class Attempt:
    """One request: when it was sent, what came back."""

    ended_unix_ns = 0
    status: int | None = None
    error_type: str | None = None
    span: Span | None = None
    context: Context | None = None
    raw_headers: list[tuple[bytes, bytes]] | None = None
    """Until they were read for `limits`."""
    _limits: RateLimits | None = None

    def __init__(self) -> None:
        self.begun_unix_ns = time.time_ns()

    def start_span(self, tracer: Tracer, parent: Context, operation: str, resent: int) -> None:
        """Begin a span below the call's; `resent` is how many attempts went before."""
        attributes: dict[str, str | int] = {names.HTTP_METHOD: "POST" if operation == "chat" else "GET"}
        if resent:
            attributes[names.HTTP_RESEND_COUNT] = resent
        self.span = tracer.start_span(
            f"{operation} attempt",
            context=parent,
            kind=SpanKind.CLIENT,
            attributes=attributes,
            start_time=self.begun_unix_ns,
        )
        self.context = trace.set_span_in_context(self.span, parent)

    def answered(self, status: int, raw_headers: list[tuple[bytes, bytes]]) -> None:
        """The headers came."""
        self.status = status
        self.raw_headers = raw_headers
        if status >= 400:
            self.error_type = str(status)
            self.ended_unix_ns = time.time_ns()

    @property
    def limits(self) -> RateLimits | None:
        """What the response's headers say of limits, None where they say nothing."""
        # Not `cached_property`, which takes a lock until Python 3.12.
        raw_headers, self.raw_headers = self.raw_headers, None
        if raw_headers is not None:
            self._limits = limits_of(raw_headers)
        return self._limits

    @property
    def retry_after_s(self) -> float | None:
        """How long the server asked to wait, s."""
        limits = self.limits
        return limits.retry_after_ns / 1e9 if limits is not None and limits.retry_after_ns is not None else None

    def failed(self, error: BaseException) -> None:
        """Nothing came, or not all."""
        self.error_type = error_of_exception(error, answered=self.status is not None)
        self.ended_unix_ns = time.time_ns()

    def end(self) -> None:
        """Close its span, if it has one."""
        span, self.span = self.span, None
        if span is None:
            return
        if self.status is not None:
            span.set_attribute(names.HTTP_STATUS, self.status)
        if self.retry_after_s is not None:
            span.set_attribute(names.RETRY_AFTER, self.retry_after_s)
        limits = self.limits
        for resource, value in (
            ("requests", limits.remaining_requests if limits else None),
            ("tokens", limits.remaining_tokens if limits else None),
        ):
            if value is not None:
                span.set_attribute(names.REMAINING[resource], value)
        if self.error_type is not None:
            span.set_attribute(names.ERROR_TYPE, self.error_type)
            if self.error_type != "cancelled":
                span.set_status(Status(StatusCode.ERROR, self.error_type))
        span.end(self.ended_unix_ns or None)


def tell_of_the_first(tracer: Tracer, parent: Context, attempt: Attempt, operation: str) -> None:
    """The first attempt was not the only one, so it too gets a span, begun and ended when it was."""
    attempt.start_span(tracer, parent, operation, 0)
    attempt.end()


def limits_of(raw_headers: Iterable[tuple[bytes, bytes]]) -> RateLimits | None:
    """What a response's headers say of limits; None where they say nothing.

    The documented spelling with plain numbers, each once, is read here; all the rest by `tensorix_api`.
    """
    found: dict[str, int] = {}
    other = False
    for name, value in raw_headers:
        small = name.lower()
        if (field := _DOCUMENTED.get(small)) is not None:
            if field not in found and value.isdigit() and len(value) <= _LONGEST_PLAIN:
                found[field] = int(value)
            else:
                other = True
        elif b"ratelimit" in small or small.startswith(b"retry-after") or small == b"reset_at":
            other = True
    if other:
        texts = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in raw_headers]
        return read_rate_limits(texts, time.time_ns())
    return RateLimits(**found, spelling="api_key") if found else None  # type: ignore[arg-type]
