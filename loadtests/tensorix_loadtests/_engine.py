"""Runs a plan with Locust as a library, in a process of its own, from the first user to the last drained request."""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gevent
from locust import events
from locust.env import Environment

from tensorix_api.errors import SettingsError, TensorixError
from tensorix_api.secret import Redactor, Secret
from tensorix_api.settings import Settings
from tensorix_loadtests._arrival_user import ArrivalUser, open_loop
from tensorix_loadtests._beginning import begin_run, resume_run
from tensorix_loadtests._health import raise_open_files
from tensorix_loadtests._load_run import LoadRun
from tensorix_loadtests._task_errors import TaskErrors
from tensorix_loadtests._users import ChatUser, ModelListUser
from tensorix_loadtests.plan import CHAT_STREAMED, CHAT_UNSTREAMED, MODELS, LoadPlan, Watching, users_by_kind
from tensorix_loadtests.schedules import check_schedule

if TYPE_CHECKING:
    from tensorix_loadtests._watching import Watch

__all__ = ["log_to", "main", "open_watch", "run_plan", "user_classes"]

# Past every timeout of a request: those in flight end by themselves first.
_DRAIN_MARGIN_S = 5.0


class _RedactingFormatter(logging.Formatter):
    """Log lines, tracebacks included, without the key."""

    def __init__(self, redact: Redactor) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(self._redact(line, 2000) for line in super().format(record).splitlines())


def log_to(path: Path, redact: Redactor) -> None:
    """Locust's and our own log goes into the run folder; how much, `TENSORIX_LOG_LEVEL` says."""
    handler = logging.FileHandler(path, encoding="utf-8", delay=True)
    handler.setFormatter(_RedactingFormatter(redact))
    level = os.environ.get("TENSORIX_LOG_LEVEL", "WARNING").upper()
    known = level in logging.getLevelNamesMapping()
    logging.basicConfig(level=level if known else "WARNING", handlers=[handler], force=True)
    # A log that cannot be written (a full disk) must not fill the terminal with tracebacks.
    logging.raiseExceptions = False


def user_classes(plan: LoadPlan) -> list[type[Any]]:
    """A class for each kind of the mix that has a share, with its number of users; in open loop one for all kinds."""
    if plan.arrivals is not None:
        return [ArrivalUser]
    kinds: dict[str, tuple[str, type[Any], dict[str, Any]]] = {
        CHAT_STREAMED: ("ChatUser", ChatUser, {"stream": True}),
        CHAT_UNSTREAMED: ("UnstreamedChatUser", ChatUser, {"stream": False}),
        MODELS: ("ModelListUser", ModelListUser, {}),
    }
    classes = []
    for kind, count in users_by_kind(plan.mix, plan.users).items():
        name, base, attributes = kinds[kind]
        classes.append(type(name, (base,), attributes | {"fixed_count": count, "__module__": base.__module__}))
    return classes


