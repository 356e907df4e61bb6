"""Telemetry that fails: whatever raises, blocks or is full, the caller's calls are what they would be without it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from opentelemetry import propagate
from opentelemetry.context import Context
from opentelemetry.metrics import Histogram, Meter, NoOpMeter, NoOpMeterProvider
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    InMemoryMetricReader,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import Sampler

from tensorix_simulator import Simulator
from tensorix_tracing import instrument

pytestmark = pytest.mark.timeout(30)

Call = Callable[[Simulator, dict[str, Any] | None], list[str]]


class FailingError(Exception):
    """What telemetry raises here."""


class RaisingExporter(SpanExporter):
    def export(self, spans: Any) -> SpanExportResult:
        raise FailingError


class BlockingExporter(SpanExporter):
    """Does not return until it is let."""

    def __init__(self) -> None:
        self.let = threading.Event()
        self.entered = threading.Event()

    def export(self, spans: Any) -> SpanExportResult:
        self.entered.set()
        self.let.wait()
        return SpanExportResult.SUCCESS


class RaisingProcessor(SpanProcessor):
    """Raises when a span starts, when one ends, or both; from the `after`-th time on."""

    def __init__(self, when: str, after: int = 0) -> None:
        self._when = when
        self._left = after

    def _now(self, when: str) -> None:
        if when in self._when:
            self._left -= 1
            if self._left < 0:
                raise FailingError

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        self._now("start")

    def on_end(self, span: ReadableSpan) -> None:
        self._now("end")


class RaisingSampler(Sampler):
    def should_sample(self, *_: Any, **__: Any) -> Any:
        raise FailingError

    def get_description(self) -> str:
        return "raises"


class RaisingPropagator(TextMapPropagator):
    def extract(self, *_: Any, **__: Any) -> Context:
        raise FailingError

    def inject(self, *_: Any, **__: Any) -> None:
        raise FailingError

    @property
    def fields(self) -> set[str]:
        return set()


class RaisingMeter(NoOpMeter):
    """Its histograms raise."""

    def create_histogram(self, *arguments: Any, **named: Any) -> Histogram:
        histogram = super().create_histogram(*arguments, **named)

        def record(*_: Any, **__: Any) -> None:
            raise FailingError

        setattr(histogram, "record", record)  # noqa: B010 - a method, which mypy would not have assigned
        return histogram


class RaisingMeters(NoOpMeterProvider):
    """`what` of it raises: its histograms, or it gives no meter at all."""

    def __init__(self, what: str) -> None:
        self._what = what

    def get_meter(self, name: str, *_: Any, **__: Any) -> Meter:
        if self._what == "meter":
            raise FailingError
        return RaisingMeter(name)


class RaisingTracers(TracerProvider):
    """Gives no tracer."""

    def get_tracer(self, *_: Any, **__: Any) -> Any:
        raise FailingError


class RaisingMetricExporter(MetricExporter):
    def export(self, metrics_data: MetricsData, timeout_millis: float = 0, **_: Any) -> MetricExportResult:
        raise FailingError

    def force_flush(self, timeout_millis: float = 0) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 0, **_: Any) -> None:
        pass


_made: list[TracerProvider] = []


@pytest.fixture(autouse=True)
def shut_down() -> Iterator[None]:
    """No provider goes on exporting after its test."""
    yield
    while _made:
        _made.pop().shutdown()


def traces(*processors: SpanProcessor, sampler: Sampler | None = None) -> dict[str, Any]:
    """Options with a provider of these processors."""
    provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    _made.append(provider)
    for processor in processors:
        provider.add_span_processor(processor)
    return {"tracer_provider": provider}


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(
            lambda: traces(BatchSpanProcessor(RaisingExporter(), schedule_delay_millis=1)), id="batch exporter"
        ),
        pytest.param(lambda: traces(SimpleSpanProcessor(RaisingExporter())), id="simple exporter"),
        pytest.param(lambda: traces(RaisingProcessor("start")), id="on_start"),
        pytest.param(lambda: traces(RaisingProcessor("end")), id="on_end"),
        pytest.param(lambda: traces(RaisingProcessor("start end", after=1)), id="from the second on"),
        pytest.param(lambda: traces(sampler=RaisingSampler()), id="sampler"),
        pytest.param(lambda: {"tracer_provider": RaisingTracers(shutdown_on_exit=False)}, id="no tracer"),
        pytest.param(lambda: {"meter_provider": RaisingMeters("histogram")}, id="histogram"),
        pytest.param(lambda: {"meter_provider": RaisingMeters("meter")}, id="no meter"),
    ],
)
def test_what_raises_changes_no_answer(
    call: Call, simulator: Simulator, options: Callable[[], dict[str, Any]], told: Any
) -> None:
    """An exporter, processor, sampler, provider or histogram that raises changes no answer; a later call is whole."""
    bare = call(simulator, None)
    assert call(simulator, options()) == bare
    assert call(simulator, told.providers) == bare
    assert (len(told.spans), told.open) == (2, 0)


def test_metrics_are_told_without_a_span(call: Call, simulator: Simulator, told: Any) -> None:
    """A sampler that raises costs the spans only: the metrics know of both calls."""
    call(simulator, {**told.providers, **traces(sampler=RaisingSampler())})
    assert sum(point.count for point in told.points("gen_ai.client.operation.duration")) == 2


def test_spans_are_told_without_metrics(call: Call, simulator: Simulator, told: Any) -> None:
    """Histograms that raise cost the metrics only: both spans are whole, the stream's outcome with them."""
    call(simulator, {**told.providers, "meter_provider": RaisingMeters("histogram"), "chunk_gap_share": 1.0})
    assert told.open == 0
    assert [span.attributes.get("tensorix.stream.outcome") for span in told.spans] == [None, "completed"]


