"""The load client: one user's requests, one after the other, each ending in one record whatever becomes of it."""

from __future__ import annotations

import itertools
import json
import operator
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import gevent
from gevent.event import Event
from gevent.hub import get_hub

from tensorix_api.errors import ErrorKind, Phase
from tensorix_api.ratelimit_headers import RateLimits, read_rate_limits
from tensorix_api.secret import Redactor, Secret
from tensorix_api.settings import Settings
from tensorix_loadtests._clock import KernelClock
from tensorix_loadtests._connection import Connection, ConnectStamps
from tensorix_loadtests._exchange import Exchange
from tensorix_loadtests._failure import Failure
from tensorix_loadtests._outcome import Verdict, judge
from tensorix_loadtests._target import Target
from tensorix_loadtests.plan import Timeouts
from tensorix_records import RequestRecord

__all__ = ["Call", "LoadClient", "Result", "Session"]

USER_AGENT = "tensorix-toolkit"
_SECRET_HEADER_PARTS = ("auth", "key", "token", "secret", "cookie", "password", "credential")
# After [DONE] only the end of the HTTP message is due; a server that withholds it costs the connection, not the result.
_AFTER_DONE_NS = 2_000_000_000


@dataclass(frozen=True, slots=True)
class Call:
    """One request to make. `body` is JSON, None for a GET; the rest describes it in the record."""

    endpoint: str
    body: bytes | None = None
    stream: bool = False
    model: str | None = None
    max_tokens: int | None = None
    n: int | None = None
    prompt_id: str | None = None
    prompt_chars: int | None = None

    @property
    def is_models(self) -> bool:
        """Whether it lists the models."""
        return self.body is None

    @classmethod
    def chat(
        cls,
        messages: Sequence[Mapping[str, Any]],
        *,
        model: str,
        stream: bool,
        max_tokens: int | None,
        include_usage: bool = True,
        temperature: float | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> Call:
        """A chat completion. `extra` are further fields of the body and go over the ones made here."""
        body: dict[str, Any] = {"model": model, "messages": list(messages), "stream": stream}
        if stream and include_usage:
            body["stream_options"] = {"include_usage": True}
        if max_tokens is not None:
            body["max_tokens"] = max_tokens
        if temperature is not None:
            body["temperature"] = temperature
        body |= extra or {}
        texts = [message.get("content") for message in messages]
        text = "".join(part for part in texts if isinstance(part, str))
        bound = body.get("max_tokens", body.get("max_completion_tokens"))
        return cls(
            "/chat/completions",
            json.dumps(body, ensure_ascii=False).encode(),
            stream,
            model,
            bound if isinstance(bound, int) else None,
            body["n"] if isinstance(body.get("n"), int) else None,
            # Tells prompts apart in a table; two that share 32 bits of checksum do no harm there.
            f"{zlib.crc32(text.encode('utf-8', 'replace')):08x}",
            len(text),
        )

    @classmethod
    def list_models(cls) -> Call:
        """A list of the models."""
        return cls("/models")


@dataclass(slots=True)
class Session:
    """What all users of a process share: the target, the key, the timeouts and the identity of the run.

    `headers` are sent with each request; their values never reach a record, and where a name sounds like a secret the
    value is also taken out of whatever the server echoes.
    """

    settings: Settings
    target: Target
    timeouts: Timeouts = field(default_factory=Timeouts)
    headers: Mapping[str, Secret] = field(default_factory=dict)
    run_id: str = "run"
    process_id: str = "0"
    host: str | None = None
    keep_gaps: bool = False
    clock: KernelClock = field(default_factory=KernelClock)
    key_alias: str | None = field(init=False)
    redact: Redactor = field(init=False)
    _numbers: Any = field(default_factory=itertools.count, init=False)

    def __post_init__(self) -> None:
        key = self.settings.api_key
        self.key_alias = key.alias if key else None
        hidden = [
            value for name, value in self.headers.items() if any(part in name.lower() for part in _SECRET_HEADER_PARTS)
        ]
        hidden += self.target.proxy.hidden if self.target.proxy else ()
        # What is shorter is a word, and would be taken out of every message.
        self.redact = Redactor(key, *(value for value in hidden if len(value.reveal()) >= 6))

    def next_record_id(self) -> str:
        """An identity that no other record of the run has."""
        return f"{self.process_id}-{next(self._numbers):07d}"

    def wire(self, call: Call, request_id: str) -> memoryview:
        """The request's bytes. A memoryview, since that shows nothing in a traceback's locals."""
        target, key, proxy = self.target, self.settings.api_key, self.target.proxy
        method = "GET" if call.body is None else "POST"
        lines = [
            f"{method} {target.request_prefix}{call.endpoint} HTTP/1.1",
            f"Host: {target.authority}",
            f"User-Agent: {USER_AGENT}",
            f"Accept: {'text/event-stream' if call.stream else 'application/json'}",
            # A compressed stream is held back by some proxies, so it is not asked for; it is understood all the same.
            f"Accept-Encoding: {'identity' if call.stream else 'gzip, deflate'}",
            f"X-Request-Id: {request_id}",
        ]
        if call.body is not None:
            lines += ["Content-Type: application/json", f"Content-Length: {len(call.body)}"]
        given = {name.lower() for name in self.headers}
        lines = [line for line in lines if line.partition(":")[0].lower() not in given]
        return memoryview(
            "\r\n".join(
                [
                    *lines,
                    *([f"Authorization: Bearer {key.reveal()}"] if key else []),
                    *(
                        [f"Proxy-Authorization: {proxy.authorization.reveal()}"]
                        if proxy and proxy.authorization and not target.tls
                        else []
                    ),
                    *(f"{name}: {value.reveal()}" for name, value in self.headers.items()),
                    "\r\n",
                ]
            ).encode("latin-1")
            + (call.body or b"")
        )


@dataclass(frozen=True, slots=True)
class Result:
    """A record, and what a record does not hold."""

    record: RequestRecord
    chunk_unix_ns: Sequence[int] = ()
    """When each chunk with something generated arrived, Unix ns."""
    models: tuple[str, ...] = ()
    """The names that a model list held."""


class LoadClient:
    """Sends one user's requests over one connection that is kept alive.

    `send` blocks the calling greenlet, never the process, and returns a `Result` for whatever happens. Only killing the
    greenlet raises (GreenletExit, after `on_result` has had the record of the request that was cancelled).
    """

    def __init__(
        self,
        session: Session,
        *,
        user_class: str | None = None,
        user_id: int | None = None,
        on_result: Callable[[Result], None] | None = None,
    ) -> None:
        self._session = session
        self._user_class = user_class
        self._user_id = user_id
        self._on_result = on_result or (lambda result: None)
        self._connection: Connection | None = None

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def send(self, call: Call, *, scenario: str | None = None, user_ready_ns: int | None = None) -> Result:
        """Make one request. `user_ready_ns` is the monotonic instant from which the user was free to make it."""
        attempt = _Attempt(self._session, call, self._connection, user_ready_ns)
        try:
            attempt.run()
        except BaseException as error:
            # Killed while it waited, or a defect of ours: recorded either way.
            attempt.interrupted(error)
            self._keep(attempt)
            self._on_result(self._result(attempt, scenario))
            raise
        self._keep(attempt)
        result = self._result(attempt, scenario)
        self._on_result(result)
        return result

    def _keep(self, attempt: _Attempt) -> None:
        connection = attempt.connection
        exchange = attempt.exchange
        if connection is not None:
            connection.receiver = None
            if not (exchange and exchange.complete and exchange.keep_alive):
                connection.close()
        self._connection = connection if connection is not None and connection.usable else None

    def _result(self, attempt: _Attempt, scenario: str | None) -> Result:
        return attempt.result(scenario=scenario, user_class=self._user_class, user_id=self._user_id)


class _Attempt:
    """One request on its way: opens or reuses a connection, sends, waits within its timeouts."""

    def __init__(self, session: Session, call: Call, connection: Connection | None, user_ready_ns: int | None) -> None:
        self.session = session
        self.call = call
        self.connection = connection
        self.record_id = session.next_record_id()
        self.request_id = f"{session.run_id}.{self.record_id}"
        self.user_ready_ns = user_ready_ns
        self.began_ns = time.monotonic_ns()
        self.reused = False
        self.opened: ConnectStamps | None = None
        self.exchange: Exchange | None = None
        self.failure: Failure | None = None
        self.start_ns = self.sent_ns = 0
        self.request_bytes = 0

    def run(self) -> None:
        try:
            if self.connection is not None and self.connection.usable:
                self.reused = True
                self._exchange(self.connection)
                if not self._closed_while_idle():
                    return
                # The server had closed the idle connection before the request reached it: nothing was answered, so
                # it goes out again, once, on a new one.
                self.reused = False
            self._exchange(self._connect())
        except Failure as failure:
            self.failure = failure

    def _closed_while_idle(self) -> bool:
        exchange = self.exchange
        return (
            exchange is not None
            and not exchange.bytes_received
            and exchange.failure is not None
            and exchange.failure.kind is ErrorKind.CONNECTION_FAILED
        )

    def _connect(self) -> Connection:
        self.exchange = None
        self.connection = Connection(self.session.target, self.session.clock)
        deadline = time.monotonic_ns() + int(self.session.timeouts.connect_s * 1e9)
        self.opened = self.connection.open(min(deadline, self._whole_deadline()))
        return self.connection

    def _whole_deadline(self) -> int:
        return self.began_ns + int(self.session.timeouts.total_s * 1e9)

    def _exchange(self, connection: Connection) -> None:
        """Send and wait for the end of the answer."""
        done = Event()
        exchange = self.exchange = Exchange(stream=self.call.stream, finish=done.set)
        connection.receiver = exchange
        wire = self.session.wire(self.call, self.request_id)
        self.request_bytes = len(wire)
        try:
            self.start_ns, self.sent_ns = connection.send(wire, self._whole_deadline())
        except OSError as error:
            # An early answer may have ended the exchange already; else the connection broke under the request.
            exchange.ended(error, time.monotonic_ns())
        except Failure as failure:
            exchange.abort(failure, time.monotonic_ns())
        try:
            if not exchange.over:
                self._wait(exchange, done)
        finally:
            exchange.release()

    def _wait(self, exchange: Exchange, done: Event) -> None:
        nearest_new = min(int(self.session.timeouts.chunk_s * 1e9), _AFTER_DONE_NS)

        def look() -> None:
            if exchange.over:
                return
            deadline, failure = self._deadline(exchange)
            left = deadline - time.monotonic_ns()
            if left <= 0:
                exchange.abort(failure, time.monotonic_ns())
            else:
                # One timer for all deadlines, so that chunks do not touch it. A first token or [DONE] brings a nearer
                # deadline, never nearer than this.
                timer.start(min(left, nearest_new))

        timer = _Timer(look)
        try:
            look()
            done.wait()
        finally:
            timer.close()

    def _deadline(self, exchange: Exchange) -> tuple[int, Failure]:
        """The nearest deadline and what missing it means."""
        timeouts = self.session.timeouts
        whole = self._whole_deadline()
        if exchange.done_seen:
            return exchange.last_read_ns + _AFTER_DONE_NS, Failure(ErrorKind.TIMEOUT, Phase.STREAM, "no end")
        phase = exchange.phase
        deadline, words = whole, f"no answer within {timeouts.total_s:g} s in all"
        if self.call.stream or self.call.is_models:
            if exchange.first_token_ns:
                near = exchange.last_read_ns + int(timeouts.chunk_s * 1e9)
                text = f"nothing came for {timeouts.chunk_s:g} s in the middle of the stream"
            else:
                near = self.start_ns + int(timeouts.first_token_s * 1e9)
                text = f"no {'first token' if self.call.stream else 'list'} within {timeouts.first_token_s:g} s"
            if near < whole:
                deadline, words = near, text
        return deadline, Failure(ErrorKind.TIMEOUT, phase, words)

    def interrupted(self, error: BaseException) -> None:
        """Note that the greenlet was killed, or that our own code failed."""
        if isinstance(error, gevent.GreenletExit | KeyboardInterrupt | SystemExit):
            failure = Failure(ErrorKind.CANCELLED, Phase.CONNECT, "cancelled: the run was ended at once")
        else:
            failure = Failure(ErrorKind.INTERNAL, Phase.CONNECT, f"a defect of the load client: {type(error).__name__}")
        if self.exchange is not None:
            failure.phase = self.exchange.phase
            self.exchange.abort(failure, time.monotonic_ns())
        else:
            self.failure = failure

    def _verdict(self) -> Verdict:
        if self.failure is not None or self.exchange is None:
            failure = self.failure or Failure(ErrorKind.INTERNAL, Phase.CONNECT, "no exchange took place")
            self.exchange = Exchange(stream=False, finish=lambda: None)
            self.exchange.abort(failure, time.monotonic_ns())
        return judge(self.exchange, models=self.call.is_models)

    def result(self, *, scenario: str | None, user_class: str | None, user_id: int | None) -> Result:
        """The record of what happened."""
        session, call = self.session, self.call
        verdict = self._verdict()
        exchange = self.exchange
        assert exchange is not None
        start = self.start_ns or exchange.end_ns or time.monotonic_ns()
        start_unix = session.clock.unix_ns(start)
        sent = self.sent_ns
        if exchange.status == 200 and exchange.headers_ns:
            # The kernel can stamp a quick answer before this program gets to read the clock behind its send.
            sent = min(sent, exchange.headers_ns)
        limits = read_rate_limits(exchange.headers, time.time_ns()) if exchange.headers_ns else RateLimits()

        def at(stamp_ns: int | None) -> int | None:
            return stamp_ns - start if stamp_ns else None

        chunks = exchange.chunk_stamps
        gaps = list(map(operator.sub, chunks[1:], chunks[:-1]))
        opened = self.opened if not self.reused else None
        record = RequestRecord(
            run_id=session.run_id,
            record_id=self.record_id,
            request_id=self.request_id,
            process_id=session.process_id,
            host=session.host,
            user_class=user_class,
            user_id=user_id,
            scenario=scenario,
            key_alias=session.key_alias,
            endpoint=call.endpoint,
            method="GET" if call.body is None else "POST",
            model_requested=call.model,
            stream=None if call.is_models else call.stream,
            max_tokens=call.max_tokens,
            n=call.n,
            prompt_id=call.prompt_id,
            prompt_chars=call.prompt_chars,
            request_bytes=self.request_bytes or None,
            start_unix_ns=start_unix,
            user_ready_at_ns=at(self.user_ready_ns),
            connect_start_at_ns=at(opened.start_ns) if opened else None,
            dns_done_at_ns=at(opened.dns_done_ns) if opened else None,
            tcp_done_at_ns=at(opened.tcp_done_ns) if opened else None,
            tls_done_at_ns=at(opened.tls_done_ns) if opened else None,
            request_sent_at_ns=at(sent),
            headers_at_ns=at(exchange.headers_ns),
            first_chunk_at_ns=at(exchange.first_chunk_ns),
            first_token_at_ns=at(exchange.first_token_ns),
            first_output_at_ns=at(exchange.first_output_ns),
            last_token_at_ns=at(chunks[-1]) if chunks else None,
            end_at_ns=at(exchange.end_ns),
            connection_reused=self.reused if self.start_ns else None,
            stamp_source=_stamp_source(exchange),
            lag_first_token_ns=exchange.lag_first_token_ns if chunks else None,
            lag_max_ns=exchange.lag_max_ns if chunks else None,
            chunks_in_first_read=exchange.chunks_in_first_read if chunks else None,
            max_chunks_in_a_read=exchange.max_chunks_in_a_read if chunks else None,
            chunks=len(chunks) if exchange.is_event_stream else None,
            icl_max_ns=max(gaps) if gaps else None,
            chunk_gaps_ns=gaps if session.keep_gaps and exchange.is_event_stream else None,
            done_seen=exchange.done_seen if exchange.is_event_stream else None,
            response_bytes=exchange.bytes_received or None,
            outcome=verdict.outcome,
            stream_outcome=verdict.stream_outcome,
            status=exchange.status,
            error_kind=verdict.kind,
            error_phase=verdict.phase,
            limit_requests=limits.limit_requests,
            limit_tokens=limits.limit_tokens,
            remaining_requests=limits.remaining_requests,
            remaining_tokens=limits.remaining_tokens,
            reset_requests_ns=limits.reset_requests_ns,
            reset_tokens_ns=limits.reset_tokens_ns,
            limit_spelling=limits.spelling,
            limit_anomaly=session.redact(limits.anomaly, 200) if limits.anomaly else None,
            retry_after_ns=limits.retry_after_ns,
            **self._said(verdict, exchange),
        )
        offset = session.clock.offset_ns
        return Result(record, [stamp + offset for stamp in chunks], verdict.models)

    def _said(self, verdict: Verdict, exchange: Exchange) -> dict[str, Any]:
        """The columns that repeat what the server said: redacted and bounded."""
        redact = self.session.redact

        def text(value: str | None, limit: int) -> str | None:
            return redact(value.encode("utf-8", "replace").decode(), limit) if value else None

        error, reply = verdict.error, verdict.reply
        said: dict[str, Any] = {}
        if error is not None:
            said |= {
                "error_message": text(error.message, 500),
                "error_type": text(error.type, 100),
                "error_code": text(error.code, 100),
            }
        if reply is None:
            return said
        said |= {
            "response_id": text(reply.response_id, 200),
            "model_served": text(reply.model, 200),
            "finish_reason": text(reply.finish_reason, 50),
            "tool_calls": reply.tool_calls,
        }
        usage = reply.usage
        if usage is not None and usage.completion_tokens is not None:
            said |= {
                "prompt_tokens": usage.prompt_tokens,
                "completion_tokens": usage.completion_tokens,
                "reasoning_tokens": usage.reasoning_tokens,
                "cached_tokens": usage.cached_tokens,
                "token_source": "usage",
            }
        elif exchange.is_event_stream:
            said |= {"completion_tokens": len(exchange.chunk_stamps), "token_source": "chunks"}
        return said


def _stamp_source(exchange: Exchange) -> Any:
    if not exchange.bytes_received:
        return None
    return "user" if exchange.user_stamps else "kernel"


def _nothing() -> None:
    """The callback of a timer that is closed."""


class _Timer:
    """A timer of the event loop that can be set again from its own callback."""

    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback = callback
        self._timer: Any = None

    def start(self, left_ns: int) -> None:
        self.stop()
        self._timer = get_hub().loop.timer(left_ns / 1e9)
        self._timer.start(self._callback)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
            self._timer = None

    def close(self) -> None:
        """Stop for good."""
        self.stop()
        # The callback holds this timer in turn.
        self._callback = _nothing
