"""One call: its span, its attempts, what its response said, and its end, which comes exactly once."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import time
import weakref
from collections.abc import Iterable, Mapping, MutableMapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, Literal

from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from tensorix_api import semantic_names as names
from tensorix_api.chat import ChatReply
from tensorix_tracing import _attempts
from tensorix_tracing._attempts import Attempt, Headers
from tensorix_tracing._attributes import AttributeValue, key_of, model_of, request_parameters, without_key
from tensorix_tracing._errors import Ending, bounded_code, error_of_exception
from tensorix_tracing._propagation import send_on
from tensorix_tracing._watch import OPEN, is_safe_here

if TYPE_CHECKING:
    from tensorix_api.ratelimit_headers import RateLimits
    from tensorix_tracing._content import Content
    from tensorix_tracing._telemetry import Attributes, Meter, Server, Telemetry

__all__ = ["BUSY", "COMPLETED", "CURRENT", "Call"]

log = logging.getLogger("tensorix_tracing")

BUSY: Final = "busy"
CURRENT: ContextVar[Call | Literal["busy"] | None] = ContextVar("tensorix_tracing_call", default=None)
"""The call that is being made: what is sent meanwhile are its attempts; BUSY below an attempt, where nothing is ours."""

COMPLETED = Ending("completed")
_forks = [0]


def _count_fork() -> None:
    _forks[0] += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_count_fork)


class Call:
    """What is learnt of a call between its begin and its end. All times are of `time.perf_counter_ns`.

    `end` may be called from any thread, and again: the first counts. `streamed` says whether a stream was asked for,
    `reading` whether a response's body is being handed to the caller, so that its end is the call's.
    """

    __slots__ = (
        "__weakref__",
        "_ends",
        "_forks",
        "_gap_attributes",
        "answered",
        "attempts",
        "begun_ns",
        "chunks",
        "content",
        "context",
        "error_type",
        "first_chunk_ns",
        "first_output_ns",
        "first_token_ns",
        "headers",
        "idle_after_ns",
        "largest_gap_ns",
        "last_activity_ns",
        "last_chunk_ns",
        "last_token_ns",
        "limits",
        "model",
        "operation",
        "parameters",
        "reading",
        "recording",
        "reply",
        "server",
        "settings",
        "span",
        "streamed",
        "task",
        "telemetry",
    )

    def __init__(
        self,
        telemetry: Telemetry,
        operation: str,
        body: Mapping[str, Any],
        server: Server,
        task: weakref.ref[Any] | None = None,
    ) -> None:
        settings = telemetry.settings
        self.telemetry = telemetry
        self.settings = settings
        self.operation = operation
        self.server = server
        self.task = task
        self.streamed = body.get("stream") is True
        self.reading = self.answered = False
        self.attempts: list[Attempt] = []
        self.reply = ChatReply()
        self.limits: RateLimits | None = None
        self.error_type: str | None = None
        self.chunks = 0
        self.first_chunk_ns = self.first_token_ns = self.first_output_ns = self.last_token_ns = 0
        self.last_chunk_ns = self.largest_gap_ns = 0
        self.idle_after_ns = int(settings.idle_after_s * 1e9)
        self._forks = _forks[0]
        self._ends = [None]
        self._gap_attributes: Attributes | None = None
        self.model = model = model_of(body)
        attributes: dict[str, AttributeValue] = {
            names.PROVIDER: settings.provider_name,
            names.SERVER_ADDRESS: server.host,
            names.SERVER_PORT: server.port,
        }
        if operation == "chat":
            attributes[names.OPERATION] = operation
        if model is not None:
            attributes[names.REQUEST_MODEL] = model
        self.begun_ns = self.last_activity_ns = time.perf_counter_ns()
        try:
            self.span = telemetry.tracer.start_span(
                operation if model is None else f"{operation} {model}", kind=SpanKind.CLIENT, attributes=attributes
            )
        except Exception:  # noqa: BLE001 - a sampler or a processor that fails: the metrics are left
            log.debug("a span could not be started", exc_info=True)
            self.span = trace.INVALID_SPAN
        self.context = trace.set_span_in_context(self.span)
        self.recording = self.span.is_recording()
        self.parameters = request_parameters(body) if self.recording and operation == "chat" else {}
        self.headers: Mapping[str, str] = {}
        self.content: Content | None = None
        if settings.capture_content and self.recording and operation == "chat":
            from tensorix_tracing._content import Content  # noqa: PLC0415 - for the few who ask for it

            self.content = Content(settings.redact, settings.content_limit, body)

    # Attempts

    def attempt(self, headers: MutableMapping[str, str]) -> Attempt:
        """A request is about to be sent: where the trace is sent on, its headers say so."""
        attempt = Attempt(time.time_ns())
        self.headers = headers
        before = len(self.attempts)
        self.attempts.append(attempt)
        try:
            if before and self.recording:
                # One attempt is the call itself; from the second on each has a span, the first one's made up for.
                if before == 1:
                    _attempts.tell_of_the_first(self.telemetry.tracer, self.context, self.attempts[0], self.operation)
                attempt.start_span(self.telemetry.tracer, self.context, self.operation, before)
            if self.settings.propagate:
                send_on(headers, attempt.context or self.context)
        except Exception:  # noqa: BLE001 - a processor or a propagator that fails
            log.debug("an attempt could not be told of", exc_info=True)
        return attempt

    def attempt_answered(self, attempt: Attempt, status: int, raw_headers: Iterable[tuple[bytes, bytes]]) -> Headers:
        """The headers of a response have come: what they say."""
        self.answered = status < 400
        self.last_activity_ns = time.perf_counter_ns()
        headers = attempt.answered(status, raw_headers)
        self.limits = limits = headers.limits
        if limits is not None:
            remaining = self.telemetry.remaining
            if limits.remaining_requests is not None:
                remaining.note("requests", limits.remaining_requests, self.server.host, self.settings)
            if limits.remaining_tokens is not None:
                remaining.note("tokens", limits.remaining_tokens, self.server.host, self.settings)
            if limits.limit_requests is not None:
                remaining.limits.note("requests", limits.limit_requests, self.server.host, self.settings)
            if limits.limit_tokens is not None:
                remaining.limits.note("tokens", limits.limit_tokens, self.server.host, self.settings)
        return headers

    # Its stream

    def read_begun(self) -> None:
        """The body is handed to the caller bit by bit: from here on its end is the call's."""
        self.reading = True
        OPEN.add(self)

    def chunk(self, now_ns: int, *, token: bool, output: bool) -> None:
        """A chunk came."""
        self.chunks += 1
        if self.last_chunk_ns:
            gap_ns = now_ns - self.last_chunk_ns
            self.largest_gap_ns = max(self.largest_gap_ns, gap_ns)
            if random.random() < self.settings.chunk_gap_share:  # noqa: S311 - a sample, no secret
                self._record_gap(gap_ns)
        else:
            self.first_chunk_ns = now_ns
        self.last_chunk_ns = now_ns
        if token:
            self.last_token_ns = now_ns
            if not self.first_token_ns:
                self.first_token_ns = now_ns
        if output and not self.first_output_ns:
            self.first_output_ns = now_ns

    def _record_gap(self, gap_ns: int) -> None:
        if self._gap_attributes is None:
            self._gap_attributes = self._metric_attributes()
        meter = self.telemetry.meter
        for histogram in meter.chunk_gap:
            meter.note(histogram.record, gap_ns / 1e9, self._gap_attributes, self.context)

    # Its end

    def failed(self, error: BaseException) -> None:
        """The call raised: what it was stands in the last attempt, or in the exception."""
        if isinstance(error, GeneratorExit):
            # The coroutine was dropped, and it may be the garbage collector that throws this.
            ending = Ending("cancelled", None if self.answered else "cancelled")
            return self.end(ending) if is_safe_here() else OPEN.put_off(self, ending)
        last = self.attempts[-1] if self.attempts else None
        if last is not None and last.status is not None and last.status >= 400:
            return self.end(Ending(None, str(last.status), is_error=True))
        kind = error_of_exception(error, answered=self.answered)
        if kind == "cancelled":
            return self.end(Ending("cancelled", None if self.answered else kind))
        outcome = kind if self.streamed and (self.answered or kind == "timeout") and kind in names.OUTCOMES else None
        return self.end(Ending(outcome, kind, is_error=True))

    def refused(self, status: int) -> None:
        """A response with an error's status was handed to the caller whole."""
        self.end(Ending(None, str(status), is_error=True))

    def if_abandoned(self) -> Ending:
        """What it is told as where nobody will read on: abandoned, or cancelled where its task was."""
        task = self.task() if self.task is not None else None
        cancelled = task is not None and (task.cancelled() or (not task.done() and task.cancelling() > 0))
        return Ending("cancelled" if cancelled else "abandoned")

    def abandon(self) -> None:
        """Nobody will read on: dropped, or left idle."""
        self.end(self.if_abandoned())

    def end(self, ending: Ending) -> None:
        """Close the span and tell the metrics. Never raises."""
        try:
            # The one operation that only one thread can succeed in.
            self._ends.pop()
        except IndexError:
            return
        OPEN.discard(self)
        if self._forks != _forks[0]:
            # Begun in another process, which tells of it.
            return
        try:
            self._tell(ending)
        except Exception:  # noqa: BLE001 - telemetry that fails stays its own problem
            log.debug("a call could not be told of", exc_info=True)
        finally:
            with contextlib.suppress(Exception):
                self.span.end()

    @property
    def ended(self) -> bool:
        """Whether its span is closed."""
        return not self._ends

    def _tell(self, ending: Ending) -> None:
        duration_ns = time.perf_counter_ns() - self.begun_ns
        self.error_type = ending.error_type
        for attempt in self.attempts:
            try:
                attempt.end()
            except Exception:  # a processor that fails; of the call is told all the same
                log.debug("an attempt could not be told of", exc_info=True)
        if self.recording:
            self.span.set_attributes(self._span_attributes(ending))
            if ending.is_error:
                self.span.set_status(Status(StatusCode.ERROR, ending.error_type))
        attributes = self._metric_attributes()
        if ending.error_type is not None:
            attributes[names.ERROR_TYPE] = ending.error_type
        if ending.outcome is not None and ending.outcome != "completed" and ending.outcome != ending.error_type:
            attributes[names.STREAM_OUTCOME] = ending.outcome
        meter, context = self.telemetry.meter, self.context
        for histogram in meter.duration:
            meter.note(histogram.record, duration_ns / 1e9, attributes, context)
        if self.first_chunk_ns:
            for histogram in meter.first_chunk:
                meter.note(histogram.record, (self.first_chunk_ns - self.begun_ns) / 1e9, attributes, context)
        if (usage := self.reply.usage) is not None:
            self._tell_tokens(meter, "input", usage.prompt_tokens)
            self._tell_tokens(meter, "output", usage.completion_tokens)
            if meter.token_counters["input"]:
                self._tell_tokens(meter, "cache_read.input", usage.cached_tokens)
                self._tell_tokens(meter, "reasoning.output", usage.reasoning_tokens)
        for attempt in self.attempts[:-1]:
            why = {**self._metric_attributes(), names.ERROR_TYPE: attempt.error_type or "_OTHER"}
            meter.note(meter.retries.add, 1, why, context)

    def _tell_tokens(self, meter: Meter, kind: str, count: int | None) -> None:
        if count is None:
            return
        plain, context = self._metric_attributes(), self.context
        if meter.token_usage and kind in meter.tokens:
            with_kind = {**plain, names.TOKEN_TYPE: kind}
            for histogram in meter.token_usage:
                meter.note(histogram.record, count, with_kind, context)
        for histogram in meter.tokens.get(kind, ()):
            meter.note(histogram.record, count, plain, context)
        for counter in meter.token_counters[kind]:
            meter.note(counter.add, count, {**plain, names.TOKEN_MODALITY: "unknown"}, context)

    def _metric_attributes(self) -> Attributes:
        """The closed list: nothing of a single call but its model, whose names are bounded."""
        attributes: Attributes = {
            names.OPERATION: self.operation,
            names.PROVIDER: self.settings.provider_name,
            names.SERVER_ADDRESS: self.server.host,
            names.SERVER_PORT: self.server.port,
        }
        if (model := self.telemetry.model_label(self.model)) is not None:
            attributes[names.REQUEST_MODEL] = model
        return attributes

    def _span_attributes(self, ending: Ending) -> dict[str, AttributeValue]:
        found: dict[str, AttributeValue | None] = dict(self.parameters)
        last = self.attempts[-1] if self.attempts else None
        reply, limits, usage = self.reply, self.limits, self.reply.usage
        found[names.ERROR_TYPE] = ending.error_type
        found[names.REQUEST_STREAM] = self.streamed or None
        found[names.ATTEMPTS] = len(self.attempts)
        found[names.KEY_ALIAS] = self.settings.key_alias
        found[names.HTTP_STATUS] = last.status if last else None
        found[names.RETRY_AFTER] = last.retry_after_s if last else None
        key = key_of(self.headers)
        found[names.RESPONSE_ID] = without_key(reply.response_id, key, unique=True)
        found[names.RESPONSE_MODEL] = without_key(reply.model, key)
        found[names.FINISH_REASONS] = [without_key(reason, key) or "" for reason in reply.finish_reasons] or None
        found[names.TOOL_CALLS] = reply.tool_calls or None
        found[names.ERROR_CODE] = without_key(bounded_code(reply.error.code), key) if reply.error else None
        if self.content is not None:
            found.update(self.content.attributes(key.reveal() if key else None))
        if usage is not None:
            found[names.INPUT_TOKENS] = usage.prompt_tokens
            found[names.OUTPUT_TOKENS] = usage.completion_tokens
            found[names.CACHED_TOKENS] = usage.cached_tokens
            found[names.REASONING_TOKENS] = usage.reasoning_tokens
        if limits is not None:
            found[names.REMAINING["requests"]] = limits.remaining_requests
            found[names.REMAINING["tokens"]] = limits.remaining_tokens
            found[names.LIMIT["requests"]] = limits.limit_requests
            found[names.LIMIT["tokens"]] = limits.limit_tokens
        if self.streamed or self.reading:
            found[names.STREAM_OUTCOME] = ending.outcome
        for name, at_ns in (
            (names.TIME_TO_FIRST_CHUNK, self.first_chunk_ns),
            (names.TIME_TO_FIRST_TOKEN, self.first_token_ns),
            (names.TIME_TO_FIRST_OUTPUT, self.first_output_ns),
            (names.TIME_TO_LAST_TOKEN, self.last_token_ns),
        ):
            if at_ns:
                found[name] = (at_ns - self.begun_ns) / 1e9
        if self.chunks:
            found[names.STREAM_CHUNKS] = self.chunks
        if self.largest_gap_ns:
            found[names.LARGEST_GAP] = self.largest_gap_ns / 1e9
        return {name: value for name, value in found.items() if value is not None}
