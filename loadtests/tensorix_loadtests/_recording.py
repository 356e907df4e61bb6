"""The record of a request, made from its attempt when that is over."""

from __future__ import annotations

import operator
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tensorix_api.errors import ErrorKind, Phase
from tensorix_api.ratelimit_headers import RateLimits, read_rate_limits
from tensorix_api.secret import Redactor
from tensorix_loadtests._attempt import Attempt
from tensorix_loadtests._exchange import Exchange
from tensorix_loadtests._failure import Failure
from tensorix_loadtests._outcome import Verdict, judge
from tensorix_records import RequestRecord

__all__ = ["Result", "result_of"]


@dataclass(frozen=True, slots=True)
class Result:
    """A record, and what a record does not hold."""

    record: RequestRecord
    chunk_unix_ns: Sequence[int] = ()
    """When each chunk with something generated arrived, Unix ns."""
    models: tuple[str, ...] = ()
    """The names that a model list held."""
    text: str | None = None
    """What the answer said, where the call wanted it kept."""


def result_of(attempt: Attempt, *, user_class: str | None, user_id: int | None) -> Result:
    """The record of an attempt that is over, whatever became of it."""
    session, call, origin = attempt.session, attempt.call, attempt.origin
    exchange = _ended_exchange(attempt)
    verdict = judge(exchange, models=call.is_models)
    start = attempt.start_ns or attempt.began_ns
    start_unix = session.clock.unix_ns(start)
    sent = attempt.sent_ns
    if exchange.status == 200 and exchange.headers_ns:
        # The kernel can stamp a quick answer before this program gets to read the clock behind its send.
        sent = min(sent, exchange.headers_ns)
    limits = read_rate_limits(exchange.headers, time.time_ns()) if exchange.headers_ns else RateLimits()

    def at(stamp_ns: int | None) -> int | None:
        return stamp_ns - start if stamp_ns else None

    chunks = exchange.chunk_stamps
    gaps = list(map(operator.sub, chunks[1:], chunks[:-1]))
    opened = attempt.opened if not attempt.reused else None
    record = RequestRecord(
        run_id=session.run_id,
        record_id=attempt.record_id,
        request_id=attempt.request_id,
        logical_id=origin.logical_id,
        attempt=origin.attempt + (1 if attempt.resent else 0),
        conversation_id=origin.conversation_id,
        turn=origin.turn,
        process_id=session.process_id,
        host=session.host,
        user_class=user_class,
        user_id=user_id,
        step_id=origin.step_id,
        scenario=origin.scenario,
        schedule_index=origin.schedule_index,
        key_alias=session.alias_of(attempt.key),
        endpoint=call.endpoint,
        method="GET" if call.body is None else "POST",
        model_requested=call.model,
        stream=None if call.is_models else call.stream,
        max_tokens=call.max_tokens,
        n=call.n,
        prompt_id=call.prompt_id,
        prompt_chars=call.prompt_chars,
        prompt_tokens_planned=call.prompt_tokens,
        request_bytes=attempt.request_bytes or None,
        start_unix_ns=start_unix,
        intended_at_ns=at(origin.intended_ns),
        user_ready_at_ns=at(origin.user_ready_ns),
        held_ns=origin.held_ns,
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
        connection_reused=attempt.reused if attempt.start_ns else None,
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
        reserved_tokens=origin.reserved_tokens,
        ledger_remaining_requests=origin.ledger_remaining_requests,
        ledger_remaining_tokens=origin.ledger_remaining_tokens,
        **_said(verdict, exchange, session.redact),
    )
    offset = session.clock.offset_ns
    return Result(record, [stamp + offset for stamp in chunks], verdict.models, _text(attempt, exchange, verdict))


def _text(attempt: Attempt, exchange: Exchange, verdict: Verdict) -> str | None:
    """The answer's text, where it was wanted and came whole."""
    if not attempt.call.keep_text or verdict.outcome != "success":
        return None
    return exchange.chat.text if exchange.is_event_stream else verdict.reply.text if verdict.reply else None


def _ended_exchange(attempt: Attempt) -> Exchange:
    """The exchange of an attempt that is over, a failed one where it never came to one."""
    if attempt.exchange is not None and attempt.failure is None:
        return attempt.exchange
    failure = attempt.failure or Failure(ErrorKind.INTERNAL, Phase.CONNECT, "no exchange took place")
    exchange = Exchange(stream=False, finish=lambda: None)
    exchange.abort(failure, time.monotonic_ns())
    return exchange


def _said(verdict: Verdict, exchange: Exchange, redact: Redactor) -> dict[str, Any]:
    """The columns that repeat what the server said: redacted and bounded."""

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
    if usage := reply.usage:
        said |= {
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "reasoning_tokens": usage.reasoning_tokens,
            "cached_tokens": usage.cached_tokens,
        }
    if usage and usage.completion_tokens is not None:
        said |= {"token_source": "usage"}
    elif exchange.is_event_stream:
        said |= {"completion_tokens": len(exchange.chunk_stamps), "token_source": "chunks"}
    return said


def _stamp_source(exchange: Exchange) -> Any:
    if not exchange.bytes_received:
        return None
    return "user" if exchange.user_stamps else "kernel"