def run_plan(plan: LoadPlan, out: Path, key: Secret | None, *, resume: bool = False) -> LoadRun:
    """Run the plan into the folder `out`; returns when the last request has ended and the folder is compacted.

    With `resume` the run in that folder goes on. Raises TensorixError where it could not begin, KeyboardInterrupt where
    it was not let. SIGINT and SIGTERM end it in order; a second one of either, or a SIGTERM after a SIGINT, cancels
    what is in flight.
    """
    if plan.machines.processes or plan.machines.workers:
        from tensorix_loadtests._distributed._master_engine import run_shared

        if resume:
            raise SettingsError(f"{out} was shared by several processes: only a run of one process can be resumed")
        return run_shared(plan, out, key, say=_say)
    this = gevent.getcurrent()
    run: LoadRun | None = None
    runner: Any = None

    def interrupt() -> None:
        if run is None:
            # Not Python's own handler: it would raise in gevent's loop, which complains on standard error.
            gevent.kill(this, KeyboardInterrupt)
        elif not run.stopped.is_set():
            run.stop("interrupted")
        elif runner is not None:
            runner.user_greenlets.kill(block=False)

    for number in (signal.SIGINT, signal.SIGTERM):
        gevent.signal_handler(number, interrupt)
    watch = open_watch(plan)
    run = (resume_run if resume else begin_run)(plan, out, key)
    run.warn = lambda text: _say(f"warning: {text}")
    if run.warning:
        _say(f"warning: {run.warning}")
    log_to(out / "engine.log", run.session.redact)
    environment: Any = Environment(
        user_classes=user_classes(plan),
        events=events,
        host=plan.base_url,
        stop_timeout=plan.timeouts.total_s + plan.timeouts.connect_s + _DRAIN_MARGIN_S,
    )
    environment.tensorix_run = run
    runner = environment.create_local_runner()
    run.users = lambda: runner.user_count

    environment.events.spawning_complete.add_listener(lambda **_: run.phase("steady"))
    # All tasks here are ours: one that raises is a defect, and would raise again.
    where = f"a defect of this program; {out / 'engine.log'} has the details"
    environment.events.user_error.add_listener(TaskErrors(run, most=1, where=where))
    try:
        if watch is not None:
            watch.attach(run, environment, _say)
        run.phase("ramp")
        if plan.arrivals is not None:
            _send_arrivals(run, environment)
        else:
            runner.start(plan.users, spawn_rate=plan.spawn_rate)
            run.stopped.wait(run.duration_s)
        run.stop("duration")
        run.phase("drain")
        runner.quit()
    finally:
        run.end()
        if watch is not None:
            watch.close()
    return run


def open_watch(plan: LoadPlan) -> Watch | None:
    """What else is to look on, listening already; None where nothing was asked for. Raises SettingsError."""
    if plan.watching == Watching():
        return None
    from tensorix_loadtests._watching import Watch

    return Watch(plan.watching)


def _send_arrivals(run: LoadRun, environment: Any) -> None:
    """Start the schedule and let it run until its end or that of the run's time."""
    loop = open_loop(run, environment)
    # The rest of the users are the loop's own affair.
    environment.runner.start(1, spawn_rate=1)
    loop.begin(loop.common_start_ns())
    duration_s = run.duration_s
    run.stopped.wait(None if duration_s is None else max(0.0, (loop.start_ns - time.monotonic_ns()) / 1e9 + duration_s))
    if loop.all_taken:
        run.stop("schedule")


def _read_plan(text: str) -> LoadPlan:
    try:
        data = json.loads(text)
    except ValueError:
        raise SettingsError("the plan on standard input is not JSON") from None
    if not isinstance(data, dict):
        raise SettingsError("the plan on standard input is no JSON object")
    return LoadPlan.from_dict(data)


def main(arguments: Sequence[str]) -> int:
    """The program; returns its exit status. With `worker` as its first argument it is one of a run of several."""
    if arguments[:1] == ["worker"]:
        from tensorix_loadtests._distributed import _worker_engine

        return _worker_engine.main(arguments[1:], say=_say)
    parser = argparse.ArgumentParser(prog="python -m tensorix_loadtests", description="Run a load test's plan.")
    parser.add_argument("--out", type=Path, required=True, help="the run folder to make")
    parser.add_argument("--resume", action="store_true", help="go on with the run in that folder")
    options = parser.parse_args(arguments)
    try:
        plan = _read_plan(sys.stdin.read())
        key = Settings.from_environment(base_url=plan.base_url).api_key
        if plan.arrivals is not None:
            check_schedule(plan)
        most_users = plan.users if plan.arrivals is None else plan.arrivals.most_users
        if warning := raise_open_files(most_users):
            _say(f"warning: {warning}")
        run = run_plan(plan, options.out, key, resume=options.resume)
    except TensorixError as error:
        _say(f"error: {error}")
        return 2
    except KeyboardInterrupt:
        _say("error: interrupted before the run began")
        return 2
    if run.trouble:
        _say(f"error: {run.trouble}")
    return 1 if run.end_reason in ("write_failed", "defect", "schedule_broken", "prompts_broken") else 0


def _say(line: str) -> None:
    try:
        print(line, file=sys.stderr, flush=True)  # noqa: T201 - the engine's own voice: it is a program here
    except OSError:
        # Whoever started the engine is gone; the run goes on without an audience.
        pass
