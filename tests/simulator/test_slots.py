"""Slots and a queue before replies of independent times: the same as a queue with several servers."""

from __future__ import annotations

import heapq
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tensorix_simulator import Simulator
from tensorix_simulator.chat.replies import Reply
from tensorix_simulator.latency.independent import Independent
from tensorix_simulator.latency.pacing import Job, Pacer
from tensorix_simulator.latency.timing import Ticket

MS = 1_000_000
START = 1_000_000 * MS
Body = Callable[..., dict[str, Any]]


class VirtualPacer(Pacer):
    """Runs all jobs in the order of their times, without a loop and without waiting."""

    def __init__(self) -> None:
        self._jobs: list[tuple[int, int, Job]] = []
        self._added = 0

    def add(self, due_ns: int, job: Job) -> None:
        self._added += 1
        heapq.heappush(self._jobs, (due_ns, self._added, job))

    def run(self) -> None:
        while self._jobs:
            due_ns, _, job = heapq.heappop(self._jobs)
            if (next_ns := job(due_ns)) is not None:
                self.add(next_ns, job)


def servers(
    arrivals: Sequence[float], services: Sequence[float], slots: int, queue: int | None
) -> list[tuple[float, float] | None]:
    """When each starts and ends with so many servers, by Kiefer and Wolfowitz: one that is let in starts when it came
    or when the first server is free, whichever is later. None where it finds all busy and the queue full.
    """
    free = [0.0] * slots
    fates: list[tuple[float, float] | None] = []
    for came, service in zip(arrivals, services, strict=True):
        inside = sum(1 for fate in fates if fate is not None and fate[1] > came)
        if queue is not None and inside >= slots + queue:
            fates.append(None)
            continue
        start = max(came, heapq.heappop(free))
        heapq.heappush(free, start + service)
        fates.append((start, start + service))
    return fates


def reply(ttft_ns: int, tokens: int, gap_ns: int) -> Reply:
    return Reply(
        fails=False,
        choices=(),
        tokens=tokens,
        ttft_ns=ttft_ns,
        next_gap_ns=lambda: gap_ns,
    )


@pytest.mark.parametrize(("load", "queue"), [(0.5, None), (0.8, 12), (0.95, None), (1.3, 12), (1.3, 0)])
def test_each_reply_fares_as_with_so_many_servers(load: float, queue: int | None) -> None:
    """3,000 Poisson arrivals at 4 slots, below and above what they can do, streamed and not: the same are turned
    away, all others wait, start and end as the recursion says, within 10 ns.
    """
    generator = random.Random(round(100 * load))
    pacer, slots = VirtualPacer(), 4
    timing = Independent(pacer)
    timing.bound(slots, queue)
    arrivals: list[int] = []
    plans: list[tuple[int, int, int]] = []
    now = float(START)
    for _ in range(3_000):
        ttft_ns, tokens, gap_ns = round(generator.expovariate(1 / (50 * MS))), generator.randint(1, 19), 5 * MS
        now += generator.expovariate(load * slots / (95 * MS))
        arrivals.append(round(now))
        plans.append((ttft_ns, tokens, gap_ns))
    ends: dict[int, int] = {}
    tickets: dict[int, Ticket | None] = {}

    def arrive(k: int) -> Job:
        def job(due_ns: int) -> None:
            ttft_ns, tokens, gap_ns = plans[k]
            whole = k % 3 == 0
            left = 1 if whole else tokens

            def due(at_ns: int) -> bool:
                nonlocal left
                left -= 1
                ends[k] = at_ns
                return left > 0

            tickets[k] = timing.begin(due_ns, 1, reply(ttft_ns, tokens, gap_ns), due, whole=whole)

        return job

    for k, at_ns in enumerate(arrivals):
        pacer.add(at_ns, arrive(k))
    pacer.run()

    services = [float(ttft_ns + (tokens - 1) * gap_ns) for ttft_ns, tokens, gap_ns in plans]
    fates = servers(arrivals, services, slots, queue)
    assert [ticket is None for ticket in tickets.values()] == [fate is None for fate in fates]
    for k, fate in enumerate(fates):
        ticket = tickets[k]
        if fate is not None and ticket is not None:
            assert arrivals[k] + ticket.queue_ns == pytest.approx(fate[0], abs=10)
            assert ends[k] == pytest.approx(fate[1], abs=10)
    # The cases are what they are meant to be.
    assert (fates.count(None) > 100) == (queue is not None and load > 1)
    assert any(fate is not None and fate[0] > came for fate, came in zip(fates, arrivals, strict=True)) == (queue != 0)


