"""The long-running probe put together: a configuration becomes threads, metrics, a history, alerts, and a status."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from prometheus_client import GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.registry import Collector, CollectorRegistry

from tensorix_api.errors import HistoryError, SettingsError, TensorixError
from tensorix_api.secret import Redactor
from tensorix_probes._once import maintenance_of
from tensorix_probes.alerts.alerting import Alerting
from tensorix_probes.exchange.exchange import Exchange
from tensorix_probes.keeping import Keeper
from tensorix_probes.limits.keys import Keys
from tensorix_probes.memory import TargetMemory
from tensorix_probes.metrics import Metrics
from tensorix_probes.registry import check_named
from tensorix_probes.result import Round
from tensorix_probes.round import run_round
from tensorix_probes.serve.exported import Exported
from tensorix_probes.serve.recalling import recall_board, recall_budgets, recall_memories
from tensorix_probes.serve.schedule import Schedule, slots_of
from tensorix_probes.serve.standings import BudgetMetrics, HistoryMetrics, notices_of, standing_of
from tensorix_probes.serve.status import Board, about
from tensorix_probes.serve.workers import Slot, Worker, wrong_with
from tensorix_probes.settings import Configuration, Target

if TYPE_CHECKING:
    from tensorix_probes.otlp import Otlp

__all__ = ["FORMAT", "Service"]

FORMAT = 1
"""Of what `status` returns; a field may be added without a new number."""

_TICK_S = 1.0
_FLUSH_S = 5.0
_OTHERS_S = 15.0
"""From one reading of what others have spent to the next."""


def _otlp() -> Otlp:
    """What sends rounds to a collector: it takes a while to import, and needs an extra."""
    try:
        from tensorix_probes.otlp import Otlp
    except ImportError:
        raise SettingsError("serve.otlp needs an extra: pip install 'tensorix-toolkit[otlp]'") from None
    return Otlp()


class Service:
    """Probes the targets of a configuration until it is told to stop. `tell` gets lines for whoever runs it.

    What one target, the history, the webhook or a collector does harms no other target's schedule.
    """

    def __init__(self, configuration: Configuration, tell: Callable[[str], None]) -> None:
        self._configuration = configuration
        self.tell = tell
        self._lock = threading.Lock()
        """Held while the configuration changes, and to read what belongs to one."""
        self._workers: dict[str, Worker] = {}
        self._leaving: list[Worker] = []
        self._keys = Keys(configuration.targets)
        self._stopping = threading.Event()
        self._started_unix_ns, self._started_s = time.time_ns(), time.monotonic()
        self._keeper = Keeper(configuration.history) if configuration.history.url else None
        self.metrics = Metrics(configuration.targets, configuration.location)
        self._otlp = _otlp() if configuration.serve.otlp else None
        self.board = Board()
        self.board.watch(target.name for target in configuration.targets)
        self.alerting = Alerting(configuration, keep=self._keeper.remember if self._keeper else None)
        collectors: list[Collector] = [self.metrics, self.alerting, BudgetMetrics(lambda: self._keys, time.time_ns)]
        if self._keeper is not None:
            collectors.append(HistoryMetrics(self._keeper))
        # They register themselves: here with one that is asked for nothing.
        own = CollectorRegistry()
        collectors += [ProcessCollector(registry=own), PlatformCollector(registry=own), GCCollector(registry=own)]
        self.exported = Exported(collectors, lambda error: self._broken("metrics", error))
        """Everything for `/metrics`."""
        self._told: set[tuple[str, str]] = set()
        """By target, which defects were told: one that comes with each round is told once."""
        self._schedule = Schedule()
        self._threads = [
            threading.Thread(target=self._guarded, args=(name, work), name=f"probe {name}", daemon=True)
            for name, work in (("schedule", self._schedule.run), ("ticks", self._tick), ("past", self._read_on))
            if self._keeper is not None or name != "past"
        ]

    def start(self) -> None:
        """Begin to probe. Raises SettingsError where a target cannot be probed as it is configured."""
        memories = self._recalled()
        with self._lock:
            new = [self._worker(target, memories.get(target.name)) for target in self._configuration.targets]
            self._put_to_work(new)
        for thread in self._threads:
            thread.start()

    def _guarded(self, name: str, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - `health` tells that the thread is gone
            self.tell(f"a defect of the probe ended its {name}: {type(error).__name__}: {error}")

    def _recalled(self) -> dict[str, TargetMemory]:
        """What the history knows of the budgets and the targets, where it can be had soon."""
        if self._keeper is None:
            return {}
        self._keeper.start()
        why: object = None
        try:
            if recall_budgets(self._keeper, self._keys):
                return recall_memories(self._keeper, self._configuration.targets, self._configuration.location)
        except HistoryError as error:
            why = error
        why = why or self._keeper.standing().error or "it did not open in time"
        self.tell(
            "the history cannot be read: probing begins with what checks remembered and today's budget forgotten; "
            f"the budget is taken up again once it can: {why}"
        )
        return {}

    def _read_on(self) -> None:
        """Read what others spend of the keys, and the past for the page: in a thread of its own, so nothing waits."""
        assert self._keeper is not None
        self._safely("history", self._recall_board)
        self.alerting.begin()
        while not self._stopping.wait(_OTHERS_S):
            try:
                with self._lock:
                    keys = self._keys
                recall_budgets(self._keeper, keys, 0.0)
            except HistoryError:
                continue  # the keeper tells what is wrong with it
            except Exception as error:  # noqa: BLE001
                self._broken("history", error)

    def _tick(self) -> None:
        while not self._stopping.wait(_TICK_S):
            self._safely("alerts", self.alerting.tick)

    def _recall_board(self) -> None:
        assert self._keeper is not None
        configuration = self._configuration
        recall_board(
            self._keeper,
            self.board,
            configuration.targets,
            configuration.location,
            before_unix_ns=self._started_unix_ns,
            before_s=self._started_s,
            go_on=lambda: not self._stopping.is_set(),
            alerting=self.alerting,
        )

    def _worker(self, target: Target, memory: TargetMemory | None = None) -> Worker:
        for check in target.checks:
            check_named(check)
        before = self._workers.get(target.name)
        same = before is not None and (before.target.base_url, before.target.model) == (target.base_url, target.model)
        leaving = [worker for worker in self._leaving if worker.target.name == target.name and worker.alive]
        return Worker(
            target=target,
            exchange=Exchange(target),
            memory=before.memory if before is not None and same else memory or TargetMemory(),
            make_round=self._make_round,
            done=self._done,
            missed=self.metrics.missed,
            failed=self._failed,
            late_s=self._configuration.serve.late_s,
            after=before or (leaving[-1] if leaving else None),
        )

    def _put_to_work(self, workers: list[Worker]) -> None:
        now_s, now_unix_s = time.monotonic(), time.time()
        for worker in workers:
            target = worker.target
            self._workers[target.name] = worker
            worker.start()
            self._schedule.add(slots_of(target, now_s=now_s, now_unix_s=now_unix_s), worker.offer)

    def reload(self, configuration: Configuration) -> None:
        """Go on with another configuration: targets that stay as they are keep their schedule, counts and memory.

        Raises SettingsError where it cannot be used: then nothing has changed.
        """
        with self._lock:
            old = self._configuration
            self._configuration = configuration
            try:
                kept = {
                    worker.target.name for worker in self._workers.values() if worker.target in configuration.targets
                }
                new = [self._worker(target) for target in configuration.targets if target.name not in kept]
                keys = Keys(configuration.targets, before=self._keys)
            except TensorixError:
                self._configuration = old
                raise
            names = [target.name for target in configuration.targets]
            gone = [worker for name, worker in self._workers.items() if name not in kept]
            for worker in gone:
                self._schedule.remove(worker.target.name)
                worker.end()
            self._leaving = [worker for worker in [*self._leaving, *gone] if worker.alive]
            self._workers = {name: worker for name, worker in self._workers.items() if name in kept}
            self._keys = keys
            self.metrics.watch(configuration.targets, configuration.location)
            self.board.watch(names)
            self.alerting.reload(configuration)
            self._put_to_work(new)
        for name, before, after in (
            ("serve", old.serve, configuration.serve),
            ("history", old.history, configuration.history),
        ):
            if before != after:
                self.tell(f"[{name}] was changed: that takes effect at the next start")

    def _make_round(self, worker: Worker, slot: Slot) -> Round:
        target, configuration = worker.target, self._configuration
        return run_round(
            target,
            exchange=worker.exchange,
            key=self._keys.of(target),
            memory=worker.memory,
            key_alias=worker.key_alias,
            location=configuration.location,
            maintenance=maintenance_of(configuration, target.name, slot.due_unix_ns),
            slot_unix_ns=slot.due_unix_ns,
        )

    def _done(self, worker: Worker, made: Round) -> None:
        target = worker.target
        self._safely("metrics", lambda: self.metrics.see(made, target))
        if (otlp := self._otlp) is not None:
            self._safely("spans", lambda: otlp.see(made, target))
        if self._keeper is not None:
            self._safely("budget", lambda: self._own(made, target))
            self._keeper.keep(made, worker.memory)
        change = self.board.see(made, time.monotonic())
        self._safely("alerts", lambda: self.alerting.see(made, target))
        if change is not None:
            before, after = change
            self.tell(
                f"{target.name}: {after}"
                + (f", was {before}" if before else "")
                + (f", in maintenance ({made.maintenance})" if made.maintenance else "")
                + (f": {made.cause_check}" if made.cause_check else "")
                + (f".{made.cause} failed" if made.cause_check and made.cause else "")
                + (f": {made.reason}" if made.reason else "")
            )

    def _own(self, made: Round, target: Target) -> None:
        ledger = self._keys.of(target).ledger
        for result in made.results:
            ledger.own(result.started_unix_ns, result.spent)

    def _safely(self, what: str, call: Callable[[], object]) -> None:
        """One of those who are told of a round must not keep it from the others."""
        try:
            call()
        except Exception as error:  # noqa: BLE001
            self._broken(what, error)

    def _broken(self, what: str, error: Exception) -> None:
        self.tell(f"a defect of the probe's {what}: {type(error).__name__}: {error}")

    def _failed(self, target: Target, error: Exception) -> None:
        kind = type(error).__name__
        if (target.name, kind) in self._told:
            return
        self._told.add((target.name, kind))
        text = Redactor(target.api_key, *target.extra_headers.values())(f"{kind}: {error}")
        self.tell(f"{target.name}: a defect of the probe, told once, the slots it costs are counted as missed: {text}")

    def stop(self, grace_s: float | None = None) -> None:
        """Begin no more rounds, give those under way some time, cut short what is left, and write everything down."""
        self._stopping.set()
        self._schedule.end()
        with self._lock:
            workers = [*self._workers.values(), *self._leaving]
        for worker in workers:
            worker.end()
        deadline = time.monotonic() + (self._configuration.serve.grace_s if grace_s is None else grace_s)
        late = [worker for worker in workers if not worker.join(deadline - time.monotonic())]
        for worker in late:
            worker.cancel()
        deadline = time.monotonic() + 1.0
        for worker in late:
            worker.join(deadline - time.monotonic())
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))
        self._safely("alerts", lambda: self.alerting.close(2.0))
        if self._keeper is not None:
            self._keeper.close(_FLUSH_S)
            if (left := self._keeper.standing()).lost:
                self.tell(f"{left.lost} rounds were not kept in the history: {left.error or 'too many waited'}")
        if (otlp := self._otlp) is not None:
            self._safely("spans", lambda: otlp.close(2.0))

    def health(self) -> list[str]:
        """What is wrong with the probing itself, whatever its targets do; nothing where it works."""
        with self._lock:
            workers = list(self._workers.values())
        return wrong_with(self._threads, workers, time.monotonic())

    def status(self) -> dict[str, Any]:
        """Everything that the status page shows, as JSON takes it. Times are Unix seconds, lengths are seconds."""
        now, now_s = time.time(), time.monotonic()
        with self._lock:
            configuration, workers, keys = self._configuration, dict(self._workers), self._keys
        missed, history = self.metrics.missed_slots(), standing_of(self._keeper)
        targets = []
        for target in configuration.targets:
            slot, worker = self._schedule.next_slot(target.name), workers[target.name]
            targets.append(
                {
                    **about(target, keys.of(target).ledger.standing(round(now * 1e9))),
                    "next_run": None if slot is None else now + slot - now_s,
                    "running": worker.busy,
                    "maintenance": maintenance_of(configuration, target.name, round(now * 1e9)),
                    "missed": missed.get(target.name, {}),
                    **self.board.of(target, now_s),
                }
            )
        return {
            "format": FORMAT,
            "version": version("tensorix-toolkit"),
            "location": configuration.location,
            "now": now,
            "started": self._started_unix_ns / 1e9,
            "notices": [*self.health(), *notices_of(history)],
            "history": history,
            "targets": targets,
        }
