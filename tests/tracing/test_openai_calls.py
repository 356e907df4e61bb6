"""Calls that are not streamed, of every client: what is told of each way in which they go."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import openai
import pytest
from opentelemetry.trace import StatusCode

from tensorix_simulator import Simulator
from tensorix_tracing import instrument

COMPLETION = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": '{"a": 1}'}, "finish_reason": "stop"}],
    }
).encode()
ERROR = b'{"error":{"message":"No.","type":"whatever","code":"no_luck"}}'


def _cut(peer: Any) -> bool:
    peer.head(200, "application/json", content_length="1000")
    peer.send(COMPLETION[:50])
    return True


def _redirect(peer: Any) -> None:
    if peer.number % 2:
        peer.whole(200, COMPLETION)
    else:
        peer.whole(307, b"", location="/v1/other/chat/completions")


def _hold(peer: Any) -> bool:
    peer.hold()
    return True


def _reset(peer: Any) -> bool:
    peer.reset()
    return True


class Case(NamedTuple):
    answer: Callable[[Any], object]
    error_type: str | None = None
    finish_reason: str | None = None
    status: int | None = 200
    timeout: float = 20.0


CASES = {
    "whole": Case(lambda peer: peer.whole(200, COMPLETION), finish_reason="stop"),
    "gzip": Case(
        lambda peer: peer.whole(200, gzip.compress(COMPLETION), content_encoding="gzip"), finish_reason="stop"
    ),
    "redirected": Case(_redirect, finish_reason="stop"),
    "cut": Case(_cut, "cut", status=None),
    "malformed": Case(lambda peer: peer.whole(200, COMPLETION[:-5]), "malformed"),
    "a page": Case(lambda peer: peer.whole(200, b"<html>Hello</html>", "text/html"), "malformed"),
    "empty": Case(lambda peer: peer.whole(200, b""), "malformed"),
    "not UTF-8": Case(lambda peer: peer.whole(200, COMPLETION.replace(b"chatcmpl", b"\xff\xfe")), "malformed"),
    "another object": Case(lambda peer: peer.whole(200, b'{"object":"list","data":[]}'), "malformed"),
    "402": Case(lambda peer: peer.whole(402, ERROR), "402", status=402),
    "429": Case(lambda peer: peer.whole(429, ERROR), "429", status=429),
    "500 and a page": Case(lambda peer: peer.whole(500, b"<html>Sorry</html>", "text/html"), "500", status=500),
    "no answer": Case(_hold, "timeout", status=None, timeout=0.15),
    "connection lost": Case(_reset, "connection_error", status=None),
    "no HTTP": Case(lambda peer: [peer.send(b"What?\r\n\r\n")], "connection_error", status=None),
}


def _openai(base_url: str, providers: dict[str, Any], asked: dict[str, Any], timeout: float) -> None:
    with openai.OpenAI(base_url=base_url, api_key="sk-any", max_retries=0, timeout=timeout) as client:
        instrument(client, **providers).chat.completions.create(**asked)


def _openai_raw(base_url: str, providers: dict[str, Any], asked: dict[str, Any], timeout: float) -> None:
    with openai.OpenAI(base_url=base_url, api_key="sk-any", max_retries=0, timeout=timeout) as client:
        instrument(client, **providers).chat.completions.with_raw_response.create(**asked).parse()


def _openai_streaming(base_url: str, providers: dict[str, Any], asked: dict[str, Any], timeout: float) -> None:
    with openai.OpenAI(base_url=base_url, api_key="sk-any", max_retries=0, timeout=timeout) as client:
        instrument(client, **providers)
        with client.chat.completions.with_streaming_response.create(**asked) as response:
            response.parse()


def _openai_parse(base_url: str, providers: dict[str, Any], asked: dict[str, Any], timeout: float) -> None:
    with openai.OpenAI(base_url=base_url, api_key="sk-any", max_retries=0, timeout=timeout) as client:
        completions = instrument(client, **providers).chat.completions
        parse = completions.parse if hasattr(completions, "parse") else client.beta.chat.completions.parse
        parse(**asked)


def _openai_async(base_url: str, providers: dict[str, Any], asked: dict[str, Any], timeout: float) -> None:
    async def main() -> None:
        async with openai.AsyncOpenAI(base_url=base_url, api_key="sk-any", max_retries=0, timeout=timeout) as client:
            await instrument(client, **providers).chat.completions.create(**asked)

    asyncio.run(main())


def _openai_async_streaming(base_url: str, providers: dict[str, Any], asked: dict[str, Any], timeout: float) -> None:
    async def main() -> None:
        async with openai.AsyncOpenAI(base_url=base_url, api_key="sk-any", max_retries=0, timeout=timeout) as client:
            instrument(client, **providers)
            async with client.chat.completions.with_streaming_response.create(**asked) as response:
                await response.parse()

    asyncio.run(main())


def _http(name: str) -> Callable[..., None]:
    def use(base_url: str, providers: dict[str, Any], asked: dict[str, Any], timeout: float) -> None:
        module = pytest.importorskip(name)
        with module.Client(base_url=base_url, timeout=timeout, follow_redirects=True) as client:
            instrument(client, **providers).post("/chat/completions", json=asked)

    return use


def _http_async(name: str) -> Callable[..., None]:
    def use(base_url: str, providers: dict[str, Any], asked: dict[str, Any], timeout: float) -> None:
        module = pytest.importorskip(name)

        async def main() -> None:
            async with module.AsyncClient(base_url=base_url, timeout=timeout, follow_redirects=True) as client:
                await instrument(client, **providers).post("/chat/completions", json=asked)

        asyncio.run(main())

    return use


USES: dict[str, Callable[[str, dict[str, Any], dict[str, Any], float], None]] = {
    "openai": _openai,
    "with_raw_response": _openai_raw,
    "with_streaming_response": _openai_streaming,
    "parse": _openai_parse,
    "openai async": _openai_async,
    "with_streaming_response async": _openai_async_streaming,
    "httpx": _http("httpx"),
    "httpx2": _http("httpx2"),
    "httpx async": _http_async("httpx"),
    "httpx2 async": _http_async("httpx2"),
}


@pytest.fixture(scope="module")
def expired() -> Iterator[Simulator]:
    """A server whose certificate is over."""
    with Simulator(tls="expired") as simulator:
        yield simulator


@pytest.fixture(autouse=True)
def its_authority_alone(expired: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients trust that server's authority and no other: to load all that there are takes long for each client."""
    monkeypatch.setenv("SSL_CERT_FILE", str(expired.ca_path))


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("case", CASES)
def test_what_is_told(use: str, case: str, raw: Any, told: Any, asked: dict[str, Any]) -> None:
    """One span for a call, with its status, its error type and what the reply said; no outcome of a stream."""
    due = CASES[case]
    raw.requests.clear()
    raw.answer = due.answer
    try:
        USES[use](raw.base_url, told.providers, asked, due.timeout)
    except Exception:
        assert due.error_type is not None
    span = told.span()
    found = span.attributes
    assert span.name == "chat z-ai/glm-5"
    assert found.get("error.type") == due.error_type
    assert (span.status.status_code is StatusCode.ERROR) == (due.error_type is not None)
    if case != "cut":
        assert found.get("http.response.status_code") == due.status
    assert found.get("gen_ai.response.finish_reasons") == (due.finish_reason and (due.finish_reason,))
    assert found["tensorix.attempts"] == 1
    (point,) = told.points("gen_ai.client.operation.duration")
    assert [point.count, point.attributes.get("error.type")] == [1, due.error_type]
    if due.error_type in ("402", "429"):
        assert found["tensorix.error.code"] == "no_luck"


