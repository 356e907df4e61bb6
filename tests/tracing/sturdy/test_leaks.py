"""Nothing is left of streams that were abandoned, cancelled or cut, however many there were."""

from __future__ import annotations

import asyncio
import gc
import os
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider

from tensorix_simulator import Simulator
from tensorix_tracing import instrument
from tensorix_tracing._watch import OPEN

CUT = {"x-simulator-fault": "cut after 2 chunks"}


class _Counted(SpanProcessor):
    """Counts what began and ended, and keeps nothing."""

    def __init__(self) -> None:
        self.started = 0
        self.outcomes: Counter[str] = Counter()

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        self.started += 1

    def on_end(self, span: ReadableSpan) -> None:
        assert span.attributes is not None
        self.outcomes[str(span.attributes.get("tensorix.stream.outcome"))] += 1


class _Cancelled(BaseException):
    """As gevent's GreenletExit is, thrown into the thread that reads."""


_Cancelled.__name__ = "GreenletExit"


def _by_openai(base_url: str, options: dict[str, Any], asked: dict[str, Any]) -> Callable[[int], None]:
    client = openai.OpenAI(base_url=base_url, api_key="sk-test", max_retries=0)
    instrument(client, **options)

    def once(number: int) -> None:
        headers = CUT if number % 3 == 2 else {}
        stream = client.chat.completions.create(**asked, stream=True, extra_headers=headers)
        try:
            for _ in stream:
                if number % 3 == 0:
                    break
                if number % 3 == 1:
                    raise _Cancelled
        except (_Cancelled, httpx.HTTPError, openai.APIError):
            stream.close()
        except Exception as error:
            assert type(error).__name__ == "RemoteProtocolError"  # noqa: PT017 - httpx2's

    return once


def _by_httpx(base_url: str, options: dict[str, Any], asked: dict[str, Any]) -> Callable[[int], None]:
    client = httpx.Client(base_url=base_url, headers={"authorization": "Bearer sk-test"})
    instrument(client, **options)

    def once(number: int) -> None:
        headers = CUT if number % 3 == 2 else {}
        request = client.build_request("POST", "/chat/completions", json={**asked, "stream": True}, headers=headers)
        response = client.send(request, stream=True)
        if number % 3 == 0:
            next(response.iter_lines())
            # A dropped response leaves httpx's connection taken: the transport closes it, and tells us nothing.
            inner: Any = getattr(response.stream, "_inner")  # noqa: B009 - ours, which mypy does not know
            del response
            inner.close()
            return
        try:
            for _ in response.iter_lines():
                if number % 3 == 1:
                    raise _Cancelled
        except (_Cancelled, httpx.HTTPError):
            response.close()

    return once


def _by_openai_async(base_url: str, options: dict[str, Any], asked: dict[str, Any]) -> Callable[[int], None]:
    loop = asyncio.new_event_loop()
    client = openai.AsyncOpenAI(base_url=base_url, api_key="sk-test", max_retries=0)
    instrument(client, **options)

    async def read(number: int, first: asyncio.Event) -> None:
        headers = CUT if number % 3 == 2 else {}
        stream = await client.chat.completions.create(**asked, stream=True, extra_headers=headers)
        async for _ in stream:
            if number % 3 == 0:
                break
            if number % 3 == 1:
                first.set()
                await asyncio.Event().wait()
        del stream

    async def once(number: int) -> None:
        first = asyncio.Event()
        task = asyncio.create_task(read(number, first))
        if number % 3 == 1:
            await first.wait()
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        # What the collector closes in a loop is closed in its next turns.
        del task
        if number % 30 == 0:
            gc.collect()
            await asyncio.sleep(0)

    return lambda number: loop.run_until_complete(once(number))


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _ours() -> int:
    return sum(type(thing).__module__.startswith("tensorix_tracing") for thing in gc.get_objects())


_WAYS = [_by_openai, _by_openai_async, _by_httpx]


def _run(way: Any, simulator: Simulator, told: Any, parameters: dict[str, Any], count: int, part: int) -> list[int]:
    """Make so many streams end badly; the bytes that Python holds after the second part, and after the last."""
    counted = _Counted()
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(counted)
    # Cut off before the pool of connections is full of what nobody closes.
    asked = {**parameters, "max_tokens": 40}
    once = way(simulator.base_url, {**told.providers, "tracer_provider": tracers}, asked)
    held: list[tuple[int, int]] = []
    for number in range(count):
        once(number)
        if number % part == part - 1:
            gc.collect()
            told.reader.get_metrics_data()
            held.append((tracemalloc.get_traced_memory()[0] if tracemalloc.is_tracing() else 0, _ours()))
    gc.collect()
    total = sum(counted.outcomes.values())
    assert counted.started == total == count, counted.outcomes
    assert len(OPEN) == 0
    third = count // 3
    assert counted.outcomes["cut"] == third
    assert counted.outcomes["cancelled"] + counted.outcomes["closed_early"] + counted.outcomes["abandoned"] == 2 * third
    # A few may be about to go; one for a hundred streams would be a leak.
    assert held[-1][1] - held[1][1] <= (count - 2 * part) / 100
    return [held[1][0], held[-1][0]]


# A stream that was dropped leaves its socket to the collector, which says so: with us or without.
_SOCKETS = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


@_SOCKETS
@pytest.mark.parametrize("way", _WAYS)
def test_three_hundred_streams(way: Any, simulator: Simulator, told: Any, parameters: dict[str, Any]) -> None:
    """Of 300 streams, a third each abandoned, cancelled and cut, every span ends once; no object of ours is left."""
    _run(way, simulator, told, parameters, 300, 60)


@_SOCKETS
@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("way", _WAYS)
def test_ten_thousand_streams(way: Any, simulator: Simulator, told: Any, parameters: dict[str, Any]) -> None:
    """The same of 9,999; between the second ninth and the last, memory grows by less than 64 bytes a stream."""
    tracemalloc.start()
    try:
        before, after = _run(way, simulator, told, parameters, 9_999, 1_111)
    finally:
        tracemalloc.stop()
    assert after - before < 64 * 7_777, (before, after, _resident_bytes())
