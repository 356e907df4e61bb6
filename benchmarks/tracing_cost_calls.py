"""The calls of `tracing_cost.py`: who traces a client, what its server answers, and how long each call takes."""

from __future__ import annotations

import gc
import importlib
import importlib.util
import random
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

SHAPES: Final = {"short": (1, 10, 80), "long": (101, 4, 20), "whole": (-1, 10, 80)}
"""Chunks before the last one (none: not streamed), calls in a block, and calls before a collection of metrics."""
COLLECT_EVERY: Final = 6
Kind: TypeAlias = tuple[str, str]
"""The name of a variant, and of a shape."""
_MODULE = "opentelemetry.instrumentation.genai.openai"
_MODEL = "deepseek/deepseek-chat-v3.1"
_MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is a token?"}]
_USAGE = '"usage":{"prompt_tokens":14,"completion_tokens":100,"total_tokens":114}'
_HEAD = (
    'data: {"id":"chatcmpl-9f8a7b6c5d4e3f2a1b0c","object":"chat.completion.chunk","created":1790000000,'
    f'"model":"{_MODEL}","system_fingerprint":null,"choices":[{{"index":0,"delta":{{'
)
_CHUNK = (_HEAD + '"content":" word%d"},"logprobs":null,"finish_reason":null}]}\n\n').encode()
_LAST = (_HEAD + '},"logprobs":null,"finish_reason":"stop"}]}\n\n').encode()
_TOKENS = (_HEAD.partition('"choices"')[0] + f'"choices":[],{_USAGE}}}\n\n').encode()
_DONE = b"data: [DONE]\n\n"
_WHOLE = (
    f'{{"id":"chatcmpl-9f8a7b6c5d4e3f2a1b0c","object":"chat.completion","created":1790000000,"model":"{_MODEL}",'
    '"choices":[{"index":0,"message":{"role":"assistant","content":"%s"},"logprobs":null,"finish_reason":"stop"}],'
    f"{_USAGE}}}"
)
_HEADERS = [
    (b"date", b"Mon, 23 Nov 2026 12:00:00 GMT"),
    (b"server", b"uvicorn"),
    (b"x-request-id", b"0b6e7c1f5a9c4d2e8f3a"),
    (b"x-ratelimit-api_key-remaining-requests", b"59"),
    (b"x-ratelimit-api_key-remaining-tokens", b"1999989"),
]


def answering_transport(*, usage: bool) -> Any:
    """A transport that answers each request by what its user agent asks for (`chunks`, or none)."""
    import httpx2

    numbers = iter(range(1, 1 << 62))

    class Events(httpx2.SyncByteStream):
        def __init__(self, chunks: int) -> None:
            self.chunks = chunks

        def __iter__(self) -> Iterator[bytes]:
            for _ in range(self.chunks):
                yield _CHUNK % next(numbers)
            yield _LAST
            if usage:
                yield _TOKENS
            yield _DONE

    class Answering(httpx2.BaseTransport):
        chunks = 1

        def handle_request(self, request: Any) -> Any:
            if self.chunks < 0:
                text = _WHOLE % " ".join(f"word{next(numbers)}" for _ in range(100))
                return httpx2.Response(200, headers=[*_HEADERS, (b"content-type", b"application/json")], content=text)
            events = [*_HEADERS, (b"content-type", b"text/event-stream; charset=utf-8")]
            return httpx2.Response(200, headers=events, stream=Events(self.chunks))

    return Answering()


class Providers:
    """An SDK as a service has it, whose exporter counts the spans and drops them."""

    def __init__(self, *, sampled: bool) -> None:
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
        from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON

        providers = self

        class Dropping(SpanExporter):
            def export(self, spans: Sequence[Any]) -> SpanExportResult:
                providers.spans += len(spans)
                return SpanExportResult.SUCCESS

        self.spans = self.durations = 0
        self.reader = InMemoryMetricReader()
        self.tracers = TracerProvider(sampler=ALWAYS_ON if sampled else ALWAYS_OFF, shutdown_on_exit=False)
        self.tracers.add_span_processor(BatchSpanProcessor(Dropping()))
        self.meters = MeterProvider(metric_readers=[self.reader], shutdown_on_exit=False)

    def collect(self) -> None:
        """As a reader does once a minute; keeps how many calls the histogram of their durations counts."""
        data = self.reader.get_metrics_data()
        self.durations = sum(
            getattr(point, "count", 0)
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            for point in metric.data.data_points
            if metric.name == "gen_ai.client.operation.duration"
        )


class Block(NamedTuple):
    """µs: of the calling thread for each call; of other threads, a call; of the collection of metrics, a call."""

    calls: list[float]
    elsewhere: float
    put_off: float | None