@pytest.fixture
def raising_propagator() -> Iterator[None]:
    """The global propagator raises."""
    before = propagate.get_global_textmap()
    propagate.set_global_textmap(RaisingPropagator())
    yield
    propagate.set_global_textmap(before)


@pytest.mark.usefixtures("raising_propagator")
def test_a_propagator_that_raises(call: Call, simulator: Simulator, told: Any) -> None:
    """It changes no answer, and every call is told all the same."""
    bare = call(simulator, None)
    assert call(simulator, told.providers) == bare
    assert (len(told.spans), told.open) == (2, 0)


def test_a_span_of_a_retry_that_cannot_be_started(raw_server: Any, told: Any) -> None:
    """Where the spans of the attempts raise, the call with its retry succeeds and its span says both attempts."""

    def answer(peer: Any) -> None:
        if peer.number == 0:
            peer.whole(503, b"{}", retry_after_ms="1")
        else:
            peer.whole(200, b'{"id":"x","object":"chat.completion","created":1,"model":"m","choices":[]}')

    server = raw_server(answer)
    told.tracer_provider.add_span_processor(RaisingProcessor("start end", after=1))
    with openai.OpenAI(base_url=server.base_url, api_key="sk-test", max_retries=1) as client:
        instrument(client, **told.providers)
        assert client.chat.completions.create(model="m", messages=[]).id == "x"
    spans = [span for span in told.spans if span.name == "chat m"]
    assert [span.attributes["tensorix.attempts"] for span in spans] == [2]


def test_an_exporter_that_blocks_and_a_queue_that_is_full(simulator: Simulator, parameters: dict[str, Any]) -> None:
    """With the exporter stuck for ever and the queue full, calls go on and are answered."""
    exporter = BlockingExporter()
    batch = BatchSpanProcessor(exporter, max_queue_size=4, max_export_batch_size=2, schedule_delay_millis=1)
    try:
        with openai.OpenAI(base_url=simulator.base_url, api_key="sk-test") as client:
            instrument(client, **traces(batch))
            texts = {client.chat.completions.create(**parameters).choices[0].message.content for _ in range(20)}
            assert exporter.entered.wait(10)
            chunks = [chunk for _ in range(5) for chunk in client.chat.completions.create(**parameters, stream=True)]
    finally:
        exporter.let.set()
        batch.shutdown()  # type: ignore[no-untyped-call]
    assert len(texts) == 1
    assert len(chunks) >= 25


def test_metrics_that_cannot_be_exported(call: Call, simulator: Simulator) -> None:
    """A reader whose exporter raises every few milliseconds changes no answer."""
    reader = PeriodicExportingMetricReader(RaisingMetricExporter(), export_interval_millis=5)
    provider = MeterProvider([reader], shutdown_on_exit=False)
    try:
        assert call(simulator, {"meter_provider": provider}) == call(simulator, None)
    finally:
        provider.shutdown()


def test_a_reader_that_raises_in_mid_collection(call: Call, simulator: Simulator, told: Any) -> None:
    """A collection that raises, by another's callback, takes nothing from the next: every call is in that."""
    failing = [True]

    def callback(_: Any) -> Any:
        if failing:
            raise FailingError
        return []

    told.meter_provider.get_meter("other").create_observable_gauge("other", [callback])
    call(simulator, told.providers)
    told.reader.get_metrics_data()
    failing.clear()
    assert sum(point.count for point in told.points("gen_ai.client.operation.duration")) == 2


def test_providers_that_were_shut_down(call: Call, simulator: Simulator, told: Any) -> None:
    """After the shutdown of its providers an instrumented client goes on answering."""
    meters = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
    options = {**traces(BatchSpanProcessor(RaisingExporter())), "meter_provider": meters}
    bare = call(simulator, None)
    options["tracer_provider"].shutdown()
    options["meter_provider"].shutdown()
    assert call(simulator, options) == bare
