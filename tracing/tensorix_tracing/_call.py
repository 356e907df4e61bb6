"""One call: its span, its attempts, what its response said, and its end, which comes exactly once."""

from __future__ import annotations

import logging
import os
import time
import weakref
from collections.abc import Mapping
from contextvars import ContextVar
from random import random
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, Status, StatusCode

from tensorix_api import semantic_names as names
from tensorix_api.chat import ChatReply
from tensorix_tracing import _attempts
from tensorix_tracing._attempts import Attempt
from tensorix_tracing._attributes import AttributeValue, request_parameters
from tensorix_tracing._errors import COMPLETED, OTHER, Ending, error_of_exception
from tensorix_tracing._headers import WAITING, media_type, rows_of
from tensorix_tracing._propagation import send_on
from tensorix_tracing._span import span_attributes
from tensorix_tracing._watch import OPEN, is_safe_here

if TYPE_CHECKING:
    from tensorix_tracing._content import Content
    from tensorix_tracing._tasks import Watch
    from tensorix_tracing._telemetry import Begin, Telemetry

__all__ = ["BUSY", "CURRENT", "Call"]

log = logging.getLogger("tensorix_tracing")

BUSY: Final = "busy"
CURRENT: ContextVar[Call | Literal["busy"] | None] = ContextVar("tensorix_tracing_call", default=None)
"""The call being made: what is sent meanwhile are its attempts; BUSY below an attempt, where nothing is ours."""

# Where a context keeps its span, of which the API tells only who asks for a context with one.
_SPAN_KEY = next(iter(trace.set_span_in_context(trace.INVALID_SPAN, Context())))
_forks = [0]


def _count_fork() -> None:
    _forks[0] += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_count_fork)


