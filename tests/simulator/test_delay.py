"""Requests over the limit that wait: in order, until the limiter says, and no longer than they may."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from tensorix_api import Secret
from tensorix_api.limiters import AllOf, Cost, FixedWindow, Limiter, SlidingCounter, SlidingLog, TokenBucket
from tensorix_simulator import Simulator

Body = Callable[..., dict[str, Any]]
Raw = Callable[..., bytes]
Truth = Callable[..., list[dict[str, Any]]]

MS = 1_000_000
FOREVER = "3000s"
LATE_NS = 100 * MS
"""What a busy machine may be late by."""


class Crowd:
    """Many clients, each with a connection and one request whose id says who it is."""

    def __init__(self, simulator: Simulator, connect: Any, raw: Raw, body: Body, truth: Truth, test: str) -> None:
        self.simulator, self._connect, self._raw, self._body = simulator, connect, raw, body
        self._truth, self._test = truth, test
        self.wires: dict[str, Any] = {}

    def send(self, name: str, key: str = "sk-crowd", **parameters: Any) -> None:
        """Send, and give it time to arrive before the next."""
        self.wires[name] = wire = self._connect(self.simulator)
        wire.send(self._raw(self._body(**{"max_tokens": 1, **parameters}), key=self.key(key), x_request_id=name))
        time.sleep(0.005)

    def key(self, name: str) -> str:
        """Of this test alone: the simulator is lent from test to test."""
        return f"{name}-{self._test}"

    def status(self, name: str) -> int:
        return int(self.wires[name].read_response()[0])

    def arrivals(self, count: int) -> list[dict[str, Any]]:
        """Lines of all decided, once there are so many."""
        deadline = time.monotonic() + 10
        while len(lines := self.truth("arrival")) < count:
            assert time.monotonic() < deadline, f"{len(lines)} of {count}"
            time.sleep(0.002)
        return lines

    def admitted(self) -> list[str]:
        return [line["request_id"] for line in self.truth("arrival") if line["status"] == 200]

    def truth(self, event: str) -> list[dict[str, Any]]:
        """Its lines of the requests of this test."""
        lines = self._truth(self.simulator)
        names = {line["n"] for line in lines if line["event"] == "arrival"}
        return [line for line in lines if line["event"] == event and line["n"] in names]


@pytest.fixture
def crowd(
    borrow: Callable[..., Simulator],
    connect: Any,
    wire_request: Raw,
    body: Body,
    truth_since: Truth,
    request: pytest.FixtureRequest,
) -> Callable[..., Crowd]:
    def make(**settings: Any) -> Crowd:
        simulator = borrow(**{"over_limit": "delay", "tpm": None, **settings})
        return Crowd(simulator, connect, wire_request, body, truth_since, request.node.name)

    return make


@pytest.mark.parametrize(
    "limiter",
    [
        lambda phase_ns: FixedWindow("requests", 3, 200 * MS),
        lambda phase_ns: FixedWindow("requests", 3, 200 * MS, phase_ns=phase_ns),
        lambda phase_ns: SlidingLog("requests", 3, 200 * MS),
        lambda phase_ns: SlidingCounter("requests", 3, 200 * MS, phase_ns=phase_ns),
        lambda phase_ns: TokenBucket("requests", 3, 200 * MS, burst=2),
    ],
    ids=["fixed_window", "clock_window", "sliding_log", "sliding_counter", "token_bucket"],
)
def test_they_pass_in_order_when_the_limiter_says(
    crowd: Callable[..., Crowd], limiter: Callable[[int], Limiter], request: pytest.FixtureRequest
) -> None:
    """Eight at once: each passes when a limiter of the same history says, never earlier, in the order they came; its
    reply is timed from then."""
    many = crowd(rpm=3, window_s=0.2, burst=2, limiter=request.node.callspec.id, ttft="20ms")
    for k in range(8):
        many.send(f"r{k}", stream=k % 2 == 0)
    assert [many.status(f"r{k}") for k in range(8)] == [200] * 8
    lines = many.arrivals(8)
    assert [line["request_id"] for line in lines] == [f"r{k}" for k in range(8)]
    [begun] = many.simulator.truth("start")
    # The truth's two clocks were read one after the other: an edge may be off by so much.
    oracle, off_ns = limiter(begun["monotonic_ns"] - begun["unix_ns"]), 50_000
    asked_ns, late_ns = 0, list[int]()
    for line in lines:
        asked_ns = max(asked_ns, line["ledger_ns"] - line["waited_ns"])
        earliest_ns = oracle.earliest(asked_ns, Cost(1, 0))
        assert earliest_ns is not None
        assert earliest_ns - off_ns <= line["ledger_ns"]
        late_ns.append(line["ledger_ns"] - earliest_ns)
        asked_ns = max(line["ledger_ns"], earliest_ns)
        oracle.charge(asked_ns, Cost(1, 0))
        assert line["before_requests"] - line["remaining_requests"] == 1
        assert line["decided_ns"] >= line["ledger_ns"]
    # A busy machine may hold up some.
    assert median(late_ns) < LATE_NS
    assert sum(line["waited_ns"] > 50 * MS for line in lines) >= 2
    late_ns.clear()
    for line in many.truth("end"):
        [arrival] = [one for one in lines if one["n"] == line["n"]]
        begun_ns = arrival["ledger_ns"] if arrival["waited_ns"] else arrival["body_ns"]
        first_ns = line["first_token_sent_ns"] or line["headers_sent_ns"]
        assert begun_ns + 20 * MS <= first_ns
        late_ns.append(first_ns - begun_ns - 20 * MS)
    assert median(late_ns) < LATE_NS


def test_who_would_wait_too_long_is_refused_at_once(crowd: Callable[..., Crowd]) -> None:
    """Two pass, two wait for the next window, two for the one after; for more they may not wait, and are told so."""
    many = crowd(rpm=2, window_s=0.6, longest_delay_s=1.4, retry_after="honest")
    for k in range(8):
        many.send(f"r{k}")
    assert [many.status(f"r{k}") for k in range(6)] == [200] * 6
    for name in ("r6", "r7"):
        status, headers, _ = many.wires[name].read_response()
        assert (status, headers["retry-after"]) == (429, "2")
    lines = {line["request_id"]: line for line in many.arrivals(8)}
    assert [lines[name]["decision"] for name in ("r6", "r7")] == ["refused_requests"] * 2
    assert [lines[name]["waited_ns"] for name in ("r0", "r1", "r6", "r7")] == [0] * 4
    assert lines["r6"]["decided_ns"] < lines["r2"]["decided_ns"]


def test_who_has_waited_as_long_as_it_may_is_refused(crowd: Callable[..., Crowd]) -> None:
    """Nobody knows when a request in flight ends, so it is waited for; but not for ever."""
    many = crowd(rpm=None, more_limits=["1 in flight"], longest_delay_s=0.25, ttft=FOREVER, retry_after="honest")
    many.send("running")
    many.send("waiting")
    status, headers, _ = many.wires["waiting"].read_response()
    assert status == 429
    assert "retry-after" not in headers
    line = many.arrivals(2)[1]
    assert (line["decision"], line["over"]) == ("refused_in_flight", "1 in flight")
    assert 250 * MS <= line["waited_ns"] < 5_000 * MS


def test_a_larger_request_than_the_limit_does_not_wait(crowd: Callable[..., Crowd]) -> None:
    """It would never fit."""
    many = crowd(rpm=None, tpm=100, charging="reserve")
    many.send("large", max_tokens=200)
    assert many.status("large") == 429
    assert many.arrivals(1)[0]["waited_ns"] == 0


def test_places_in_flight_are_given_in_order(crowd: Callable[..., Crowd]) -> None:
    """Three wait for two places: one leaves, and the first of them passes, at once."""
    many = crowd(rpm=None, more_limits=["2 in flight"], ttft=FOREVER)
    for name in ("a", "b", "c", "d", "e"):
        many.send(name)
    assert many.admitted() == ["a", "b"]
    late_ns = []
    for k, leaving in enumerate(("b", "a", "c")):
        many.wires[leaving].close()
        lines = many.arrivals(3 + k)
        assert many.admitted() == ["a", "b", "c", "d", "e"][: 3 + k]
        [left] = [line for line in many.truth("end") if line["request_id"] == leaving]
        late_ns.append(lines[-1]["ledger_ns"] - left["settled_ns"])
    assert min(late_ns) < LATE_NS


def test_who_leaves_while_waiting_leaves_the_line(crowd: Callable[..., Crowd]) -> None:
    """It is charged nothing, and who came after it passes in its place."""
    many = crowd(rpm=1, window_s=0.6, longest_delay_s=0.8)
    for name in ("a", "b", "c"):
        many.send(name)
    assert many.status("c") == 429, "it would have been the third"
    many.wires["b"].close()
    lines = many.arrivals(3)
    assert (lines[2]["request_id"], lines[2]["decision"], lines[2]["status"]) == ("b", "undecided", 0)
    assert lines[2]["before_requests"] == lines[2]["remaining_requests"]
    many.send("d")
    assert [many.status(name) for name in ("a", "d")] == [200, 200]
    line = many.arrivals(4)[3]
    assert (line["request_id"], line["before_requests"], line["remaining_requests"]) == ("d", 1, 0)
    [left] = [line for line in many.truth("end") if line["request_id"] == "b"]
    assert (left["ended"], left["status"], left["settled_ns"]) == ("client_gone", 0, None)


def test_a_large_request_is_not_overtaken(crowd: Callable[..., Crowd]) -> None:
    """Small ones that would fit wait behind a large one that came before them."""
    many = crowd(rpm=None, tpm=100, window_s=0.4, charging="reserve")
    many.send("first", max_tokens=50)
    many.send("large", max_tokens=90)
    for k in range(3):
        many.send(f"small{k}", max_tokens=1)
    names = ["first", "large", "small0", "small1", "small2"]
    assert [many.status(name) for name in names] == [200] * 5
    assert many.admitted() == names


def test_limits_that_change_meanwhile(crowd: Callable[..., Crowd]) -> None:
    """Who waits is let pass by more room at once, and is refused where it can no longer fit."""
    many = crowd(rpm=1, tpm=500, window_s=3000, longest_delay_s=9000, charging="reserve", reply_tokens="1")
    for name in ("a", "b", "c", "d"):
        many.send(name, max_tokens=100)
    assert many.admitted() == ["a"]
    many.simulator.change(rpm=2)
    assert many.status("b") == 200
    many.simulator.change(tpm=50)
    assert [many.status("c"), many.status("d")] == [429, 429]
    assert {line["decision"] for line in many.arrivals(4)[2:]} == {"refused_tokens"}
    many.simulator.change(tpm=500)
    many.send("e")
    many.send("f")
    many.simulator.change(over_limit="refuse")
    many.simulator.reset()
    assert [many.status("e"), many.status("f")] == [200, 200]
    many.send("g")
    assert many.status("g") == 429


def test_keys_do_not_hold_each_other(crowd: Callable[..., Crowd]) -> None:
    """One key's line is no other's."""
    many = crowd(rpm=1, window_s=0.5)
    for k in range(4):
        many.send(f"a{k}", "sk-a") if k < 2 else many.send(f"b{k}", "sk-b")
    assert [many.status(name) for name in ("a0", "b2", "a1", "b3")] == [200] * 4
    assert many.admitted() == ["a0", "b2", "a1", "b3"]


def test_a_limit_of_all_keys_is_given_in_order(crowd: Callable[..., Crowd]) -> None:
    """Whoever waits for it passes before a key that comes later; who waits for its own limit holds nobody."""
    many = crowd(rpm=2, window_s=3000, longest_delay_s=9000, more_limits=["3 requests/0.4s all keys"])
    for name, key in (("a0", "sk-a"), ("a1", "sk-a"), ("b0", "sk-b"), ("b1", "sk-b")):
        many.send(name, key)
    many.send("a2", "sk-a")  # waits for its own limit, for longer than this test lasts
    many.send("c0", "sk-c")
    many.send("d0", "sk-d")
    many.send("e0", "sk-e")
    assert [many.status(name) for name in ("a0", "a1", "b0", "b1", "c0", "d0", "e0")] == [200] * 7
    assert many.admitted() == ["a0", "a1", "b0", "b1", "c0", "d0", "e0"]
    lines = {line["request_id"]: line for line in many.truth("arrival")}
    assert lines["e0"]["ledger_ns"] - lines["b1"]["ledger_ns"] > 350 * MS, "three in the window, the fourth after it"
    many.simulator.change(rpm=3)
    assert many.status("a2") == 200


def test_nobody_snatches_what_another_key_waits_for(crowd: Callable[..., Crowd], wire_request: Raw, body: Body) -> None:
    """One place for all keys, for which b waits: c, served at the very moment at which a's request ends, gets it only
    after b; and d, which wants another model's, waits for nobody."""
    many = crowd(rpm=None, more_limits=["1 in flight all keys per model"], ttft="100ms")
    many.send("a", "sk-a")
    many.wires["a"].send(wire_request(body(max_tokens=1), key=many.key("sk-c"), x_request_id="c"))
    many.send("b", "sk-b")
    many.send("d", "sk-d", model="deepseek/deepseek-r1-0528")
    assert [many.status(name) for name in ("a", "b", "a", "d")] == [200] * 4
    assert many.admitted() == ["a", "d", "b", "c"]


