"""Spans and metrics in a real collector: names, units and buckets, over gRPC and over HTTP."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
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
client = instrument(openai.OpenAI(base_url={base_url!r}, max_retries=0), chunk_gap_share=1.0)
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
TOKENS = [float(4**power) for power in range(14)]


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

    for name, unit, bounds, counted in (
        ("gen_ai.client.operation.duration", "s", SECONDS, 3),
        ("gen_ai.client.operation.time_to_first_chunk", "s", SECONDS, 1),
        ("gen_ai.client.operation.time_per_output_chunk", "s", GAPS, streamed["tensorix.stream.chunks"] - 1),
        ("gen_ai.client.token.usage", "{token}", TOKENS, 4),
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
