"""The schedule in virtual time, and workers that are given its slots."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorix_probes.exchange.exchange import Exchange
from tensorix_probes.memory import TargetMemory
from tensorix_probes.result import Phases, ProbeResult, Request, Round, State
from tensorix_probes.serve.schedule import Schedule, Slots, slots_of
from tensorix_probes.serve.workers import Slot, Worker, begun_late_s
from tensorix_probes.settings import Target

START_UNIX_S = 1_700_000_003.0


class VirtualTime:
    """A clock that goes on only where it is told to."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> VirtualTime:
    """One at 1,000 s."""
    return VirtualTime()


def _run_until(schedule: Schedule, clock: VirtualTime, end_s: float, stalls: dict[float, float] | None = None) -> None:
    """Let the schedule's thread sleep just as long as it asks to; after a time among the stalls it oversleeps."""
    while (seconds := schedule.step()) is not None and clock.now_s + seconds <= end_s:
        clock.now_s += seconds
        clock.now_s += (stalls or {}).pop(round(clock.now_s), 0.0)
    clock.now_s = end_s


def _slots(target: Target) -> Slots:
    return slots_of(target, now_s=1_000.0, now_unix_s=START_UNIX_S)


def test_slots_do_not_drift(clock: VirtualTime) -> None:
    """A month of a slot a minute: each is exactly at its time, however late the ones before it were called."""
    schedule = Schedule(clock)
    slots = _slots(Target(name="prod", offset_s=10.0))
    called: list[tuple[float, float]] = []

    def begin(slot: float) -> None:
        called.append((slot, clock.now_s))
        clock.now_s += 0.013  # Whoever is called takes a while.

    schedule.add(slots, begin)
    _run_until(schedule, clock, 1_000.0 + 30 * 86_400)
    proper = [slot for slot, _ in called[1:]]
    # By the time of day of the start, ten seconds past each minute.
    assert all(((slot - 1_000.0 + START_UNIX_S - 10.0) / 60).is_integer() for slot in proper)
    assert [second - first for first, second in pairwise(proper)] == [60.0] * (len(proper) - 1)
    assert len(proper) in (43_199, 43_200)
    assert max(now - slot for slot, now in called) < 0.001


def test_the_first_round_comes_soon(clock: VirtualTime) -> None:
    """Whatever the interval, a target is probed within 5 s of the start, and next half an interval later or more."""
    for name in map(str, range(200)):
        slots = _slots(Target(name=name, interval_s=3_600.0))
        first = slots.after(clock.now_s)
        second = slots.after(first)
        assert 1_000.0 <= first < 1_005.0
        assert 1_800.0 <= second - first <= 5_400.0
        assert slots.after(second) == pytest.approx(second + 3_600.0)


def test_targets_spread() -> None:
    """Without offsets of their own, targets share the interval out by their names: no part is crowded or empty."""
    offsets = [_slots(Target(name=f"target-{number}", interval_s=10.0)).at(0) % 10.0 for number in range(1_000)]
    crowd = Counter(int(offset) for offset in offsets)
    assert sorted(crowd) == list(range(10))
    assert max(crowd.values()) < 150


def test_a_restart_keeps_the_phase() -> None:
    """A process that is started again, whatever its monotonic clock says, has its slots at the same times of day."""
    for name in ("a", "b"):
        one = slots_of(Target(name=name, interval_s=30.0), now_s=5.0, now_unix_s=1_000.0)
        other = slots_of(Target(name=name, interval_s=30.0), now_s=77.7, now_unix_s=1_341.2)
        assert (one.origin_s - 5.0 + 1_000.0) % 30.0 == pytest.approx((other.origin_s - 77.7 + 1_341.2) % 30.0)