class Call:
    """What is learnt of a call between its begin and its end. All times are of `time.perf_counter_ns`.

    `end` may be called from any thread, and again: the first counts. `streamed` says whether a stream was asked for,
    `reading` whether a response's body is being handed to the caller, so that its end is the call's. `own` is a call
    that an HTTP client makes by itself: its only request is the call.
    """

    # What nearly every call leaves as it is stands here: to set it on each would cost more than all the rest.
    own = reading = answered = passing = False
    task: weakref.ref[Any] | None = None
    error_type: str | None = None
    chunks = 0
    first_chunk_ns = first_token_ns = first_output_ns = last_token_ns = 0
    last_chunk_ns = largest_gap_ns = 0
    last_gap_ns: int | None = None
    untimed = False
    """Its stream came whole: when which chunk came is not known."""
    whole_read = False
    """Its reply came whole and right."""
    watched: Watch | None = None
    """On the task or greenlet that reads it."""
    stopped = False
    """That task was cancelled, that greenlet killed."""
    content: Content | None = None
    whole: bytes | None = None
    """A body that is yet to be read, of a call that is not recorded."""
    kept: bytes | None = None
    """The event with the usage, which is yet to be read, of a call that is not recorded."""
    known_reply: ChatReply | None = None
    parameters: Mapping[str, AttributeValue] = MappingProxyType({})
    request_headers: Any = None
    """httpx's, of the last attempt."""

    def __init__(
        self,
        telemetry: Telemetry,
        begin: Begin,
        body: Mapping[str, Any],
        context: Context,
        task: weakref.ref[Any] | None,
        *,
        own: bool,
    ) -> None:
        self.telemetry = telemetry
        self.begin = begin
        if task is not None:
            self.task = task
        if own:
            self.own = True
        self.streamed = body.get("stream") is True
        self.attempts: list[Attempt] = []
        self.gaps_ns: list[int] = []
        self._forks = _forks[0]
        self.open = [None]
        """One item until the call ends, none from then on."""
        tracer, self.meter = telemetry.providers()
        # The two clocks are read side by side: all times of the call count from the one, its span's from the other.
        self.begun_ns = self.last_activity_ns = time.perf_counter_ns()
        begun_unix_ns = time.time_ns()
        try:
            self.span = tracer.start_span(
                begin.name, context, SpanKind.CLIENT, begin.attributes, start_time=begun_unix_ns
            )
        except Exception:
            log.debug("a span could not be started", exc_info=True)
            self.span = trace.INVALID_SPAN
        self.context = Context({**context, _SPAN_KEY: self.span})
        self.recording = self.span.is_recording()
        if self.recording and begin.operation == "chat":
            self.parameters = request_parameters(body)
            settings = telemetry.settings
            if settings.capture_content:
                from tensorix_tracing._content import Content  # for the few who ask for it

                self.content = Content(settings.redact, settings.content_limit, body)

    @property
    def reply(self) -> ChatReply:
        """What was learnt of its answer: made when there is something to learn, which of most calls comes last."""
        reply = self.known_reply
        if reply is None:
            reply = self.known_reply = ChatReply()
        return reply

    @property
    def idle_after_ns(self) -> int:
        """How long it may be left unread."""
        return self.telemetry.idle_after_ns

    # Attempts

    def attempt(self, request: Any) -> Attempt:
        """A request of httpx or httpx2 is about to be sent: where the trace is sent on, its headers say so."""
        attempt = Attempt()
        attempt.begun_unix_ns = time.time_ns()
        self.request_headers = request.headers
        before = len(self.attempts)
        self.attempts.append(attempt)
        # For the first attempt of an openai client the call's context is in force already.
        context = attempt.context = self.context if self.own else None
        try:
            if before:
                self.answered = False
                context = self._again(attempt, before)
            if self.telemetry.settings.propagate:
                send_on(request, context or self.context, attempt.span or self.span)
        except Exception:
            log.debug("an attempt could not be told of", exc_info=True)
        return attempt

    def _again(self, attempt: Attempt, before: int) -> Context | None:
        """One attempt is the call itself; from the second on each has a span, the first one's made up for."""
        if self.recording:
            tracer = self.telemetry.tracer
            if before == 1:
                _attempts.tell_of_the_first(tracer, self.context, self.attempts[0], self.begin.operation)
            attempt.start_span(tracer, self.context, self.begin.operation, before)
        return attempt.context

    def attempt_answered(self, attempt: Attempt, status: int, headers: Any) -> None:
        """The headers of a response have come."""
        self.answered = status < 400
        self.last_activity_ns = time.perf_counter_ns()
        attempt.status = status
        if status >= 400:
            attempt.error_type = str(status)
            attempt.ended_unix_ns = time.time_ns()
        rows = rows_of(headers)
        remains = False
        for _, name, value in rows:
            if name == b"content-type":
                attempt.content_type = media_type(value)
            elif name == b"content-encoding":
                attempt.encoding = value.strip().lower()
            elif b"ratelimit" in name:
                remains = True
                attempt.about_limits = rows
            elif name in WAITING:
                attempt.about_limits = rows
        if remains:
            self.telemetry.remaining.unread[self.begin.server.host] = rows, self.last_activity_ns

    # Its stream

    def chunk(self, now_ns: int, *, token: bool, output: bool) -> None:
        """A chunk came."""
        self.chunks += 1
        if self.untimed:
            return
        if self.last_chunk_ns:
            gap_ns = self.last_gap_ns = now_ns - self.last_chunk_ns
            self.largest_gap_ns = max(self.largest_gap_ns, gap_ns)
            if random() < self.telemetry.settings.chunk_gap_share:  # noqa: S311 - a sample, no secret
                self.gaps_ns.append(gap_ns)
        else:
            self.first_chunk_ns = now_ns
        self.last_chunk_ns = now_ns
        if token:
            self.last_token_ns = now_ns
            if not self.first_token_ns:
                self.first_token_ns = now_ns
        if output and not self.first_output_ns:
            self.first_output_ns = now_ns

    # Its end

    def failed(self, error: BaseException) -> None:
        """The call raised: what it was stands in the last attempt, or in the exception."""
        if isinstance(error, GeneratorExit):
            # The coroutine was dropped, and it may be the garbage collector that throws this.
            ending = Ending("cancelled", None if self.answered else "cancelled")
            return self.end(ending) if is_safe_here() else OPEN.put_off(self, ending)
        kind = error_of_exception(error, answered=self.answered)
        if kind == "cancelled":
            # Also while the SDK waits to try again after an error.
            return self.end(Ending("cancelled", None if self.answered else kind))
        last = self.attempts[-1] if self.attempts else None
        if last is not None and last.status is not None and last.status >= 400:
            return self.end(Ending(None, str(last.status), is_error=True))
        if kind in (OTHER, "malformed") and self.answered:
            if self.error_type is not None:
                # A parser that stumbled over what was found to be malformed.
                kind = self.error_type
            elif self.whole_read:
                # The reply is in order; what the caller or the SDK makes of it is no failure of the call.
                return self.end(COMPLETED)
        outcome = kind if self.streamed and (self.answered or kind == "timeout") and kind in names.OUTCOMES else None
        return self.end(Ending(outcome, kind, is_error=True))

    def refused(self, status: int) -> None:
        """A response with an error's status was handed to the caller whole."""
        self.end(Ending(None, str(status), is_error=True))

    def if_abandoned(self) -> Ending:
        """What it is told as where nobody will read on: abandoned, or cancelled where its task was."""
        stopped = self.stopped or (self.watched is not None and self.watched.stopping())
        return Ending("cancelled" if stopped else "abandoned")

    def abandon(self) -> None:
        """Nobody will read on: dropped, or left idle."""
        self.end(self.if_abandoned())

    def end(self, ending: Ending) -> None:
        """Close the span and tell the metrics. Never raises."""
        try:
            # The one operation that only one thread can succeed in.
            self.open.pop()
        except IndexError:
            return
        duration_ns = time.perf_counter_ns() - self.begun_ns
        if self.reading:
            OPEN.discard(self)
            if self.watched is not None:
                self.watched.leave()
        if self._forks != _forks[0]:
            # Begun in another process, which tells of it.
            return
        try:
            if self.recording:
                if len(self.attempts) > 1:
                    self._end_attempts()
                self.span.set_attributes(span_attributes(self, ending))
                if ending.is_error:
                    self.span.set_status(Status(StatusCode.ERROR, ending.error_type))
            if self.meter.silent:
                # One may have come since the call began.
                self.meter = self.telemetry.meter
            if not self.meter.silent:
                self.meter.note(self, ending, duration_ns)
        except Exception:
            log.debug("a call could not be told of", exc_info=True)
        finally:
            if self.recording:
                try:
                    self.span.end()
                except Exception:
                    log.debug("a span could not be ended", exc_info=True)

    def _end_attempts(self) -> None:
        for attempt in self.attempts:
            try:
                attempt.end()
            except Exception:  # a processor that fails; of the call is told all the same
                log.debug("an attempt could not be told of", exc_info=True)
