"""What a failed call is told as: `error.type` from a closed list, a bounded code, and never a message or the key."""

from __future__ import annotations

import asyncio
import json
import logging
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON
from opentelemetry.trace import StatusCode

from tensorix_api import semantic_names as names
from tensorix_simulator import Simulator
from tensorix_tracing import instrument

Row = dict[str, str]

# What the other clients of the toolkit are held to, line by line.
_ROWS: list[Row] = tomllib.loads((Path(__file__).parents[1] / "simulator" / "fault_table.toml").read_text())["cases"]
_QUICK_S = 0.3
# A comment now and then keeps a client of openai's waiting for ever: it has no bound that would end that.
ROWS = [row for row in _ROWS if row["sdk"] != "waits"]
KINDS = {"connection_failed": "connection_error"}
CLOSED = {"connection_error", "tls_error", "timeout", "cut", "malformed", "error_event", "cancelled"}
KEY = "sk-live-0123456789abcdefghij"
WHOLE = {"object": "chat.completion", "created": 1}


def expected(row: Row) -> tuple[str | None, str | None]:
    """`error.type` and the outcome of the stream, from what the table says of the load client."""
    _, status, *rest = row["client"].split()
    kind = rest[0] if rest and rest[0] != "-" else None
    error = status if status not in ("200", "-") else KINDS.get(kind or "", kind)
    if row["ask"] != "stream":
        return error, None
    # Before the headers there is no stream that could end, but for one that was waited for too long.
    return error, rest[2] if len(rest) > 2 else "timeout" if error == "timeout" else None


def request_of(row: Row) -> dict[str, Any]:
    headers = {"x-simulator-fault": row["fault"]}
    timeout = _QUICK_S if row["sdk"] == "APITimeoutError" else 20
    return {"extra_headers": headers, "timeout": timeout}


CHAT: dict[str, Any] = {"model": "z-ai/glm-5", "max_tokens": 4, "messages": [{"role": "user", "content": "Hi."}]}


async def ask(client: openai.AsyncOpenAI, row: Row, tracer: Any) -> None:
    with tracer.start_as_current_span(f"{row['ask']}, {row['fault']}"):
        try:
            if row["ask"] == "models":
                await client.models.list(**request_of(row))
                return
            answer: Any = await client.chat.completions.create(**CHAT, **request_of(row), stream=row["ask"] == "stream")
            if row["ask"] == "stream":
                async for _ in answer:
                    pass
        except (openai.OpenAIError, httpx.HTTPError, ValueError):
            # The SDKs that ride on httpx hand on its errors in the middle of a stream.
            assert row["sdk"] != "fine"
        else:
            assert row["sdk"] == "fine"


@pytest.mark.parametrize("sampled", [True, False], ids=["recorded", "not recorded"])
def test_every_fault_of_the_simulator(sampled: bool, simulator: Simulator, tell: Callable[..., Any]) -> None:
    """All faults at once: each call is told with its own error and outcome, in spans, and in metrics without spans."""
    told, callers = tell(ALWAYS_ON if sampled else ALWAYS_OFF), tell()

    async def ask_all() -> None:
        tracer = callers.tracer_provider.get_tracer("test")
        async with (
            openai.AsyncOpenAI(base_url=simulator.base_url, api_key="k", max_retries=0) as client,
            # What is left on a connection may become the next request's answer.
            client.copy(http_client=openai.DefaultAsyncHttpxClient()) as own,
        ):
            instrument(client, **told.providers)
            instrument(own, **told.providers)
            spoiling = [row for row in ROWS if "too short" in row["fault"]]
            await asyncio.gather(*(ask(client, row, tracer) for row in ROWS if row not in spoiling))
            for row in spoiling:
                await ask(own, row, tracer)

    asyncio.run(asyncio.wait_for(ask_all(), 60))
    durations = told.points("gen_ai.client.operation.duration")
    assert sum(point.count for point in durations) == len(ROWS)
    counted: Counter[tuple[str, str | None]] = Counter()
    for point in durations:
        counted[point.attributes[names.OPERATION], point.attributes.get(names.ERROR_TYPE)] += point.count
    assert counted == Counter(("models.list" if row["ask"] == "models" else "chat", expected(row)[0]) for row in ROWS)
    if not sampled:
        assert told.spans == []
        return
    named = {span.context.span_id: span.name for span in callers.spans}
    found = {}
    for span in told.spans:
        said = span.attributes
        found[named[span.parent.span_id]] = (said.get(names.ERROR_TYPE), said.get(names.STREAM_OUTCOME))
        is_error = names.ERROR_TYPE in said
        assert span.status.status_code is (StatusCode.ERROR if is_error else StatusCode.UNSET)
        assert span.status.description == said.get(names.ERROR_TYPE)
        assert not is_error or said[names.ERROR_TYPE] in CLOSED or said[names.ERROR_TYPE].isdigit()
        assert span.events == ()
    assert found == {f"{row['ask']}, {row['fault']}": expected(row) for row in ROWS}


