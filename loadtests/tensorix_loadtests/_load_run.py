"""A load test while it runs: what may still be sent, what came of it, when to stop, and its run folder."""

from __future__ import annotations

import logging
import os
import platform
import socket
import time
import uuid
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import gevent
import pyarrow as pa
from gevent.event import Event

from tensorix_api.errors import RunFolderError, TensorixError
from tensorix_api.secret import Secret
from tensorix_api.settings import Settings
from tensorix_loadtests._clock import SO_TIMESTAMPNS
from tensorix_loadtests._health import Health, spare_the_collector
from tensorix_loadtests._preflight import choose_model
from tensorix_loadtests._recording import Result
from tensorix_loadtests._session import Session
from tensorix_loadtests._target import Target
from tensorix_loadtests.plan import LoadPlan
from tensorix_records import Run

__all__ = ["LoadRun", "open_session"]

logger = logging.getLogger("tensorix_loadtests")

_FLUSH_S = 0.5
# By status, not by kind: a 403 may be about one model or one prompt, and the next request may pass.
_STOPS_AT_ONCE = {401: "unauthorised", 402: "payment"}
_PACKAGES = ("tensorix-toolkit", "locust", "gevent", "httptools", "pyarrow")


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def open_session(plan: LoadPlan, key: Secret | None) -> Session:
    """What the users share. Raises SettingsError for an address, proxy or CA bundle that cannot be used."""
    settings = Settings(base_url=plan.base_url, api_key=key, model=plan.model)
    return Session(
        settings,
        Target.of(settings, plan.ca_bundle),
        plan.timeouts,
        {name: Secret(value) for name, value in plan.headers.items()},
        run_id=time.strftime("%Y%m%dT%H%M%S", time.gmtime()) + "-" + uuid.uuid4().hex[:6],
        process_id=f"p{os.getpid()}",
        host=socket.gethostname(),
        keep_gaps=plan.keep_gaps,
    )


class LoadRun:
    """The state of one run. `take` before each request, `on_result` after it; `stopped` is set when the run must end.

    Make it with `begin`, which looks at the server first and makes the run folder only then.
    """

    def __init__(self, plan: LoadPlan, session: Session, run: Run, model: str) -> None:
        self.plan = plan
        self.session = session
        self.run = run
        self.model = model
        self.users: Callable[[], int] = lambda: 0
        self.stopped = Event()
        self.end_reason: str | None = None
        self.warning: str | None = None
        """What may be wrong with what was asked, in one line."""
        self.trouble: str | None = None
        """What went wrong in the run itself, in one line."""
        self.started = 0
        self.finished = 0
        self._writer = run.writer(session.process_id)
        self._health = Health()
        self._greenlets: list[Any] = []
        self._phases: set[str] = set()
        self._ended = False

    @classmethod
    def begin(
        cls,
        plan: LoadPlan,
        out: Path,
        key: Secret | None,
        *,
        user_classes: Mapping[str, Mapping[str, float]] | None = None,
    ) -> LoadRun:
        """Look whether the server can be used, then make the run folder. Raises TensorixError where either fails.

        `user_classes` are those of a locustfile, by name, with their weight or fixed count: the manifest then tells of
        them instead of the plan's mix, which nobody asked for.
        """
        Run.check_creatable(out)
        # Its first conversion imports pandas (0.3 s or more): now, not between the first request and its flush.
        pa.array([0], pa.int64())
        session = open_session(plan, key)
        model, preflight, warning = choose_model(session, plan.ca_bundle)
        asked = plan.public_dict() | {"model": model}
        if user_classes is not None:
            del asked["mix"]
            asked["user_classes"] = user_classes
        run = Run.create(
            out,
            {
                "run_id": session.run_id,
                "kind": "load",
                "asked": asked,
                "key_alias": session.key_alias,
                "limits": {
                    "requests": plan.limits.requests,
                    "tokens": plan.limits.tokens,
                    "window_s": plan.limits.window_s,
                    "told": list(plan.limits.told),
                },
                "label": plan.label,
                "versions": _versions(),
                "machine": {
                    "host": session.host,
                    "platform": platform.platform(),
                    "cpus": os.cpu_count(),
                    "process": os.getpid(),
                },
                "clocks": {
                    "stamps": "monotonic",
                    "receive_stamps": "kernel" if SO_TIMESTAMPNS is not None else "user",
                    "offset_uncertainty_ns": session.clock.uncertainty_ns,
                },
                "started_unix_ns": time.time_ns(),
                "ended_unix_ns": None,
                "end_reason": None,
            },
        )
        self = cls(plan, session, run, model)
        self.warning = warning
        self._writer.add(preflight)
        self._write_event("run_started")
        self._flush()
        spare_the_collector()
        # A word on what is in flight from the start; how the process does is counted from here, imports left out.
        self._write_second({})
        self._health = Health()
        self._greenlets = [gevent.spawn(self._health.beat), gevent.spawn(self._tick)]
        return self

    # the users' side

    def take(self) -> bool:
        """Whether one more request may be sent; counts it as started."""
        if self.stopped.is_set():
            return False
        if self.plan.requests is not None and self.started >= self.plan.requests:
            return False
        self.started += 1
        return True

    def on_result(self, result: Result) -> None:
        """Keep what came of a request, and stop the run where it must not go on."""
        record = result.record
        self.finished += 1
        try:
            self._writer.add(record)
            # Gaps of streams that failed stay out of the figures of those that succeeded, like every latency.
            if record.outcome == "success" and len(result.chunk_unix_ns) > 1:
                self._writer.add_gaps(record.model_requested, result.chunk_unix_ns)
        except RunFolderError as error:
            self._write_failed(error)
        if reason := _STOPS_AT_ONCE.get(record.status or 0):
            self.stop(reason, f"the server answered {record.status} ({record.error_kind}): {record.error_message}")
        elif self.plan.requests is not None and self.finished >= self.plan.requests:
            self.stop("requests")

    @property
    def in_flight(self) -> int:
        """Requests that were started and have no result yet."""
        return self.started - self.finished

    def stop(self, reason: str, trouble: str | None = None) -> None:
        """Ask the run to end in order; the first reason stays."""
        if self.stopped.is_set():
            return
        self.end_reason, self.trouble = reason, trouble
        self.stopped.set()
        self._write_event("stop", reason=reason)

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
        self._write_event(
            "second",
            in_flight=self.in_flight,
            users=self.users(),
            started=self.started,
            finished=self.finished,
            **health,
        )

    def _write_event(self, kind: str, **fields: Any) -> None:
        try:
            self._writer.event(kind, **fields)
        except RunFolderError as error:
            self._write_failed(error)

    def _flush(self) -> None:
        try:
            self._writer.flush()
        except RunFolderError as error:
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
        gevent.killall(self._greenlets)
        self._write_event("run_ended", started=self.started, finished=self.finished, in_flight=self.in_flight)
        try:
            self._writer.close()
        except RunFolderError as error:
            self._write_failed(error)
        try:
            self.run.update_manifest(ended_unix_ns=time.time_ns(), end_reason=self.end_reason or "defect")
            self.run.compact()
        except TensorixError as error:
            self._write_failed(RunFolderError(str(error)))
            # What is there can be reported all the same; it only stays in its streams.
            logger.warning("%s", error)
