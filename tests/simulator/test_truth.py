"""The truth: what it holds, that it is never behind, and that no key is in it."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tensorix_api import Secret
from tensorix_simulator import Simulator
from tensorix_simulator.http.requests import RequestReader

Body = Callable[..., dict[str, Any]]
Raw = Callable[..., bytes]


def wait_for(condition: Callable[[], Any]) -> Any:
    """What `condition` returns as soon as it is true."""
    deadline = time.monotonic() + 10
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.002)
    return value


def lines(simulator: Simulator, event: str) -> list[dict[str, Any]]:
    return [line for line in simulator.truth() if line["event"] == event]


def wait_for_ends(simulator: Simulator, count: int) -> list[dict[str, Any]]:
    """The end lines once there are `count`: they are written after the send that they stamp."""
    found: list[dict[str, Any]] = wait_for(lambda: len(found := lines(simulator, "end")) == count and found)
    return found


@contextmanager
def standing_still(simulator: Simulator) -> Iterator[None]:
    """The simulator does nothing within; what is sent to it waits in the kernel."""
    os.kill(simulator.pid, signal.SIGSTOP)
    try:
        os.waitid(os.P_PID, simulator.pid, os.WSTOPPED | os.WNOWAIT)
        yield
    finally:
        os.kill(simulator.pid, signal.SIGCONT)


def test_a_stream_in_the_truth(start: Callable[..., Simulator], connect: Any, wire_request: Raw, body: Body) -> None:
    """One line when it was decided and one when it ended, whose stamps are in the order things happened."""
    simulator = start(ttft="20ms", between_tokens="5ms")
    wire = connect(simulator)
    before_ns, before_unix_ns = time.monotonic_ns(), time.time_ns()
    wire.send(wire_request(body(stream=True, max_tokens=5, n=2), x_request_id="mine", key="sk-truth"))
    wire.read_response()
    after_ns = time.monotonic_ns()
    [arrival], [end] = lines(simulator, "arrival"), wait_for_ends(simulator, 1)
    assert arrival["request_id"] == end["request_id"] == "mine"
    assert arrival["n"] == end["n"] == 1
    assert arrival["traceparent"] is None
    assert arrival["key_alias"] == Secret("sk-truth").alias
    assert (arrival["decision"], arrival["status"], end["status"]) == ("admitted", 200, 200)
    assert (arrival["method"], arrival["path"]) == ("POST", "/v1/chat/completions")
    assert (arrival["model"], arrival["stream"], arrival["completions"]) == ("z-ai/glm-5", True, 2)
    assert (arrival["remaining_requests"], arrival["remaining_tokens"]) == (59, 2_000_000)
    assert (end["remaining_requests"], end["remaining_tokens"]) == (59, 2_000_000 - 14)
    assert (end["ended"], end["completion_tokens"], end["prompt_tokens"]) == ("complete", 10, 4)
    stamps = [
        before_ns - 100_000,  # the kernel's clock is another, so to within a little
        arrival["arrival_ns"],
        arrival["arrival_read_ns"],
        arrival["body_ns"],
        arrival["decided_ns"],
        end["headers_sent_ns"],
        *end["chunk_sent_ns"],
        end["last_sent_ns"],
        end["end_ns"],
    ]
    assert stamps == sorted(stamps)
    assert end["last_sent_ns"] < after_ns + 2_000_000_000
    assert len(end["chunk_sent_ns"]) == len(end["lateness_ns"]) == 5
    assert end["first_token_sent_ns"] == end["chunk_sent_ns"][0]
    assert abs(arrival["arrival_unix_ns"] - before_unix_ns - (arrival["arrival_ns"] - before_ns)) < 5_000_000
    # The kernel had it before it was read.
    assert before_ns - 100_000 <= arrival["arrival_kernel_ns"] <= arrival["arrival_read_ns"] + 100_000


def test_the_arrival_is_not_the_read(
    start: Callable[..., Simulator], connect: Any, wire_request: Raw, body: Body
) -> None:
    """What came while the simulator stood still has arrived when it was sent, not when it could be read."""
    simulator = start()
    wire = connect(simulator)
    wire.send(wire_request(body()))
    wire.read_response()
    with standing_still(simulator):
        before_ns = time.monotonic_ns()
        wire.send(wire_request(body(), x_request_id="late", traceparent="00-0af7-b7ad-01"))
        sent_ns = time.monotonic_ns()
        time.sleep(0.1)
        resumed_ns = time.monotonic_ns()
    wire.read_response()
    [arrival] = [line for line in lines(simulator, "arrival") if line["request_id"] == "late"]
    assert arrival["traceparent"] == "00-0af7-b7ad-01"
    assert before_ns - 100_000 <= arrival["arrival_ns"] <= sent_ns + 10_000_000 < resumed_ns
    assert arrival["arrival_read_ns"] >= resumed_ns
    assert arrival["body_ns"] >= arrival["arrival_read_ns"]


def test_all_that_wait_are_read_before_one_is_served(
    start: Callable[..., Simulator], connect: Any, wire_request: Raw, body: Body
) -> None:
    """The stamp of a request's read does not hold the time that others' answers took."""
    simulator = start(rpm=None)
    wires = [connect(simulator) for _ in range(20)]
    for wire in wires:
        wire.send(wire_request(body()))
        wire.read_response()
    with standing_still(simulator):
        for k, wire in enumerate(wires):
            wire.send(wire_request(body(), x_request_id=f"late-{k}"))
    for wire in wires:
        wire.read_response()
    arrivals = [line for line in lines(simulator, "arrival") if line["request_id"].startswith("late-")]
    assert len(arrivals) == 20
    assert max(line["arrival_read_ns"] for line in arrivals) < min(line["decided_ns"] for line in arrivals)


@pytest.mark.parametrize(
    ("kernel_ns", "arrival_ns"), [(None, 5_000_000), (4_900_000, 4_900_000), (5_000_100, 5_000_000)]
)
def test_the_kernels_stamp_is_the_arrival_where_there_is_one(kernel_ns: int | None, arrival_ns: int) -> None:
    """Without one it is the read's, and it is never after the read, by however much the clocks disagree."""
    reader = RequestReader(1, lambda: 1_000)
    [request] = reader.feed(b"GET / HTTP/1.1\r\n\r\n", 5_000_000, kernel_ns)
    assert (request.arrival_ns, request.arrival_read_ns) == (arrival_ns, 5_000_000)
    assert request.arrival_kernel_ns == kernel_ns
    offset_ns = time.time_ns() - time.monotonic_ns()
    assert abs(request.arrival_unix_ns - arrival_ns - offset_ns) < 50_000_000


