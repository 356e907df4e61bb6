"""Limits besides rpm and tpm over sockets: in flight, per model, of all keys, a second's and a day's; and changes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from itertools import pairwise
from typing import Any

import pytest

from tensorix_api import Secret
from tensorix_simulator import Simulator

Body = Callable[..., dict[str, Any]]
Raw = Callable[..., bytes]

FOREVER = "3000s"


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    """One for all tests of this module: each has a key of its own."""
    with Simulator(rpm=None, tpm=None, ttft="1ms", between_tokens="1ms") as simulator:
        yield simulator
        assert simulator.complaints() == ""


@pytest.fixture
def changed(simulator: Simulator) -> Iterator[Callable[..., None]]:
    """Changes settings for the length of a test."""
    yield lambda **changes: simulator.change(**changes)
    simulator.change(
        rpm=None, tpm=None, window_s=60, more_limits=[], ttft="1ms", limiter="fixed_window", retry_after="none",
        error_rate=0.0, count_models=False, count_refused=False,
    )  # fmt: skip


class Client:
    """Whole requests of one key over one connection, each with an id of its own."""

    def __init__(self, simulator: Simulator, wire: Any, raw: Raw, body: Body, key: str) -> None:
        self._simulator, self.wire, self._raw, self._body, self._key = simulator, wire, raw, body, key

    def send(self, **parameters: Any) -> None:
        self.wire.send(self._raw(self._body(**parameters), key=self._key))

    def models(self) -> int:
        self.wire.send(self._raw(method="GET", path="/v1/models", key=self._key))
        return int(self.wire.read_response()[0])

    def status(self, **parameters: Any) -> int:
        self.send(**parameters)
        return int(self.wire.read_response()[0])

    def statuses(self, count: int, **parameters: Any) -> list[int]:
        return [self.status(**parameters) for _ in range(count)]


@pytest.fixture
def client(simulator: Simulator, connect: Any, wire_request: Raw, body: Body) -> Callable[[str], Client]:
    return lambda key: Client(simulator, connect(simulator), wire_request, body, key)


def decided(simulator: Simulator, count: int) -> list[dict[str, Any]]:
    return simulator.truth("arrival")[-count:]


def in_flight(simulator: Simulator, client: Callable[[str], Client], key: str, count: int) -> list[Client]:
    """Clients whose requests were admitted and get no answer for an hour."""
    before = len(simulator.truth("arrival"))
    clients = [client(key) for _ in range(count)]
    for one in clients:
        one.send()
    deadline = time.monotonic() + 10
    while len(simulator.truth("arrival")) < before + count:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    return clients


@cache
def alias_of(key: str) -> str:
    return Secret(key).alias


def of_key(simulator: Simulator, key: str) -> list[dict[str, Any]]:
    alias = alias_of(key)
    return [line for line in simulator.truth("arrival") if line["key_alias"] == alias]


def wait_until_gone(simulator: Simulator, key: str, count: int) -> None:
    """Until so many of a key's requests have ended because the client left."""
    numbers, deadline = {line["n"] for line in of_key(simulator, key)}, time.monotonic() + 10
    while count > sum(line["n"] in numbers and line["ended"] == "client_gone" for line in simulator.truth("end")):
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_eight_in_flight(simulator: Simulator, changed: Callable[..., None], client: Callable[[str], Client]) -> None:
    """The ninth is refused, without a Retry-After, whatever it would say; one leaves, and the next passes."""
    changed(ttft=FOREVER, more_limits=["8 in flight"], retry_after="honest", rpm=100)
    running = in_flight(simulator, client, "sk-eight", 8)
    ninth = client("sk-eight")
    ninth.send()
    status, headers, body = ninth.wire.read_response()
    assert status == 429
    assert "retry-after" not in headers
    assert headers["x-ratelimit-api_key-remaining-requests"] == "92", "of the window there is enough"
    assert "8 in flight" in json.loads(body)["error"]["message"]
    [line] = decided(simulator, 1)
    assert (line["decision"], line["over"]) == ("refused_in_flight", "8 in flight")
    assert in_flight(simulator, client, "sk-other", 1), "another key has its own"
    running[3].wire.close()
    wait_until_gone(simulator, "sk-eight", 1)
    in_flight(simulator, client, "sk-eight", 1)
    assert decided(simulator, 1)[0]["status"] == 200
    assert client("sk-eight").status() == 429


def test_a_place_is_free_when_a_request_has_ended_in_whatever_way(
    simulator: Simulator, changed: Callable[..., None], client: Callable[[str], Client]
) -> None:
    """Whole, streamed, a 500, an uncounted 400, a counted list of models, a client that left, refusals that count."""
    changed(more_limits=["1 in flight"], count_models=True, count_refused=True, count_bad_requests=True)
    one = client("sk-one-place")
    assert one.status() == 200
    assert one.status(stream=True) == 200
    assert one.status(n=0) == 400
    assert one.models() == 200
    changed(error_rate=1.0)
    assert one.statuses(2) == [500, 500]
    changed(error_rate=0.0, ttft=FOREVER)
    for k in range(3):
        [running] = in_flight(simulator, client, "sk-one-place", 1)
        assert decided(simulator, 1)[0]["status"] == 200
        assert client("sk-one-place").statuses(2) == [429, 429]
        assert one.models() == 429
        running.wire.close()
        wait_until_gone(simulator, "sk-one-place", k + 1)
    changed(ttft="1ms", count_bad_requests=False)
    assert one.statuses(3) == [200, 200, 200]


