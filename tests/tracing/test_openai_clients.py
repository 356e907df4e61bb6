"""Which clients and calls are traced, and that those which are stay what they were."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import openai
import pytest
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, attach, detach, set_value

from tensorix_tracing import instrument, uninstrument
from tensorix_tracing._others import Others

COMPLETION = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "word"}, "finish_reason": "stop"}],
    }
).encode()


@pytest.fixture
def server(raw: Any, chunk_data: Callable[..., bytes]) -> Any:
    """It answers everything with a completion, streamed where that is asked for."""

    def answer(peer: Any) -> None:
        if b'"stream":true' in raw.requests[-1][2].replace(b" ", b""):
            peer.head()
            peer.events(chunk_data(), chunk_data(None, finish="stop"), b"[DONE]")
            peer.last()
        else:
            peer.whole(200, COMPLETION)

    raw.answer = answer
    raw.requests.clear()
    return raw


@pytest.fixture
def make(server: Any) -> Iterator[Callable[..., Any]]:
    """Makes openai clients of this server."""
    made: list[openai.OpenAI] = []

    def make_one(kind: type[openai.OpenAI] = openai.OpenAI, **options: Any) -> openai.OpenAI:
        made.append(kind(**{"base_url": server.base_url, "api_key": "sk-any", "max_retries": 0, **options}))
        return made[-1]

    yield make_one
    for client in made:
        client.close()


def _ask(client: Any, asked: dict[str, Any]) -> None:
    client.chat.completions.create(**asked)


def test_instrumented_again(
    make: Callable[..., Any], told: Any, tell: Callable[[], Any], asked: dict[str, Any]
) -> None:
    """To instrument a client again replaces the settings: calls are told of once, by the last."""
    client, other = make(), tell()
    assert instrument(instrument(client, **other.providers), **told.providers) is client
    _ask(client, asked)
    told.span()
    assert other.spans == []


def test_uninstrumented(make: Callable[..., Any], told: Any, asked: dict[str, Any]) -> None:
    """Once it is taken out nothing is told, and the client's own attributes are those that it had."""
    client = make()
    before, http_before = dict(vars(client)), dict(vars(client._client))
    instrument(client, **told.providers)
    uninstrument(client)
    assert vars(client) == before
    assert vars(client._client) == http_before
    _ask(client, asked)
    assert told.spans == []


def test_copies(make: Callable[..., Any], told: Any, asked: dict[str, Any]) -> None:
    """What `with_options` and `copy` make of a traced client is traced as it is, copies of copies as well."""
    client = instrument(make(), **told.providers)
    _ask(client.with_options(timeout=5), asked)
    _ask(client.copy(max_retries=1), asked)
    _ask(client.with_options(timeout=5).with_options(max_retries=1), asked)
    assert len(told.spans) == 3
    assert [span.parent for span in told.spans] == [None] * 3


def test_two_clients_on_one(
    make: Callable[..., Any], told: Any, tell: Callable[[], Any], asked: dict[str, Any]
) -> None:
    """Two clients that share an HTTP client are traced each for itself, and one goes on when the other is taken out."""
    other = tell()
    first = make()
    second = make(http_client=first._client)
    instrument(first, **told.providers)
    instrument(second, **other.providers)
    _ask(first, asked)
    _ask(second, asked)
    assert [len(told.spans), len(other.spans)] == [1, 1]
    uninstrument(first)
    _ask(first, asked)
    _ask(second, asked)
    assert [len(told.spans), len(other.spans)] == [1, 2]
    assert other.spans[1].attributes["tensorix.attempts"] == 1


def test_the_http_client_below_as_well(make: Callable[..., Any], told: Any, asked: dict[str, Any]) -> None:
    """Where the HTTP client below is traced for itself, a call of the SDK is still one, and so is one of its own."""
    client = instrument(make(), **told.providers)
    instrument(client._client, hosts=[str(client.base_url)], **told.providers)
    _ask(client, asked)
    told.span()
    client._client.post(f"{client.base_url}chat/completions", json=asked)
    assert len(told.spans) == 2


