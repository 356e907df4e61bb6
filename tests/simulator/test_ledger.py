"""The ledger in the truth: what was sent over sockets, replayed against limiters put together by hand."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import pytest

from tensorix_api import Secret
from tensorix_api.limiters import AllOf, Cost, FixedWindow, Grant, SlidingCounter, SlidingLog, TokenBucket
from tensorix_simulator import Simulator

Body = Callable[..., dict[str, Any]]
Raw = Callable[..., bytes]

RPM, TPM = 10, 300
QUICK_NS, LONG_NS = 50_000_000, 10**15


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    """One for all tests of this module: each has a key of its own."""
    with Simulator(rpm=RPM, tpm=TPM, ttft="1ms", between_tokens="1ms") as simulator:
        yield simulator
        assert simulator.complaints() == ""


def limiters(kind: str, window_ns: int) -> AllOf:
    match kind:
        case "sliding_log":
            return AllOf([SlidingLog("requests", RPM, window_ns), SlidingLog("tokens", TPM, window_ns)])
        case "token_bucket":
            return AllOf(
                [TokenBucket("requests", RPM, window_ns, burst=4), TokenBucket("tokens", TPM, window_ns, burst=200)]
            )
        case "sliding_counter":
            # No window of theirs ends here: where they begin is held by another test.
            return AllOf([SlidingCounter("requests", RPM, window_ns), SlidingCounter("tokens", TPM, window_ns)])
        case _:
            return AllOf([FixedWindow("requests", RPM, window_ns), FixedWindow("tokens", TPM, window_ns)])


class Sent:
    """What one test sends: chat completions, streamed and not, some of them bad, and lists of models."""

    def __init__(self, seed: int, body: Body, raw: Raw, key: str) -> None:
        self._random = random.Random(seed)
        self._body, self._raw, self._key = body, raw, key
        self.kinds: dict[str, tuple[str, int, int]] = {}
        """Of each request id: what it is, tokens of the prompt and the most that may be made."""

    def one(self) -> bytes:
        name = f"r{len(self.kinds)}"
        draw = self._random.random()
        if draw < 0.15:
            self.kinds[name] = ("models", 0, 0)
            return self._raw(method="GET", path="/v1/models", key=self._key, x_request_id=name)
        most, n = self._random.choice([1, 5, 20, 60]), self._random.choice([1, 1, 2])
        self.kinds[name] = ("chat", 4, most * n)
        body = self._body(max_tokens=most, n=n, stream=draw < 0.5)
        if draw > 0.85:
            self.kinds[name] = ("bad", 0, 0)
            body = self._body(n=0)
        return self._raw(body, key=self._key, x_request_id=name)

    def long_stream(self) -> bytes:
        self.kinds[name := f"r{len(self.kinds)}"] = ("chat", 4, 150)
        return self._raw(self._body(max_tokens=150, stream=True), key=self._key, x_request_id=name)


def truth_of(simulator: Simulator, key: str, count: int) -> list[dict[str, Any]]:
    """Both lines of all of a key's requests, once they are there."""
    alias, deadline = Secret(key).alias, time.monotonic() + 10
    while True:
        lines = simulator.truth("arrival", "end")
        own = {line["n"] for line in lines if line.get("key_alias") == alias}
        lines = [line for line in lines if line["n"] in own]
        if len(lines) == 2 * count:
            return lines
        assert time.monotonic() < deadline, f"{len(lines)} lines of {count} requests"
        time.sleep(0.005)


def reserved(charging: str, prompt: int, most: int) -> int:
    return {"actual": 0, "prompt": prompt, "reserve": prompt + most}[charging]


def replay(
    lines: list[dict[str, Any]],
    kinds: dict[str, tuple[str, int, int]],
    oracle: AllOf,
    charging: str,
    counted: dict[str, bool],
) -> Counter[str]:
    """Go through the truth as it was, and compare each decision and each number; returns how often each decision."""
    events = [(line["ledger_ns"], line) for line in lines if line["event"] == "arrival"]
    events += [(line["settled_ns"], line) for line in lines if line["event"] == "end" and line["settled_ns"]]
    events.sort(key=lambda event: event[0])
    grants: dict[int, Grant] = {}
    decisions: Counter[str] = Counter()

    def left() -> list[int]:
        return list(oracle.remaining(at_ns).values())

    for at_ns, line in events:
        kind, prompt, most = kinds[line["request_id"]]
        if line["event"] == "end":
            tokens = 0 if kind != "chat" else line["prompt_tokens"]
            tokens += 0 if charging == "prompt" else line["completion_tokens"]
            oracle.settle(at_ns, grants.pop(line["n"]), Cost(1, tokens))
            continue
        decisions[line["decision"]] += 1
        assert [line["before_requests"], line["before_tokens"]] == left(), line
        if kind == "chat" or counted[kind]:
            decision = oracle.admit(at_ns, Cost(1, reserved(charging, prompt, most) if kind == "chat" else 0))
            if decision.grant is not None:
                grants[line["n"]] = decision.grant
            else:
                assert (line["decision"], line["status"]) == (f"refused_{decision.binding}", 429)
                assert line["over"] == decision.binding
                if counted["refused"]:
                    oracle.charge(at_ns, Cost(1, 0))
            assert (line["status"] != 429) == decision.admitted, line
        else:
            assert line["status"] in (200, 400)
        if kind == "bad" and line["status"] == 400 and counted["bad"]:
            assert line["remaining_requests"] == left()[0]
        else:
            assert [line["remaining_requests"], line["remaining_tokens"]] == left(), line
    assert not grants, "everything that was admitted was settled, once"
    return decisions


