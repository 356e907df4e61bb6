"""`opentelemetry-instrument`: a program that knows nothing of tracing is traced, beside other instrumentations."""

from __future__ import annotations

import logging
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tensorix_simulator import Simulator
from tensorix_tracing.instrumentor import TensorixInstrumentor

if TYPE_CHECKING:
    from tests.tracing.conftest import Told
    from tests.tracing.export.conftest import Collector, Received

Run = Callable[..., subprocess.CompletedProcess[str]]
Plain = Callable[[Any], dict[str, Any]]

PROGRAM = """
import asyncio, httpx, openai, sys
base_url = {base_url!r}
ask = dict(model="z-ai/glm-5", messages=[dict(role="user", content="Say something.")], max_tokens=3)
for chunk in openai.OpenAI(base_url=base_url).chat.completions.create(**ask, stream=True):
    pass

async def ask_again():
    async with openai.AsyncOpenAI(base_url=base_url) as client:
        await client.chat.completions.create(**ask)

asyncio.run(ask_again())
httpx.post(base_url + "/chat/completions", json=ask, headers={{"authorization": "Bearer sk-raw"}}).raise_for_status()
httpx.get(base_url.removesuffix("/v1") + "/elsewhere")
"""
CHATS = ["chat z-ai/glm-5"] * 3
INSTRUMENT = (str(Path(sysconfig.get_path("scripts")) / "opentelemetry-instrument"), sys.executable)


def _variables(collector: Collector, simulator: Simulator, **more: str) -> dict[str, str]:
    return {
        **collector.variables("http/protobuf"),
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_SERVICE_NAME": "unaware",
        "TENSORIX_BASE_URL": simulator.base_url,
        **more,
    }


def test_a_program_that_knows_nothing(
    collector: Collector, received: Received, simulator: Simulator, run_service: Run, plain_attributes: Plain
) -> None:
    """Its calls to the API are spans and metrics, sent on to the API; what goes elsewhere is no call."""
    simulator.reset()
    ran = run_service(
        PROGRAM.format(base_url=simulator.base_url),
        variables=_variables(collector, simulator, OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="httpx,httpx2,fastapi"),
        command=INSTRUMENT,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    spans = received.spans(3)
    assert [span.name for span in spans] == CHATS
    assert received.resource()["service.name"] == "unaware"
    points = received.metric("gen_ai.client.operation.duration").histogram.data_points
    assert sum(point.count for point in points) == 3
    seen = [line["traceparent"] for line in simulator.truth() if line["event"] == "arrival"][-4:]
    assert seen.pop() is None
    assert [line[:-2] for line in seen] == [f"00-{span.trace_id.hex()}-{span.span_id.hex()}-" for span in spans]


def test_beside_the_instrumentation_of_httpx(
    collector: Collector, received: Received, simulator: Simulator, run_service: Run
) -> None:
    """Its spans hang below ours, and it is they that the API hears of."""
    ran = run_service(
        PROGRAM.format(base_url=simulator.base_url), variables=_variables(collector, simulator), command=INSTRUMENT
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    spans = received.spans(7)
    ours = [span for span in spans if span.name == "chat z-ai/glm-5"]
    theirs = [span for span in spans if span.name == "POST"]
    assert [len(spans), len(ours), len(theirs)] == [7, 3, 3]
    assert [span.parent_span_id for span in theirs] == [span.span_id for span in ours]
    assert [span.trace_id for span in theirs] == [span.trace_id for span in ours]
    seen = [line["traceparent"] for line in simulator.truth() if line["event"] == "arrival"][-4:-1]
    assert [line.split("-")[2] for line in seen] == [span.span_id.hex() for span in theirs]


# Wraps as OpenTelemetry's own instrumentations of openai do.
WRAPPED = """
import wrapt
def pass_on(wrapped, instance, arguments, named):
    return wrapped(*arguments, **named)
wrapt.wrap_function_wrapper("openai.resources.chat.completions", "{name}", pass_on)
"""


def test_beside_another_instrumentation_of_openai(
    collector: Collector, received: Received, simulator: Simulator, run_service: Run
) -> None:
    """It says once that it stands aside, and tells of the calls that go out by httpx alone."""
    both = "".join(WRAPPED.format(name=f"{prefix}Completions.create") for prefix in ("", "Async"))
    ran = run_service(
        both + PROGRAM.format(base_url=simulator.base_url),
        variables=_variables(collector, simulator, OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="httpx,httpx2,fastapi"),
        command=INSTRUMENT,
    )
    assert ran.returncode == 0
    assert ran.stderr.count("stands aside") == 1
    assert len(ran.stderr.splitlines()) == 1
    assert len(received.spans()) == 1


def test_hosts_that_are_none(collector: Collector, received: Received, simulator: Simulator, run_service: Run) -> None:
    """A mistake in the variable is one line; the program and the other instrumentations run on."""
    ran = run_service(
        PROGRAM.format(base_url=simulator.base_url),
        variables=_variables(collector, simulator, TENSORIX_TRACING_HOSTS="https://*.example"),
        command=INSTRUMENT,
    )
    assert ran.returncode == 0
    (line,) = ran.stderr.splitlines()
    assert line.startswith("nothing is traced: ")
    assert "https://*.example" in line
    assert {span.name for span in received.spans(4)} == {"POST", "GET"}


def test_the_entry_point_is_it() -> None:
    """The name that turns it off is `tensorix`."""
    (entry,) = entry_points(group="opentelemetry_instrumentor", name="tensorix")
    assert entry.load() is TensorixInstrumentor


@pytest.fixture
def instrumentor() -> Any:
    """There is one of it in a process, as of all of OpenTelemetry's."""
    made = TensorixInstrumentor()
    yield made
    if made.is_instrumented_by_opentelemetry:
        made.uninstrument()


def test_by_hand(instrumentor: TensorixInstrumentor, told: Told, simulator: Simulator, asked: dict[str, Any]) -> None:
    """`instrument` takes providers, our own settings and those that are others', and `uninstrument` ends it."""

    def ask() -> None:
        response = httpx.post(
            f"{simulator.base_url}/chat/completions", json=asked, headers={"authorization": "Bearer x"}
        )
        response.raise_for_status()

    send = httpx.Client.send
    host = simulator.base_url.split("/")[2]
    instrumentor.instrument(**told.providers, hosts=[host], provider_name="other", excluded_urls="whatever")
    ask()
    attributes = told.span("chat z-ai/glm-5").attributes
    assert attributes is not None
    assert attributes["gen_ai.provider.name"] == "other"
    assert told.points("gen_ai.client.operation.duration")
    instrumentor.uninstrument()
    assert httpx.Client.send is send
    ask()
    assert len(told.spans) == 1


def test_a_setting_that_is_wrong(instrumentor: TensorixInstrumentor, caplog: pytest.LogCaptureFixture) -> None:
    """By hand, too, a mistake is one line of the log."""
    send = httpx.Client.send
    with caplog.at_level(logging.ERROR):
        instrumentor.instrument(idle_after_s=-1)
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == ["nothing is traced"]
    assert httpx.Client.send is send
