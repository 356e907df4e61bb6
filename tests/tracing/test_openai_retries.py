"""Retries of openai's SDK: one call, a span below it for each attempt."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import openai
import pytest
from opentelemetry.trace import SpanKind, StatusCode, format_span_id, format_trace_id

from tensorix_tracing import instrument

COMPLETION = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "word"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 1, "total_tokens": 8},
    }
).encode()
ERROR = b'{"error":{"message":"No.","type":"rate_limit_error","code":"slow_down"}}'


def _answers(raw: Any, *statuses: int | str) -> None:
    """The server answers the next requests with these statuses, or loses the connection."""
    raw.requests.clear()
    raw.seen_at.clear()

    def answer(peer: Any) -> bool:
        status = statuses[peer.number]
        if status == "reset":
            peer.reset()
            return True
        if status == 200:
            peer.whole(200, COMPLETION)
        else:
            peer.whole(status, ERROR, retry_after_ms="20", retry_after="1")
        return False

    raw.answer = answer


@pytest.fixture(scope="module")
def client() -> Iterator[openai.OpenAI]:
    """One for all tests: to make one takes longer than a test."""
    with openai.OpenAI(base_url="http://127.0.0.1:9/v1", api_key="sk-any", max_retries=2) as client:
        yield client


@pytest.fixture
def traced(client: openai.OpenAI, raw: Any, told: Any) -> openai.OpenAI:
    """It, traced."""
    client.base_url = raw.base_url
    return instrument(client, **told.providers)


def _parts(told: Any) -> tuple[Any, list[Any]]:
    """The span of the call, and those of its attempts as they were sent."""
    assert told.open == 0
    (call,) = [span for span in told.spans if span.parent is None]
    attempts = [span for span in told.spans if span.parent is not None]
    assert all(span.parent.span_id == call.context.span_id for span in attempts)
    assert all(span.context.trace_id == call.context.trace_id for span in attempts)
    return call, sorted(attempts, key=lambda span: span.start_time)


@pytest.mark.parametrize(
    ("statuses", "error_types", "status_code"),
    [
        ([429, 429, 200], ["429", "429", None], StatusCode.UNSET),
        ([500, 200], ["500", None], StatusCode.UNSET),
        (["reset", 200], ["connection_error", None], StatusCode.UNSET),
        ([500, 503, 429], ["500", "503", "429"], StatusCode.ERROR),
        ([429, "reset", "reset"], ["429", "connection_error", "connection_error"], StatusCode.ERROR),
    ],
)
@pytest.mark.parametrize("asynchronous", [False, True])
def test_each_attempt_is_a_span_below(
    statuses: list[Any],
    error_types: list[str | None],
    status_code: StatusCode,
    asynchronous: bool,
    traced: openai.OpenAI,
    told: Any,
    raw: Any,
    asked: dict[str, Any],
) -> None:
    """Each attempt has a span with its status, its Retry-After and its times; the call says how many there were."""
    _answers(raw, *statuses)
    if asynchronous:
        asyncio.run(_create_async(raw, told, asked))
    else:
        try:
            traced.chat.completions.create(**asked)
        except openai.OpenAIError:
            assert status_code is StatusCode.ERROR
    call, attempts = _parts(told)
    assert call.attributes["tensorix.attempts"] == len(statuses) == len(attempts) == len(raw.requests)
    assert [span.attributes.get("error.type") for span in attempts] == error_types
    assert call.attributes.get("error.type") == error_types[-1]
    assert call.status.status_code is status_code
    for number, (span, status) in enumerate(zip(attempts, statuses, strict=True)):
        assert span.name == "chat attempt"
        assert span.kind is SpanKind.CLIENT
        assert span.attributes.get("http.response.status_code") == (None if status == "reset" else status)
        assert span.attributes.get("tensorix.retry_after") == (0.02 if status in (429, 500, 503) else None)
        assert span.attributes.get("http.request.resend_count", 0) == number
        assert (span.status.status_code is StatusCode.ERROR) == (status != 200)
        assert call.start_time <= span.start_time <= raw.seen_at[number] * 1e9 <= span.end_time <= call.end_time
    for earlier, later in pairwise(attempts):
        assert earlier.end_time <= later.start_time - 0.01e9  # the SDK waited in between


async def _create_async(raw: Any, told: Any, asked: dict[str, Any]) -> None:
    async with openai.AsyncOpenAI(base_url=raw.base_url, api_key="sk-any", max_retries=2) as client:
        instrument(client, **told.providers)
        try:
            await client.chat.completions.create(**asked)
        except openai.OpenAIError:
            pass


def test_what_the_server_is_told(traced: openai.OpenAI, told: Any, raw: Any, asked: dict[str, Any]) -> None:
    """The server gets the trace, and as parent the attempt: the first's is the call, which was all there was then."""
    _answers(raw, 429, 429, 200)
    traced.chat.completions.create(**asked)
    call, attempts = _parts(told)
    parents = [call, *attempts[1:]]
    for (_, headers, _), parent in zip(raw.requests, parents, strict=True):
        _, trace_id, span_id, flags = headers["traceparent"].split("-")
        assert trace_id == format_trace_id(call.context.trace_id)
        assert span_id == format_span_id(parent.context.span_id)
        assert flags[-1] == "1" or int(flags, 16) & 1