def test_the_codes_of_the_simulator(simulator: Simulator, told: Any) -> None:
    """The server's own code stands beside the status, its message nowhere."""
    with openai.OpenAI(base_url=simulator.base_url, api_key="sk-invalid", max_retries=0) as client:
        instrument(client, **told.providers)
        with pytest.raises(openai.AuthenticationError):
            client.chat.completions.create(**CHAT)
    span = told.span()
    assert (span.attributes[names.ERROR_TYPE], span.attributes[names.ERROR_CODE]) == ("401", "invalid_api_key")
    assert "provided" not in span.to_json()


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("rate_limit_exceeded", "rate_limit_exceeded"),
        (401, "401"),
        ("insufficient.credits:v2", "insufficient.credits:v2"),
        ("A whole sentence of prose", None),
        ("x" * 65, None),
        ("", None),
        (None, None),
        (["a"], None),
        ("evil\ncode", None),
        (KEY, "[redacted]"),
        ("naïve", None),
    ],
)
@pytest.mark.parametrize("in_stream", [False, True], ids=["error", "event"])
def test_codes_are_bounded(code: Any, said: str | None, in_stream: bool, raw_server: Any, told: Any) -> None:
    """A code is told where it looks like one: short, of plain characters, and not the key."""
    body = json.dumps({"error": {"message": "Slow down, please", "code": code}}).encode()

    def answer(peer: Any) -> None:
        if in_stream:
            peer.head()
            peer.events(body)
            peer.last()
        else:
            peer.whole(429, body)

    with httpx.Client(base_url=raw_server(answer).base_url, headers={"authorization": f"Bearer {KEY}"}) as client:
        instrument(client, **told.providers)
        with client.stream("POST", "/chat/completions", json={**CHAT, "stream": True}) as response:
            response.read()
    span = told.span()
    assert span.attributes.get(names.ERROR_CODE) == said
    assert span.attributes[names.ERROR_TYPE] == ("error_event" if in_stream else "429")
    assert "please" not in span.to_json()