@pytest.mark.parametrize(
    ("kind", "charging", "counting"),
    [
        *product(
            ["fixed_window"], ["actual", "reserve", "prompt"], ["", "refused", "bad models", "refused bad models"]
        ),
        *product(["sliding_log", "token_bucket", "sliding_counter", "clock_window"], ["actual", "reserve"], ["bad"]),
    ],
)
def test_the_ledger_is_that_of_the_limiters(
    simulator: Simulator, connect: Any, wire_request: Raw, body: Body, kind: str, charging: str, counting: str
) -> None:
    """Mixed requests through eight connections, some of whose clients leave: each decision and what was left before
    and after it, and that each request is settled once with what it used, for each charging and counting."""
    window_ns = LONG_NS if kind in ("sliding_counter", "clock_window") else QUICK_NS
    counted = {name: name in counting for name in ("refused", "bad", "models")}
    simulator.change(
        limiter=kind,
        window_s=window_ns / 1e9,
        burst=4,
        burst_tokens=200,
        charging=charging,
        count_refused=counted["refused"],
        count_bad_requests=counted["bad"],
        count_models=counted["models"],
    )
    key = f"sk-{kind}-{charging}-{counting}"
    sent = Sent(len(key), body, wire_request, key)
    leaving = connect(simulator)
    leaving.send(sent.long_stream())
    leaving.read_until(b"content")
    wires = [connect(simulator) for _ in range(8)]
    for wire in wires:
        wire.send(b"".join(sent.one() for _ in range(30)))
    leaving.close()
    for wire in wires:
        for _ in range(30):
            wire.read_response()
    lines = truth_of(simulator, key, len(sent.kinds))
    decisions = replay(lines, sent.kinds, limiters(kind, window_ns), charging, counted)
    assert decisions["admitted"] > 5
    assert decisions["refused_requests"] + decisions["refused_tokens"] > 5
    gone = [line for line in lines if line["event"] == "end" and line["ended"] == "client_gone"]
    assert len(gone) == 1
    assert gone[0]["completion_tokens"] < 150


def test_a_failed_answer_is_settled_once(simulator: Simulator, connect: Any, wire_request: Raw, body: Body) -> None:
    """A 500 after admission keeps its request and gives its tokens back, on its own arrival line already."""
    simulator.change(limiter="fixed_window", window_s=1e6, charging="reserve", error_rate=1.0)
    wire = connect(simulator)
    wire.send(wire_request(body(max_tokens=50), key="sk-failing"))
    assert wire.read_response()[0] == 500
    simulator.change(error_rate=0.0)
    arrival, end = truth_of(simulator, "sk-failing", 1)
    assert (arrival["before_requests"], arrival["before_tokens"]) == (RPM, TPM)
    assert (arrival["remaining_requests"], arrival["remaining_tokens"]) == (RPM - 1, TPM)
    assert (end["remaining_requests"], end["remaining_tokens"]) == (RPM - 1, TPM)
    assert arrival["ledger_ns"] <= end["settled_ns"] <= end["end_ns"]


def test_without_a_key_there_is_no_ledger(simulator: Simulator, connect: Any, wire_request: Raw) -> None:
    """A 401 has nulls; and what charges nothing has the same before and after."""
    wire = connect(simulator)
    wire.send(wire_request(method="GET", path="/v1/models", key="sk-invalid"))
    wire.read_response()
    wire.send(wire_request(method="GET", path="/v1/models", key="sk-looking"))
    wire.read_response()
    names = ("before_requests", "before_tokens", "remaining_requests", "remaining_tokens")
    refused, looking = truth_of(simulator, "sk-invalid", 1)[0], truth_of(simulator, "sk-looking", 1)[0]
    assert [refused[name] for name in (*names, "ledger_ns", "over")] == [None] * 6
    assert [looking[name] for name in names] == [RPM, TPM, RPM, TPM]
