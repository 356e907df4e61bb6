"""One request after the other to one server, each a record: over connections that stand, with two stamps."""

from __future__ import annotations

import asyncio
import ssl
import time
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from uuid import uuid4

import httpcore

from tensorix_api.chat import MalformedError, parse_models, parse_reply
from tensorix_api.errors import ErrorKind, Phase, SettingsError, kind_of_status, parse_error_body
from tensorix_api.ratelimit_headers import RateLimits, read_rate_limits
from tensorix_api.secret import Redactor, Secret
from tensorix_api.settings import Settings
from tensorix_experiments.limits._connections import Prepared
from tensorix_experiments.limits._question import Question
from tensorix_experiments.limits._server_clock import ServerClock
from tensorix_probes.exchange.failures import Ended, tls_failure, words
from tensorix_records import RequestRecord

__all__ = ["Asker", "Reply"]

_MOST_BYTES = 1 << 20
# Servers of this kind close what is idle after five seconds; one that is closed just when it is used is a failure.
_KEEP_S = 4.0


@dataclass(slots=True)
class _Stamps:
    """Monotonic ns of what httpcore tells of a request while it goes on."""

    sent_ns: int | None = None
    headers_ns: int | None = None

    async def __call__(self, event: str, info: dict[str, Any]) -> None:
        if event == "http11.send_request_headers.started":
            self.sent_ns = time.monotonic_ns()
        elif event == "http11.receive_response_headers.complete":
            self.headers_ns = time.monotonic_ns()


@dataclass(frozen=True, slots=True)
class Reply:
    """A record, with what it does not hold."""

    record: RequestRecord
    models: tuple[str, ...] = ()


@dataclass(slots=True)
class _Seen:
    """What came back so far."""

    stamps: _Stamps = field(default_factory=_Stamps)
    status: int | None = None
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    failure: Ended | None = None
    cancelled: bool = False


class Asker:
    """Asks one server; knows the key and the clocks. Within a running event loop; `aclose` when done."""

    def __init__(
        self, settings: Settings, run_id: str, *, ca_bundle: str | None = None, timeout_s: float = 60.0
    ) -> None:
        self._settings, self._run_id, self._timeout_s = settings, run_id, timeout_s
        self._tls = _trusting(ca_bundle) if settings.secure else None
        self.network = Prepared(settings.host, settings.port, self._tls, min(10.0, timeout_s))
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=self._tls,
            max_connections=None,
            max_keepalive_connections=None,
            keepalive_expiry=_KEEP_S,
            network_backend=self.network,
        )
        self._alias = settings.api_key.alias if settings.api_key else None
        self._numbers = count(1)
        self.clock = ServerClock()
        # One reading of both clocks, so that all times of the run are on one that is never set.
        self._unix_ns = time.time_ns() - time.monotonic_ns()

    @property
    def now_s(self) -> float:
        """The caller's clock: monotonic seconds."""
        return time.monotonic()

    def unix_s(self, now_s: float) -> float:
        """Our Unix time at an instant of that clock."""
        return now_s + self._unix_ns / 1e9

    def monotonic_s(self, record: RequestRecord, relative_ns: int | None = 0) -> float:
        """An instant of a record on that clock."""
        return (record.start_unix_ns + (relative_ns or 0) - self._unix_ns) / 1e9

    async def aclose(self) -> None:
        """Close every connection."""
        await self._pool.aclose()
        await self.network.aclose()

    async def ask(self, question: Question, scenario: str, *, most_s: float | None = None) -> Reply:
        """Make one request and read all of its answer, within `most_s` if that is less than the timeout.

        Whatever goes wrong is in the record; nothing is raised.
        """
        timeout_s = self._timeout_s if most_s is None else max(0.0, min(most_s, self._timeout_s))
        seen, request_id, began_ns = _Seen(), str(uuid4()), time.monotonic_ns()
        key = question.key or self._settings.api_key
        body = question.body()
        try:
            async with asyncio.timeout(timeout_s):
                await self._exchange(question, body, key, request_id, seen)
        except asyncio.CancelledError:
            seen.cancelled = True
            seen.failure = Ended(ErrorKind.CANCELLED, Phase.HEADERS, "interrupted")
        except TimeoutError:
            phase = Phase.HEADERS if seen.status is None else Phase.BODY
            seen.failure = Ended(ErrorKind.TIMEOUT, phase, f"no whole answer within {timeout_s:.3g} s")
        except Exception as error:  # noqa: BLE001 - whatever the network does is data
            seen.failure = _failure(error, seen, self._settings.host)
        return self._reply(question, scenario, request_id, began_ns, body, key, seen)

    async def _exchange(
        self, question: Question, body: bytes, key: Secret | None, request_id: str, seen: _Seen
    ) -> None:
        settings = self._settings
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        headers: dict[str | bytes, str | bytes] = {
            "host": host if settings.port == (443 if settings.secure else 80) else f"{host}:{settings.port}",
            "accept": "text/event-stream" if question.stream else "application/json",
            "user-agent": "tensorix-limits",
            "x-request-id": request_id,
            **({"content-type": "application/json", "content-length": str(len(body))} if body else {}),
            **({"authorization": f"Bearer {key.reveal()}"} if key else {}),
        }
        url = httpcore.URL(
            scheme=b"https" if settings.secure else b"http",
            host=settings.host.encode(),
            port=settings.port,
            target=(settings.path + question.endpoint).encode(),
        )
        limits = dict.fromkeys(("connect", "read", "write", "pool"), self._timeout_s)
        async with self._pool.stream(
            question.method, url, headers=headers, content=body, extensions={"timeout": limits, "trace": seen.stamps}
        ) as response:
            seen.status = response.status
            seen.headers = tuple((name.decode("latin-1"), text.decode("latin-1")) for name, text in response.headers)
            async for part in response.aiter_stream():
                if len(seen.body) < _MOST_BYTES:
                    seen.body += part

    def _reply(
        self,
        question: Question,
        scenario: str,
        request_id: str,
        began_ns: int,
        body: bytes,
        key: Secret | None,
        seen: _Seen,
    ) -> Reply:
        end_ns = time.monotonic_ns()
        start_ns = seen.stamps.sent_ns or end_ns
        headers_ns = seen.stamps.headers_ns if seen.status is not None else None
        if headers_ns is not None:
            self.clock.take(seen.headers, (start_ns + self._unix_ns) / 1e9, (headers_ns + self._unix_ns) / 1e9)
        limits = read_rate_limits(seen.headers, headers_ns + self._unix_ns) if headers_ns is not None else RateLimits()
        redact = Redactor(self._settings.api_key, question.key)
        columns, models = _result(question, seen, redact)
        anomaly = None if limits.anomaly is None else redact(limits.anomaly, 200)
        record = RequestRecord(
            run_id=self._run_id,
            record_id=f"experiment-{next(self._numbers)}",
            request_id=request_id,
            source="experiment",
            process_id="experiment",
            scenario=scenario,
            key_alias=self._alias if question.key is None else key.alias if key else None,
            endpoint=question.endpoint,
            method=question.method,
            model_requested=question.model,
            stream=question.stream if question.asked == "chat" else None,
            max_tokens=question.max_tokens if question.asked == "chat" else None,
            prompt_chars=len(question.prompt) if question.asked == "chat" else None,
            request_bytes=len(body),
            start_unix_ns=start_ns + self._unix_ns,
            reserved_tokens=question.most_tokens,
            headers_at_ns=None if headers_ns is None else headers_ns - start_ns,
            end_at_ns=end_ns - start_ns,
            stamp_source="user",
            status=seen.status,
            limit_requests=limits.limit_requests,
            limit_tokens=limits.limit_tokens,
            remaining_requests=limits.remaining_requests,
            remaining_tokens=limits.remaining_tokens,
            reset_requests_ns=limits.reset_requests_ns,
            reset_tokens_ns=limits.reset_tokens_ns,
            limit_spelling=limits.spelling,
            limit_anomaly=anomaly,
            retry_after_ns=limits.retry_after_ns,
            user_ready_at_ns=began_ns - start_ns,
            **columns,
        )
        return Reply(record, models)