class _Everything(logging.Handler):
    """Keeps what any logger of the tracing or of OpenTelemetry says, with its traceback."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(logging.Formatter("%(name)s %(message)s"))
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(self.format(record))


@pytest.fixture
def everything() -> Iterator[_Everything]:
    """Every log record at DEBUG but those of the HTTP clients themselves."""
    handler = _Everything()
    loggers = [logging.getLogger(name) for name in ("tensorix_tracing", "opentelemetry", "asyncio")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
        logger.addHandler(handler)
    yield handler
    for logger, level in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.removeHandler(handler)


def _reply(text: str) -> bytes:
    """A reply with a text wherever there can be one."""
    usage = {"prompt_tokens": text, "completion_tokens": 1, text: text}
    choice = {"index": 0, "message": {"role": text, "content": text}, "finish_reason": text}
    return json.dumps(
        {"id": text, "model": text, "choices": [choice], "usage": usage, "system_fingerprint": text}
    ).encode()


def _event(text: str) -> bytes:
    choice = {"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": text}
    return json.dumps({"id": f"chatcmpl-{text}", "model": f"x/{text}", "choices": [choice]}).encode()


ECHOES: dict[str, Callable[[Any], object]] = {
    "whole": lambda peer: peer.whole(200, _reply(KEY)),
    "cut off": lambda peer: peer.whole(200, _reply("x" * 190 + KEY)),
    "encoded": lambda peer: peer.whole(200, _reply("sk%2Dlive%2D" + KEY[8:])),
    "error": lambda peer: peer.whole(
        401, json.dumps({"error": {"message": KEY, "code": KEY, "type": KEY, "param": KEY}}).encode()
    ),
    "text for an error": lambda peer: peer.whole(500, f"no such key: {KEY}".encode(), "text/plain"),
    "headers": lambda peer: peer.whole(
        429, b"{}", retry_after=KEY, x_request_id=KEY, x_ratelimit_remaining_requests=KEY, openai_organization=KEY
    ),
    "content type": lambda peer: peer.whole(200, b"{}", KEY),
    "malformed": lambda peer: peer.whole(200, f'{{"id": "{KEY}"'.encode()),
    "streamed": lambda peer: (peer.head(), peer.events(_event(KEY), b"[DONE]"), peer.last()),
    "malformed event": lambda peer: (peer.head(), peer.events(f'{{"id": "{KEY}'.encode()), peer.last()),
    "error event": lambda peer: (
        peer.head(),
        peer.events(json.dumps({"error": {"message": KEY, "code": KEY, "type": KEY}}).encode()),
        peer.last(),
    ),
    "no HTTP": lambda peer: (peer.send(f"HTTP/9 {KEY}\r\n\r\n".encode()), peer.reset(), True)[-1],
    "redirect": lambda peer: peer.whole(307, b"", location=f"/{KEY}"),
}


@pytest.mark.parametrize("how", ["openai", "httpx"])
@pytest.mark.parametrize("echo", list(ECHOES))
def test_the_key_is_nowhere(
    echo: str, how: str, raw_server: Any, tell: Callable[..., Any], everything: _Everything
) -> None:
    """Whatever a server repeats the key in, no span, metric or log holds it, nor an end of it that a cut left."""
    server = raw_server(ECHOES[echo])
    for sampler, captures in ((ALWAYS_ON, False), (ALWAYS_ON, True), (ALWAYS_OFF, False)):
        told = tell(sampler)
        options: Any = {"capture_content": captures, "metric_names": "both", **told.providers}
        chat = {
            **CHAT,
            "messages": [{"role": "user", "content": f"My key is {KEY}"}],
            "model": KEY if captures else "m",
        }
        for streamed in (False, True):
            try:
                if how == "openai":
                    with openai.OpenAI(base_url=server.base_url, api_key=KEY, max_retries=0) as client:
                        answer: Any = instrument(client, **options).chat.completions.create(**chat, stream=streamed)
                        assert not streamed or list(answer) is not None
                else:
                    with httpx.Client(base_url=server.base_url, headers={"authorization": f"Bearer {KEY}"}) as raw:
                        instrument(raw, **options).post("/chat/completions", json={**chat, "stream": streamed})
            except (openai.OpenAIError, httpx.HTTPError, ValueError):
                continue
        assert told.open == 0
        if sampler is ALWAYS_ON:
            assert len(told.spans) >= 2
        written = "".join(span.to_json() for span in told.spans) + told.reader.get_metrics_data().to_json()
        written += "\n".join(everything.said)
        for part in (KEY, KEY[3:], KEY[:16], "sk%2Dlive%2D0123"):
            assert part.lower() not in written.lower(), (echo, part)