@pytest.mark.parametrize("use", ["openai", "openai async", "httpx", "httpx async", "httpx2", "httpx2 async"])
def test_refused(use: str, told: Any, asked: dict[str, Any]) -> None:
    """Where nobody listens there is no connection, and no status."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    with pytest.raises(Exception, match=r"(?i)connect"):
        USES[use](f"http://127.0.0.1:{port}/v1", told.providers, asked, 20.0)
    span = told.span()
    assert span.attributes["error.type"] == "connection_error"
    assert "http.response.status_code" not in span.attributes


@pytest.mark.parametrize("use", ["openai", "openai async", "httpx", "httpx async", "httpx2", "httpx2 async"])
def test_tls(use: str, told: Any, asked: dict[str, Any], expired: Simulator) -> None:
    """A certificate that cannot be trusted is an error of TLS."""
    with pytest.raises(Exception, match=r"(?i)connect|certificate"):
        USES[use](expired.base_url, told.providers, asked, 20.0)
    assert told.span().attributes["error.type"] == "tls_error"


def test_a_list_of_models(simulator: Simulator, told: Any) -> None:
    """`models.list` is a span of that name, and of no operation of generative AI."""
    with openai.OpenAI(base_url=simulator.base_url, api_key="sk-any") as client:
        assert instrument(client, **told.providers).models.list().data
    span = told.span("models.list")
    assert "gen_ai.operation.name" not in span.attributes
    assert span.attributes["http.response.status_code"] == 200
    assert span.status.status_code is StatusCode.UNSET


def test_a_raw_list_of_models(simulator: Simulator, told: Any) -> None:
    """So it is for a raw client."""
    httpx = pytest.importorskip("httpx")
    with httpx.Client(base_url=simulator.base_url, headers={"authorization": "Bearer sk-any"}) as client:
        assert instrument(client, **told.providers).get("/models").json()["data"]
    assert told.span("models.list").attributes["tensorix.attempts"] == 1
