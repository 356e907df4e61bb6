"""The batch run by a pacer: who is called when, and what a reply leaves behind."""

from __future__ import annotations

import gc
import heapq
import weakref
from collections.abc import Iterator

import pytest

from tensorix_simulator.chat.replies import Reply
from tensorix_simulator.latency.batch import BatchModel
from tensorix_simulator.latency.batched import Batched
from tensorix_simulator.latency.independent import Independent
from tensorix_simulator.latency.modes import Latency
from tensorix_simulator.latency.pacing import Job, Pacer
from tensorix_simulator.latency.timing import Ticket, Timing
from tensorix_simulator.settings import SimulatorSettings

MS = 1_000_000
START = 1_000_000 * MS


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


def reply(tokens: int) -> Reply:
    return Reply(
        fails=False,
        choices=(),
        tokens=tokens,
        ttft_ns=10 * MS,
        next_gap_ns=lambda: 10 * MS,
    )


class Reader:
    """Notes when its tokens were due; can raise, or have enough."""

    def __init__(self, tokens: int, *, enough: int = 1_000_000, raises: bool = False) -> None:
        self.tokens = tokens
        self.enough = enough
        self.raises = raises
        self.due_ns: list[int] = []
        self.ticket: Ticket | None = None

    def due(self, due_ns: int) -> bool:
        self.due_ns.append(due_ns)
        if self.raises:
            raise RuntimeError("broken")
        return len(self.due_ns) < min(self.tokens, self.enough)

    def begin(self, timing: Timing, *, at_ns: int = START, whole: bool = False) -> None:
        self.ticket = timing.begin(at_ns, 1, reply(self.tokens), self.due, whole=whole)

    @property
    def due_ms(self) -> list[int]:
        return [(due_ns - START) // MS for due_ns in self.due_ns]


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Python's cycle collector does nothing."""
    gc.disable()
    yield
    gc.enable()


def batched(pacer: Pacer, slots: int | None = None) -> Batched:
    timing = Batched(pacer)
    timing.batch.model = BatchModel(step_ns=10 * MS)
    timing.batch.line.slots = slots
    return timing


def test_tokens_are_due_at_the_ends_of_steps() -> None:
    """Streamed, each of them; whole, the last alone. The first starts the step that the others have to wait for."""
    pacer = VirtualPacer()
    timing = batched(pacer)
    readers = [Reader(3), Reader(2), Reader(4)]
    readers[0].begin(timing)
    readers[1].begin(timing)
    readers[2].begin(timing, whole=True)
    pacer.run()
    assert [reader.due_ms for reader in readers] == [[10, 20, 30], [20, 30], [50]]
    assert [reader.ticket.queue_ns // MS for reader in readers if reader.ticket] == [0, 10, 10]


def test_it_sleeps_and_wakes() -> None:
    """An idle batch has no job in the pacer; the next arrival brings one, and only one."""
    pacer = VirtualPacer()
    timing = batched(pacer)
    for _ in range(2):
        readers = [Reader(1), Reader(2)]
        for reader in readers:
            reader.begin(timing)
        assert len(pacer._jobs) == 1
        pacer.run()
        assert [len(reader.due_ms) for reader in readers] == [1, 2]


def test_one_that_comes_while_tokens_are_handed_out() -> None:
    """A reader that asks for the next reply as soon as its own is there: it is in the step that began then."""
    pacer = VirtualPacer()
    timing = batched(pacer)
    second = Reader(1)

    def due(due_ns: int) -> bool:
        second.ticket = timing.begin(due_ns, 1, reply(1), second.due, whole=False)
        return False

    timing.begin(START, 1, reply(1), due, whole=False)
    pacer.run()
    assert second.due_ms == [20]


def test_one_that_raises_stops_no_other() -> None:
    """The pacer's loop hears of it, and goes on with the batch."""
    pacer = VirtualPacer()
    timing = batched(pacer)
    readers = [Reader(2, raises=True), Reader(3)]
    for reader in readers:
        reader.begin(timing)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="broken"):
            pacer.run()
    pacer.run()
    assert readers[1].due_ms == [20, 30, 40]


def test_one_that_has_enough_leaves() -> None:
    """A reply that is cut frees its slot at the end of the step that began as its last token was made."""
    pacer = VirtualPacer()
    timing = batched(pacer, slots=1)
    readers = [Reader(100, enough=2), Reader(1)]
    for reader in readers:
        reader.begin(timing)
    pacer.run()
    assert [reader.due_ms for reader in readers] == [[10, 20], [40]]


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("make", [lambda pacer: batched(pacer, 2), Independent], ids=["batched", "independent"])
def test_a_reply_leaves_no_cycle(make: type[Independent]) -> None:
    """Whole, cut or cancelled, running or waiting: all is freed without Python's collector, which is held back."""
    pacer = VirtualPacer()
    timing = make(pacer)
    if isinstance(timing, Independent):
        timing.bound(2, None)
    readers = [Reader(3), Reader(5, enough=2), Reader(4), Reader(6), Reader(7)]
    for reader in readers:
        reader.begin(timing)
    for reader in readers[3:]:
        assert reader.ticket is not None
        reader.ticket.cancel()
        reader.ticket.cancel()
    pacer.run()
    assert [len(reader.due_ms) for reader in readers] == [3, 2, 4, 0, 0]
    running = Reader(5)
    running.begin(timing)
    assert running.ticket is not None
    running.ticket.cancel()
    pacer.run()
    left = [weakref.ref(reader) for reader in [*readers, running]]
    readers.clear()
    del running, reader
    assert [ref() for ref in left] == [None] * 6


def test_the_same_seed_and_requests_give_the_same_latencies() -> None:
    """After a reset as after a start; another seed gives others."""
    pacer = VirtualPacer()
    settings = SimulatorSettings(latency="batch", step_noise=0.3, slots=2, seed=5)
    latency = Latency(pacer, settings)

    def times(at_ns: int) -> list[list[int]]:
        readers = [Reader(3), Reader(4), Reader(2)]
        for reader in readers:
            reader.begin(latency, at_ns=at_ns)
        pacer.run()
        return [[due_ns - at_ns for due_ns in reader.due_ns] for reader in readers]

    first = times(START)
    latency.forget()
    again = times(2 * START)
    latency.change(settings.changed({"seed": 6}))
    other = times(3 * START)
    assert first == again
    assert first != other
