"""A thread a target, which makes its rounds one after the other: what stalls one target stalls no other."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tensorix_probes.exchange.exchange import Exchange
from tensorix_probes.memory import TargetMemory
from tensorix_probes.result import Round
from tensorix_probes.settings import Target

__all__ = ["Slot", "Worker", "begun_late_s", "wrong_with"]

_BEGIN = 0.75
"""The share of `late_s` after which no round begins any more: the rest is for its first request to get out."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A slot that is to be used now: when it was due, on the monotonic clock and by the time of day."""

    due_s: float
    due_unix_ns: int


def begun_late_s(made: Round, due_s: float) -> float:
    """How long after its slot a round's first request was begun, without the time that the network took before it.

    `due_s` is the slot on the monotonic clock: the time of day may be set in between. A round that began in time may
    have lost its processor before it came to that. 0 where nothing was asked.
    """
    before_ns = 0
    for request in (request for result in made.results for request in result.requests):
        if request.method is not None:
            return (request.started_monotonic_ns - before_ns) / 1e9 - due_s
        before_ns += request.phases.total_ns or 0
    return 0.0


@dataclass(slots=True)
class Worker:
    """Makes the rounds of one target.

    `offer` is called by the schedule, and returns at once. A slot is missed, and `missed` told why, where the round
    before it is not over (`overlap`), its first request could not go out within `late_s` (`late`), or the round ended
    in what should not have happened (`defect`), which `failed` gets. `done` gets each round. None of them is called
    while a lock is held.
    """

    target: Target
    exchange: Exchange
    memory: TargetMemory
    make_round: Callable[[Worker, Slot], Round]
    done: Callable[[Worker, Round], None]
    missed: Callable[[Target, str], None]
    failed: Callable[[Target, Exception], None]
    late_s: float = 0.1
    after: Worker | None = None
    """Whose last round has to be over before the first begins: the same target, as it was configured before."""
    monotonic_s: Callable[[], float] = time.monotonic
    unix_ns: Callable[[], int] = time.time_ns
    last_end_s: float = field(init=False)
    """When its last round ended on the monotonic clock; before the first: when it started."""
    key_alias: str | None = field(init=False)
    """Of its target; kept, since it takes some ms."""
    _given: threading.Condition = field(default_factory=threading.Condition, init=False)
    _slot: Slot | None = field(default=None, init=False)
    _ended: bool = field(default=False, init=False)
    _thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self.last_end_s = self.monotonic_s()
        self.key_alias = self.target.key_alias
        self._thread = threading.Thread(target=self._run, name=f"probe {self.target.name}", daemon=True)

    def start(self) -> None:
        """Begin to take slots."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether its thread is."""
        return self._thread.is_alive()

    @property
    def busy(self) -> bool:
        """Whether a round is under way, or about to be."""
        return self._slot is not None

    def offer(self, due_s: float) -> None:
        """Begin a round for the slot that was due at a time of the monotonic clock, or count it as missed."""
        late_s = self.monotonic_s() - due_s
        with self._given:
            if self._ended:
                return
            reason = "overlap" if self._slot is not None else "late" if late_s > _BEGIN * self.late_s else None
            if reason is None:
                self._slot = Slot(due_s, self.unix_ns() - round(late_s * 1e9))
                self._given.notify()
        if reason is not None:
            self.missed(self.target, reason)

    def _run(self) -> None:
        if self.after is not None:
            self.after.join()
            self.after = None
        try:
            self._take_slots()
        finally:
            self.exchange.close()

    def _take_slots(self) -> None:
        while True:
            with self._given:
                while self._slot is None and not self._ended:
                    self._given.wait()
                slot = self._slot
            if slot is None or self._ended:
                return
            try:
                if self.monotonic_s() - slot.due_s > _BEGIN * self.late_s:
                    # The thread was woken too late: the machine has other things to do.
                    self.missed(self.target, "late")
                    continue
                self._take(slot)
            finally:
                with self._given:
                    self._slot = None
                    self._given.notify_all()

    def _take(self, slot: Slot) -> None:
        try:
            made = self.make_round(self, slot)
        except Exception as error:  # noqa: BLE001 - a defect: the next slot has its chance all the same
            self.missed(self.target, "defect")
            self.failed(self.target, error)
        else:
            if begun_late_s(made, slot.due_s) > self.late_s:
                self.missed(self.target, "late")
            try:
                self.done(self, made)
            except Exception as error:  # noqa: BLE001 - the round was made, and is no missed slot
                self.failed(self.target, error)
        # After a defect, too: it is counted and told, and no reason to call the other targets' probing broken.
        self.last_end_s = self.monotonic_s()

    def rest(self, seconds: float) -> bool:
        """Wait until no round is under way; whether that came about."""
        with self._given:
            return self._given.wait_for(lambda: self._slot is None, max(0.0, seconds))

    def end(self) -> None:
        """Take no more slots. A round under way goes on: wait with `join`, cut it short with `cancel`."""
        with self._given:
            self._ended = True
            self._given.notify_all()

    def join(self, seconds: float | None = None) -> bool:
        """Wait for its thread to end; whether it did."""
        if self._thread.ident is not None:
            self._thread.join(None if seconds is None else max(0.0, seconds))
        return not self._thread.is_alive()

    def cancel(self) -> None:
        """Cut the round under way short: its request fails at once, and so does what it asks next: inconclusive."""
        self.exchange.close()


def wrong_with(threads: Iterable[threading.Thread], workers: Iterable[Worker], now_s: float) -> list[str]:
    """Which threads are dead, and which targets have had no round for too long, in a line each."""
    wrong = [f"the thread of {one.name.removeprefix('probe ')} is dead" for one in threads if not one.is_alive()]
    for worker in workers:
        target, silent_s = worker.target, now_s - worker.last_end_s
        # By its timeouts a round may take longer than three intervals.
        most_s = max(3 * target.interval_s, (len(target.checks) + 1) * target.timeouts.total_s)
        if not worker.alive:
            wrong.append(f"{target.name}: its thread is dead")
        elif silent_s > most_s:
            wrong.append(f"{target.name}: no round has ended for {silent_s:.0f} s")
    return wrong