def test_metrics_count_one_call(traced: openai.OpenAI, told: Any, raw: Any, asked: dict[str, Any]) -> None:
    """However many attempts a call took, metrics count it once, and its retries by what they were for."""
    _answers(raw, 429, 500, 200)
    traced.chat.completions.create(**asked)
    (duration,) = told.points("gen_ai.client.operation.duration")
    assert duration.count == 1
    assert "error.type" not in duration.attributes
    retries = {point.attributes["error.type"]: point.value for point in told.points("tensorix.client.retries")}
    assert retries == {"429": 1, "500": 1}
    usage = {point.attributes["gen_ai.token.type"]: point.sum for point in told.points("gen_ai.client.token.usage")}
    assert usage == {"input": 7, "output": 1}


def test_one_attempt_is_the_call(traced: openai.OpenAI, told: Any, raw: Any, asked: dict[str, Any]) -> None:
    """A call of one attempt has no span below it."""
    _answers(raw, 200)
    traced.chat.completions.create(**asked)
    assert told.span().attributes["tensorix.attempts"] == 1
    assert told.points("tensorix.client.retries") == []


def test_a_stream_after_retries(
    traced: openai.OpenAI, told: Any, raw: Any, asked: dict[str, Any], chunk_data: Callable[..., bytes]
) -> None:
    """The last attempt of a stream ends with the stream, not with its headers."""
    raw.requests.clear()

    def answer(peer: Any) -> None:
        if peer.number == 0:
            peer.whole(429, ERROR, retry_after_ms="1")
        else:
            peer.head()
            peer.events(chunk_data(), chunk_data(None, finish="stop"), b"[DONE]")
            peer.last()

    raw.answer = answer
    with traced.chat.completions.create(**asked, stream=True) as stream:
        next(stream)
        assert told.spans[0].attributes["error.type"] == "429"
        assert len(told.spans) == 1
        list(stream)
    call, attempts = _parts(told)
    assert call.attributes["tensorix.stream.outcome"] == "completed"
    first_chunk_ns = call.start_time + call.attributes["gen_ai.response.time_to_first_chunk"] * 1e9
    assert attempts[1].start_time < first_chunk_ns <= attempts[1].end_time


def test_cancelled_before_the_next_attempt(told: Any, raw: Any, asked: dict[str, Any]) -> None:
    """A call that is cancelled while the SDK waits to try again is cancelled, whatever the last status was."""

    async def main() -> None:
        async with openai.AsyncOpenAI(base_url=raw.base_url, api_key="sk-any", max_retries=2) as client:
            instrument(client, **told.providers)
            task = asyncio.ensure_future(client.chat.completions.create(**asked))
            while not raw.seen_at:
                await asyncio.sleep(0.01)
            # Its answer is read within that time, and the SDK then waits half a minute.
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    raw.seen_at.clear()
    raw.answer = lambda peer: peer.whole(429, ERROR, retry_after="30")
    asyncio.run(main())
    span = told.span()
    assert [span.attributes["error.type"], span.status.status_code] == ["cancelled", StatusCode.UNSET]