def test_requests_behind_one_that_waits_on_its_connection(
    crowd: Callable[..., Crowd], wire_request: Raw, body: Body
) -> None:
    """They are answered after it, each when it fits; what counts waits too, and what does not count does not."""
    many = crowd(rpm=1, window_s=0.2, count_bad_requests=True)
    many.send("a")
    wire = many.wires["a"]
    wire.send(
        wire_request(body(n=0), key=many.key("sk-crowd"), x_request_id="b")
        + wire_request(body(max_tokens=1), key=many.key("sk-crowd"), x_request_id="c")
        + wire_request(method="GET", path="/v1/models", key=many.key("sk-crowd"), x_request_id="d")
    )
    assert [wire.read_response()[0] for _ in range(4)] == [200, 400, 200, 200]
    lines = many.arrivals(4)
    assert [line["request_id"] for line in lines] == ["a", "b", "c", "d"]
    assert [line["waited_ns"] > 100 * MS for line in lines] == [False, True, True, False]
    assert [line["decision"] for line in lines] == ["admitted", "bad_request", "admitted", "admitted"]


def test_a_refusal_after_waiting_may_count(crowd: Callable[..., Crowd]) -> None:
    """Once, when it is refused."""
    many = crowd(
        rpm=2, window_s=3000, longest_delay_s=0.1, more_limits=["1 in flight"], count_refused=True, ttft=FOREVER
    )
    for name in ("a", "b", "c"):
        many.send(name)
    assert [many.status(name) for name in ("b", "c")] == [429, 429]
    left = [(line["before_requests"], line["remaining_requests"]) for line in many.arrivals(3)]
    assert left in ([(2, 1), (1, 0), (0, 0)], [(2, 1), (1, 0), (0, 0)])


