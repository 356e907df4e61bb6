"""The example service, run as its README says: a trace from its user's request to the API's."""

from __future__ import annotations

import re
import shlex
import subprocess
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tensorix_simulator import Simulator

if TYPE_CHECKING:
    from tests.tracing.export.conftest import Collector, Received

ROOT = Path(__file__).parents[3]
README = (ROOT / "tracing" / "example" / "README.md").read_text()
SCRIPTS = Path(sysconfig.get_path("scripts"))
Plain = Callable[[Any], dict[str, Any]]


def _typed(program: str) -> tuple[dict[str, str], list[str]]:
    """The command line of the README that runs a program: the variables that stand before it, and its words."""
    block = re.findall(r"```console\n(.*?)```", README, re.S)[0]
    ((before, line),) = re.findall(rf"^\$ ((?:[A-Z_]+=\S+ )*)({program} .*)$", block, re.M)
    return dict(one.split("=", 1) for one in shlex.split(before)), shlex.split(line)


@pytest.fixture
def simulator() -> Any:
    """As slow as the README makes it, nearly."""
    with Simulator(rpm=None, tpm=None, ttft="20ms", between_tokens="20ms", reply_tokens="40") as simulator:
        yield simulator
        assert simulator.complaints() == ""


@pytest.fixture
def service(
    start_service: Callable[..., subprocess.Popen[bytes]],
    free_port: Callable[[], int],
    collector: Collector,
    simulator: Simulator,
) -> tuple[subprocess.Popen[bytes], str]:
    """The process of the service, and where it is asked."""
    port = free_port()
    variables, words = _typed("uvicorn")
    assert variables["TENSORIX_BASE_URL"] == "http://127.0.0.1:8000/v1"
    words = [word.replace("8080", str(port)) for word in words]
    words = [word.replace("tracing/example", str(ROOT / "tracing" / "example")) for word in words]
    process = start_service(
        str(SCRIPTS / words[0]),
        *words[1:],
        port=port,
        variables={
            **collector.variables("http/protobuf"),
            **variables,
            "TENSORIX_BASE_URL": simulator.base_url,
        },
    )
    return process, f"http://127.0.0.1:{port}"


def _is(name: str) -> Callable[[Any], bool]:
    """Whether a span's name begins so."""
    return lambda span: bool(span.name.startswith(name))


def _ends(simulator: Simulator, count: int) -> list[str]:
    """How so many requests ended for the simulator, which may be a moment later than for its client."""
    deadline = time.monotonic() + 20
    while True:
        ends = [line["ended"] for line in simulator.truth() if line["event"] == "end"]
        if len(ends) >= count:
            return ends
        assert time.monotonic() < deadline, ends
        time.sleep(0.02)


@pytest.mark.system("curl")
def test_one_trace_from_the_user_to_the_api(
    service: tuple[subprocess.Popen[bytes], str],
    received: Received,
    simulator: Simulator,
    plain_attributes: Plain,
) -> None:
    """What the user's request is sent under is where the API's request hangs, whole, broken off, refused or left."""
    process, url = service

    # Whole, by the README's own line, under a trace that the user has begun.
    curl = [word.replace("http://127.0.0.1:8080", url) for word in _typed("curl")[1]]
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    traced = [*curl, "--silent", "--show-error", "--header", f"traceparent: 00-{trace}-{parent}-01"]
    ran = subprocess.run(traced, capture_output=True, text=True, timeout=30, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.count("event: text\n") == 40
    assert ran.stdout.endswith('event: done\ndata: ""\n\n')
    request, call = received.spans(2)
    assert [request.name, call.name] == ["POST /ask", "chat deepseek/deepseek-chat-v3.1"]
    assert [request.kind, call.kind] == [2, 3], "SERVER and CLIENT"
    assert [request.parent_span_id.hex(), call.parent_span_id] == [parent, request.span_id]
    assert {span.trace_id.hex() for span in (request, call)} == {trace}
    (arrival,) = [line for line in simulator.truth() if line["event"] == "arrival"]
    assert arrival["traceparent"].split("-")[1:3] == [trace, call.span_id.hex()]
    about = plain_attributes(call.attributes)
    assert about["tensorix.stream.outcome"] == "completed"
    assert about["gen_ai.usage.output_tokens"] == 40
    assert received.resource()["service.name"] == "chat-example"

    # Left in the middle: the service stops what it asked for, and the API sees its client go.
    received.forget()
    with httpx.stream("POST", f"{url}/ask", json={"text": "Why?"}) as response:
        next(response.iter_lines())
    (call,) = received.spans(where=_is("chat "))
    assert plain_attributes(call.attributes)["tensorix.stream.outcome"] == "cancelled"
    assert call.status.code == 0
    assert _ends(simulator, 2) == ["complete", "client_gone"]

    # Broken off by the server: an error of the call, and the user is told.
    simulator.change(faults=["cut after 5 chunks"])
    received.forget()
    answer = httpx.post(f"{url}/ask", json={"text": "Why?"}, timeout=20)
    assert answer.text.endswith('event: error\ndata: "the answer broke off"\n\n')
    (call,) = received.spans(where=_is("chat "))
    assert plain_attributes(call.attributes)["tensorix.stream.outcome"] == "cut"
    assert call.status.code == 2, "ERROR"

    # Refused: each attempt is a span below the call, and the API is sent the attempt's id.
    simulator.change(faults=["status 429"])
    received.forget()
    answer = httpx.post(f"{url}/ask", json={"text": "Why?"}, timeout=20)
    assert (answer.status_code, answer.json()) == (503, {"detail": "too busy, try again"})
    (call,) = received.spans(where=_is("chat deep"))
    attempts = received.spans(3, where=_is("chat attempt"))
    about = plain_attributes(call.attributes)
    assert [about["error.type"], about["tensorix.attempts"], call.status.code] == ["429", 3, 2]
    assert {attempt.parent_span_id for attempt in attempts} == {call.span_id}
    seen = [line["traceparent"].split("-")[2] for line in simulator.truth() if line["event"] == "arrival"][-3:]
    assert seen[1:] == [attempt.span_id.hex() for attempt in attempts[1:]]

    # Ended by a signal, it sends what it held: the metrics of the last call among them.
    received.forget()
    process.terminate()
    process.wait(20)
    points = received.metric("gen_ai.client.operation.duration").histogram.data_points
    assert sum(point.count for point in points) == 4


def test_it_says_what_is_missing(
    run_service: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    """Without a key it ends in one line."""
    path = str(ROOT / "tracing" / "example")
    ran = run_service(f"import sys; sys.path.insert(0, {path!r})\nimport service")
    assert (ran.returncode, ran.stderr) == (1, "TENSORIX_API_KEY is not set: the key for the API\n")
