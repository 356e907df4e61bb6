"""Whom faults hit and when: by rate, by what is asked for, by schedule, and while settings change."""

from __future__ import annotations

import json
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import httpx
import pytest

from tensorix_simulator import Simulator
from tensorix_simulator.settings import SimulatorSettings

Start = Callable[..., Simulator]
Raw = Callable[..., bytes]


class Wire(Protocol):
    """The raw connection of conftest."""

    socket: socket.socket

    def send(self, data: bytes) -> None: ...
    def close(self) -> None: ...
    def read_until(self, mark: bytes) -> bytes: ...
    def read_all(self) -> bytes: ...
    def read_response(self) -> tuple[int, dict[str, str], bytes]: ...


Connect = Callable[[Simulator], Wire]


class _Anew:
    """A simulator that has been used before, as if it had just been started: what was before is not in its truth."""

    def __init__(self, simulator: Simulator, settings: dict[str, Any]) -> None:
        self._simulator = simulator
        defaults = {name: value for name, value in SimulatorSettings().to_dict().items() if name != "format"}
        simulator.change(**{**defaults, "ttft": "1ms", "between_tokens": "1ms", **settings})
        self._before = simulator.truth_path.stat().st_size
        simulator.reset()

    def truth(self) -> list[dict[str, Any]]:
        # From there on only: it is asked for often.
        with self._simulator.truth_path.open("rb") as file:
            file.seek(self._before)
            data = file.read()
        lines = [json.loads(line) for line in data[: data.rfind(b"\n") + 1].splitlines()]
        own = {line["n"] for line in lines if line["event"] == "arrival"}
        return [line for line in lines if line["event"] != "end" or line["n"] in own]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._simulator, name)


@pytest.fixture(scope="module")
def shared() -> Iterator[Simulator]:
    """One process for nearly all."""
    with Simulator() as simulator:
        yield simulator
        assert simulator.complaints() == ""


@pytest.fixture
def anew(shared: Simulator) -> Start:
    """The shared simulator with settings of one's own."""

    def start_anew(**settings: Any) -> Any:
        return _Anew(shared, settings)

    return start_anew