def test_stopping_ends_those_who_wait(tmp_path: Path, connect: Any, wire_request: Raw, body: Body) -> None:
    """Each has both its lines."""
    path = tmp_path / "truth.jsonl"
    with Simulator(rpm=1, over_limit="delay", longest_delay_s=1000, ttft="1ms", truth_path=path) as simulator:
        for _ in range(3):
            wire = connect(simulator)
            wire.send(wire_request(body(max_tokens=1)))
        deadline = time.monotonic() + 10
        while not simulator.truth("end"):
            assert time.monotonic() < deadline
            time.sleep(0.002)
        time.sleep(0.05)
    lines = [line for line in simulator.truth("arrival") if line["decision"] == "undecided"]
    ended = [line for line in simulator.truth("end") if line["ended"] == "stopped"]
    assert [line["n"] for line in lines] == [line["n"] for line in ended] == [2, 3]
    assert {line["key_alias"] for line in lines} == {Secret("sk-raw").alias}


def test_many_of_many_keys(crowd: Callable[..., Crowd]) -> None:
    """Eighty of four keys and two models, of which twelve leave: limits of a key, a model, all keys and in flight hold
    at each moment, each key's pass in order, and in the end nobody waits and no place is taken."""
    models, random_ = ("z-ai/glm-5", "deepseek/deepseek-r1-0528"), random.Random(5)
    many = crowd(
        rpm=6,
        window_s=0.3,
        longest_delay_s=60,
        more_limits=["4 requests/200ms sliding_log per model", "9 requests/300ms all keys", "3 in flight"],
        ttft="uniform(1ms, 30ms)",
        models=models,
    )
    asked = {}
    for k in range(80):
        key, model = random_.randrange(4), random_.choice(models)
        asked[f"r{k}"] = (f"sk-{key}", model)
        many.send(f"r{k}", f"sk-{key}", model=model, stream=k % 3 == 0)
        if k % 7 == 6:
            many.wires[leaving := f"r{random_.randrange(k + 1)}"].close()
            asked.pop(leaving, None)
    assert [many.status(name) for name in asked] == [200] * len(asked)
    lines = [line for line in many.arrivals(80) if line["decision"] == "admitted"]
    assert {line["decision"] for line in many.arrivals(80)} == {"admitted", "undecided"}
    for key in {line["key_alias"] for line in lines}:
        numbers = [line["n"] for line in lines if line["key_alias"] == key]
        assert numbers == sorted(numbers)
    limits: dict[tuple[str | None, str | None], Limiter] = {}
    shared = FixedWindow("requests", 9, 300 * MS)
    for line in lines:
        own = limits.setdefault((line["key_alias"], None), FixedWindow("requests", 6, 300 * MS))
        of_model = limits.setdefault((line["key_alias"], line["model"]), SlidingLog("requests", 4, 200 * MS))
        together = AllOf([own, of_model, shared])
        assert line["before_requests"] == together.remaining(line["ledger_ns"])["requests"]
        assert together.admit(line["ledger_ns"], Cost(1, 0)).admitted
    deadline = time.monotonic() + 10
    while len(ends := {line["n"]: line for line in many.truth("end")}) < 80:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    for line in lines:
        running = [
            one
            for one in lines
            if one["key_alias"] == line["key_alias"]
            and one["ledger_ns"] < line["ledger_ns"] < ends[one["n"]]["settled_ns"]
        ]
        assert len(running) < 3
    many.simulator.change(rpm=None, more_limits=["3 in flight"], ttft=FOREVER)
    for k in range(3):
        many.send(f"last{k}", "sk-0")
    assert [line["status"] for line in many.arrivals(83)[-3:]] == [200] * 3