def _result(question: Question, seen: _Seen, redact: Redactor) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The columns that say what became of it, and the models of a list."""
    if seen.failure is not None:
        outcome = "cancelled" if seen.cancelled else "failed"
        said = {"error_kind": str(seen.failure.kind), "error_phase": str(seen.failure.phase)}
        return {"outcome": outcome, "error_message": redact(seen.failure.text), **said}, ()
    assert seen.status is not None
    if seen.status != 200:
        error = parse_error_body(seen.body)
        kind = kind_of_status(seen.status) or ErrorKind.UNEXPECTED_STATUS
        return {
            "outcome": "throttled" if seen.status == 429 else "failed",
            "error_kind": str(kind),
            "error_phase": str(Phase.HEADERS),
            "error_type": redact(error.type, 100) if error.type else None,
            "error_code": redact(error.code, 100) if error.code else None,
            "error_message": redact(error.message, 500) if error.message else None,
        }, ()
    try:
        if question.asked == "models":
            return {"outcome": "success"}, tuple(parse_models(seen.body))
        if question.stream:
            return {"outcome": "success", "done_seen": b"data: [DONE]" in seen.body}, ()
        reply = parse_reply(seen.body)
    except MalformedError as error:
        said = {"error_kind": str(ErrorKind.MALFORMED), "error_phase": str(Phase.BODY)}
        return {"outcome": "failed", "error_message": redact(str(error)), **said}, ()
    usage = reply.usage
    if usage is None:
        return {"outcome": "success"}, ()
    told = {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}
    return {"outcome": "success", "token_source": "usage", **told}, ()


def _failure(error: Exception, seen: _Seen, host: str) -> Ended:
    """What went wrong, in the words and kinds of a record."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__ or cause.__context__
    phase = Phase.CONNECT if seen.stamps.sent_ns is None else Phase.HEADERS if seen.status is None else Phase.BODY
    if isinstance(cause, ssl.SSLError):
        return tls_failure(cause, host)
    if isinstance(cause, TimeoutError) or isinstance(error, httpcore.TimeoutException):
        return Ended(ErrorKind.TIMEOUT, phase, "no answer in time")
    if phase is Phase.CONNECT:
        # anyio puts those of several addresses into a group, whose first is what is worth telling.
        group = next((one for one in _chain(error) if isinstance(one, BaseExceptionGroup)), None)
        first = group.exceptions[0] if group is not None else cause
        if isinstance(first, ConnectionRefusedError):
            return Ended(ErrorKind.CONNECTION_REFUSED, phase, "the connection was refused")
        kind = ErrorKind.DNS if type(first).__name__ == "gaierror" else ErrorKind.CONNECTION_FAILED
        return Ended(kind, phase, words(first) if isinstance(first, OSError) else str(error) or type(error).__name__)
    if isinstance(error, httpcore.RemoteProtocolError) and "isconnected" not in str(error):
        return Ended(ErrorKind.MALFORMED, phase, f"the answer is not HTTP: {error}")
    return Ended(ErrorKind.CUT, phase, "the connection was closed before the answer was whole")


def _chain(error: BaseException | None) -> list[BaseException]:
    found = []
    while error is not None:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def _trusting(ca_bundle: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_bundle)
    except OSError:
        raise SettingsError(f"the CA bundle {ca_bundle!r} cannot be read: give a file of PEM certificates") from None