def test_what_is_in_flight_stays_so_through_changes_and_resets(
    simulator: Simulator, changed: Callable[..., None], client: Callable[[str], Client]
) -> None:
    """Three run; a change to 4 lets one more pass, a reset none; what ends afterwards frees its place."""
    changed(ttft=FOREVER, more_limits=["3 in flight"])
    running = in_flight(simulator, client, "sk-changing", 3)
    assert client("sk-changing").status() == 429
    changed(more_limits=["4 in flight"], rpm=50)
    running += in_flight(simulator, client, "sk-changing", 1)
    simulator.reset()
    assert client("sk-changing").status() == 429
    for one in running:
        one.wire.close()
    wait_until_gone(simulator, "sk-changing", 4)
    in_flight(simulator, client, "sk-changing", 4)
    assert client("sk-changing").status() == 429


def test_each_model_has_its_own(
    simulator: Simulator, changed: Callable[..., None], client: Callable[[str], Client]
) -> None:
    """Two a model and three a key: what each may, what is said to remain, and that a bad request has no model."""
    changed(rpm=3, more_limits=["2 requests/1h per model"], count_bad_requests=True, count_models=True)
    one = client("sk-models")
    glm, r1 = "z-ai/glm-5", "deepseek/deepseek-r1-0528"
    assert one.statuses(3, model=glm) == [200, 200, 429]
    assert one.status(model="no/such") == 400
    assert one.status(model=r1) == 429
    other = client("sk-models-2")
    assert [other.status(model=name) for name in (glm, r1, glm, glm)] == [200, 200, 200, 429]
    assert other.models() == 429
    lines = decided(simulator, 10)
    assert [line["over"] for line in lines] == [
        None, None, "2 requests/1h per model", None, "requests",
        None, None, None, "2 requests/1h per model", "requests",
    ]  # fmt: skip
    left = [(line["before_requests"], line["remaining_requests"]) for line in lines]
    # The least of the key's three and the model's two; before the model is known, and without one, of the key's.
    assert left == [(2, 1), (1, 0), (0, 0), (1, 0), (0, 0), (2, 1), (2, 1), (1, 0), (0, 0), (0, 0)]
    assert {line["decision"] for line in lines} == {"admitted", "bad_request", "refused_requests"}
    changed(count_bad_requests=False)


def test_all_keys_share_one(
    simulator: Simulator, changed: Callable[..., None], client: Callable[[str], Client]
) -> None:
    """Three of all keys: the fourth is refused whoever asks; per model too, each model has one for all keys."""
    changed(rpm=9, more_limits=["3 requests/1h all keys"])
    clients = [client(f"sk-all-{k}") for k in range(4)]
    assert [one.status() for one in clients] == [200, 200, 200, 429]
    assert [line["remaining_requests"] for line in decided(simulator, 4)] == [2, 1, 0, 0]
    changed(more_limits=["1 request/1h all keys per model"])
    names = ["z-ai/glm-5", "deepseek/deepseek-r1-0528", "z-ai/glm-5"]
    assert [one.status(model=name) for one, name in zip(clients[:3], names, strict=True)] == [200, 200, 429]


def test_a_second_and_a_day_together(
    simulator: Simulator, changed: Callable[..., None], client: Callable[[str], Client]
) -> None:
    """Of requests one after the other: never more than 3 in a sub-limit's window, 8 in all; who refused is named."""
    changed(rpm=100, window_s=3600, more_limits=["3 requests/80ms sliding_log", "8 requests/1d"], retry_after="honest")
    one, admitted = client("sk-day"), 0
    while admitted < 8:
        admitted += one.status() == 200
    last = one.statuses(3)
    assert last == [429, 429, 429]
    lines = of_key(simulator, "sk-day")
    passed = [line["ledger_ns"] for line in lines if line["status"] == 200]
    assert all(fourth - first >= 80e6 for first, fourth in zip(passed, passed[3:], strict=False))
    refused = [line for line in lines if line["status"] == 429]
    assert [line["over"] for line in refused[-3:]] == ["8 requests/1d"] * 3
    assert {line["over"] for line in refused[:-3]} == {"3 requests/80ms sliding_log"}
    for line in refused[:-3]:
        before = [at_ns for at_ns in passed if line["ledger_ns"] - 80e6 < at_ns < line["ledger_ns"]]
        assert len(before) == 3, "it was refused by right"
    one.send()
    assert int(one.wire.read_response()[1]["retry-after"]) in range(86_390, 86_401)