@given(
    interval_s=st.floats(0.1, 3_600),
    share=st.floats(0, 1),
    name=st.text(max_size=5),
    now_s=st.floats(0, 1e6),
)
def test_jitter(interval_s: float, share: float, name: str, now_s: float) -> None:
    """Each slot is within its jitter, none is left out or comes twice, and asking again gives the same."""
    target = Target(name=name, interval_s=interval_s, jitter_s=share * interval_s, offset_s=0.0)
    slots = slots_of(target, now_s=now_s, now_unix_s=1_000.0)
    slot = slots.after(slots.after(now_s))
    k = round((slot - slots.origin_s) / interval_s - share / 2)
    k = next(candidate for candidate in (k - 1, k, k + 1) if slots.at(candidate) == slot)
    for number in range(k, k + 20):
        assert slots.at(number) == slot
        moved = slot - (slots.origin_s + number * interval_s)
        assert -1e-6 <= moved <= target.jitter_s + 1e-6
        slot = slots.after(slot)


def test_jitter_varies() -> None:
    """Two targets of one interval, or two slots of one target, are not moved by the same."""
    moved = {
        round(_slots(Target(name=name, interval_s=60.0, jitter_s=10.0, offset_s=0.0)).at(k) % 60.0, 6)
        for name in ("a", "b")
        for k in range(50)
    }
    assert len(moved) == 100


def test_what_was_slept_through_is_called_late(clock: VirtualTime) -> None:
    """After a stall each slot of the time is called once, with the time that it was due at; then all is as before."""
    schedule = Schedule(clock)
    called: list[tuple[float, float]] = []
    schedule.add(
        _slots(Target(name="a", interval_s=10.0, offset_s=3.0)), lambda slot: called.append((slot, clock.now_s))
    )
    _run_until(schedule, clock, 1_200.0, {1_100.0: 35.0})
    due = [slot for slot, _ in called[1:]]
    assert due == [due[0] + 10.0 * k for k in range(len(due))]
    assert due[-1] == 1_200.0
    assert [round(now - slot) for slot, now in called if now != slot] == [35, 25, 15, 5]


def test_targets_come_and_go(clock: VirtualTime) -> None:
    """A target that is removed is called no more; one that is added again has the new schedule and not the old one."""
    schedule = Schedule(clock)
    seen: list[str] = []

    def add(name: str, interval_s: float, word: str) -> None:
        schedule.add(_slots(Target(name=name, interval_s=interval_s, offset_s=0.0)), lambda slot: seen.append(word))

    add("a", 10.0, "old")
    add("b", 10.0, "b")
    _run_until(schedule, clock, 1_050.0)
    assert Counter(seen).keys() == {"old", "b"}
    seen.clear()
    add("a", 5.0, "new")
    schedule.remove("b")
    schedule.remove("never there")
    _run_until(schedule, clock, 1_100.0)
    assert seen == ["new"] * 10
    assert schedule.next_slot("b") is None
    assert clock.now_s < (schedule.next_slot("a") or 0) <= clock.now_s + 5.0
    schedule.end()
    assert schedule.step() is None


def test_in_real_time() -> None:
    """In its own thread a schedule wakes for what is added while it sleeps, and ends at once."""
    schedule = Schedule()
    thread = threading.Thread(target=schedule.run)
    thread.start()
    called = threading.Event()
    try:
        schedule.add(
            Slots(name="far", first_s=1e12, origin_s=0.0, interval_s=1.0), lambda slot: pytest.fail("never due")
        )
        schedule.add(Slots(name="now", first_s=0.0, origin_s=0.0, interval_s=0.01), lambda slot: called.set())
        assert called.wait(5)
    finally:
        schedule.end()
        thread.join(5)
    assert not thread.is_alive()