def _chat(number: int = 0, **parameters: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": f"Say {number}."}]
    return {"model": "z-ai/glm-5", "messages": messages, "max_tokens": 2, **parameters}


def _client(simulator: Simulator) -> httpx.Client:
    headers = {"authorization": "Bearer sk-victim"}
    return httpx.Client(base_url=simulator.base_url, headers=headers, timeout=10, trust_env=False)


def _statuses(simulator: Simulator, bodies: list[dict[str, Any]]) -> list[int]:
    with _client(simulator) as client:
        return [client.post("/chat/completions", json=body).status_code for body in bodies]


def _events(simulator: Simulator, event: str) -> list[dict[str, Any]]:
    return [line for line in simulator.truth() if line["event"] == event]


def _wait_for(simulator: Simulator, event: str, count: int) -> list[dict[str, Any]]:
    """The lines of an event, when there are so many."""
    deadline = time.monotonic() + 10
    while len(lines := _events(simulator, event)) < count:
        assert time.monotonic() < deadline, f"{len(lines)} lines of {event}"
        time.sleep(0.005)
    return lines


def _asked_for(simulator: Simulator, ms: int) -> tuple[list[int], list[int]]:
    """Ask again and again, for so long after a reset: the statuses, and how many ns after it each request arrived."""
    with _client(simulator) as client:
        client.get("/models")
        simulator.reset()
        begun_ns = _events(simulator, "reset")[-1]["at_ns"]
        late = False
        while not late:
            # One more when the time is over.
            late = time.monotonic_ns() >= begun_ns + ms * 1_000_000
            client.post("/chat/completions", json=_chat())
    arrivals = [line for line in _events(simulator, "arrival") if line["arrival_ns"] >= begun_ns]
    return [line["status"] for line in arrivals], [line["arrival_ns"] - begun_ns for line in arrivals]


# by rate


def test_a_rate_hits_that_share(anew: Start) -> None:
    """Of 200 different requests a rate of 20 % hits 40, give or take four standard deviations of 5.7."""
    simulator = anew(rpm=None, tpm=None, faults=["status 503, rate 20%"])
    statuses = _statuses(simulator, [_chat(number) for number in range(200)])
    assert 17 <= statuses.count(503) <= 63
    assert statuses.count(200) == 200 - statuses.count(503)


def test_the_seed_chooses_the_victims(anew: Start) -> None:
    """The same seed and requests: the same victims, whatever the order and whichever faults are set besides."""
    bodies = [_chat(number // 2) for number in range(40)]
    simulator = anew(rpm=None, tpm=None, faults=["status 503, rate 30%"])
    first = _statuses(simulator, bodies)
    simulator.reset()
    assert _statuses(simulator, bodies) == first
    # Each body comes twice, and each of the two has a fate of its own.
    assert first[::2] != first[1::2]
    assert {200, 503} == set(first)

    simulator.reset()
    backwards = _statuses(simulator, bodies[::-2])
    assert backwards == [first[number * 2] for number in range(19, -1, -1)]

    simulator.change(faults=["status 400, rate 1%, on models", "comments, rate 50%", "status 503, rate 30%"])
    simulator.reset()
    assert _statuses(simulator, bodies) == first
    simulator.change(seed=1)
    simulator.reset()
    assert _statuses(simulator, bodies) != first


def test_a_header_may_have_a_rate(anew: Start) -> None:
    """It is drawn as the settings' rates are."""
    simulator = anew(rpm=None, tpm=None)
    with _client(simulator) as client:
        headers = {"x-simulator-fault": "status 500, rate 50%"}
        statuses = [client.get("/models", headers=headers).status_code for _ in range(60)]
    assert 10 <= statuses.count(500) <= 50
    assert _statuses(simulator, [_chat()]) == [200]


# by what is asked for


def test_pages_and_models(anew: Start) -> None:
    """`on` names the pages, `model` the model asked for; the truth names the fault that was met."""
    faults = ["status 502, on models", "status 503, model z-ai/glm-5", "status 504, model deepseek/deepseek-r1-0528"]
    simulator = anew(rpm=None, tpm=None, faults=faults)
    with _client(simulator) as client:
        assert client.get("/models").status_code == 502
        assert client.get("/models/z-ai/glm-5").status_code == 502
    asked = ["z-ai/glm-5", "deepseek/deepseek-r1-0528", "deepseek/deepseek-chat-v3.1"]
    assert _statuses(simulator, [_chat(model=model) for model in asked]) == [503, 504, 200]
    named = [line["fault"] for line in _events(simulator, "arrival")]
    assert named == [faults[0], faults[0], faults[1], faults[2], None]
    simulator.change(faults=["status 500, on chat"])
    with _client(simulator) as client:
        assert client.get("/models").status_code == 200
    # A key that is not valid, a page that is not there and a body that is no request are refused as ever.
    with _client(simulator) as client:
        assert client.post("/chat/completions", content=b"{").status_code == 400
        assert client.post("/embeddings", json={}).status_code == 404
        assert client.get("/models", headers={"authorization": "Bearer sk-invalid"}).status_code == 401


def test_what_is_hit_is_charged_honestly(anew: Start) -> None:
    """The request counts. Of tokens, none where there was no answer; those that were made where it was cut."""
    simulator = anew(rpm=10, tpm=1000)
    with _client(simulator) as client:
        for fault in ("status 503", "reset", "cut after 2 chunks", "out of credit"):
            body = _chat(max_tokens=50, stream=True)
            try:
                client.post("/chat/completions", json=body, headers={"x-simulator-fault": fault}).read()
            except httpx.TransportError:
                pass
    ends = _wait_for(simulator, "end", 4)
    assert [end["ended"] for end in ends] == ["complete", "reset", "cut", "complete"]
    assert [end["completion_tokens"] for end in ends] == [0, 0, 2, 0]
    used = ends[2]["prompt_tokens"] + 2
    assert [1000 - end["remaining_tokens"] for end in ends] == [0, 0, used, used]
    assert [10 - end["remaining_requests"] for end in ends] == [1, 2, 3, 3]


# by schedule


def test_a_schedule_of_requests(start: Start) -> None:
    """A fault holds from its first instant up to its last, counted from the start, by when requests arrived."""
    simulator = start(rpm=None, tpm=None, faults=["status 503, from 500ms to 1s"])
    begun_ns = _events(simulator, "start")[0]["monotonic_ns"]
    with _client(simulator) as client:
        while time.monotonic_ns() < begun_ns + 1_000_000_000:
            client.get("/models")
            time.sleep(0.005)
        client.get("/models")
    arrivals = _events(simulator, "arrival")
    after_ns = [line["arrival_ns"] - begun_ns for line in arrivals]
    statuses = [line["status"] for line in arrivals]
    assert statuses == [503 if 500_000_000 <= at_ns < 1_000_000_000 else 200 for at_ns in after_ns]
    assert set(statuses) == {200, 503}


def test_a_schedule_counts_from_the_last_reset(anew: Start) -> None:
    """POST /reset begins it anew."""
    simulator = anew(rpm=None, tpm=None, faults=["status 503, from 0s to 300ms"])
    for _ in range(2):
        statuses, after_ns = _asked_for(simulator, 300)
        assert statuses == [503 if at_ns < 300_000_000 else 200 for at_ns in after_ns]
        assert set(statuses) == {200, 503}


def _refused(simulator: Simulator) -> bool:
    try:
        socket.create_connection(("127.0.0.1", simulator.port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


def test_refused_connections(anew: Start, connect: Connect, wire_request: Raw) -> None:
    """For the schedule's time the kernel refuses new connections; the control port and open connections go on."""
    simulator = anew(rpm=None, tpm=None, faults=["refuse, from 0s to 400ms"])
    simulator.change(faults=[])
    kept = connect(simulator)
    kept.send(wire_request(_chat()))
    assert kept.read_response()[0] == 200
    simulator.change(faults=["refuse, from 0s to 400ms"])
    simulator.reset()
    at_ns = _events(simulator, "reset")[-1]["at_ns"]
    seen = []
    while (before_ns := time.monotonic_ns()) < at_ns + 600_000_000:
        refused = _refused(simulator)
        seen.append((before_ns, time.monotonic_ns(), refused))
    kept.send(wire_request(_chat()))
    assert kept.read_response()[0] == 200
    end = _events(simulator, "outage")[-1]
    assert (end["what"], end["fault"]) == ("end", "refuse, from 0s to 400ms")
    # The truth is written just after the door was moved.
    assert 0 <= end["at_ns"] - at_ns - 400_000_000 < 1_000_000_000
    assert {refused for before, after, refused in seen if after < end["at_ns"] - 100_000_000} == {True}
    assert {refused for before, after, refused in seen if before > end["at_ns"]} == {False}


def test_faults_are_moved_while_it_runs(anew: Start) -> None:
    """Refusing begins and ends with the change of the settings: no connection after it fares otherwise."""
    simulator = anew()
    for _ in range(3):
        simulator.change(faults=["refuse"])
        assert [_refused(simulator) for _ in range(20)] == [True] * 20
        simulator.change(faults=[])
        assert [_refused(simulator) for _ in range(20)] == [False] * 20
    # It listens on the same port, and all that it needs of a socket is there.
    assert _statuses(simulator, [_chat()]) == [200]
    assert _events(simulator, "arrival")[-1]["arrival_kernel_ns"] is not None


def test_faults_over_the_control_port(anew: Start) -> None:
    """PATCH sets other faults and leaves the rest; a wrong one is named with what may be written, and nothing moves."""
    simulator = anew(rpm=None, tpm=None, seed=7, faults=["status 503"])
    with httpx.Client(base_url=simulator.control_url, trust_env=False) as control:
        settings = control.patch("/settings", json={"faults": ["status 502, on chat"]}).json()
        assert (settings["faults"], settings["seed"]) == (["status 502, on chat"], 7)
        wrong = control.patch("/settings", json={"faults": ["split", "outrage"]})
        assert wrong.status_code == 400
        assert "setting 'faults': 'outrage' is no fault: write one of status 503;" in wrong.json()["error"]["message"]
        assert control.patch("/settings", json={"faults": "split"}).status_code == 400
    assert _statuses(simulator, [_chat()]) == [502]


def test_many_stalled_streams_cost_nothing_and_end(anew: Start, connect: Connect, wire_request: Raw) -> None:
    """Two hundred at once leave others their times, and nothing of them stays when their clients have gone."""
    simulator = anew(rpm=None, tpm=None)
    request = wire_request(_chat(stream=True), x_simulator_fault="stall 24h after 1 chunk")
    wires = [connect(simulator) for _ in range(200)]
    for wire in wires:
        wire.send(request)
    for wire in wires:
        wire.read_until(b'"content"')
    assert _statuses(simulator, [_chat()]) == [200]
    for wire in wires:
        wire.close()
    ends = _wait_for(simulator, "end", 201)
    assert [end["ended"] for end in ends].count("client_gone") == 200
    with httpx.Client(base_url=simulator.control_url, trust_env=False) as control:
        assert control.get("/healthz").json()["streams"] == 0


def test_an_outage(anew: Start, connect: Connect, wire_request: Raw) -> None:
    """What is open is reset, answered or not, streams in the middle; then nobody gets in until it is over."""
    simulator = anew(rpm=None, tpm=None, between_tokens="50ms")
    wires = [connect(simulator) for _ in range(5)]
    wires[0].send(wire_request(_chat(stream=True, max_tokens=1000)))
    wires[0].read_until(b'"content"')
    wires[1].send(wire_request(_chat(), x_simulator_fault="stall 1h before headers"))
    wires[2].send(wire_request(_chat()))
    assert wires[2].read_response()[0] == 200
    # Its answer to the expectation tells that this head was read before the outage.
    wires[3].send(b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 9\r\nexpect: 100-continue\r\n\r\n{")
    wires[3].read_until(b"100 Continue\r\n\r\n")
    _wait_for(simulator, "arrival", 3)
    simulator.change(faults=["outage"])
    for wire in wires:
        with pytest.raises(ConnectionResetError):
            wire.read_all()
    assert _refused(simulator)
    simulator.change(faults=[])
    assert not _refused(simulator)
    assert _statuses(simulator, [_chat()]) == [200]
    ends = {end["n"]: end["ended"] for end in _wait_for(simulator, "end", 5)}
    decisions = {line["n"]: line["decision"] for line in _events(simulator, "arrival")}
    assert sorted(ends.values()) == ["complete", "complete", "reset", "reset", "reset"]
    assert {ends[number] for number, decision in decisions.items() if decision == "incomplete"} == {"reset"}
    assert [line["what"] for line in _events(simulator, "outage")] == ["begin", "end"]


def test_an_outage_by_schedule(start: Start, connect: Connect) -> None:
    """It comes by itself, resets a connection that is idle, and goes."""
    simulator = start(faults=["outage, from 300ms to 500ms", "refuse, from 400ms to 600ms"])
    begun_ns = _events(simulator, "start")[0]["monotonic_ns"]
    idle = connect(simulator)
    with pytest.raises(ConnectionResetError):
        idle.socket.recv(1)
    lines = _wait_for(simulator, "outage", 4)
    assert [(line["what"], line["fault"].split(",")[0]) for line in lines] == [
        ("begin", "outage"),
        ("begin", "refuse"),
        ("end", "outage"),
        ("end", "refuse"),
    ]
    for line, due_ms in zip(lines, (300, 400, 500, 600), strict=True):
        assert 0 <= line["at_ns"] - begun_ns - due_ms * 1_000_000 < 1_000_000_000
    assert not _refused(simulator)


# credit and models


def test_credit_runs_out(anew: Start) -> None:
    """Each key's tokens are counted, prompts too; when they are used up it is answered with 402 from then on."""
    simulator = anew(rpm=None, tpm=None, credit_tokens=25)
    with _client(simulator) as client:

        def ask(key: str, stream: bool = False) -> int:
            headers = {"authorization": f"Bearer {key}"}
            body = _chat(max_tokens=8, stream=stream)
            return client.post("/chat/completions", json=body, headers=headers).status_code

        statuses = [ask("sk-one", stream=number % 2 == 0) for number in range(5)]
        ends = _wait_for(simulator, "end", 5)
        each = ends[0]["prompt_tokens"] + ends[0]["completion_tokens"]
        passed = -(-25 // each)
        assert statuses == [200] * passed + [402] * (5 - passed)
        assert 1 < passed < 5
        assert ask("sk-two") == 200
        assert client.get("/models", headers={"authorization": "Bearer sk-one"}).status_code == 200
        simulator.change(credit_tokens=1000)
        assert ask("sk-one") == 200
        simulator.change(credit_tokens=25)
        assert ask("sk-one") == 402
        simulator.reset()
        assert ask("sk-one") == 200
    refused = [line for line in _events(simulator, "arrival") if line["status"] == 402]
    assert {line["decision"] for line in refused} == {"no_credit"}


def test_credit_runs_out_at_a_time(anew: Start) -> None:
    """402 from that instant on."""
    statuses, after_ns = _asked_for(anew(rpm=None, tpm=None, faults=["out of credit, from 300ms"]), 300)
    assert statuses == [402 if at_ns >= 300_000_000 else 200 for at_ns in after_ns]
    assert set(statuses) == {200, 402}


def test_models_that_vanish_and_appear(anew: Start) -> None:
    """The list, the model's page and chat completions agree at every time."""
    simulator = anew(rpm=None, tpm=None, faults=["vanish z-ai/glm-5", "appear new/model"])
    with _client(simulator) as client:

        def there(name: str) -> bool:
            listed = name in [model["id"] for model in client.get("/models").json()["data"]]
            page = client.get(f"/models/{name}")
            chat = client.post("/chat/completions", json=_chat(model=name))
            assert (page.status_code, chat.status_code) == ((200, 200) if listed else (404, 400))
            if not listed:
                assert page.json()["error"]["code"] == chat.json()["error"]["code"] == "model_not_found"
            return listed

        assert (there("z-ai/glm-5"), there("new/model")) == (False, True)
        simulator.change(faults=["vanish z-ai/glm-5, from 1h", "appear new/model, from 1h"])
        assert (there("z-ai/glm-5"), there("new/model")) == (True, False)
        simulator.change(faults=["appear z-ai/glm-5, from 1h"])
        assert not there("z-ai/glm-5")
        simulator.change(faults=[f"vanish {name}" for name in simulator.settings.models])
        assert client.get("/models").json() == {"object": "list", "data": []}
        simulator.change(faults=[])
        assert (there("z-ai/glm-5"), there("new/model")) == (True, False)


def test_a_model_vanishes_at_a_time(anew: Start) -> None:
    """By when the request arrived."""
    statuses, after_ns = _asked_for(anew(rpm=None, tpm=None, faults=["vanish z-ai/glm-5, from 300ms"]), 300)
    assert statuses == [400 if at_ns >= 300_000_000 else 200 for at_ns in after_ns]
    assert set(statuses) == {200, 400}


# slow reading


@pytest.mark.parametrize("by_header", [False, True])
def test_slow_reading(anew: Start, connect: Connect, wire_request: Raw, by_header: bool) -> None:
    """A body takes its length at that rate to be read, and is answered then."""
    fault = "slow reading 20000 bytes/s"
    simulator = anew(rpm=None, tpm=None, faults=[] if by_header else [fault])
    body = _chat(messages=[{"role": "user", "content": "x" * 6000}])
    wire = connect(simulator)
    for _ in range(2):
        wire.send(wire_request(body, **({"x_simulator_fault": fault} if by_header else {})))
        assert wire.read_response()[0] == 200
    for line in _events(simulator, "arrival"):
        assert line["fault"] == fault
        assert line["body_ns"] - line["arrival_read_ns"] >= len(json.dumps(body)) / 20_000 * 1e9


def test_slow_reading_blocks_the_client(anew: Start, connect: Connect, wire_request: Raw) -> None:
    """What the client sends soon stands in its own buffers: its send blocks."""
    simulator = anew(faults=["slow reading 100000 bytes/s"])
    wire = connect(simulator)
    wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
    wire.socket.settimeout(0.3)
    request = wire_request(_chat(messages=[{"role": "user", "content": "x" * 4_000_000}]))
    with pytest.raises(TimeoutError):
        wire.send(request)
    # By a reset: an end in order would come behind what stands in the buffers.
    wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wire.close()
    (arrival,) = _wait_for(simulator, "arrival", 1)
    assert (arrival["decision"], arrival["fault"]) == ("incomplete", "slow reading 100000 bytes/s")
    assert _wait_for(simulator, "end", 1)[0]["ended"] == "client_gone"


def test_slow_reading_ends_when_the_client_goes(anew: Start, connect: Connect, wire_request: Raw) -> None:
    """However much of what it has sent is not read yet."""
    simulator = anew(faults=["slow reading 1 bytes/s"])
    wire = connect(simulator)
    wire.send(wire_request(_chat(messages=[{"role": "user", "content": "x" * 30_000}])))
    wire.close()
    assert _wait_for(simulator, "end", 1)[0]["ended"] == "client_gone"


def test_only_the_body_is_slow(anew: Start) -> None:
    """A request without a body is read as ever, and other connections do not wait."""
    simulator = anew(rpm=None, tpm=None, faults=["slow reading 1 bytes/s, on chat"])
    with _client(simulator) as client:
        assert client.get("/models").status_code == 200
    assert _events(simulator, "arrival")[0]["fault"] is None


# in other company


def test_faults_over_tls(wire_request: Raw) -> None:
    """They are the same: pieces, a cut in mid-stream, and a reset."""
    with Simulator(ttft="1ms", between_tokens="1ms", rpm=None, tls="valid") as simulator:
        verify = ssl.create_default_context(cafile=str(simulator.ca_path))
        headers = {"authorization": "Bearer sk-tls"}
        with httpx.Client(base_url=simulator.base_url, headers=headers, verify=verify, trust_env=False) as client:

            def ask(fault: str) -> str:
                with client.stream(
                    "POST", "/chat/completions", json=_chat(stream=True), headers={"x-simulator-fault": fault}
                ) as response:
                    return response.read().decode()

            assert ask("split; comments").endswith("data: [DONE]\n\n")
            for fault in ("cut after 1 chunk", "cut after 1 chunk by reset", "reset"):
                with pytest.raises(httpx.TransportError):
                    ask(fault)
        assert simulator.complaints() == ""


@pytest.mark.parametrize(
    "settings",
    [
        {"style": "litellm"},
        # In a batch a slot is free at the end of the step: the next may have to wait for that.
        {"latency": "batch", "step": "1ms", "slots": 1, "queue": 1},
        {"slots": 1, "queue": 0},
        {"more_limits": ["1 in flight"]},
        {"over_limit": "delay", "more_limits": ["1 in flight"]},
    ],
    ids=str,
)
def test_nothing_stays_taken(anew: Start, connect: Connect, wire_request: Raw, settings: dict[str, Any]) -> None:
    """However a request ends, its slot and its place in flight are free for the next: all get theirs."""
    simulator = anew(rpm=None, tpm=None, **settings)
    whole = {True: 0, False: 0}
    for fault in (
        *("cut after 2 chunks", "cut after 4 chunks by reset", "error event", "no done", "malformed", "reset"),
        *("status 500", "stall 5ms before headers", "stall 5ms after 1 chunk; comments", "content length too short"),
        *("stall 1h before first token", "stall 1h after 1 chunk", "out of credit"),
    ):
        for stream in (True, False):
            wire = connect(simulator)
            body = _chat(stream=stream, max_tokens=4)
            wire.send(wire_request(body, connection="close", x_simulator_fault=fault))
            if "1h" in fault:
                wire.read_until(b"\r\n\r\n")
                wire.close()
            else:
                try:
                    wire.read_all()
                except ConnectionResetError:
                    pass
            whole[stream] += 1
            _wait_for(simulator, "end", sum(whole.values()))
    arrivals = _events(simulator, "arrival")
    taken = [line["decision"] for line in arrivals if line["decision"] in ("overloaded", "refused_in_flight")]
    assert (len(arrivals), taken) == (26, [])
