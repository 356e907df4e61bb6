"""The engine as a worker: `python -m tensorix_loadtests worker --master HOST:PORT`."""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import gevent
from locust import events
from locust.env import Environment

from tensorix_api.errors import SettingsError, TensorixError
from tensorix_loadtests._arrival_user import open_loop
from tensorix_loadtests._distributed._worker import Worker
from tensorix_loadtests._engine import user_classes
from tensorix_loadtests._load_run import LoadRun
from tensorix_loadtests._open_loop import OpenLoop
from tensorix_loadtests._task_errors import TaskErrors
from tensorix_loadtests.plan import LoadPlan
from tensorix_loadtests.schedules import check_schedule

__all__ = ["main"]


def _connect(environment: Any, master: str, wait_s: float) -> Any:
    """Locust's worker, connected. Raises SettingsError where no master answers."""
    host, colon, port = master.rpartition(":")
    if not colon or not host or not port.isdigit():
        raise SettingsError(f"{master!r} is no address of a master: write HOST:PORT")
    error = SettingsError(f"no master answered at {master} within {wait_s:g} s: is it running, and is the port open?")
    with gevent.Timeout(wait_s, error):
        return environment.create_worker_runner(host.strip("[]"), int(port))


def _headers(text: str) -> dict[str, str]:
    try:
        headers = json.loads(text or "{}").get("headers", {})
        return {str(name): str(value) for name, value in headers.items()}
    except (ValueError, AttributeError):
        raise SettingsError("what came on standard input is no JSON object with headers") from None


def main(arguments: Sequence[str], *, say: Callable[[str], None]) -> int:
    """The program: one run. Exit status 0: it did its part; 1: something of it was lost; 2: it took none."""
    parser = argparse.ArgumentParser(prog="python -m tensorix_loadtests worker", description="Send a run's share.")
    parser.add_argument("--master", required=True, help="HOST:PORT where the master listens")
    parser.add_argument("--wait", type=float, default=60.0, help="seconds to wait for it (default: 60)")
    parser.add_argument("--as", dest="called", help=argparse.SUPPRESS)
    parser.add_argument("--local", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.called:
        # Its lines stand in that command's terminal.
        say = partial(_say_as, say, options.called)
    logging.basicConfig(level="ERROR", stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    logging.raiseExceptions = False
    try:
        return _work(options, _headers(sys.stdin.read()), say)
    except TensorixError as error:
        say(f"error: {error}")
        return 2
    except KeyboardInterrupt:
        say("error: interrupted before the run began")
        return 2


def _say_as(say: Callable[[str], None], name: str, line: str) -> None:
    say(f"{name}: {line}")


def _send_arrivals(loop: OpenLoop, runner: Any) -> None:
    """Begin when the master has named the instant, since then all workers are ready, and Locust has started the first
    user: those that the loop adds earlier it would take for too many.
    """
    while loop.run.begins_unix_ns is None or not runner.user_count:
        if loop.run.stopped.is_set():
            return
        gevent.sleep(0.005)
    loop.begin(loop.common_start_ns())


def _work(options: argparse.Namespace, headers: dict[str, str], say: Callable[[str], None]) -> int:
    this = gevent.getcurrent()
    worker: Worker | None = None

    def interrupt() -> None:
        run = worker.run if worker is not None else None
        if run is None:
            gevent.kill(this, KeyboardInterrupt)
        elif not run.stopped.is_set():
            run.stop("interrupted")
        else:
            runner.user_greenlets.kill(block=False)

    for number in (signal.SIGINT, signal.SIGTERM):
        gevent.signal_handler(number, interrupt)
    environment: Any = Environment(user_classes=[], events=events)
    # Locust takes options for granted where it runs as a worker.
    environment.parsed_options = argparse.Namespace(web_base_path="", tags=None, exclude_tags=None)
    environment.tensorix_run = None
    runner = _connect(environment, options.master, options.wait)
    begun = False

    def on_plan(plan: LoadPlan) -> None:
        if plan.arrivals is not None:
            check_schedule(plan)
        environment.user_classes = user_classes(plan)

    def on_run(run: LoadRun) -> None:
        nonlocal begun
        begun = True
        environment.tensorix_run = run
        run.warn = lambda text: say(f"warning: {text}")
        where = "its standard error has the details"
        environment.events.user_error.add_listener(TaskErrors(run, most=1, where=where))
        if run.plan.arrivals is not None:
            gevent.spawn(_send_arrivals, open_loop(run, environment), runner)
        if not options.local:
            part, parts = run.share
            say(f"worker {part + 1} of {parts} of the run {run.session.run_id}")

    worker = Worker(runner, headers=headers, on_plan=on_plan, on_run=on_run)
    if not options.local:
        say(f"connected to {options.master}: waiting for the run to begin")
    while not worker.over.wait(0.2):
        if worker.run is None and not len(runner.greenlet):
            raise SettingsError("the master ended before the run began: its own line says why")
    trouble = worker.trouble
    runner.greenlet.kill(block=False)
    if trouble:
        say(f"error: {trouble}")
        return 1 if begun else 2
    return 0