def test_more_slots_start_who_waits() -> None:
    """At once, not when the next reply is over; fewer stop nobody."""
    pacer = VirtualPacer()
    timing = Independent(pacer)
    timing.bound(1, None)
    started: list[int] = []

    def begin(k: int) -> None:
        def due(_: int) -> bool:
            started.append(k)
            return False

        timing.begin(START, 1, reply(10 * MS, 1, 0), due, whole=False)

    for k in range(3):
        begin(k)
    timing.bound(2, None)
    timing.bound(1, None)
    jobs = len(pacer._jobs)
    assert jobs == 2
    pacer.run()
    assert started == [0, 1, 2]


def test_a_call_that_raises_frees_its_slot() -> None:
    """A defect in one reply stops no other."""
    pacer = VirtualPacer()
    timing = Independent(pacer)
    timing.bound(1, None)

    def broken(_: int) -> bool:
        raise RuntimeError("broken")

    ended: list[int] = []

    def due(at_ns: int) -> bool:
        ended.append(at_ns)
        return False

    timing.begin(START, 1, reply(10 * MS, 1, 0), broken, whole=False)
    timing.begin(START, 1, reply(10 * MS, 1, 0), due, whole=False)
    with pytest.raises(RuntimeError, match="broken"):
        pacer.run()
    pacer.run()
    assert ended == [START + 20 * MS]


def wait_for_truth(simulator: Simulator, count: int) -> dict[int, dict[str, Any]]:
    """The arrival and end line of each chat completion, as one, once `count` have ended."""
    deadline = time.monotonic() + 10
    while True:
        lines = [line for line in simulator.truth() if line.get("path") != "/v1/models"]
        ends = {line["n"]: line for line in lines if line["event"] == "end"}
        together = {line["n"]: line | ends.get(line["n"], {}) for line in lines if line["event"] == "arrival"}
        if sum(line["event"] == "end" for line in together.values()) >= count:
            return together
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_over_sockets_replies_fare_as_with_so_many_servers(
    start: Callable[..., Simulator], connect: Any, wire_request: Callable[..., bytes], body: Body
) -> None:
    """90 Poisson arrivals at 4 slots near what they can do: the mean wait and E2E are within 5 % of the recursion's,
    made of the arrivals that the truth has.
    """
    simulator = start(rpm=None, tpm=None, ttft="60ms", between_tokens="10ms", slots=4)
    generator = random.Random(3)
    wires = [connect(simulator) for _ in range(90)]
    lengths = [generator.randint(1, 15) for _ in wires]
    at_s = time.monotonic()
    for wire, tokens in zip(wires, lengths, strict=True):
        # Mean service 130 ms: 4 slots take 30.8 a second.
        at_s += generator.expovariate(29.0)
        time.sleep(max(0.0, at_s - time.monotonic()))
        wire.send(wire_request(body(max_tokens=tokens, stream=tokens % 2 == 0)))
    for wire in wires:
        assert wire.read_response()[0] == 200
    seen = sorted(wait_for_truth(simulator, len(wires)).values(), key=lambda line: int(line["body_ns"]))
    services = [60e6 + (line["reply_tokens"] - 1) * 10e6 for line in seen]
    fates = [fate for fate in servers([line["body_ns"] for line in seen], services, 4, None) if fate is not None]
    for name, of_seen, of_fates in (
        ("wait", [line["queue_ns"] for line in seen], [start_ns for start_ns, _ in fates]),
        ("e2e", [line["last_sent_ns"] - line["body_ns"] for line in seen], [end_ns for _, end_ns in fates]),
    ):
        came = sum(line["body_ns"] for line in seen)
        assert sum(of_seen) == pytest.approx(sum(of_fates) - came, rel=0.05), name
    assert sum(line["queue_ns"] for line in seen) > 90 * 10e6