def test_classes_and_a_client(
    make: Callable[..., Any], told: Any, tell: Callable[[], Any], server: Any, asked: dict[str, Any]
) -> None:
    """With all clients and one of them traced besides, its calls are told of once, by its own settings."""
    everything = tell()
    instrument(hosts=[server.base_url], **everything.providers)
    client, other = instrument(make(), **told.providers), make()
    _ask(client, asked)
    told.span()
    assert everything.spans == []
    _ask(other, asked)
    everything.span()
    uninstrument(client)
    _ask(client, asked)
    assert [len(told.spans), len(everything.spans)] == [1, 2]
    uninstrument()
    _ask(client, asked)
    assert [len(told.spans), len(everything.spans)] == [1, 2]


@pytest.mark.parametrize("present", [True, False])
def test_all_clients(present: bool, make: Callable[..., Any], told: Any, server: Any, asked: dict[str, Any]) -> None:
    """Without a client given, those that are there and those to come are traced, towards the hosts that are named."""
    before = make()
    instrument(hosts=[f"127.0.0.1:{server.port}"], **told.providers)
    _ask(before if present else make(), asked)
    assert told.span().attributes["server.port"] == server.port


def test_other_hosts(make: Callable[..., Any], told: Any, asked: dict[str, Any]) -> None:
    """Calls to hosts that are not named are let alone."""
    instrument(hosts=["api.tensorix.ai", "127.0.0.1:1"], **told.providers)
    client = make()
    _ask(client, asked)
    client._client.post(f"{client.base_url}chat/completions", json=asked)
    assert told.kept.started == []


@pytest.mark.parametrize("everywhere", [False, True])
def test_other_paths(everywhere: bool, make: Callable[..., Any], told: Any, server: Any) -> None:
    """Embeddings, old completions and other requests to the same host are let alone, headers included."""
    client = make()
    if everywhere:
        instrument(hosts=[server.base_url], **told.providers)
    else:
        instrument(client, **told.providers)
        instrument(client._client, hosts=[server.base_url], **told.providers)
    client.completions.create(model="m", prompt="Once")
    client.embeddings.create(model="m", input="Once", encoding_format="float")
    client._client.get(f"{server.url}/v1/chat/completions")
    client._client.post(f"{server.url}/v1/models")
    client._client.get(f"{server.url}/v1/models/m")
    assert len(server.requests) == 5
    assert told.kept.started == []
    assert all("traceparent" not in headers for _, headers, _ in server.requests)


def test_what_a_stream_is(make: Callable[..., Any], told: Any, asked: dict[str, Any]) -> None:
    """A traced stream is openai's own, with its response and its ways to be closed."""
    client = instrument(make(), **told.providers)
    stream = client.chat.completions.create(**asked, stream=True)
    assert type(stream) is openai.Stream
    assert stream.response.status_code == 200
    assert stream.response.headers["content-type"] == "text/event-stream"
    assert type(next(stream)).__name__ == "ChatCompletionChunk"
    assert not stream.response.is_closed
    stream.close()
    assert stream.response.is_closed
    assert stream.response.stream is not None
    told.span()


def test_suppressed(make: Callable[..., Any], told: Any, asked: dict[str, Any]) -> None:
    """Within `suppress_instrumentation` nothing is told."""
    client = instrument(make(), **told.providers)
    # As `opentelemetry.instrumentation.utils.suppress_instrumentation` and the SDK's exporters do.
    token = attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
    try:
        _ask(client, asked)
        client._client.post(f"{client.base_url}chat/completions", json=asked)
    finally:
        detach(token)
    assert told.kept.started == []
    _ask(client, asked)
    told.span()


def _around(wrapped: Any, instance: Any, arguments: Any, named: Any) -> Any:
    return wrapped(*arguments, **named)


