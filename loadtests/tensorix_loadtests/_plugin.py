"""The same run folder from plain `locust -f …`: a run for each test of Locust's, and its end."""

from __future__ import annotations

import itertools
import logging
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import gevent
import locust
from gevent.hub import get_hub
from locust.runners import MasterRunner, WorkerRunner

from tensorix_api.errors import SettingsError, TensorixError
from tensorix_api.settings import Settings
from tensorix_loadtests._beginning import begin_run
from tensorix_loadtests._distributed._master import Master
from tensorix_loadtests._distributed._worker import Worker
from tensorix_loadtests._engine import open_watch
from tensorix_loadtests._health import raise_open_files
from tensorix_loadtests._load_run import LoadRun
from tensorix_loadtests._plugin_options import add_options, plan_of
from tensorix_loadtests._task_errors import TaskErrors
from tensorix_loadtests._users import ChatUser, ModelListUser
from tensorix_loadtests._watching.plain_locust import add_tab, look_on
from tensorix_loadtests.plan import LoadPlan, check_body
from tensorix_loadtests.prompts import survey
from tensorix_records import Run
from tensorix_records.judging import verdict

__all__ = ["install"]

logger = logging.getLogger("tensorix_loadtests")

# How the tests end that Locust itself ends: its run time has passed; Ctrl-C, SIGTERM or the end of the process; or
# anything else, such as the web page's stop button or a load shape that is through.
_ENDED_BY_LOCUST = {"duration", "interrupted", "stopped"}
# Locust's timer starts at nearly the same time as the test, not at the same.
_RUN_TIME_MARGIN_S = 0.5
# So many exceptions of tasks, with no request in between, are no accident any more.
_MOST_TASK_ERRORS = 10
# How long a worker that has come may take to say who it is.
_HELLO_S = 10.0


def _begin(environment: Any) -> LoadRun:
    options = environment.parsed_options
    for user_class in environment.user_classes:
        _check_class(user_class)
    settings = Settings.from_environment(base_url=environment.host or None, model=options.model or None)
    plan = plan_of(options, settings, users=environment.runner.target_user_count)
    # The whole file, before anything is sent.
    survey(plan)
    out = Path(options.out) if options.out else _new_folder()
    classes = {
        item.__name__: {"fixed_count": item.fixed_count} if item.fixed_count else {"weight": item.weight}
        for item in environment.user_classes
    }
    master: Master | None = environment.tensorix_master
    if master is not None:
        master.members.gather_all(_HELLO_S)
        master.prepare(plan, settings.api_key is not None, f"p{os.getpid()}")
    environment.tensorix_watch = watch = open_watch(plan)
    try:
        run = begin_run(plan, out, settings.api_key, user_classes=classes)
        look_on(run, environment)
    except BaseException:
        if watch is not None:
            watch.close()
        raise
    run.users = lambda: environment.runner.user_count
    if master is not None:
        try:
            master.begin(run)
        except SettingsError as error:
            run.stop("defect", str(error))
            master.end()
            run.end()
            if watch is not None:
                watch.close()
            raise
    return run


def _new_folder() -> Path:
    """A name under runs/ that is free: the web page can start two tests within a second."""
    Path("runs").mkdir(exist_ok=True)
    path = first = Path("runs") / time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    for number in itertools.count(2):
        if not path.exists():
            break
        path = first.with_name(f"{first.name}-{number}")
    return path


def _check_class(user_class: type[Any]) -> None:
    """Refuse what a plan refuses where a class of the locustfile sets it."""
    if issubclass(user_class, ChatUser) and user_class.body:
        try:
            check_body(user_class.body)
        except SettingsError as error:
            raise SettingsError(f"class {user_class.__name__}: {error}") from None


