"""Spans and metrics in a real collector: names, units and buckets, over gRPC and over HTTP."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tensorix_simulator import Simulator

if TYPE_CHECKING:
    from tests.tracing.export.conftest import Collector, Received

Run = Callable[..., subprocess.CompletedProcess[str]]

SERVICE = """
import openai
from tensorix_tracing import configure, instrument

configure("shop")
client = instrument(openai.OpenAI(base_url={base_url!r}, max_retries=1), chunk_gap_share=1.0, metric_names="both")
ask = dict(model="z-ai/glm-5", messages=[{{"role": "user", "content": "Say something."}}], max_tokens=5)
for chunk in client.chat.completions.create(**ask, stream=True, stream_options={{"include_usage": True}}):
    pass
client.chat.completions.create(**ask)
try:
    client.chat.completions.create(**{{**ask, "model": "no/such"}})
except openai.APIStatusError as error:
    print(error.status_code)
{more}
"""
SECONDS = [0.01 * 2**power for power in range(14)]
GAPS = [0.001 * 2**power for power in range(15)]
KINDS = ("operation", "inference")
"""Old and new names."""
TOKENS = [float(4**power) for power in range(14)]


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    """One with limits that nobody reaches: what remains is told."""
    with Simulator(rpm=1_000_000, tpm=1_000_000_000, ttft="1ms", between_tokens="1ms") as simulator:
        yield simulator
        assert simulator.complaints() == ""


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_what_a_service_tells_arrives(
    collector: Collector,
    received: Received,
    simulator: Simulator,
    run_service: Run,
    plain_attributes: Callable[[Any], dict[str, Any]],
    protocol: str,
) -> None:
    """A service of three lines: the spans of its calls, and every metric with its unit and its buckets."""
    ran = run_service(SERVICE.format(base_url=simulator.base_url, more=""), variables=collector.variables(protocol))
    assert (ran.returncode, ran.stderr) == (0, "")
    refused = ran.stdout.strip()
    spans = received.spans(3)
    assert [span.name for span in spans] == ["chat z-ai/glm-5", "chat z-ai/glm-5", "chat no/such"]
    assert {span.kind for span in spans} == {3}, "CLIENT"
    streamed, whole, wrong = (plain_attributes(span.attributes) for span in spans)
    assert streamed["tensorix.stream.outcome"] == "completed"
    assert whole["gen_ai.usage.output_tokens"] == 5
    assert whole["gen_ai.response.finish_reasons"] == ["length"]
    assert wrong["error.type"] == refused
    assert [span.status.code for span in spans] == [0, 0, 2], "unset, unset, error"
    assert received.resource()["service.name"] == "shop"
    assert received.resource()["telemetry.sdk.language"] == "python"

    gaps = streamed["tensorix.stream.chunks"] - 1
    for name, unit, bounds, counted in (
        *((f"gen_ai.client.{kind}.duration", "s", SECONDS, 3) for kind in KINDS),
        *((f"gen_ai.client.{kind}.time_to_first_chunk", "s", SECONDS, 1) for kind in KINDS),
        *((f"gen_ai.client.{kind}.time_per_output_chunk", "s", GAPS, gaps) for kind in KINDS),
        ("gen_ai.client.token.usage", "{token}", TOKENS, 4),
        ("gen_ai.client.inference.operation.input_tokens", "{token}", TOKENS, 2),
        ("gen_ai.client.inference.operation.output_tokens", "{token}", TOKENS, 2),
    ):
        metric = received.metric(name)
        assert (metric.name, metric.unit) == (name, unit)
        points = list(metric.histogram.data_points)
        assert [list(point.explicit_bounds) for point in points] == [pytest.approx(bounds)] * len(points), name
        assert sum(point.count for point in points) == counted, name
    tokens = {
        plain_attributes(point.attributes)["gen_ai.token.type"]: point.sum
        for point in received.metric("gen_ai.client.token.usage").histogram.data_points
    }
    assert tokens["output"] == 10
    used = received.metric("gen_ai.client.inference.usage.output_tokens")
    assert (used.unit, used.sum.is_monotonic) == ("{token}", True)
    assert [point.as_int for point in used.sum.data_points] == [10]
    left = received.metric("tensorix.ratelimit.remaining")
    assert left.unit == ""
    assert {plain_attributes(point.attributes)["limit"] for point in left.gauge.data_points} == {"requests", "tokens"}
    traces = {span.trace_id for span in spans}
    duration = received.metric("gen_ai.client.operation.duration").histogram
    exemplars = [exemplar for point in duration.data_points for exemplar in point.exemplars]
    # One of each bucket.
    assert exemplars
    assert {exemplar.trace_id for exemplar in exemplars} <= traces


RETRIED = """
client.chat.completions.create(**ask, extra_headers={"x-simulator-fault": "status 500"})
"""


def test_attempts_arrive(
    collector: Collector,
    received: Received,
    simulator: Simulator,
    run_service: Run,
    plain_attributes: Callable[[Any], dict[str, Any]],
) -> None:
    """A call that was tried twice: a span for each attempt below its own, and a counter of retries."""
    more = f"try:\n    {RETRIED.strip()}\nexcept openai.InternalServerError:\n    pass"
    ran = run_service(SERVICE.format(base_url=simulator.base_url, more=more), variables=collector.variables("grpc"))
    assert (ran.returncode, ran.stderr) == (0, "")
    spans = received.spans(6)
    attempts = [span for span in spans if span.name == "chat attempt"]
    (call,) = [span for span in spans if plain_attributes(span.attributes).get("tensorix.attempts") == 2]
    assert {span.parent_span_id for span in attempts} == {call.span_id}
    assert [plain_attributes(span.attributes)["http.response.status_code"] for span in attempts] == [500, 500]
    retries = received.metric("tensorix.client.retries")
    assert (retries.unit, retries.sum.is_monotonic) == ("{attempt}", True)
    assert [point.as_int for point in retries.sum.data_points] == [1]


def test_what_is_open_at_the_end_is_told(
    collector: Collector,
    received: Received,
    simulator: Simulator,
    run_service: Run,
    plain_attributes: Callable[[Any], dict[str, Any]],
) -> None:
    """A stream that is open when the process ends goes out with the rest, whichever of the two lines came first."""
    more = "stream = client.chat.completions.create(**ask, stream=True); next(iter(stream))"
    code = SERVICE.format(base_url=simulator.base_url, more=more)
    first, second = 'configure("shop")\n', "client = instrument"
    swapped = code.replace(first, "").replace("ask = dict", first + "ask = dict")
    assert swapped.index(second) < swapped.index(first)
    for program in (code, swapped):
        received.forget()
        ran = run_service(program, variables=collector.variables("http/protobuf"))
        assert (ran.returncode, ran.stderr) == (0, "")
        outcomes = [plain_attributes(span.attributes).get("tensorix.stream.outcome") for span in received.spans(4)]
        assert outcomes.count("abandoned") == 1, outcomes
