"""The single requests of a call: a span for each once there is more than one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from tensorix_api import semantic_names as names
from tensorix_tracing._errors import error_of_exception
from tensorix_tracing._headers import Rows, limits_of

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer

    from tensorix_api.ratelimit_headers import RateLimits

__all__ = ["Attempt", "tell_of_the_first"]


class Attempt:
    """One request: when it was sent, what came back."""

    # What nearly every attempt leaves as it is stands here, so that to make one runs no code of its own.
    begun_unix_ns = ended_unix_ns = 0
    status: int | None = None
    error_type: str | None = None
    span: Span | None = None
    context: Context | None = None
    """What is in force while it is sent, where that is not the call's already."""
    content_type = b""
    encoding: bytes | None = None
    """How the body is compressed, None where it is not."""
    about_limits: Rows | None = None
    """The response's headers, where any of them tells of limits."""

    @property
    def limits(self) -> RateLimits | None:
        """What the response's headers say of limits, None where they say nothing."""
        return None if self.about_limits is None else limits_of(self.about_limits)

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

    def failed(self, error: BaseException) -> None:
        """Nothing came, or not all."""
        self.error_type = error_of_exception(error, answered=self.status is not None)
        self.ended_unix_ns = time.time_ns()

    def end(self) -> None:
        """Close its span, if it has one."""
        span, self.span = self.span, None
        if span is None:
            return
        found: dict[str, str | int | float | None] = {names.HTTP_STATUS: self.status, names.ERROR_TYPE: self.error_type}
        limits = self.limits
        if limits is not None:
            found[names.RETRY_AFTER] = None if limits.retry_after_ns is None else limits.retry_after_ns / 1e9
            found[names.REMAINING["requests"]] = limits.remaining_requests
            found[names.REMAINING["tokens"]] = limits.remaining_tokens
        span.set_attributes({name: value for name, value in found.items() if value is not None})
        if self.error_type is not None and self.error_type != "cancelled":
            span.set_status(Status(StatusCode.ERROR, self.error_type))
        span.end(self.ended_unix_ns or None)


def tell_of_the_first(tracer: Tracer, parent: Context, attempt: Attempt, operation: str) -> None:
    """The first attempt was not the only one, so it too gets a span, begun and ended when it was."""
    attempt.start_span(tracer, parent, operation, 0)
    attempt.end()
