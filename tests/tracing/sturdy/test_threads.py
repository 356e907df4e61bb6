"""Many calls at once, in threads and in tasks."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan

from tensorix_simulator import Simulator
from tensorix_tracing import instrument
from tensorix_tracing._watch import OPEN

CALLS = 200


def _hold_to_parents(told: Any, key: str) -> None:
    """Each call's span is below the span that was current where it was made, and says the same number."""
    spans = told.spans
    by_id = {span.context.span_id: span for span in spans}
    calls = [span for span in spans if span.name.startswith("chat ")]
    assert (len(calls), told.open, len(OPEN)) == (CALLS, 0, 0)
    parents: Counter[ReadableSpan] = Counter()
    for span in calls:
        parent = by_id[span.parent.span_id]
        assert span.attributes["gen_ai.request.seed"] == parent.attributes[key]
        parents[parent] += 1
    assert set(parents.values()) == {1}
    assert Counter(span.attributes["tensorix.stream.outcome"] for span in calls) == {"completed": CALLS}


def test_a_thread_pool(simulator: Simulator, parameters: dict[str, Any], told: Any) -> None:
    """Of 200 streams that 32 threads open below spans of their own and others read, each is a span, in its place."""
    tracer = told.tracer_provider.get_tracer("test")

    with openai.OpenAI(base_url=simulator.base_url, api_key="sk-test", max_retries=0) as client:
        instrument(client, **told.providers)

        def begin(number: int) -> Any:
            with tracer.start_as_current_span("work", attributes={"number": number}):
                return client.chat.completions.create(**parameters, stream=True, seed=number)

        def read(stream: Any) -> int:
            assert not trace.get_current_span().get_span_context().is_valid
            return len(list(stream))

        with ThreadPoolExecutor(32) as beginners, ThreadPoolExecutor(8) as readers:
            counts = list(readers.map(read, beginners.map(begin, range(CALLS))))
    assert len(counts) == CALLS
    _hold_to_parents(told, "number")
    assert sum(point.count for point in told.points("gen_ai.client.operation.duration")) == CALLS


def test_tasks(simulator: Simulator, parameters: dict[str, Any], told: Any) -> None:
    """The same for 200 tasks of asyncio at once."""
    tracer = told.tracer_provider.get_tracer("test")

    async def work(client: openai.AsyncOpenAI, number: int) -> None:
        with tracer.start_as_current_span("work", attributes={"number": number}):
            stream = await client.chat.completions.create(**parameters, stream=True, seed=number)
            assert trace.get_current_span().name == "work"  # type: ignore[attr-defined]
            async for _ in stream:
                pass

    async def all_of_it() -> None:
        async with openai.AsyncOpenAI(base_url=simulator.base_url, api_key="sk-test", max_retries=0) as client:
            instrument(client, **told.providers)
            await asyncio.gather(*(work(client, number) for number in range(CALLS)))

    asyncio.run(all_of_it())
    _hold_to_parents(told, "number")


def test_one_end_for_a_stream_that_two_threads_end(simulator: Simulator, parameters: dict[str, Any], told: Any) -> None:
    """However many threads close a stream at once, it ends once."""
    with openai.OpenAI(base_url=simulator.base_url, api_key="sk-test", max_retries=0) as client:
        instrument(client, **told.providers)
        for _ in range(20):
            stream = client.chat.completions.create(**parameters, stream=True)
            together = threading.Barrier(4)

            def close(stream: Any = stream, together: threading.Barrier = together) -> None:
                together.wait()
                stream.response.stream.close()

            threads = [threading.Thread(target=close) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            stream.close()
    assert (len(told.spans), told.open) == (20, 0)


def test_a_coroutine_that_is_dropped(raw_server: Any, told: Any, capsys: Any) -> None:
    """A call whose coroutine is closed before the answer, wherever that is, ends once as cancelled, and in silence."""
    server = raw_server(lambda peer: peer.hold())

    async def begin() -> Any:
        client = openai.AsyncOpenAI(base_url=server.base_url, api_key="sk-test", max_retries=0)
        instrument(client, **told.providers)
        call = client.chat.completions.create(model="m", messages=[], stream=True)
        sending = call.__await__()
        next(sending)
        return call, client

    loop = asyncio.new_event_loop()
    call, client = loop.run_until_complete(begin())
    # In another context than the one it began in.
    call.close()
    loop.run_until_complete(client.close())
    loop.close()
    assert told.span().attributes["error.type"] == "cancelled"
    assert capsys.readouterr().err == ""