def test_windows_on_the_clock(
    simulator: Simulator, changed: Callable[..., None], client: Callable[[str], Client]
) -> None:
    """Two a quarter of a second of the clock: each quarter lets pass two, and none goes by without."""
    changed(rpm=2, window_s=0.25, limiter="clock_window")
    [begun] = simulator.truth("start")
    ahead_ns = begun["unix_ns"] - begun["monotonic_ns"]
    one, deadline = client("sk-clock"), time.monotonic() + 1.2
    while time.monotonic() < deadline:
        one.status(max_tokens=1)
    passed = [line["ledger_ns"] + ahead_ns for line in of_key(simulator, "sk-clock") if line["status"] == 200]

    def two_in_each(shift_ns: int) -> bool:
        windows = [(at_ns + shift_ns) // 250_000_000 for at_ns in passed]
        inner = [window for window in windows if window not in (windows[0], windows[-1])]
        return all(later - earlier <= 1 for earlier, later in pairwise(windows)) and all(
            inner.count(window) == 2 for window in inner
        )

    # The truth's two clocks were read one after the other, so they are known to within a little.
    assert any(two_in_each(shift_ns) for shift_ns in (0, -50_000, 50_000))
    assert len(passed) in range(7, 13)


def test_limits_change_while_it_runs(
    simulator: Simulator, changed: Callable[..., None], client: Callable[[str], Client]
) -> None:
    """What was used stays used where the kind stays; another kind begins anew, and so does what is put back."""
    changed(rpm=3, more_limits=["5 requests/1h"])
    one = client("sk-change")
    assert one.statuses(4) == [200, 200, 200, 429]
    changed(rpm=4, window_s=600)
    assert one.statuses(2) == [200, 429]
    changed(rpm=None)
    assert one.statuses(2) == [200, 429]
    changed(more_limits=["7 requests/1h"])
    assert one.statuses(3) == [200, 200, 429]
    changed(more_limits=["2 requests/1h sliding_log"])
    assert one.statuses(3) == [200, 200, 429]
    changed(more_limits=["2 requests/1h sliding_log"], rpm=4)
    assert one.status() == 429
    changed(more_limits=[])
    assert one.statuses(5) == [200, 200, 200, 200, 429]
    simulator.reset()
    assert one.statuses(5) == [200, 200, 200, 200, 429]


def test_a_stream_is_settled_with_limits_that_changed_meanwhile(
    simulator: Simulator, changed: Callable[..., None], client: Callable[[str], Client]
) -> None:
    """What was reserved before a change of the amount is given back after it."""
    changed(tpm=1000, charging="reserve", reply_tokens="2", ttft="2500ms")
    one = client("sk-settled")
    one.send(max_tokens=900)
    deadline = time.monotonic() + 10
    while (line := decided(simulator, 1)[0])["before_tokens"] != 1000 or line["remaining_tokens"] != 96:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    changed(tpm=2000)
    assert one.wire.read_response()[1]["x-ratelimit-api_key-remaining-tokens"] == str(2000 - 4 - 2)
    changed(charging="actual", reply_tokens=None)


@pytest.mark.parametrize("stream", [False, True])
def test_every_fault_settles_once_and_frees_its_place(
    start: Callable[..., Simulator],
    connect: Any,
    wire_request: Raw,
    body: Body,
    stream: bool,
) -> None:
    """With one place in flight and tokens reserved: after each fault the next request has a place, and all tokens but
    those that were made and asked."""
    simulator = start(rpm=None, tpm=100_000, charging="reserve", more_limits=["1 in flight"])
    key, left = "sk-faults", 100_000
    healthy = Client(simulator, connect(simulator), wire_request, body, key)
    for fault in (
        "status 500", "status 503", "reset", "stall 1h before headers", "stall 1h before first token",
        "stall 1h after 2 chunks", "cut", "cut by reset", "cut after 2 chunks", "malformed", "error event", "no done",
        "split", "comments", "connection close", "content length too long", "content length too short",
    ):  # fmt: skip
        wire = connect(simulator)
        request = wire_request(body(max_tokens=4, stream=stream), key=key, x_simulator_fault=fault, connection="close")
        wire.send(request)
        if fault.startswith("stall"):
            time.sleep(0.02)
        else:
            with suppress(ConnectionResetError):
                wire.read_all()
        wire.close()
        number = of_key(simulator, key)[-1]["n"]
        deadline = time.monotonic() + 10
        while not (ended := [line for line in simulator.truth("end") if line["n"] == number]):
            assert time.monotonic() < deadline, fault
            time.sleep(0.002)
        [end] = ended
        assert end["settled_ns"] is not None, fault
        left -= end["prompt_tokens"] + end["completion_tokens"]
        assert end["remaining_tokens"] == left, fault
        assert healthy.status(max_tokens=1) == 200, fault
        left -= 5
        assert of_key(simulator, key)[-1]["before_tokens"] == left + 5, fault