@pytest.mark.parametrize("everywhere", [False, True])
@pytest.mark.parametrize(
    ("module", "name"),
    [("openai.resources.chat.completions", "Completions.create"), ("openai", "OpenAI.request")],
)
def test_another_instrumentation(
    everywhere: bool,
    module: str,
    name: str,
    make: Callable[..., Any],
    told: Any,
    server: Any,
    asked: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where somebody else wraps the SDK, ours says so once, stands aside, and is back when the other is gone."""
    wrapt = pytest.importorskip("wrapt")
    monkeypatch.setattr("tensorix_tracing._openai.OTHERS", Others())
    parent, _, method = name.rpartition(".")
    holder = getattr(import_module(module), parent)
    own = vars(holder).get(method)
    wrapt.wrap_function_wrapper(module, name, _around)
    with caplog.at_level(logging.WARNING, "tensorix_tracing"):
        if everywhere:
            instrument(hosts=[server.base_url], **told.providers)
            client = make()
        else:
            client = instrument(make(), **told.providers)
        try:
            _ask(client, asked)
            _ask(client, asked)
            assert told.kept.started == []
            assert [record.levelname for record in caplog.records] == ["WARNING"]
        finally:
            if everywhere:
                uninstrument()
            if own is not None:
                setattr(holder, method, own)
            else:
                delattr(holder, method)
    if everywhere:
        instrument(hosts=[server.base_url], **told.providers)
    _ask(client, asked)
    told.span()
    assert len(caplog.records) == 1


def test_azure(server: Any, told: Any, asked: dict[str, Any]) -> None:
    """A client of Azure's, which writes the model into the path, is traced as well."""
    asked = {**asked, "model": "mine"}
    with openai.AzureOpenAI(
        azure_endpoint=server.url, api_key="any", api_version="2024-10-21", max_retries=0
    ) as client:
        instrument(client, **told.providers)
        _ask(client, asked)
        assert [chunk.choices[0].index for chunk in client.chat.completions.create(**asked, stream=True)] == [0, 0]
    assert [line.split("?")[0] for line, _, _ in server.requests] == [
        "POST /openai/deployments/mine/chat/completions"
    ] * 2
    assert [span.name for span in told.spans] == ["chat mine"] * 2
    assert told.open == 0


def test_a_callers_own_subclass(server: Any, make: Callable[..., Any], told: Any, asked: dict[str, Any]) -> None:
    """A subclass that sends its requests in its own way goes on doing so."""
    seen: list[str] = []

    class Mine(openai.OpenAI):
        def request(self, *arguments: Any, **named: Any) -> Any:
            seen.append("request")
            return super().request(*arguments, **named)

    client = instrument(make(Mine), **told.providers)
    _ask(client, asked)
    assert seen == ["request"]
    told.span()


@pytest.mark.parametrize("name", ["httpx", "httpx2"])
@pytest.mark.parametrize("everywhere", [False, True])
def test_an_http_client_of_the_callers(
    name: str, everywhere: bool, make: Callable[..., Any], server: Any, told: Any, asked: dict[str, Any]
) -> None:
    """Whichever HTTP client the SDK is given, its calls and streams are told of once."""
    module = pytest.importorskip(name)
    if everywhere:
        instrument(hosts=[server.base_url], **told.providers)
    with module.Client(headers={"x-mine": "1"}) as http_client:
        try:
            client = make(http_client=http_client)
        except TypeError:
            pytest.skip("not for this SDK")
        if not everywhere:
            instrument(client, **told.providers)
        _ask(client, asked)
        assert len(list(client.chat.completions.create(**asked, stream=True))) == 2
        assert all(headers["x-mine"] == "1" for _, headers, _ in server.requests)
        assert [span.attributes["tensorix.attempts"] for span in told.spans] == [1, 1]
        assert told.spans[1].attributes["tensorix.stream.outcome"] == "completed"
        assert told.open == 0


def test_connections_are_used_again(make: Callable[..., Any], server: Any, told: Any, asked: dict[str, Any]) -> None:
    """A traced client needs as many connections as a bare one, for streams as for whole replies."""

    def connections() -> int:
        before = server.connections
        client = make()
        if traced:
            instrument(client, **told.providers)
        for _ in range(3):
            _ask(client, asked)
            list(client.chat.completions.create(**asked, stream=True))
            with client.chat.completions.with_streaming_response.create(**asked, stream=True) as response:
                list(response.iter_lines())
        return int(server.connections - before)

    traced = False
    bare = connections()
    traced = True
    assert connections() == bare
    assert len(told.spans) == 9
