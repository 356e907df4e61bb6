"""Streams of openai's asynchronous client, asked for in every way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import openai
import pytest

from tensorix_tracing import instrument


async def _create(stack: AsyncExitStack, client: Any, asked: dict[str, Any]) -> Any:
    stream = await client.chat.completions.create(**asked, stream=True)
    stack.push_async_callback(stream.close)
    return stream


async def _with_create(stack: AsyncExitStack, client: Any, asked: dict[str, Any]) -> Any:
    return await stack.enter_async_context(await client.chat.completions.create(**asked, stream=True))


async def _stream(stack: AsyncExitStack, client: Any, asked: dict[str, Any]) -> Any:
    # Older SDKs have it among what is in beta.
    completions = client.chat.completions
    helper = completions.stream if hasattr(completions, "stream") else client.beta.chat.completions.stream
    return await stack.enter_async_context(helper(**asked))


async def _raw_response(stack: AsyncExitStack, client: Any, asked: dict[str, Any]) -> Any:
    stream = (await client.chat.completions.with_raw_response.create(**asked, stream=True)).parse()
    stack.push_async_callback(stream.close)
    return stream


async def _streaming(stack: AsyncExitStack, client: Any, asked: dict[str, Any]) -> Any:
    manager = client.chat.completions.with_streaming_response.create(**asked, stream=True)
    return await stack.enter_async_context(manager)


async def _parse(stack: AsyncExitStack, client: Any, asked: dict[str, Any]) -> Any:
    return await (await _streaming(stack, client, asked)).parse()


async def _lines(stack: AsyncExitStack, client: Any, asked: dict[str, Any]) -> Any:
    return (await _streaming(stack, client, asked)).iter_lines()


async def _bytes(stack: AsyncExitStack, client: Any, asked: dict[str, Any]) -> Any:
    return (await _streaming(stack, client, asked)).iter_bytes()


WAYS: dict[str, Callable[[AsyncExitStack, Any, dict[str, Any]], Awaitable[Any]]] = {
    "create": _create,
    "with create": _with_create,
    "stream": _stream,
    "with_raw_response": _raw_response,
    "with_streaming_response parse": _parse,
    "with_streaming_response lines": _lines,
    "with_streaming_response bytes": _bytes,
}


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    """One loop for all tests, as their client needs it."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def client(runner: asyncio.Runner) -> Iterator[openai.AsyncOpenAI]:
    """One for all tests: to make one takes longer than a test."""
    client = openai.AsyncOpenAI(base_url="http://127.0.0.1:9/v1", api_key="sk-any", max_retries=0)
    yield client
    runner.run(client.close())


@pytest.mark.parametrize("way", WAYS)
def test_one_span_tells_how_it_ended_and_the_caller_gets_the_same(
    way: str, case: Any, client: openai.AsyncOpenAI, runner: asyncio.Runner
) -> None:
    """Whichever way a stream is asked for, one span tells its end, and the caller gets what it gets untraced."""
    client.base_url = case.base_url
    untraced = (
        runner.run(case.read_async(lambda stack: WAYS[way](stack, client, case.asked))) if case.end.compared else None
    )
    instrument(client, **case.told.providers)
    traced = runner.run(case.read_async(lambda stack: WAYS[way](stack, client, case.asked)))
    assert untraced is None or traced == untraced
    case.check()