def test_tokens_are_never_early(start: Callable[..., Simulator], connect: Any, wire_request: Raw, body: Body) -> None:
    """Each chunk goes out at its due time or after it, and lateness does not add up over a stream."""
    simulator = start(rpm=None, ttft="30ms", between_tokens="4ms")
    wires = [connect(simulator) for _ in range(20)]
    for wire in wires:
        wire.send(wire_request(body(stream=True, max_tokens=40)))
    for wire in wires:
        wire.read_response()
    ends = wait_for_ends(simulator, 20)
    arrivals = {line["n"]: line for line in lines(simulator, "arrival")}
    for end in ends:
        due_ns = arrivals[end["n"]]["body_ns"] + 30_000_000
        for sent_ns, lateness_ns in zip(end["chunk_sent_ns"], end["lateness_ns"], strict=True):
            assert lateness_ns >= 0
            assert sent_ns - lateness_ns == due_ns
            due_ns += 4_000_000


def test_every_decision_is_in_the_truth(
    start: Callable[..., Simulator], connect: Any, wire_request: Raw, body: Body
) -> None:
    """Refusals of every kind have their two lines, and their statuses are those of the wire."""
    simulator = start(rpm=1, max_body_bytes=500)
    wire = connect(simulator)
    requests = [
        (wire_request(body()), "admitted"),
        (wire_request(body(), key="sk-invalid"), "unauthorised"),
        (wire_request(body(), key="sk-no-credit"), "no_credit"),
        (wire_request(body()), "refused_requests"),
        (wire_request(b"{"), "bad_request"),
        (wire_request(method="GET", path="/v1/models"), "admitted"),
        (wire_request(method="GET", path="/v1/nowhere"), "not_found"),
        (wire_request(method="GET"), "not_allowed"),
        (wire_request(b"x" * 501), "too_large"),
    ]
    statuses = []
    for data, _ in requests:
        wire.send(data)
        statuses.append(wire.read_response()[0])
    garbage = connect(simulator)
    garbage.send(b"garbage\r\n\r\n")
    statuses.append(400 if garbage.read_all().startswith(b"HTTP/1.1 400") else 0)
    arrivals, ends = lines(simulator, "arrival"), wait_for_ends(simulator, 10)
    assert [line["decision"] for line in arrivals] == [*(decision for _, decision in requests), "malformed"]
    assert [line["status"] for line in arrivals] == [line["status"] for line in ends] == statuses
    assert {line["ended"] for line in ends} == {"complete"}


