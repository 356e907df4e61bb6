"""Streams of httpx's and httpx2's own clients, synchronous and not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from typing import Any

import pytest

from tensorix_tracing import instrument


def _request(client: Any, base_url: str, asked: dict[str, Any]) -> tuple[tuple[str, str], dict[str, Any]]:
    body = {name: value for name, value in asked.items() if name != "timeout"}
    return ("POST", f"{base_url}/chat/completions"), {"json": {**body, "stream": True}, "timeout": asked["timeout"]}


@pytest.fixture(scope="module", params=["httpx", "httpx2"])
def module(request: pytest.FixtureRequest) -> Any:
    """Each that is installed."""
    return pytest.importorskip(request.param)


@pytest.fixture(scope="module")
def client(module: Any) -> Iterator[Any]:
    """One for all tests: to make one takes longer than a test."""
    with module.Client() as client:
        yield client


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    """One loop for all tests, as their client needs it."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def async_client(module: Any, runner: asyncio.Runner) -> Iterator[Any]:
    """The asynchronous one for all."""
    client = module.AsyncClient()
    yield client
    runner.run(client.aclose())


def _stream(stack: ExitStack, client: Any, case: Any) -> Any:
    arguments, named = _request(client, case.base_url, case.asked)
    return stack.enter_context(client.stream(*arguments, **named)).iter_lines()


def _send(stack: ExitStack, client: Any, case: Any) -> Any:
    arguments, named = _request(client, case.base_url, case.asked)
    response = client.send(client.build_request(*arguments, **named), stream=True)
    stack.callback(response.close)
    return response.iter_bytes()


async def _async_stream(stack: AsyncExitStack, client: Any, case: Any) -> Any:
    arguments, named = _request(client, case.base_url, case.asked)
    return (await stack.enter_async_context(client.stream(*arguments, **named))).aiter_lines()


async def _async_send(stack: AsyncExitStack, client: Any, case: Any) -> Any:
    arguments, named = _request(client, case.base_url, case.asked)
    response = await client.send(client.build_request(*arguments, **named), stream=True)
    stack.push_async_callback(response.aclose)
    return response.aiter_bytes()


@pytest.mark.parametrize("way", [_stream, _send])
def test_one_span_tells_how_it_ended_and_the_caller_gets_the_same(
    way: Callable[[ExitStack, Any, Any], Any], case: Any, client: Any
) -> None:
    """A streamed request is one span that tells its end, and the caller gets what it gets untraced."""
    untraced = case.read(lambda stack: way(stack, client, case)) if case.end.compared else None
    instrument(client, hosts=[case.base_url], **case.told.providers)
    traced = case.read(lambda stack: way(stack, client, case))
    assert untraced is None or traced == untraced
    case.check()


@pytest.mark.parametrize("way", [_async_stream, _async_send])
def test_the_same_asynchronously(
    way: Callable[[AsyncExitStack, Any, Any], Any], case: Any, async_client: Any, runner: asyncio.Runner
) -> None:
    """So it is with an asynchronous client."""
    untraced = runner.run(case.read_async(lambda stack: way(stack, async_client, case))) if case.end.compared else None
    instrument(async_client, hosts=[case.base_url], **case.told.providers)
    traced = runner.run(case.read_async(lambda stack: way(stack, async_client, case)))
    assert untraced is None or traced == untraced
    case.check()
