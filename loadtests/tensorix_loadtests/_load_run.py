"""A load test while it runs: what may still be sent, what came of it, when to stop, and what is written of it."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import gevent
import pyarrow as pa
from gevent.event import Event
from gevent.lock import BoundedSemaphore

from tensorix_api.errors import RunFolderError, TensorixError
from tensorix_loadtests._brakes import Brakes
from tensorix_loadtests._call import Call
from tensorix_loadtests._gate import Closed, Gate, Passed, Wait
from tensorix_loadtests._health import Health, spare_the_collector
from tensorix_loadtests._model_refusals import ModelRefusals
from tensorix_loadtests._origin import Origin
from tensorix_loadtests._recording import Result
from tensorix_loadtests._saturation import Saturation
from tensorix_loadtests._session import Session
from tensorix_loadtests._share import part_of
from tensorix_loadtests._sink import Sink
from tensorix_loadtests.plan import LoadPlan
from tensorix_loadtests.prompts import Prompts
from tensorix_loadtests.spending import Journal, Past
from tensorix_records import RequestRecord

if TYPE_CHECKING:
    from tensorix_loadtests._open_loop import OpenLoop

__all__ = ["Listener", "LoadRun"]

logger = logging.getLogger("tensorix_loadtests")

_FLUSH_S = 0.5
# By status, not by kind: a 403 may be about one model or one prompt, and the next request may pass.
_STOPS_AT_ONCE = {401: "unauthorised", 402: "payment"}


class Listener(Protocol):
    """Looks on while a run goes on."""

    def on_record(self, record: RequestRecord) -> None: ...

    def on_second(self, second: Mapping[str, Any]) -> None:
        """About once a second, with what the event `second` of the run folder holds."""


class LoadRun:
    """The state of one run. `take` before each request, `on_result` after it; `stopped` is set when the run must end.

    Made by `begin_run` or `resume_run`; in a worker, by what the master says.
    """

    def __init__(
        self,
        plan: LoadPlan,
        session: Session,
        sink: Sink,
        model: str,
        *,
        gate: Gate,
        share: tuple[int, int] = (0, 1),
        journal: Journal | None = None,
    ) -> None:
        self.plan = plan
        """Of the whole run, however many processes share it."""
        self.share = share
        """(k, n): the k-th of n processes (from 0) that send. What is capped or scheduled is divided among them."""
        self.requests = None if plan.requests is None else part_of(plan.requests, share)
        """This process's part of the number of requests asked for."""
        self.begins_unix_ns: int | None = None
        """The instant, by this machine's clock, from which the schedules of all processes count; None: by oneself."""
        self.session = session
        self.model = model
        self.duration_s = plan.duration_s
        """What is left of the duration asked for."""
        self.past = Past()
        """What was sent before, in a run that is resumed."""
        self.gate = gate
        self.listeners: list[Listener] = []
        """Told of each record, and of each second; what they raise is a defect."""
        if plan.goals.brakes:
            self.listeners.append(Brakes(plan.goals.read(), lambda words: self.stop("brake", words)))
        self.workers: dict[str, Mapping[str, Any]] = {}
        """What each process that sends said last of how it does, where this one only gathers what they saw."""
        self.users: Callable[[], int] = lambda: 0
        self.open_loop: OpenLoop | None = None
        self.asked_ns = 0
        """When the gate was last asked: who was let pass then was held until then, and the rest is the gate's work."""
        self.stopped = Event()
        self.end_reason: str | None = None
        self.end_words: str | None = None
        """The line that goes with it."""
        self.warn: Callable[[str], None] = logger.warning
        """Says a line to whoever looks on."""
        self.warning: str | None = None
        """What may be wrong with what was asked, in one line."""
        self.trouble: str | None = None
        """What went wrong in the run itself, in one line."""
        self.started = 0
        """By this engine: what `past` tells comes before."""
        self.finished = 0
        self._retries_started = 0
        self._answered = 0
        """Of the requests asked for, those that have their last attempt behind them."""
        self._refusals = ModelRefusals()
        self._sink = sink
        self._turnstiles: defaultdict[int, BoundedSemaphore] = defaultdict(BoundedSemaphore)
        self._room = Event()
        """Set whenever there may be more room at the gate."""
        self._health = Health()
        self._saturation = Saturation(plan.arrivals.most_users if plan.arrivals else None)
        self._greenlets: list[Any] = []
        self._phases: set[str] = set()
        self._keys_out: set[str | None] = set()
        self._journal = journal
        self._ended = False

    def watch(self) -> None:
        """Hand on what there is to record twice a second from now on, and once a second how this process does."""
        # Its first conversion imports pandas where the engine's own program is not there to prevent it: now, then.
        pa.array([0], pa.int64())
        self._flush()
        spare_the_collector()
        # A word on what is in flight from the start; how the process does is counted from here, imports left out.
        self._write_second({})
        self._health = Health()
        self._greenlets = [gevent.spawn(self._health.beat), gevent.spawn(self._tick)]

    @cached_property
    def prompts(self) -> Prompts:
        """What chat users ask, of this process's share. Raises SettingsError for a file that cannot be used."""
        return Prompts(self.plan, share=self.share, first=self.past.sent, salt=self.session.run_id)

    # the users' side

    def take(self, *, retry: bool = False) -> bool:
        """Whether one more request may be sent; counts it as started. A retry is none of the number asked for."""
        if self.stopped.is_set():
            return False
        if retry:
            self._retries_started += 1
        elif self.requests is not None and self.past.sent + self.started - self._retries_started >= self.requests:
            return False
        self.started += 1
        return True

    def enter(self, call: Call, user_id: int, origin: Origin) -> Passed | None:
        """Wait until one more request may be sent, and count it as started; None where none may any more.

        One of a lane waits at the gate at a time and the others behind it, so that they pass in the order in which
        they came. What was passed is given to `leave` with the result, in the end.
        """
        with self._turnstiles[self.gate.lane(user_id)]:
            while not self.stopped.is_set():
                self.asked_ns = time.monotonic_ns()
                try:
                    match self.gate.admit(call, user_id, origin):
                        case Passed() as passed:
                            if self.take(retry=origin.attempt > 1):
                                return passed
                            self.gate.release(passed)
                            return None
                        case Wait(seconds):
                            self._room.clear()
                            self._room.wait(seconds)
                        case Closed(reason, words, in_order):
                            self.stop(reason, None if in_order else words, words=words)
                except RunFolderError as error:
                    self._write_failed(error)
        return None

    def may_resend(self, passed: Passed) -> bool:
        """Whether a request whose connection was closed under it may go out once more."""
        try:
            return not self.stopped.is_set() and self.gate.again(passed)
        except RunFolderError as error:
            self._write_failed(error)
            return False

    def leave(self, passed: Passed, result: Result) -> Result:
        """A request that was passed has ended; its result, with what it cost."""
        try:
            cost = self.gate.settle(passed, result.record)
        except RunFolderError as error:
            self._write_failed(error)
            cost = None
        self._room.set()
        return result if cost is None else replace(result, record=replace(result.record, cost=cost))

    def on_result(self, result: Result) -> None:
        """Keep what came of a request, and stop the run where it must not go on."""
        record = result.record
        self.finished += 1
        self._answered += record.outcome != "throttled" or record.attempt > self.plan.spending.most_retries
        self._saturation.on_record(record)
        for listener in self.listeners:
            listener.on_record(record)
        try:
            self._sink.add(record)
            # Gaps of streams that failed stay out of the figures of those that succeeded, like every latency.
            if record.outcome == "success" and len(result.chunk_unix_ns) > 1:
                self._sink.add_gaps(record.model_requested, result.chunk_unix_ns)
        except RunFolderError as error:
            self._write_failed(error)
        if reason := _STOPS_AT_ONCE.get(record.status or 0):
            said = f"the server answered {record.status} ({record.error_kind}): {record.error_message}"
            if not self.gate.without(record.key_alias):
                self.stop(reason, said)
            elif record.key_alias not in self._keys_out:
                self._keys_out.add(record.key_alias)
                self._write_event("key_out", key_alias=record.key_alias, reason=reason, words=said)
                self.warn(f"{record.key_alias} is used no more, the other keys go on: {said}")
        elif refused := self._refusals.after(record):
            self.stop("refused", refused)
        elif self.requests is not None and self.past.sent + self._answered >= self.requests:
            self.stop("requests")

    @property
    def path(self) -> Path | None:
        """The run folder; None where another process writes it."""
        return self._sink.path

    @property
    def sink(self) -> Sink:
        """Where what was seen goes."""
        return self._sink

    @property
    def in_flight(self) -> int:
        """Requests that were started and have no result yet."""
        return self.started - self.finished

    def stop(self, reason: str, trouble: str | None = None, *, words: str | None = None) -> None:
        """Ask the run to end in order; the first reason stays. `words` say more of an end without trouble."""
        if self.stopped.is_set():
            return
        self.end_reason, self.trouble, self.end_words = reason, trouble, words or trouble
        self.stopped.set()
        self._room.set()
        self._write_event("stop", reason=reason, words=self.end_words)

    def phase(self, name: str) -> None:
        """Note that `ramp`, `steady` or `drain` begins; each does so once."""
        if name in self._phases:
            # Locust tells of its users' number again when somebody changes it in the middle of a run.
            return
        self._phases.add(name)
        if name == "steady":
            spare_the_collector()
        self._write_event("phase", name=name)

    # the folder's side

    def _tick(self) -> None:
        ticks = 0
        while True:
            gevent.sleep(_FLUSH_S)
            ticks += 1
            self._flush()
            # Behind the flush: of a run that is killed, what is in flight and what is recorded then fit together. In
            # the first second with each flush, so that a run killed there has a word on it too.
            if ticks % 2 == 0 or ticks == 1:
                self.session.clock.measure()
                self._write_second(self._health.second())

    def _write_second(self, health: dict[str, Any]) -> None:
        told = {
            "in_flight": self.in_flight,
            "users": self.users(),
            "started": self.started,
            "finished": self.finished,
            **({"left": left} if (left := self.gate.left()) else {}),
            **(self.open_loop.second() if self.open_loop else {}),
            **self._saturation.dispatch(),
            **health,
        }
        self._write_event("second", **told)
        for words in self.gate.words():
            self._write_event("pace", words=words)
        for found in self._saturation.second(told):
            self.note("saturated", **self._saturation.event(found))
        for listener in self.listeners:
            listener.on_second(told)

    def note(self, kind: str, **fields: Any) -> None:
        """Write an event."""
        self._write_event(kind, **fields)

    def _write_event(self, kind: str, **fields: Any) -> None:
        try:
            self._sink.event(kind, **fields)
        except RunFolderError as error:
            self._write_failed(error)

    def _flush(self) -> None:
        try:
            self._sink.flush()
        except RunFolderError as error:
            self._write_failed(error)

    def write_failed(self, error: RunFolderError) -> None:
        """Something could not be written: the run ends."""
        self._write_failed(error)

    def _write_failed(self, error: RunFolderError) -> None:
        if not self.stopped.is_set():
            # Set directly: `stop` would try to write an event once more.
            self.end_reason, self.trouble = "write_failed", str(error)
            self.stopped.set()
        elif self.trouble is None:
            self.trouble = str(error)

    def end(self) -> None:
        """Write what is left, close and compact the folder. Never raises for a disk that is full: see `trouble`."""
        if self._ended:
            return
        self._ended = True
        if "prompts" in vars(self):
            self.prompts.close()
        gevent.killall(self._greenlets)
        if self.open_loop:
            self.open_loop.close()
        left = self.gate.left()
        self._write_event(
            "run_ended",
            started=self.started,
            finished=self.finished,
            in_flight=self.in_flight,
            **({"left": left} if left else {}),
        )
        if self._journal is not None:
            self._journal.close()
        try:
            self._sink.close(self.end_reason or "defect")
        except TensorixError as error:
            self._write_failed(RunFolderError(str(error)))
