"""The same run folder from plain `locust -f …`: options, a run for each test, and its end."""

from __future__ import annotations

import logging
import signal
import sys
import time
from pathlib import Path
from typing import Any

import gevent
import locust
from locust.runners import MasterRunner, WorkerRunner

from tensorix_api.errors import SettingsError, TensorixError
from tensorix_api.settings import Settings
from tensorix_loadtests._health import raise_open_files
from tensorix_loadtests._load_run import LoadRun
from tensorix_loadtests._task_errors import TaskErrors
from tensorix_loadtests._users import ChatUser, ModelListUser
from tensorix_loadtests.plan import DEFAULT_PROMPT, Limits, LoadPlan, check_body

__all__ = ["install"]

logger = logging.getLogger("tensorix_loadtests")

# What a test can last where neither a time nor a number of requests ends it: until somebody stops it by hand.
_NO_END_S = 365 * 86_400.0
# So many exceptions of tasks, with no request in between, are no accident any more.
_MOST_TASK_ERRORS = 10


def _add_options(parser: Any, **_: Any) -> None:
    group = parser.add_argument_group("Tensorix", "the key comes from TENSORIX_API_KEY, the address from --host")
    group.add_argument("--out", default="", help="run folder to make (default: a new one under runs/)")
    group.add_argument("--model", default="", env_var="TENSORIX_MODEL", help="default: the first that the server lists")
    group.add_argument("--requests", type=int, default=0, help="end after so many requests (default: no end)")
    group.add_argument("--max-tokens", type=int, default=64, help="bound on each answer (default: 64)")
    group.add_argument("--prompt", default=DEFAULT_PROMPT, help="what to ask")
    group.add_argument("--limit-requests", type=int, help="requests a window that the key may make, if you know")
    group.add_argument("--limit-tokens", type=int, help="tokens a window that the key may use, if you know")
    group.add_argument("--limit-window", type=float, help="the limiter's window in seconds, if it is not a minute")


def _begin(environment: Any) -> LoadRun:
    options = environment.parsed_options
    for user_class in environment.user_classes:
        _check_class(user_class)
    settings = Settings.from_environment(base_url=environment.host or None, model=options.model or None)
    plan = LoadPlan(
        base_url=settings.base_url,
        model=settings.model,
        users=max(1, int(getattr(options, "num_users", None) or environment.runner.target_user_count or 1)),
        spawn_rate=float(options.spawn_rate or 1),
        requests=options.requests or None,
        duration_s=float(options.run_time or _NO_END_S),
        max_tokens=options.max_tokens,
        prompts=(options.prompt,),
        limits=Limits.of(
            settings.base_url,
            requests=options.limit_requests,
            tokens=options.limit_tokens,
            window_s=options.limit_window,
        ),
        label=f"locust -f {Path(options.locustfile).name}" if isinstance(options.locustfile, str) else None,
    )
    out = Path(options.out) if options.out else Path("runs") / time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    if not options.out:
        out.parent.mkdir(exist_ok=True)
    return LoadRun.begin(plan, out, settings.api_key)


def _check_class(user_class: type[Any]) -> None:
    """Refuse what a plan refuses where a class of the locustfile sets it."""
    if issubclass(user_class, ChatUser) and user_class.body:
        try:
            check_body(user_class.body)
        except SettingsError as error:
            raise SettingsError(f"class {user_class.__name__}: {error}") from None


def _on_init(environment: Any, runner: Any, **_: Any) -> None:
    if isinstance(runner, MasterRunner | WorkerRunner):
        _refuse("a run folder is written by one process: start locust without --master, --worker or --processes")
    environment.events.user_error.add_listener(lambda exception, **_: _on_user_error(environment, exception))
    # A class that a subclass in the locustfile specialises is there to be inherited from, not to run beside it.
    chosen = set(getattr(environment.parsed_options, "user_classes", None) or ())
    for base in (ChatUser, ModelListUser):
        specialised = any(issubclass(item, base) and item is not base for item in environment.user_classes)
        if specialised and base in environment.user_classes and base.__name__ not in chosen:
            environment.user_classes.remove(base)


def _refuse(why: str) -> None:
    sys.stderr.write(f"tensorix: error: {why}\n")
    raise SystemExit(2)


def _on_test_start(environment: Any, **_: Any) -> None:
    environment.tensorix_run = None
    try:
        run = _begin(environment)
    except (TensorixError, OSError) as error:
        # Raised from here it would only be logged by Locust, and the test would go on.
        sys.stderr.write(f"tensorix: error: {error}\n")
        environment.process_exit_code = 2
        gevent.spawn(environment.runner.quit)
        return
    for warning in (run.warning, raise_open_files(run.plan.users)):
        if warning:
            logger.warning(warning)
    environment.tensorix_run = run
    environment.tensorix_task_errors = TaskErrors(run, most=_MOST_TASK_ERRORS, where="see Locust's log for the traceback")
    runner = environment.runner
    run.users = lambda: runner.user_count
    environment.events.spawning_complete.add_listener(lambda **_: run.phase("steady"))
    if not environment.stop_timeout:
        # Locust's default, 0, would cut off what is in flight; it is drained, as in a run of our own engine.
        environment.stop_timeout = run.plan.timeouts.connect_s + run.plan.timeouts.total_s
    run.phase("ramp")
    gevent.spawn(_stop_with, run, runner)


def _on_user_error(environment: Any, exception: BaseException) -> None:
    if getattr(environment, "tensorix_run", None) is not None:
        environment.tensorix_task_errors(exception)


def _stop_with(run: LoadRun, runner: Any) -> None:
    """Quit Locust when the run itself says that it is over: its number of requests, a refused key, a full disk."""
    run.stopped.wait()
    if run.end_reason not in ("duration", "stopped"):
        runner.quit()


def _on_test_stopping(environment: Any, **_: Any) -> None:
    run = getattr(environment, "tensorix_run", None)
    if run is not None:
        run.stop("duration" if getattr(environment.parsed_options, "run_time", None) else "stopped")
        run.phase("drain")
        runner = environment.runner
        # A Ctrl-C from here on would end Locust without the records of what is in flight: they are cancelled instead.
        environment.tensorix_python_interrupt = signal.getsignal(signal.SIGINT)
        environment.tensorix_interrupt = gevent.signal_handler(
            signal.SIGINT, lambda: runner.user_greenlets.kill(block=False)
        )


def _on_test_stop(environment: Any, **_: Any) -> None:
    run = getattr(environment, "tensorix_run", None)
    if run is None:
        return
    environment.tensorix_run = None
    environment.tensorix_interrupt.cancel()
    signal.signal(signal.SIGINT, environment.tensorix_python_interrupt)
    run.end()
    if run.trouble:
        sys.stderr.write(f"tensorix: error: {run.trouble}\n")
        environment.process_exit_code = 1
    sys.stderr.write(f"tensorix: run folder {run.run.path}; its report: tensorix report {run.run.path}\n")


def install() -> None:
    """Listen to Locust's events. Called by a locustfile's import of our user classes; once is enough."""
    events: Any = locust.events
    if _on_init in events.init._handlers:
        return
    events.init_command_line_parser.add_listener(_add_options)
    events.init.add_listener(_on_init)
    events.test_start.add_listener(_on_test_start)
    events.test_stopping.add_listener(_on_test_stopping)
    events.test_stop.add_listener(_on_test_stop)