@pytest.mark.parametrize("charging", ["actual", "reserve"])
def test_a_client_that_goes_early(
    start: Callable[..., Simulator], connect: Any, wire_request: Raw, body: Body, charging: str
) -> None:
    """The stream ends with it at once, and what was sent until then is charged."""
    simulator = start(between_tokens="20ms", charging=charging)
    wire = connect(simulator)
    wire.send(wire_request(body(stream=True, max_tokens=10_000)))
    for _ in range(3):
        wire.read_until(b'"content"')
    wire.close()
    [end] = wait_for_ends(simulator, 1)
    assert end["ended"] == "client_gone"
    assert 3 <= len(end["chunk_sent_ns"]) < 20
    assert end["completion_tokens"] == len(end["chunk_sent_ns"])
    assert end["remaining_tokens"] == 2_000_000 - 4 - end["completion_tokens"]


def test_a_client_that_goes_before_its_answer(
    start: Callable[..., Simulator], connect: Any, wire_request: Raw, body: Body
) -> None:
    """Neither a reply that was still to come nor a request that was not whole is left without an end."""
    simulator = start(ttft="1000s")
    waiting, halfway, queued = connect(simulator), connect(simulator), connect(simulator)
    waiting.send(wire_request(body(), x_request_id="waiting"))
    halfway.send(wire_request(body(), x_request_id="halfway")[:-5])
    queued.send(wire_request(body(), x_request_id="first") + wire_request(body(), x_request_id="second"))
    wait_for(lambda: len(lines(simulator, "arrival")) == 2)
    for wire in (waiting, halfway, queued):
        wire.close()
    ends = wait_for_ends(simulator, 4)
    assert {end["ended"] for end in ends} == {"client_gone"}
    decisions = {line["request_id"]: line["decision"] for line in lines(simulator, "arrival")}
    assert decisions == {
        "waiting": "admitted", "halfway": "incomplete", "first": "admitted", "second": "incomplete",
    }  # fmt: skip


def test_killing_it_loses_nothing_that_was_decided(start: Callable[..., Simulator], body: Body, tmp_path: Path) -> None:
    """Whatever a client has an answer to stands in the truth after SIGKILL, each line whole."""
    path = tmp_path / "truth.jsonl"
    simulator = start(rpm=None, truth_path=path)
    answered: list[str] = []

    def ask(name: str) -> None:
        with httpx.Client(base_url=simulator.base_url, trust_env=False) as client:
            for k in range(100_000):
                request_id = f"{name}-{k}"
                headers = {"authorization": "Bearer sk-kill", "x-request-id": request_id}
                try:
                    client.post("/chat/completions", json=body(max_tokens=2, stream=k % 2 == 0), headers=headers)
                except httpx.TransportError:
                    return
                answered.append(request_id)

    threads = [threading.Thread(target=ask, args=(f"t{k}",)) for k in range(4)]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(answered) > 100)
    os.kill(simulator.pid, signal.SIGKILL)
    for thread in threads:
        thread.join()
    data = path.read_bytes()
    assert data.endswith(b"\n")
    written = [json.loads(line) for line in data.splitlines()]
    arrived = {line["request_id"] for line in written if line["event"] == "arrival"}
    assert set(answered) <= arrived


def test_ending_in_order_ends_every_line(
    start: Callable[..., Simulator], connect: Any, wire_request: Raw, body: Body
) -> None:
    """SIGTERM in the middle of streams: each has its end, marked as stopped, and the process is gone."""
    simulator = start(ttft="1000s")
    wires = [connect(simulator) for _ in range(5)]
    for k, wire in enumerate(wires):
        wire.send(wire_request(body(stream=k % 2 == 0)))
    wait_for(lambda: len(lines(simulator, "arrival")) == 5)
    os.kill(simulator.pid, signal.SIGTERM)
    ends = wait_for_ends(simulator, 5)
    assert {end["ended"] for end in ends} == {"stopped"}
    for wire in wires:
        wire.read_all()


def test_no_key_is_in_the_truth(start: Callable[..., Simulator], connect: Any, wire_request: Raw, body: Body) -> None:
    """A key that occurs nowhere else occurs nowhere here: not in the truth, the settings or an error."""
    key = "sk-occurs-nowhere-else-4711"
    simulator = start(rpm=1, no_credit_keys=[key + "x"])
    wire = connect(simulator)
    came = []
    for data in (
        wire_request(body(), key=key),
        wire_request(body(), key=key),
        wire_request(body(), key=key + "x"),
        wire_request(b"{", key=key),
        wire_request(method="GET", path="/v1/nowhere", key=key),
    ):
        wire.send(data)
        came.append(str(wire.read_response()))
    came.append(httpx.get(simulator.control_url + "/settings", trust_env=False).text)
    came.append(simulator.truth_path.read_text())
    assert not [text for text in came if key in text]
