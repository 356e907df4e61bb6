"""Streams whose end is found when whoever read them is gone."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import openai
import pytest

from tensorix_simulator import Simulator
from tensorix_tracing import instrument

ASKED: dict[str, Any] = {
    "model": "z-ai/glm-5",
    "messages": [{"role": "user", "content": "Say something."}],
    "max_tokens": 30,
    "stream": True,
}


async def _cancelled(read: Coroutine[Any, Any, None], reading: asyncio.Event) -> None:
    task = asyncio.create_task(read)
    await reading.wait()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def _timed_out(read: Coroutine[Any, Any, None], reading: asyncio.Event) -> None:
    task = asyncio.ensure_future(read)
    await reading.wait()
    with suppress(TimeoutError):
        await asyncio.wait_for(task, 0)


async def _in_a_group(read: Coroutine[Any, Any, None], reading: asyncio.Event) -> None:
    with suppress(BaseExceptionGroup):
        async with asyncio.TaskGroup() as group:
            group.create_task(read)
            await reading.wait()
            raise ValueError


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("stop", [_cancelled, _timed_out, _in_a_group])
def test_a_task_that_is_stopped_between_chunks(
    stop: Callable[[Coroutine[Any, Any, None], asyncio.Event], Coroutine[Any, Any, None]],
    simulator: Simulator,
    told: Any,
) -> None:
    """The stream it left open is told as cancelled, though the collector finds it when the task is gone."""

    async def read(client: openai.AsyncOpenAI, reading: asyncio.Event) -> None:
        async for _ in await client.chat.completions.create(**ASKED):
            reading.set()
            await asyncio.Event().wait()

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        client = openai.AsyncOpenAI(base_url=simulator.base_url, api_key="sk-test", max_retries=0)
        instrument(client, **told.providers)
        reading = asyncio.Event()
        await stop(read(client, reading), reading)
        for _ in range(5):
            gc.collect()
            await asyncio.sleep(0)

    asyncio.run(run())
    gc.collect()
    (span,) = told.spans
    assert span.attributes["tensorix.stream.outcome"] == "cancelled"
    assert "error.type" not in span.attributes