class Variant:
    """A client and who traces it: `put_in` before a block, `take_out` after it."""

    def __init__(self, sampled: bool | None, *, usage: bool) -> None:
        import httpx2
        import openai

        self.transport = answering_transport(usage=usage)
        self.client: Any = openai.OpenAI(
            base_url="http://127.0.0.1:1/v1",
            api_key="sk-none",
            http_client=httpx2.Client(transport=self.transport),
            max_retries=0,
        )
        self.sampled = sampled
        self.providers = None if sampled is None else Providers(sampled=sampled)
        self.asked = 0
        self.options = {"stream_options": {"include_usage": True}} if usage else {}

    def put_in(self) -> None:
        """Trace the client from here on."""

    def take_out(self) -> None:
        """Trace it no more."""

    def call(self, chunks: int) -> None:
        """One call, read to its end."""
        self.asked += 1
        create = self.client.chat.completions.create
        if chunks < 0:
            create(model=_MODEL, messages=_MESSAGES, temperature=0.2, max_tokens=200)
            return
        for _ in create(model=_MODEL, messages=_MESSAGES, temperature=0.2, max_tokens=200, stream=True, **self.options):
            pass

    def block(self, shape: str, *, collect: bool) -> Block:
        """Some calls, after others that are not counted."""
        chunks, calls, _ = SHAPES[shape]
        self.transport.chunks = chunks
        for _ in range(3):
            self.call(chunks)
        self.flush()
        self.collect()
        gc.collect()
        gc.disable()
        clock, taken = time.thread_time_ns, []
        process, thread = time.process_time_ns(), clock()
        for _ in range(calls):
            begun = clock()
            self.call(chunks)
            taken.append((clock() - begun) / 1e3)
        self.flush()
        elsewhere = (time.process_time_ns() - process) - (clock() - thread)
        gc.enable()
        return Block(taken, elsewhere / calls / 1e3, self._put_off(shape) if collect else None)

    def _put_off(self, shape: str) -> float:
        """What the next collection has to do for each of many calls, µs."""
        chunks, _, calls = SHAPES[shape]
        self.collect()
        for _ in range(calls if self.providers is not None else 0):
            self.call(chunks)
        return (self.collect() - self.collect()) / calls / 1e3

    def collect(self) -> int:
        """Have the metrics collected; ns of processor time."""
        begun = time.process_time_ns()
        if self.providers is not None:
            self.providers.collect()
        return time.process_time_ns() - begun

    def flush(self) -> None:
        """Have the spans exported."""
        if self.providers is not None:
            self.providers.tracers.force_flush()

    def complaint(self) -> str | None:
        """What it left untold."""
        if self.providers is None:
            return None
        self.flush()
        self.providers.collect()
        spans, durations = self.providers.spans, self.providers.durations
        wanted = self.asked if self.sampled else 0
        if (spans, durations) == (wanted, self.asked):
            return None
        return f"{self.asked} calls: {spans} spans instead of {wanted}, {durations} durations"


class Ours(Variant):
    """Traced once for all: other clients are not touched by it."""

    def put_in(self) -> None:
        """Only once."""
        if self.asked == 0 and self.providers is not None:
            from tensorix_tracing import instrument

            instrument(self.client, tracer_provider=self.providers.tracers, meter_provider=self.providers.meters)


class GenAI(Variant):
    """Works on the classes of openai, and so on every client while it is in."""

    def put_in(self) -> None:
        """On the classes."""
        assert self.providers is not None
        self._instrumentor = importlib.import_module(_MODULE).OpenAIInstrumentor()
        self._instrumentor.instrument(tracer_provider=self.providers.tracers, meter_provider=self.providers.meters)

    def take_out(self) -> None:
        """As they were."""
        self._instrumentor.uninstrument()


def variants(*, usage: bool) -> dict[str, Variant]:
    """By name; without genai-openai where that is not installed."""
    found: dict[str, Variant] = {"bare": Variant(None, usage=usage)}
    for suffix, sampled in (("", True), (", off", False)):
        found["ours" + suffix] = Ours(sampled, usage=usage)
        if has_peer():
            found["genai" + suffix] = GenAI(sampled, usage=usage)
    return found


def has_peer() -> bool:
    """Whether this environment has genai-openai."""
    try:
        return importlib.util.find_spec(_MODULE) is not None
    except ModuleNotFoundError:
        return False


def play(found: dict[str, Variant], rounds: int, seed: int) -> list[dict[Kind, Block]]:
    """A block of each variant and shape, round by round; nothing where calls are not told of even before."""
    order = random.Random(seed)
    taken: list[dict[Kind, Block]] = []
    for number in range(-2, rounds):
        if number == 0 and complaints(found):
            return []
        if number == 0:
            # The interpreter is warm; what lives from here on is not looked at again by each run of the collector.
            gc.collect()
            gc.freeze()
            taken.clear()
        names = list(found)
        order.shuffle(names)
        blocks = {}
        for name in names:
            variant = found[name]
            variant.put_in()
            for shape in order.sample(list(SHAPES), len(SHAPES)):
                blocks[name, shape] = variant.block(shape, collect=number % COLLECT_EVERY == 0)
            variant.take_out()
        taken.append(blocks)
    return taken


def complaints(found: dict[str, Variant]) -> list[str]:
    """Who did not tell of every call."""
    return [f"{name}: {text}" for name, variant in found.items() if (text := variant.complaint())]