@pytest.mark.parametrize(
    "latency",
    [{"ttft": "10s"}, {"latency": "batch", "step": "10s"}],
    ids=["independent", "batch"],
)
def test_full_is_503(
    start: Callable[..., Simulator], connect: Any, wire_request: Callable[..., bytes], body: Body, latency: Any
) -> None:
    """With slots and queue taken: a documented error body, the request counts and its reserved tokens do not, the
    truth says overloaded; a client that leaves the queue leaves its place to the next.
    """
    simulator = start(rpm=10, tpm=1000, charging="reserve", slots=1, queue=1, **latency)
    running = connect(simulator)
    running.send(wire_request(body(max_tokens=100, stream=True)))
    running.read_until(b"\r\n\r\n")
    waiting = connect(simulator)
    waiting.send(wire_request(body(max_tokens=100, stream=True)))
    waiting.read_until(b"\r\n\r\n")
    third = connect(simulator)
    third.send(wire_request(body(max_tokens=100)))
    status, headers, answer = third.read_response()
    assert status == 503
    assert b'"type":"server_error"' in answer.replace(b" ", b"")
    assert b'"code":"overloaded"' in answer.replace(b" ", b"")
    assert headers["x-ratelimit-api_key-remaining-requests"] == "7"
    left = int(headers["x-ratelimit-api_key-remaining-tokens"])
    assert 1000 - 2 * 120 <= left < 1000 - 2 * 100
    refused = wait_for_truth(simulator, 1)[3]
    assert (refused["decision"], refused["status"], refused["ended"]) == ("overloaded", 503, "complete")

    waiting.close()
    gone = wait_for_truth(simulator, 2)[2]
    assert (gone["ended"], gone["completion_tokens"]) == ("client_gone", 0)
    assert 0 < gone["queue_ns"] < 10e9
    fourth = connect(simulator)
    fourth.send(wire_request(body(stream=True)))
    assert fourth.read_until(b"\r\n\r\n").startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("latency", ["independent", "batch"])
def test_who_leaves_a_slot_lets_the_next_start(
    start: Callable[..., Simulator], connect: Any, wire_request: Callable[..., bytes], body: Body, latency: str
) -> None:
    """A long stream whose client goes in the middle; the one behind it is answered long before it would have ended."""
    simulator = start(latency=latency, slots=1, step="5ms", between_tokens="5ms")
    first, second = connect(simulator), connect(simulator)
    first.send(wire_request(body(max_tokens=100_000, stream=True)))
    first.read_until(b'"content":')
    second.send(wire_request(body(max_tokens=2)))
    first.close()
    assert second.read_response()[0] == 200
    assert wait_for_truth(simulator, 2)[1]["ended"] == "client_gone"


@pytest.mark.parametrize("latency", ["independent", "batch"])
def test_all_are_answered_when_settings_change_under_load(
    start: Callable[..., Simulator], connect: Any, wire_request: Callable[..., bytes], body: Body, latency: str
) -> None:
    """Whoever waits or runs when the mode and the slots change is answered, with all its tokens."""
    simulator = start(latency=latency, slots=2, step="2ms", ttft="5ms")
    wires = [connect(simulator) for _ in range(12)]
    for k, wire in enumerate(wires):
        wire.send(wire_request(body(max_tokens=5, stream=True, n=1 + k % 2)))
        if k == 5:
            simulator.change(latency="batch" if latency == "independent" else "independent", slots=1, queue=20)
    for k, wire in enumerate(wires):
        status, _, data = wire.read_response()
        assert (status, data.count(b'"content":')) == (200, 5 * (1 + k % 2))
    seen = wait_for_truth(simulator, 12).values()
    assert sorted(line["completion_tokens"] for line in seen) == [5] * 6 + [10] * 6
