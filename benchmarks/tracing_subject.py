"""One instrumentation on its own: plays every case of `tracing_table.py` and writes down what it told, uninterpreted.

    python benchmarks/tracing_subject.py ours http://127.0.0.1:8000/v1

Runs in the instrumentation's own environment (openai, the SDK of OpenTelemetry and itself; nothing else of this
repository). A line of JSON with the versions, then one a case: what the caller saw, and of each span that began its
name, status, attributes, events, parent, and whether it has ended.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections.abc import Callable
from importlib import import_module, metadata
from typing import Any

import openai
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider

MODEL = "z-ai/glm-5"
MARK = "xyzzy-plugh"
"""In each prompt and nowhere else."""
KEY = "sk-subject-0123456789"
ROUNDS = 100
"""Streams of each kind in the case `many`."""
_PATIENCE_S = 1.5
_CUT = "cut after 3 chunks by reset"


class Told(SpanProcessor):
    """Keeps the spans that began; in `counting` only how many of them are open."""

    def __init__(self) -> None:
        self.begun: list[Any] = []
        self.counting = False
        self.open = 0

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        """One more."""
        self.open += 1
        if not self.counting:
            self.begun.append(span)

    def on_end(self, span: ReadableSpan) -> None:
        """One fewer."""
        self.open -= 1

    def settle(self) -> None:
        """Wait for the spans that somebody ends in the background."""
        gc.collect()
        deadline = time.monotonic() + _PATIENCE_S
        while self.open and time.monotonic() < deadline:
            time.sleep(0.01)


def described(span: Any) -> dict[str, Any]:
    """A span, ended or not."""
    begun = span.start_time
    return {
        "name": span.name,
        "kind": span.kind.name,
        "status": span.status.status_code.name,
        "ended": span.end_time is not None,
        "duration_s": (span.end_time - begun) / 1e9 if span.end_time else None,
        "parent": span.parent.span_id if span.parent else None,
        "id": span.context.span_id,
        "attributes": dict(span.attributes or {}),
        "events": [
            {"name": event.name, "at_s": (event.timestamp - begun) / 1e9, "attributes": dict(event.attributes or {})}
            for event in span.events
        ],
    }


class Caller:
    """The cases: each makes one call (`many`: many) and returns what the caller itself saw of it."""

    def __init__(self, base_url: str, collect: Callable[[], object]) -> None:
        self.base_url = base_url
        self.collect = collect
        """Has the metrics collected, so that none is kept back."""

    def client(self, **options: Any) -> Any:
        """A new one."""
        return openai.OpenAI(
            **{"base_url": self.base_url, "api_key": KEY, "max_retries": 0, "timeout": 20.0, **options}
        )

    def asynchronous(self) -> Any:
        """A new one."""
        return openai.AsyncOpenAI(base_url=self.base_url, api_key=KEY, max_retries=0, timeout=20.0)

    def asked(self, fault: str = "", tokens: int = 12, **more: Any) -> dict[str, Any]:
        """The parameters of a call."""
        messages = [{"role": "user", "content": f"Say something about {MARK}."}]
        headers = {"extra_headers": {"x-simulator-fault": fault}} if fault else {}
        return {"model": MODEL, "messages": messages, "max_tokens": tokens, "stream": True, **headers, **more}

    def stream(self, fault: str = "", take: int | None = None, tokens: int = 12, **options: Any) -> Any:
        """A stream of which so many chunks (or all) were taken."""
        stream = self.client(**options).chat.completions.create(**self.asked(fault, tokens))
        if take is None:
            for _ in stream:
                pass
        else:
            for _ in range(take):
                next(stream)
        return stream

    # Cases

    def completed(self) -> dict[str, Any]:
        """A stream read to its end."""
        self.stream()
        return {}

    def whole(self) -> dict[str, Any]:
        """A call that is not streamed; the headers of its response, as the caller may see them."""
        raw = self.client().chat.completions.with_raw_response.create(**self.asked(stream=False))
        return {name: raw.headers.get(f"x-ratelimit-api_key-remaining-{name}") for name in ("requests", "tokens")}

    def first_token(self) -> dict[str, Any]:
        """A chunk without a text at once, the first text 400 ms later, the end 200 ms after that."""
        create = self.client().chat.completions.create
        begun = time.perf_counter()
        at: list[float] = []
        texts: list[bool] = []
        for chunk in create(**self.asked("stall 400ms before first token", 40)):
            at.append(time.perf_counter() - begun)
            texts.append(bool(chunk.choices and chunk.choices[0].delta.content))
        return {"first_chunk_s": at[0], "first_token_s": at[texts.index(True)], "last_s": at[-1]}

    def cut_by_reset(self) -> dict[str, Any]:
        """The connection is reset in the middle."""
        self.stream(_CUT)
        return {}

    def cut_by_end(self) -> dict[str, Any]:
        """The connection ends in the middle."""
        self.stream("cut after 3 chunks")
        return {}

    def error_event(self) -> dict[str, Any]:
        """An error comes as an event."""
        self.stream("error event after 3 chunks")
        return {}

    def malformed(self) -> dict[str, Any]:
        """No JSON where JSON was due."""
        self.stream("malformed after 3 chunks")
        return {}

    def timed_out(self) -> dict[str, Any]:
        """The stream stops for longer than the caller waits."""
        self.stream("stall 10s after 3 chunks", timeout=0.3)
        return {}

    def closed(self) -> dict[str, Any]:
        """The caller takes three chunks and closes."""
        stream = self.client().chat.completions.create(**self.asked(tokens=200))
        for number, _ in enumerate(stream):
            if number == 2:
                break
        stream.close()
        return {}

    def left_with(self) -> dict[str, Any]:
        """The caller takes three chunks and leaves the `with`."""
        with self.client().chat.completions.create(**self.asked(tokens=200)) as stream:
            for _ in range(3):
                next(stream)
        return {}

    def abandoned(self) -> dict[str, Any]:
        """The caller takes three chunks and drops the stream, which is collected."""
        self.stream(take=3, tokens=200)
        gc.collect()
        return {}

    def cancelled(self) -> dict[str, Any]:
        """The task that reads is cancelled in the middle."""
        asyncio.run(self._cancel("", after_chunks=3))
        return {}

    def cancelled_early(self) -> dict[str, Any]:
        """The task is cancelled while the headers are waited for."""
        asyncio.run(self._cancel("stall 10s before headers", after_chunks=0))
        return {}

    async def _cancel(self, fault: str, after_chunks: int) -> None:
        reached = asyncio.Event()

        async def read() -> None:
            client = self.asynchronous()
            taken = 0
            async for _ in await client.chat.completions.create(**self.asked(fault, 1000)):
                taken += 1
                if taken == after_chunks:
                    reached.set()

        task = asyncio.ensure_future(read())
        await (reached.wait() if after_chunks else asyncio.sleep(0.3))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        del task

    def streaming_response(self) -> dict[str, Any]:
        """`with_streaming_response`, read line by line to its end."""
        create = self.client().chat.completions.with_streaming_response.create
        begun = time.perf_counter()
        with create(**self.asked(tokens=40)) as response:
            for line in response.iter_lines():
                if line:
                    last_s = time.perf_counter() - begun
        return {"last_s": last_s}

    def retried(self) -> dict[str, Any]:
        """Three attempts, each refused."""
        self.client(max_retries=2).chat.completions.create(**self.asked("status 503", stream=False))
        return {}

    def many(self) -> dict[str, Any]:
        """Streams abandoned, cut and cancelled: what stays of them."""
        self._many(10)
        before = sys.getallocatedblocks()
        self._many(ROUNDS)
        return {"streams": 3 * ROUNDS, "blocks_a_stream": (sys.getallocatedblocks() - before) / (3 * ROUNDS)}

    def _many(self, rounds: int) -> None:
        client = self.client()
        for _ in range(rounds):
            stream = client.chat.completions.create(**self.asked(tokens=200))
            next(stream)
            del stream
            try:
                for _ in client.chat.completions.create(**self.asked(_CUT)):
                    pass
            except Exception:
                pass

        async def cancel_all() -> None:
            asynchronous = self.asynchronous()
            for _ in range(rounds):
                reached = asyncio.Event()

                async def read(reached: asyncio.Event = reached) -> None:
                    async for _ in await asynchronous.chat.completions.create(**self.asked(tokens=1000)):
                        reached.set()

                task = asyncio.ensure_future(read())
                await reached.wait()
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            await asynchronous.close()

        asyncio.run(cancel_all())
        client.close()
        self.collect()
        gc.collect()


CASES = (
    *("completed", "whole", "first_token", "cut_by_reset", "cut_by_end", "error_event", "malformed", "timed_out"),
    *("closed", "left_with", "abandoned", "cancelled", "cancelled_early", "streaming_response", "retried", "many"),
)
# The module with the instrumentor, and what is installed for it.
INSTRUMENTATIONS = {
    "ours": ("tensorix_tracing", "tensorix-toolkit"),
    "genai-openai": ("opentelemetry.instrumentation.genai.openai", "opentelemetry-instrumentation-genai-openai"),
    "openai-v2": ("opentelemetry.instrumentation.openai_v2", "opentelemetry-instrumentation-openai-v2"),
    "openinference": ("openinference.instrumentation.openai", "openinference-instrumentation-openai"),
}


def put_in(name: str, providers: dict[str, Any]) -> dict[str, str]:
    """Instrument every client of this process, as a service does it. Returns the versions at work."""
    module_name, package = INSTRUMENTATIONS[name]
    module = import_module(module_name)
    if name == "ours":
        module.instrument(hosts=["127.0.0.1"], **providers)
    else:
        module.OpenAIInstrumentor().instrument(**providers)
    return {known: metadata.version(known) for known in (package, "openai", "opentelemetry-sdk")}


def sums_of(reader: InMemoryMetricReader) -> dict[str, float]:
    """The sum of each histogram so far."""
    data = reader.get_metrics_data()
    return {
        metric.name: sum(getattr(point, "sum", 0.0) for point in metric.data.data_points)
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


def play(caller: Caller, case: str, told: Told, reader: InMemoryMetricReader) -> dict[str, Any]:
    """One case."""
    told.begun.clear()
    told.open = 0
    told.counting = case == "many"
    before = sums_of(reader)
    raised = None
    seen: dict[str, Any] = {}
    try:
        seen = getattr(caller, case)()
    except Exception as error:
        raised = type(error).__name__
    told.settle()
    return {
        "case": case,
        "seen": seen,
        "raised": raised,
        "open": told.open,
        "spans": [described(span) for span in told.begun],
        "metrics": {name: total - before.get(name, 0.0) for name, total in sums_of(reader).items()},
    }


def main() -> None:
    """Play all cases, or those named."""
    name, base_url, *cases = sys.argv[1:]
    told, reader = Told(), InMemoryMetricReader()
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(told)
    meters = MeterProvider(metric_readers=[reader], shutdown_on_exit=False)
    print(json.dumps(put_in(name, {"tracer_provider": tracers, "meter_provider": meters})), flush=True)
    caller = Caller(base_url, reader.get_metrics_data)
    for case in cases or CASES:
        print(json.dumps(play(caller, case, told, reader), default=list), flush=True)


if __name__ == "__main__":
    main()