def _on_init(environment: Any, runner: Any, **_: Any) -> None:
    environment.tensorix_run = environment.tensorix_master = environment.tensorix_worker = None
    environment.tensorix_interrupted = False
    add_tab(environment)
    if isinstance(runner, MasterRunner):
        environment.tensorix_master = Master(runner)
        # Added behind Locust's own, so that it is called before it: that one stops the test.
        environment.events.quitting.add_listener(_on_quitting)
    elif isinstance(runner, WorkerRunner):
        environment.tensorix_worker = _worker(environment, runner)
    environment.events.spawning_complete.add_listener(lambda **_: _on_spawning_complete(environment))
    environment.events.user_error.add_listener(lambda exception, **_: _on_user_error(environment, exception))
    # A class that a subclass in the locustfile specialises is there to be inherited from, not to run beside it.
    chosen = set(getattr(environment.parsed_options, "user_classes", None) or ())
    for base in (ChatUser, ModelListUser):
        specialised = any(issubclass(item, base) and item is not base for item in environment.user_classes)
        if specialised and base in environment.user_classes and base.__name__ not in chosen:
            environment.user_classes.remove(base)
    # Locust sets its timer of --run-time before its loop looks at the clock again: of a start that took seconds, on a
    # slow machine, the run time would be cut, to nothing where it is shorter than that.
    gevent.get_hub().loop.update_now()


def _worker(environment: Any, runner: Any) -> Worker:
    """This process as one of a run of several: the master says when a run begins."""
    first: Any = get_hub().parent
    watchers: list[Any] = []

    def interrupt() -> None:
        run = environment.tensorix_run
        if run is None or run.stopped.is_set():
            runner.user_greenlets.kill(block=False)
        else:
            environment.tensorix_interrupted = True
            run.stop("interrupted")

    def on_run(run: LoadRun) -> None:
        environment.tensorix_run = run
        environment.tensorix_interrupted = False
        where = "the worker's log has the details"
        environment.tensorix_task_errors = TaskErrors(run, most=_MOST_TASK_ERRORS, where=where)
        before = signal.getsignal(signal.SIGINT)
        watchers.append((gevent.signal_handler(signal.SIGINT, interrupt), before))

    def on_over(run: LoadRun) -> None:
        environment.tensorix_run = None
        watcher, before = watchers.pop()
        watcher.cancel()
        signal.signal(signal.SIGINT, before)
        if run.trouble:
            sys.stderr.write(f"tensorix: error: {run.trouble}\n")
        if environment.tensorix_interrupted:
            gevent.kill(first, KeyboardInterrupt)

    def on_plan(_: LoadPlan) -> None:
        for user_class in environment.user_classes:
            _check_class(user_class)

    return Worker(runner, headers={}, on_plan=on_plan, on_run=on_run, on_over=on_over)


class _Interrupts:
    """Ctrl-C during a test. Python's own handler would raise in whatever runs just then, a user or the run's start.

    The first is raised where Locust waits for it; once the test is being stopped, one cancels what is in flight, where
    Locust would end without its records.
    """

    def __init__(self, environment: Any) -> None:
        self._environment = environment
        # The hub's parent is the greenlet that the process began with.
        self._first: Any = get_hub().parent
        self._before = signal.getsignal(signal.SIGINT)
        self._watcher = gevent.signal_handler(signal.SIGINT, self._on_signal)

    def _on_signal(self) -> None:
        environment = self._environment
        run = environment.tensorix_run
        if run is not None and run.stopped.is_set():
            environment.runner.user_greenlets.kill(block=False)
        elif not environment.tensorix_interrupted:
            environment.tensorix_interrupted = True
            gevent.kill(self._first, KeyboardInterrupt)

    def close(self) -> None:
        """Back to what Ctrl-C meant before."""
        self._watcher.cancel()
        signal.signal(signal.SIGINT, self._before)


def _on_test_start(environment: Any, **_: Any) -> None:
    if environment.tensorix_worker is not None:
        return  # its run began when the master said so
    environment.tensorix_run = None
    environment.tensorix_began_s = time.monotonic()
    environment.tensorix_interrupted = False
    environment.tensorix_interrupts = _Interrupts(environment)
    try:
        run = _begin(environment)
    except BaseException as error:
        environment.tensorix_interrupts.close()
        if not isinstance(error, TensorixError | OSError):
            raise
        # Raised from here it would only be logged by Locust, and the test would go on.
        sys.stderr.write(f"tensorix: error: {error}\n")
        environment.process_exit_code = 2
        gevent.spawn(environment.runner.quit)
        return
    for warning in (run.warning, raise_open_files(run.plan.users)):
        if warning:
            logger.warning(warning)
    environment.tensorix_run = run
    environment.tensorix_task_errors = TaskErrors(run, most=_MOST_TASK_ERRORS, where="Locust's log has the details")
    runner = environment.runner
    if not environment.stop_timeout:
        # Locust's default, 0, would cut off what is in flight; it is drained, as in a run of our own engine.
        environment.stop_timeout = run.plan.timeouts.connect_s + run.plan.timeouts.total_s
    run.phase("ramp")
    gevent.spawn(_stop_with, run, runner)


