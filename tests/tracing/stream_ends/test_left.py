"""Streams that a caller leaves before their end: closed, dropped, or held by what is closed or dropped."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import openai
import pytest
from opentelemetry.trace import StatusCode

from tensorix_tracing import instrument
from tensorix_tracing._watch import OPEN


@pytest.fixture
def server(raw: Any, chunk_data: Callable[..., bytes]) -> Any:
    """It sends three chunks and holds the connection."""

    def answer(peer: Any) -> bool:
        peer.head()
        peer.events(chunk_data("first"), chunk_data("second"), chunk_data("third"))
        peer.hold()
        return True

    raw.answer = answer
    return raw


@pytest.fixture(scope="module")
def client() -> Iterator[openai.OpenAI]:
    """One for all tests: to make one takes longer than a test."""
    with openai.OpenAI(base_url="http://127.0.0.1:9/v1", api_key="sk-any", max_retries=0) as client:
        yield client


@pytest.fixture
def traced(client: openai.OpenAI, server: Any, told: Any) -> openai.OpenAI:
    """It, traced."""
    client.base_url = server.base_url
    return instrument(client, **told.providers)


def _check(told: Any, outcome: str) -> None:
    span = told.span()
    assert span.attributes["tensorix.stream.outcome"] == outcome
    assert "error.type" not in span.attributes
    assert span.status.status_code is StatusCode.UNSET
    assert len(OPEN) == 0


def test_closed_twice(traced: Any, told: Any, asked: dict[str, Any]) -> None:
    """A stream that is closed again, and dropped, has ended once, when it was closed."""
    with traced.chat.completions.create(**asked, stream=True) as stream:
        next(stream)
        stream.close()
        stream.close()
        assert len(told.spans) == 1
    del stream
    gc.collect()
    _check(told, "closed_early")


def test_closed_without_a_look(traced: Any, told: Any, asked: dict[str, Any]) -> None:
    """A stream that is closed before its first chunk is taken was closed early, too."""
    traced.chat.completions.create(**asked, stream=True).close()
    _check(told, "closed_early")
    assert "tensorix.stream.chunks" not in told.span().attributes


def _raise_within(client: Any, asked: dict[str, Any], error: BaseException) -> None:
    with client.chat.completions.create(**asked, stream=True) as stream:
        next(stream)
        raise error


@pytest.mark.parametrize(("error", "outcome"), [(ValueError, "closed_early"), (KeyboardInterrupt, "cancelled")])
def test_an_exception_within(
    error: type[BaseException], outcome: str, traced: Any, told: Any, asked: dict[str, Any]
) -> None:
    """Where the caller's work fails within the `with`, the stream is closed early, and no error; Ctrl-C cancels it."""
    with pytest.raises(error):
        _raise_within(traced, asked, error())
    _check(told, outcome)


def test_an_exception_handled_before(traced: Any, told: Any, asked: dict[str, Any]) -> None:
    """What the caller was handling when it asked is not what ended the stream."""
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        with traced.chat.completions.create(**asked, stream=True) as stream:
            next(stream)
    _check(told, "closed_early")


def _create(client: Any, asked: dict[str, Any]) -> Any:
    return client.chat.completions.create(**asked, stream=True)


def _raw_response(client: Any, asked: dict[str, Any]) -> Any:
    return client.chat.completions.with_raw_response.create(**asked, stream=True).parse()


@pytest.mark.parametrize("way", [_create, _raw_response])
@pytest.mark.parametrize("taken", [0, 2])
def test_dropped(way: Callable[..., Any], taken: int, traced: Any, told: Any, asked: dict[str, Any]) -> None:
    """A stream that nobody closes nor holds is abandoned: the collector of garbage says so."""
    stream = way(traced, asked)
    for k, _ in enumerate(stream if taken else ()):
        if k + 1 == taken:
            break
    assert told.open == 1
    del stream
    gc.collect()
    _check(told, "abandoned")


def test_the_response_dropped_unparsed(traced: Any, told: Any, asked: dict[str, Any]) -> None:
    """A raw response of a stream that nobody parses is abandoned as well."""
    traced.chat.completions.with_raw_response.create(**asked, stream=True)
    gc.collect()
    _check(told, "abandoned")


def test_dropped_once_it_was_whole(
    traced: Any, told: Any, asked: dict[str, Any], raw: Any, chunk_data: Callable[..., bytes]
) -> None:
    """Who takes everything up to the finish reason, and drops the stream before [DONE], had all of it."""

    def answer(peer: Any) -> bool:
        peer.head()
        peer.events(chunk_data(), chunk_data(None, finish="stop"))
        peer.hold()
        return True

    raw.answer = answer
    stream = _create(traced, asked)
    assert [len(next(stream).choices) for _ in range(2)] == [1, 1]
    del stream
    gc.collect()
    _check(told, "completed")


