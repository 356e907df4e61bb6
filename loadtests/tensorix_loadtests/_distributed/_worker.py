"""A worker of a run of several processes: it takes its share of the plan, sends, and brings the master what it saw."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import gevent
from gevent.event import Event

from tensorix_api.errors import SettingsError, TensorixError
from tensorix_api.settings import Settings
from tensorix_loadtests._beginning import gate_of, open_session
from tensorix_loadtests._distributed import _wire as wire
from tensorix_loadtests._distributed._outbox import Outbox
from tensorix_loadtests._distributed._worker_sink import WorkerSink
from tensorix_loadtests._health import raise_open_files
from tensorix_loadtests._load_run import LoadRun
from tensorix_loadtests._session import Session
from tensorix_loadtests.plan import LoadPlan

__all__ = ["Worker"]

logger = logging.getLogger("tensorix_loadtests")

_PUMP_S = 0.05
# Past every timeout of a request, and for what waits to be brought when nothing of it is taken any more.
_DRAIN_MARGIN_S = 5.0
_DELIVERY_S = 20.0


class Worker:
    """Speaks with the master over Locust's `runner`. One part of a run after the other; `over` is set after each.

    `headers` are the values of extra headers that this process was given: the plan names them only. `on_run` is told of
    the run when it begins, before its users start, `on_over` when all of it was brought; `on_plan` of the plan when it
    has come.
    """

    def __init__(
        self,
        runner: Any,
        *,
        headers: Mapping[str, str],
        on_plan: Callable[[LoadPlan], None] = lambda plan: None,
        on_run: Callable[[LoadRun], None] = lambda run: None,
        on_over: Callable[[LoadRun], None] = lambda run: None,
    ) -> None:
        self.run: LoadRun | None = None
        self.over = Event()
        self.trouble: str | None = None
        """Why this worker took no part, or what went wrong in it."""
        self._runner = runner
        self._headers = {name.lower(): value for name, value in headers.items()}
        self._on_plan_come = on_plan
        self._on_run = on_run
        self._on_over = on_over
        self._parent = os.getppid()
        self._welcomed = False
        self._plan: LoadPlan | None = None
        self._session: Session | None = None
        self._share = (0, 1)
        self._outbox = Outbox()
        self._parcels = Event()
        self._hurry = False
        self._acknowledged_end = Event()
        self._heard_ns = time.monotonic_ns()
        self._background: list[Any] = []
        for kind, handler in {
            wire.HELLO: self._on_welcome,
            wire.CLOCK: self._on_clock,
            wire.PLAN: self._on_plan,
            wire.REFUSED: self._on_refused,
            wire.BEGIN: self._on_begin,
            wire.GO: self._on_go,
            wire.ACK: self._on_ack,
            wire.STOP: self._on_stop,
            wire.CANCEL: self._on_cancel,
            wire.DONE: self._on_taken,
        }.items():
            runner.register_message(kind, self._listener(handler))
        self._greeting = gevent.spawn(self._greet)

    def _listener(self, handler: Callable[[Mapping[str, Any]], None]) -> Callable[..., None]:
        def listen(msg: Any, **_: Any) -> None:
            self._heard_ns = time.monotonic_ns()
            handler(msg.data if isinstance(msg.data, dict) else {})

        return listen

    def _send(self, kind: str, data: dict[str, Any]) -> bool:
        try:
            self._runner.send_message(kind, data)
        except Exception as error:  # noqa: BLE001  Locust's own kinds, and those of its connection: it resets that
            logger.warning("the master could not be told %s: %s", kind, error)
            return False
        return True

    # before the run

    def _greet(self) -> None:
        while not self._welcomed:
            self._send(wire.HELLO, wire.self_description())
            gevent.sleep(0.5)

    def _on_welcome(self, data: Mapping[str, Any]) -> None:
        self._welcomed = True

    def _on_clock(self, data: Mapping[str, Any]) -> None:
        heard = time.time_ns()
        self._send(wire.CLOCK, {"number": data.get("number"), "heard": heard, "replied": time.time_ns()})

    def _on_refused(self, data: Mapping[str, Any]) -> None:
        self.trouble = str(data.get("why"))
        self.over.set()

    def _on_plan(self, data: Mapping[str, Any]) -> None:
        try:
            self._take_plan(data)
        except (TensorixError, OSError) as error:
            self._plan = None
            self.trouble = str(error)
            self._send(wire.REFUSED, {"why": str(error)})
            self.over.set()

    def _take_plan(self, data: Mapping[str, Any]) -> None:
        plan = LoadPlan.from_dict(json.loads(data["plan"]))
        missing = [name for name in plan.headers if name.lower() not in self._headers]
        if missing:
            raise SettingsError(
                f"the run sends the header {missing[0]!r}, and header values do not travel: "
                f"give it to this worker with --header '{missing[0]}: VALUE'"
            )
        # The master brakes, since it sees what all of them send.
        plan = replace(plan, goals=replace(plan.goals, brakes=()))
        plan = replace(plan, headers={name: self._headers[name.lower()] for name in plan.headers})
        key = Settings.from_environment(base_url=plan.base_url).api_key
        if key is None and data["key"]:
            raise SettingsError("it has no key: set TENSORIX_API_KEY where the worker runs")
        session = open_session(plan, key)
        session.process_id = str(data["process_id"])
        part, parts = data["share"]
        if warning := raise_open_files(plan.users // int(parts) + 1):
            logger.warning(warning)
        self._on_plan_come(plan)
        self._plan, self._session, self._share = plan, session, (int(part), int(parts))
        self._send(wire.PREPARED, {"key_alias": session.key_alias})

    def _on_begin(self, data: Mapping[str, Any]) -> None:
        plan, session = self._plan, self._session
        if plan is None or session is None or self.run is not None:
            return
        self.over.clear()
        self.trouble = None
        self._hurry = False
        self._acknowledged_end.clear()
        self._outbox = Outbox()
        session.run_id = str(data["run"])
        sink = WorkerSink(session.run_id, self._outbox, self._parcels.set)
        gate = gate_of(plan, session, None, self._share)
        run = LoadRun(plan, session, sink, str(data["model"]), gate=gate, share=self._share)
        sink.counts = lambda: self._counts(run)
        run.users = lambda: self._runner.user_count
        self.run = run
        try:
            self._on_run(run)
        except TensorixError as error:
            self.run, self.trouble = None, str(error)
            self._send(wire.REFUSED, {"why": str(error)})
            self.over.set()
            return
        run.watch()
        if run.requests == 0:
            # More workers than requests: there is nothing for this one.
            run.stop("requests")
        self._background = [gevent.spawn(self._pump), gevent.spawn(self._look_after_master, run)]
        gevent.spawn(self._follow, run)
        gevent.spawn(self._report_ready, run)

    def _report_ready(self, run: LoadRun) -> None:
        """Again and again until the master has said when to begin: either message can be lost with its connection."""
        while run.begins_unix_ns is None and not run.stopped.is_set():
            self._send(wire.READY, {})
            gevent.sleep(0.5)

    def _on_go(self, data: Mapping[str, Any]) -> None:
        if self.run is not None and self.run.begins_unix_ns is None:
            self.run.begins_unix_ns = int(data["begins_unix_ns"])

    def _counts(self, run: LoadRun) -> dict[str, Any]:
        counts = {"started": run.started, "finished": run.finished, "users": run.users()}
        return counts | {"left": run.gate.left()}

    # while it runs

    def _on_ack(self, data: Mapping[str, Any]) -> None:
        if self.run is not None and data.get("run") == self.run.session.run_id:
            self._outbox.acknowledged(int(data["number"]), time.monotonic_ns())
            self._parcels.set()

    def _on_stop(self, data: Mapping[str, Any]) -> None:
        if self.run is not None:
            self.run.stop(str(data.get("reason")))

    def _on_cancel(self, data: Mapping[str, Any]) -> None:
        if self.run is not None:
            self._runner.user_greenlets.kill(block=False)

    def _on_taken(self, data: Mapping[str, Any]) -> None:
        self._acknowledged_end.set()

    def _pump(self) -> None:
        """Bring parcels to the master as they come due."""
        while True:
            self._parcels.wait(_PUMP_S)
            self._parcels.clear()
            for parcel in self._outbox.due(time.monotonic_ns(), at_once=self._hurry):
                if not self._send(wire.PARCEL, parcel.message | {"number": parcel.number}):
                    break  # it is sent again
            if not self._outbox.empty:
                gevent.sleep(_PUMP_S if not self._hurry else 0)

    def _look_after_master(self, run: LoadRun) -> None:
        """Without a master nobody would end the run, and nobody keeps what comes of it."""
        while not run.stopped.is_set():
            gevent.sleep(0.5)
            silent_s = (time.monotonic_ns() - self._heard_ns) / 1e9
            if os.getppid() != self._parent or silent_s > wire.GONE_S:
                run.stop("master_gone", "nothing was heard of the master any more: this worker has stopped")

    def _follow(self, run: LoadRun) -> None:
        """Bring the run to its end when it is stopped, from whichever side."""
        run.stopped.wait()
        run_id = run.session.run_id
        told = {"run": run_id, "reason": run.end_reason, "words": run.end_words, "trouble": run.trouble}
        self._send(wire.STOPPING, told)
        timeouts = run.plan.timeouts
        deadline = time.monotonic() + timeouts.connect_s + timeouts.total_s + _DRAIN_MARGIN_S
        while run.in_flight > 0 and time.monotonic() < deadline:
            gevent.sleep(0.01)
        self._runner.user_greenlets.kill(block=True, timeout=_DRAIN_MARGIN_S)
        run.end()
        # No streams are left to be held up.
        self._hurry = True
        self._parcels.set()
        self._deliver(run, told)
        gevent.killall(self._background)
        self.trouble = run.trouble
        self.run = self._plan = None
        self._on_over(run)
        self.over.set()

    def _deliver(self, run: LoadRun, told: dict[str, Any]) -> None:
        """Wait until the master has all of it, or takes none of it any more."""
        outbox = self._outbox
        left, moved = -1, time.monotonic()
        # The process that started this one was its master: nobody takes anything where that is gone.
        patience_s = _DELIVERY_S if os.getppid() == self._parent else 0.0
        while time.monotonic() - moved < patience_s and not self._acknowledged_end.is_set():
            if outbox.undelivered != left:
                left, moved = outbox.undelivered, time.monotonic()
            # With each: either can be lost with the connection.
            self._send(wire.STOPPING, told)
            self._send(
                wire.DONE,
                told
                | {
                    "parcels": outbox.parcels,
                    "records": outbox.taken + outbox.lost,
                    "lost": outbox.lost,
                    "started": run.started,
                    "finished": run.finished,
                },
            )
            self._acknowledged_end.wait(0.5 if outbox.empty else 0.05)
        if not self._acknowledged_end.is_set() and run.trouble is None:
            run.trouble = f"the master took no more: {outbox.undelivered + outbox.lost:,} records are lost"