class Harness:
    """A worker whose rounds last until they are told to end."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.begun: list[Slot] = []
        self.missed: list[str] = []
        self.failed: list[Exception] = []
        self.done: list[Round] = []
        self.began = threading.Semaphore(0)
        self.go_on = threading.Semaphore(0)
        self.over = threading.Semaphore(0)
        self.error: Exception | None = None
        self.unix_ns = 5_000_000_000
        self.results: tuple[ProbeResult, ...] = ()
        target = Target(name="here", base_url="http://127.0.0.1:9/v1")
        self.worker = Worker(
            target=target,
            exchange=Exchange(target),
            memory=TargetMemory(),
            make_round=self._make,
            done=self._done,
            missed=lambda target, reason: self.missed.append(reason),
            failed=self._failed,
            monotonic_s=clock,
            unix_ns=lambda: self.unix_ns,
        )
        self.worker.start()

    def _make(self, worker: Worker, slot: Slot) -> Round:
        self.begun.append(slot)
        self.began.release()
        assert self.go_on.acquire(timeout=10)
        if self.error is not None:
            raise self.error
        return Round(round_id="r", target="here", state=State.UP, started_unix_ns=1, results=self.results)

    def _done(self, worker: Worker, round_: Round) -> None:
        self.done.append(round_)
        self.over.release()

    def _failed(self, target: Target, error: Exception) -> None:
        self.failed.append(error)
        self.over.release()

    def let_one_end(self) -> None:
        """Wait until a round has begun, and then until it is over and the worker free."""
        assert self.began.acquire(timeout=10)
        self.go_on.release()
        assert self.over.acquire(timeout=10)
        assert self.worker.rest(10)


@pytest.fixture
def harness(clock: VirtualTime) -> Iterator[Harness]:
    """One in virtual time."""
    made = Harness(clock)
    yield made
    made.worker.end()
    made.go_on.release()
    assert made.worker.join(10)


def test_a_round_in_its_slot(harness: Harness, clock: VirtualTime) -> None:
    """A slot taken at once becomes a round; its time of day is that of the slot, not of the moment it was taken."""
    harness.worker.offer(clock.now_s - 0.05)
    harness.let_one_end()
    assert [slot.due_unix_ns for slot in harness.begun] == [4_950_000_000]
    assert len(harness.done) == 1
    assert harness.missed == []


def test_never_two_rounds_at_once(harness: Harness, clock: VirtualTime) -> None:
    """Slots that come while a round is under way are missed as `overlap`, each once, and the next free one is taken."""
    harness.worker.offer(clock.now_s)
    assert harness.began.acquire(timeout=10)
    for _ in range(3):
        clock.now_s += 10
        harness.worker.offer(clock.now_s)
    assert harness.missed == ["overlap"] * 3
    harness.began.release()
    harness.let_one_end()
    clock.now_s += 10
    harness.worker.offer(clock.now_s)
    harness.let_one_end()
    assert len(harness.done) == len(harness.begun) == 2


def test_late(harness: Harness, clock: VirtualTime) -> None:
    """A slot is taken up to 75 of its 100 ms after its time: the request has to go out, too. Later it is missed."""
    harness.worker.offer(clock.now_s - 0.0751)
    assert harness.missed == ["late"]
    harness.worker.offer(clock.now_s - 0.0749)
    harness.let_one_end()
    assert harness.missed == ["late"]


def _asked(slot_s: float, late_ms: int, *, unix_ns: int = 0) -> ProbeResult:
    """A handshake of 400 ms, and a request that was begun so much after its end, by the monotonic clock."""
    begin_ns, ms = round(slot_s * 1e9), 10**6
    shaken = Request(
        span_id="1",
        request_id="1",
        method=None,
        path="",
        started_unix_ns=unix_ns,
        started_monotonic_ns=begin_ns,
        phases=Phases(total_ns=400 * ms),
    )
    listed = replace(shaken, method="GET", path="/models", started_monotonic_ns=begin_ns + (400 + late_ms) * ms)
    return ProbeResult(check="models", target="here", state=State.UP, started_unix_ns=0, requests=(shaken, listed))


def test_a_round_that_lost_its_processor_after_it_began() -> None:
    """What its first request was late counts, but not what a handshake before it took; nothing asked is never late."""
    made = Round(round_id="r", target="here", state=State.UP, started_unix_ns=0, results=(_asked(1_000.0, 120),))
    assert begun_late_s(made, 1_000.0) == pytest.approx(0.12)
    assert begun_late_s(replace(made, results=()), 1_000.0) == 0.0
    # Of a process that does not live any more it means nothing.
    assert "started_monotonic_ns" not in str(made.to_dict())


@pytest.mark.parametrize("hours", [-1, 0, 1])
def test_a_clock_that_is_set_during_a_round(harness: Harness, clock: VirtualTime, hours: int) -> None:
    """Whether a first request was late is told by the monotonic clock alone, wherever the time of day jumps to."""
    missed = []
    for late_ms in (99, 101):
        slot_unix_ns = harness.unix_ns
        harness.worker.offer(clock.now_s)
        assert harness.began.acquire(timeout=10)
        harness.unix_ns += hours * 3_600 * 10**9
        harness.results = (_asked(clock.now_s, late_ms, unix_ns=harness.unix_ns),)
        harness.began.release()
        harness.let_one_end()
        assert harness.begun[-1].due_unix_ns == slot_unix_ns
        missed.append(list(harness.missed))
    assert missed == [[], ["late"]]
    assert len(harness.done) == 2


def test_a_thread_that_wakes_late() -> None:
    """A slot offered in time to a thread that gets to run only after 100 ms is missed as `late`: no round was made."""
    times = iter([0.0, 10.0, 10.2])
    harness = Harness(lambda: next(times))
    harness.worker.offer(10.0)
    assert harness.worker.rest(10)
    assert harness.missed == ["late"]
    assert harness.begun == []
    harness.worker.end()
    assert harness.worker.join(10)


def test_a_defect(harness: Harness, clock: VirtualTime) -> None:
    """What should not happen in a round is told, and the next slot is taken all the same."""
    harness.error = ValueError("a defect")
    harness.worker.offer(clock.now_s)
    harness.let_one_end()
    assert [str(error) for error in harness.failed] == ["a defect"]
    harness.error = None
    harness.worker.offer(clock.now_s)
    harness.let_one_end()
    assert len(harness.done) == 1
    assert harness.worker.alive


def test_an_end_in_order(harness: Harness, clock: VirtualTime) -> None:
    """A worker that is to end takes no more slots, finishes the round under way, and is gone."""
    harness.worker.offer(clock.now_s)
    assert harness.began.acquire(timeout=10)
    harness.worker.end()
    assert not harness.worker.join(0)
    harness.worker.offer(clock.now_s)
    harness.go_on.release()
    assert harness.worker.join(10)
    assert len(harness.done) == 1
    assert harness.missed == []


def test_each_slot_is_a_round_or_counted(clock: VirtualTime) -> None:
    """With rounds of any length and a machine that stalls, rounds and missed slots add up to the slots."""
    chance = random.Random(7)
    schedule, counted = Schedule(clock), Counter[str]()
    busy_until: dict[str, float] = {}
    due: Counter[str] = Counter()

    def begin_of(name: str) -> Callable[[float], None]:
        def begin(slot: float) -> None:
            due[name] += 1
            if clock.now_s < busy_until.get(name, 0.0):
                counted["overlap"] += 1
            elif clock.now_s - slot > 0.1:
                counted["late"] += 1
            else:
                counted["round"] += 1
                busy_until[name] = clock.now_s + chance.expovariate(1 / 4.0)

        return begin

    targets: list[dict[str, Any]] = [{"name": f"t{number}", "interval_s": 10.0} for number in range(20)]
    for fields in targets:
        schedule.add(_slots(Target(**fields)), begin_of(fields["name"]))
    stalls = {1_000.0 + 50 * number: chance.uniform(0, 12) for number in range(1, 60)}
    _run_until(schedule, clock, 1_000.0 + 1_800.0, stalls)
    assert sum(counted.values()) == sum(due.values())
    assert all(count in (180, 181, 182) for count in due.values())
    assert min(counted.values()) > 0