def _words_within(client: Any, asked: dict[str, Any]) -> Iterator[str]:
    with client.chat.completions.create(**asked, stream=True) as stream:
        for chunk in stream:
            yield chunk.choices[0].delta.content


def _words(client: Any, asked: dict[str, Any]) -> Iterator[str]:
    for chunk in client.chat.completions.create(**asked, stream=True):
        yield chunk.choices[0].delta.content


@pytest.mark.parametrize(("words", "outcome"), [(_words_within, "closed_early"), (_words, "abandoned")])
def test_a_generator_closed(
    words: Callable[..., Any], outcome: str, traced: Any, told: Any, asked: dict[str, Any]
) -> None:
    """A generator of the caller's that is closed closes its stream where it has a `with`, else it drops it."""
    generator = words(traced, asked)
    assert next(generator) == "first"
    generator.close()
    gc.collect()
    _check(told, outcome)


@pytest.mark.parametrize(
    ("name", "read", "outcome"),
    [
        ("httpx", False, "abandoned"),
        ("httpx", True, "abandoned"),
        ("httpx2", False, "abandoned"),
        # Its iterators close their response themselves when they are dropped.
        ("httpx2", True, "closed_early"),
    ],
)
def test_raw_dropped(name: str, read: bool, outcome: str, server: Any, told: Any, asked: dict[str, Any]) -> None:
    """A streamed response of a raw client that nobody closes is abandoned."""
    module = pytest.importorskip(name)
    with module.Client(base_url=server.base_url) as client:
        instrument(client, **told.providers)
        request = client.build_request("POST", "/chat/completions", json={**asked, "stream": True})
        response = client.send(request, stream=True)
        lines = response.iter_lines()
        if read:
            assert json.loads(next(lines).removeprefix("data: "))["choices"][0]["delta"]["content"] == "first"
        del lines, response
        gc.collect()
        _check(told, outcome)


@pytest.mark.parametrize("name", ["httpx", "httpx2"])
def test_how_long_a_response_took(name: str, server: Any, told: Any, asked: dict[str, Any]) -> None:
    """`response.elapsed` is there once a stream is closed, as it is untraced."""
    module = pytest.importorskip(name)
    with module.Client(base_url=server.base_url) as client:
        instrument(client, **told.providers)
        with client.stream("POST", "/chat/completions", json={**asked, "stream": True}) as response:
            assert not response.is_closed
        assert response.elapsed.total_seconds() > 0


def _run_async(server: Any, told: Any, use: Callable[[Any], Any]) -> None:
    """Let a caller use an asynchronous client, traced; the loop goes on until what was dropped is finalised."""

    async def main() -> None:
        async with openai.AsyncOpenAI(base_url=server.base_url, api_key="sk-any", max_retries=0) as client:
            await use(instrument(client, **told.providers))
            gc.collect()
            # The loop closes generators that were dropped in tasks of their own.
            for _ in range(5):
                await asyncio.sleep(0)

    asyncio.run(main())
    gc.collect()


@pytest.mark.parametrize("taken", [0, 2])
def test_dropped_asynchronously(taken: int, server: Any, told: Any, asked: dict[str, Any]) -> None:
    """An asynchronous stream that nobody closes nor holds is abandoned."""

    async def use(client: Any) -> None:
        stream = await client.chat.completions.create(**asked, stream=True)
        for _ in range(taken):
            await anext(stream)

    _run_async(server, told, use)
    _check(told, "abandoned")


def test_an_asynchronous_generator_closed(server: Any, told: Any, asked: dict[str, Any]) -> None:
    """An asynchronous generator of the caller's with an `async with` closes its stream when it is closed."""

    async def words(client: Any) -> AsyncIterator[str]:
        async with await client.chat.completions.create(**asked, stream=True) as stream:
            async for chunk in stream:
                yield chunk.choices[0].delta.content

    async def use(client: Any) -> None:
        generator = words(client)
        assert await anext(generator) == "first"
        await generator.aclose()  # type: ignore[attr-defined]

    _run_async(server, told, use)
    _check(told, "closed_early")


def test_an_asynchronous_stream_closed_twice(server: Any, told: Any, asked: dict[str, Any]) -> None:
    """An asynchronous stream that is closed again has ended once."""

    async def use(client: Any) -> None:
        stream = await client.chat.completions.create(**asked, stream=True)
        await anext(stream)
        await stream.close()
        await stream.close()

    _run_async(server, told, use)
    _check(told, "closed_early")
