"""Streams whose reader is cancelled, wherever it waits."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import httpx
import openai
import pytest
from opentelemetry.trace import StatusCode

from tensorix_tracing import instrument
from tensorix_tracing._watch import OPEN

Use = Callable[[Any, dict[str, Any], Any], Awaitable[None]]


@pytest.fixture
def server(raw: Any, chunk_data: Callable[..., bytes]) -> Any:
    """It sends a chunk and holds the connection; no head for the model `silent`."""

    def answer(peer: Any) -> bool:
        if b"silent" not in raw.requests[-1][2]:
            peer.head()
            peer.events(chunk_data("first"))
        peer.hold()
        return True

    raw.answer = answer
    return raw


async def _within(client: Any, asked: dict[str, Any], read: Any) -> None:
    async with await client.chat.completions.create(**asked, stream=True) as stream:
        async for _ in stream:
            read.set()


async def _bare(client: Any, asked: dict[str, Any], read: Any) -> None:
    async for _ in await client.chat.completions.create(**asked, stream=True):
        read.set()


async def _elsewhere_within(client: Any, asked: dict[str, Any], read: Any) -> None:
    async with await client.chat.completions.create(**asked, stream=True) as stream:
        async for _ in stream:
            read.set()
            await anyio.sleep_forever()


async def _elsewhere(client: Any, asked: dict[str, Any], read: Any) -> None:
    async for _ in await client.chat.completions.create(**asked, stream=True):
        read.set()
        await anyio.sleep_forever()


async def _manager(client: Any, asked: dict[str, Any], read: Any) -> None:
    completions = client.chat.completions
    helper = completions.stream if hasattr(completions, "stream") else client.beta.chat.completions.stream
    async with helper(**asked) as stream:
        async for _ in stream:
            read.set()


async def _lines(client: Any, asked: dict[str, Any], read: Any) -> None:
    async with client.chat.completions.with_streaming_response.create(**asked, stream=True) as response:
        async for _ in response.iter_lines():
            read.set()


async def _lines_elsewhere(client: Any, asked: dict[str, Any], read: Any) -> None:
    async with client.chat.completions.with_streaming_response.create(**asked, stream=True) as response:
        async for _ in response.iter_lines():
            read.set()
            await anyio.sleep_forever()


USES = [_within, _bare, _elsewhere_within, _elsewhere, _manager, _lines, _lines_elsewhere]


def _client(server: Any, told: Any) -> Any:
    client = openai.AsyncOpenAI(base_url=server.base_url, api_key="sk-any", max_retries=0)
    return instrument(client, **told.providers)


def _skip_unless(backend: str) -> None:
    pytest.importorskip(backend)
    if backend == "trio" and openai.__version__.startswith("1."):
        pytest.skip("the oldest SDKs of openai run on asyncio alone")


def _check(told: Any, error_type: str | None = None) -> None:
    gc.collect()
    span = told.span()
    assert span.attributes["tensorix.stream.outcome"] == "cancelled"
    assert span.attributes.get("error.type") == error_type
    assert span.status.status_code is StatusCode.UNSET
    assert len(OPEN) == 0


async def _let_the_loop_close_generators() -> None:
    gc.collect()
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.parametrize("use", USES)
def test_a_task_cancelled(use: Use, server: Any, told: Any, asked: dict[str, Any]) -> None:
    """A task that is cancelled while it reads, or between chunks while it waits elsewhere, cancels its stream."""

    async def main() -> None:
        async with _client(server, told) as client:
            read = asyncio.Event()
            task = asyncio.ensure_future(use(client, asked, read))
            await read.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await _let_the_loop_close_generators()
            _check(told)

    asyncio.run(main())


@pytest.mark.parametrize("use", [_within, _elsewhere_within, _elsewhere])
def test_a_timeout_of_asyncio(use: Use, server: Any, told: Any, asked: dict[str, Any]) -> None:
    """So does `asyncio.timeout`: the caller had enough of it, not the connection."""

    async def main() -> None:
        async with _client(server, told) as client:
            read = asyncio.Event()

            async def until_timeout() -> None:
                try:
                    async with asyncio.timeout(None) as patience:
                        reading = asyncio.current_task()
                        assert reading is not None
                        waiter = asyncio.ensure_future(read.wait())
                        waiter.add_done_callback(lambda _: patience.reschedule(0))
                        await use(client, asked, read)
                except TimeoutError:
                    pass

            await asyncio.ensure_future(until_timeout())
            await _let_the_loop_close_generators()
            gc.collect()
            return

    asyncio.run(main())
    if use is _elsewhere:
        # Nothing of the cancellation is left when the stream is collected: its task went on and ended well.
        assert told.span().attributes["tensorix.stream.outcome"] == "abandoned"
    else:
        _check(told)


# What trio says of generators of openai's own that are dropped.
@pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("use", [_within, _elsewhere_within, _lines])
def test_a_scope_of_anyio(use: Use, backend: str, server: Any, told: Any, asked: dict[str, Any]) -> None:
    """So does a cancel scope of anyio's, on asyncio and on trio."""
    _skip_unless(backend)

    async def main() -> None:
        async with _client(server, told) as client:
            read = anyio.Event()

            async def cancel(scope: anyio.CancelScope) -> None:
                await read.wait()
                scope.cancel()

            async with anyio.create_task_group() as group:
                group.start_soon(cancel, group.cancel_scope)
                await use(client, asked, read)

    anyio.run(main, backend=backend)
    _check(told)


def _openai_silent(client: Any, asked: dict[str, Any]) -> Awaitable[Any]:
    return client.chat.completions.create(**{**asked, "model": "silent"}, stream=True)  # type: ignore[no-any-return]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_before_the_headers(backend: str, server: Any, told: Any, asked: dict[str, Any]) -> None:
    """A call that is cancelled before its headers has the error type `cancelled`, and is no error."""
    _skip_unless(backend)

    async def main() -> None:
        async with _client(server, told) as client:
            with anyio.move_on_after(0.2):
                await _openai_silent(client, asked)

    anyio.run(main, backend=backend)
    _check(told, "cancelled")
    (point,) = told.points("gen_ai.client.operation.duration")
    assert point.attributes["error.type"] == "cancelled"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_httpx_before_the_headers(backend: str, server: Any, told: Any, asked: dict[str, Any]) -> None:
    """A raw request that is cancelled before its headers is told of likewise."""
    pytest.importorskip(backend)

    async def main() -> None:
        async with httpx.AsyncClient(base_url=server.base_url) as client:
            instrument(client, **told.providers)
            body = {**asked, "model": "silent", "stream": True}
            with anyio.move_on_after(0.2):
                await client.post("/chat/completions", json=body)

    anyio.run(main, backend=backend)
    _check(told, "cancelled")
