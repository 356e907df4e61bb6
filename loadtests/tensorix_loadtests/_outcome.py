"""What became of a request, decided from its exchange: success, throttled, failed, cancelled, and why."""

from __future__ import annotations

from dataclasses import dataclass

from tensorix_api.chat import ChatReply, MalformedError, parse_models, parse_reply
from tensorix_api.errors import STATUS_MEANING, ErrorBody, ErrorKind, Phase, kind_of_status, parse_error_body
from tensorix_loadtests._exchange import Exchange
from tensorix_loadtests._failure import Failure
from tensorix_records.outcome import Outcome, StreamOutcome

__all__ = ["Verdict", "judge"]

_STREAM_OUTCOME: dict[ErrorKind, StreamOutcome] = {
    ErrorKind.ERROR_EVENT: "error_event",
    ErrorKind.MALFORMED: "malformed",
    ErrorKind.TIMEOUT: "timeout",
    ErrorKind.CANCELLED: "cancelled",
    ErrorKind.CUT: "cut",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a request ended. The texts are as the server sent them: redact before showing."""

    outcome: Outcome
    stream_outcome: StreamOutcome | None = None
    kind: ErrorKind | None = None
    phase: Phase | None = None
    error: ErrorBody | None = None
    reply: ChatReply | None = None
    models: tuple[str, ...] = ()


def _failed(failure: Failure, error: ErrorBody | None, reply: ChatReply | None, *, streamed: bool) -> Verdict:
    outcome: Outcome = "cancelled" if failure.kind is ErrorKind.CANCELLED else "failed"
    stream_outcome = _STREAM_OUTCOME.get(failure.kind) if streamed else None
    body = error or ErrorBody(message=failure.message)
    return Verdict(outcome, stream_outcome, failure.kind, failure.phase, body, reply)


def judge(exchange: Exchange, *, models: bool) -> Verdict:
    """Decide. `models` says that a model list was asked for, else a chat completion."""
    failure, status = exchange.failure, exchange.status
    if status is not None and status != 200:
        # The status speaks, even where the body behind it was cut.
        return _by_status(exchange, status)
    if exchange.is_event_stream:
        return _of_stream(exchange)
    if failure is not None:
        return _failed(failure, None, None, streamed=False)
    if exchange.stream:
        return _whole(exchange, models=False, instead=_no_stream(exchange))
    return _whole(exchange, models=models)


def _by_status(exchange: Exchange, status: int) -> Verdict:
    error = parse_error_body(bytes(exchange.body))
    kind = kind_of_status(status) or ErrorKind.UNEXPECTED_STATUS
    if 300 <= status < 400:
        location = dict(exchange.headers).get("location", "elsewhere")
        error = ErrorBody(f"redirected to {location}, which is not followed: give that address as the base URL")
    elif error.message is None:
        meaning = STATUS_MEANING.get(status, "no body says why")
        error = ErrorBody(f"status {status}: {meaning}", error.type, error.code, error.param)
    outcome: Outcome = "throttled" if kind is ErrorKind.RATE_LIMITED else "failed"
    return Verdict(outcome, None, kind, Phase.HEADERS, error)


def _of_stream(exchange: Exchange) -> Verdict:
    exchange.finish_events()
    chat = exchange.chat
    if exchange.done_seen:
        return Verdict("success", "completed", reply=chat.reply)
    if exchange.failure is not None:
        return _failed(exchange.failure, chat.reply.error, chat.reply, streamed=True)
    if chat.finished:
        return Verdict("success", "completed", reply=chat.reply)
    if not exchange.first_chunk_ns and exchange.content_type != "text/event-stream":
        # A page, of a portal or a firewall, that came with status 200.
        return _failed(_no_stream(exchange), None, chat.reply, streamed=True)
    message = "the stream ended without a finish reason or [DONE]"
    return _failed(Failure(ErrorKind.CUT, exchange.phase, message), None, chat.reply, streamed=True)


def _no_stream(exchange: Exchange) -> Failure:
    what = f"a stream was asked for, but the answer is {exchange.content_type or 'of no type'}"
    return Failure(ErrorKind.MALFORMED, Phase.BODY, what)


def _whole(exchange: Exchange, *, models: bool, instead: Failure | None = None) -> Verdict:
    try:
        if models:
            return Verdict("success", models=tuple(parse_models(bytes(exchange.body))))
        reply = parse_reply(bytes(exchange.body))
    except MalformedError as error:
        return _failed(instead or Failure(ErrorKind.MALFORMED, Phase.BODY, str(error)), None, None, streamed=False)
    if reply.error is not None:
        failure = Failure(ErrorKind.MALFORMED, Phase.BODY, "a 200 whose body is an error")
        return _failed(failure, reply.error, reply, streamed=False)
    if instead is not None:
        return _failed(instead, None, reply, streamed=False)
    return Verdict("success", reply=reply)