def _on_spawning_complete(environment: Any) -> None:
    if (run := getattr(environment, "tensorix_run", None)) is not None:
        run.phase("steady")


def _on_user_error(environment: Any, exception: BaseException) -> None:
    if getattr(environment, "tensorix_run", None) is not None:
        environment.tensorix_task_errors(exception)


def _stop_with(run: LoadRun, runner: Any) -> None:
    """Quit Locust when the run itself says that it is over: its number of requests, a refused key, a full disk."""
    run.stopped.wait()
    if run.end_reason not in _ENDED_BY_LOCUST:
        runner.quit()


def _on_quitting(environment: Any, **_: Any) -> None:
    # Fired before the test is stopped only where the process ends in the middle of it, as by SIGTERM.
    environment.tensorix_interrupted = True


def _called_by_run_time() -> bool:
    """Whether Locust's timer is what stops the test just now.

    Its timer counts from when gevent's loop last looked at the clock, which a busy start leaves a second or more
    behind: so the time that has passed alone does not tell.
    """
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == "stop_and_optionally_quit":
            return "run-time" in str(frame.f_locals.get("reason"))
        frame = frame.f_back
    return False


def _why_stopped(environment: Any) -> str:
    """Locust does not say why it stops a test."""
    if environment.tensorix_interrupted:
        return "interrupted"
    if _called_by_run_time():
        return "duration"
    run_time = getattr(environment.parsed_options, "run_time", None)
    passed_s = time.monotonic() - environment.tensorix_began_s
    if run_time and passed_s >= run_time - min(_RUN_TIME_MARGIN_S, run_time / 2):
        return "duration"
    return "stopped"


def _on_test_stopping(environment: Any, **_: Any) -> None:
    run = getattr(environment, "tensorix_run", None)
    if run is not None:
        run.stop(_why_stopped(environment))
        run.phase("drain")
        if environment.tensorix_master is not None:
            # Before Locust tells its workers to quit, and forgets them half a second later.
            environment.tensorix_master.end()


def _on_test_stop(environment: Any, **_: Any) -> None:
    run = getattr(environment, "tensorix_run", None)
    if environment.tensorix_worker is not None:
        # It has drained by itself; Locust would wait as long again before it says that it is ready for the next test.
        environment.stop_timeout = 0.0
        if run is not None and environment.tensorix_interrupted:
            environment.tensorix_worker.over.wait(run.plan.timeouts.total_s)
        return
    if run is None:
        return
    environment.tensorix_run = None
    environment.tensorix_interrupts.close()
    run.end()
    if environment.tensorix_watch is not None:
        environment.tensorix_watch.close()
    if run.trouble:
        sys.stderr.write(f"tensorix: error: {run.trouble}\n")
        environment.process_exit_code = 1
    if run.plan.goals.objectives and run.path is not None:
        _judge(environment, run.path)
    sys.stderr.write(f"tensorix: run folder {run.path}; its report: tensorix report {run.path}\n")


def _judge(environment: Any, path: Path) -> None:
    """Say what became of the objectives; the exit status is 1 where one is broken, 3 where not enough is known."""
    try:
        found = verdict(Run.open(path))
    except TensorixError as error:
        sys.stderr.write(f"tensorix: error: {error}\n")
        environment.process_exit_code = 1
        return
    for one in found.judged:
        sys.stderr.write(f"tensorix: {one.objective.text}: {one.standing} ({one.reason})\n")
    if found.standing == "broken" or (found.standing == "unknown" and not environment.process_exit_code):
        environment.process_exit_code = 1 if found.standing == "broken" else 3


def install() -> None:
    """Listen to Locust's events. Called by a locustfile's import of our user classes; once is enough."""
    events: Any = locust.events
    if _on_init in events.init._handlers:
        return
    events.init_command_line_parser.add_listener(add_options)
    events.init.add_listener(_on_init)
    events.test_start.add_listener(_on_test_start)
    events.test_stopping.add_listener(_on_test_stopping)
    events.test_stop.add_listener(_on_test_stop)
    events.quitting.add_listener(_on_quitting)
