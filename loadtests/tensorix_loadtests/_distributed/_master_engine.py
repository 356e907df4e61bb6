"""The engine as a master: it starts workers on this machine, waits for those on others, and has them run the plan."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
from locust import events
from locust.env import Environment

from tensorix_api.errors import SettingsError
from tensorix_api.secret import Secret
from tensorix_loadtests._beginning import begin_run
from tensorix_loadtests._distributed._master import Master
from tensorix_loadtests._engine import log_to, open_watch, user_classes
from tensorix_loadtests._load_run import LoadRun
from tensorix_loadtests.plan import LoadPlan, Machines
from tensorix_records import Run

__all__ = ["run_shared"]


class LocalWorkers:
    """Workers on this machine. They get the headers' values on their standard input, and end with this process."""

    def __init__(self, count: int, port: int, plan: LoadPlan) -> None:
        self.processes: list[subprocess.Popen[bytes]] = []
        self._said: list[Any] = []
        for _ in range(count):
            said = tempfile.TemporaryFile()  # noqa: SIM115  closed in `close`
            process = subprocess.Popen(  # noqa: S603  our own module
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "tensorix_loadtests",
                    "worker",
                    "--master",
                    f"127.0.0.1:{port}",
                    "--local",
                ],
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
            self.processes.append(process)
            self._said.append(said)
            assert process.stdin is not None
            try:
                process.stdin.write(json.dumps({"headers": plan.headers}).encode())
                process.stdin.close()
            except BrokenPipeError:
                pass  # it has ended already; its last line says why

    def failed(self) -> str | None:
        """Why one of them ended, in its own last line; None while all run."""
        for process, said in zip(self.processes, self._said, strict=True):
            if process.poll() is not None:
                lines = os.pread(said.fileno(), 1 << 16, 0).decode("utf-8", "replace").strip().splitlines()
                last = lines[-1].removeprefix("error: ") if lines else f"it said nothing (status {process.returncode})"
                return f"a worker on this machine ended before the run began: {last}"
        return None

    def end(self) -> None:
        """Those that have not ended by themselves in a while are killed."""
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for said in self._said:
            said.close()

    def kill(self) -> None:
        """At once."""
        for process in self.processes:
            process.kill()
        self.end()


def _listen(environment: Any, machines: Machines) -> Any:
    """Locust's master, listening. Raises SettingsError where it cannot."""
    host, port = machines.address
    where = machines.bind or f"{host}:{port}"
    try:
        return environment.create_master_runner(host, port)
    except SystemExit:
        raise SettingsError(f"{where} is in use: choose another port with --bind") from None
    except Exception as error:  # noqa: BLE001  ZMQ's, by way of Locust's
        raise SettingsError(f"the master cannot listen on {where!r}: {error}") from None


def run_shared(plan: LoadPlan, out: Path, key: Secret | None, *, say: Callable[[str], None]) -> LoadRun:
    """Run the plan into the folder `out` with the workers that it asks for; as `run_plan` otherwise.

    Raises TensorixError where it could not begin, KeyboardInterrupt where it was not let. SIGINT and SIGTERM end it in
    order; a second one cancels what is in flight.
    """
    this = gevent.getcurrent()
    run: LoadRun | None = None
    master: Master | None = None

    def interrupt() -> None:
        if run is None:
            gevent.kill(this, KeyboardInterrupt)
        elif not run.stopped.is_set():
            run.stop("interrupted")
        elif master is not None:
            master.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        gevent.signal_handler(number, interrupt)
    Run.check_creatable(out)
    machines = plan.machines
    watch = open_watch(plan)
    environment: Any = Environment(
        user_classes=user_classes(plan),
        events=events,
        host=plan.base_url,
        # Each worker drains by itself: Locust need not wait once more.
        stop_timeout=plan.timeouts.total_s + plan.timeouts.connect_s,
    )
    runner = _listen(environment, machines)
    wanted = machines.processes + machines.workers
    if machines.workers:
        say(f"note: waiting for {machines.workers} workers at {machines.address[0]}:{runner.server.port}")
    master = Master(runner)
    workers = LocalWorkers(machines.processes, runner.server.port, plan)
    begun = False
    try:
        master.members.gather(wanted, machines.wait_s, failed=workers.failed)
        master.members.claim(workers.processes)
        # Keys of other variables each worker asks for by itself.
        master.prepare(plan, key is not None and not plan.spending.key_variables, f"p{os.getpid()}")
        run = begin_run(plan, out, key)
        run.warn = lambda text: say(f"warning: {text}")
        if run.warning:
            run.warn(run.warning)
        log_to(out / "engine.log", run.session.redact)
        environment.tensorix_run = run
        environment.events.spawning_complete.add_listener(lambda **_: run.phase("steady"))
        try:
            begun = True
            if watch is not None:
                watch.attach(run, environment, say)
            _conduct(run, master, runner)
        finally:
            run.end()
        return run
    finally:
        if watch is not None:
            watch.close()
        master.close()
        runner.quit()
        if begun:
            workers.end()
        else:
            workers.kill()


def _conduct(run: LoadRun, master: Master, runner: Any) -> None:
    """Have the workers run it, until the last of them has brought its last record."""
    plan = run.plan
    try:
        master.begin(run)
    except SettingsError as error:
        run.stop("defect", str(error))
        master.end()
        return
    run.phase("ramp")
    # In open loop each worker begins with one user, and adds to them as it needs.
    count, rate = (plan.users, plan.spawn_rate) if plan.arrivals is None else (len(master.members.all()),) * 2
    spawning = gevent.spawn(runner.start, count, rate)
    # Users and schedules are divided once: what a lost worker leaves is stated, not moved to the others.
    spawning.link(lambda _: setattr(runner, "start", lambda *_, **__: None))
    if plan.arrivals is not None:
        run.phase("steady")
    ahead_s = ((run.begins_unix_ns or 0) - time.time_ns()) / 1e9
    run.stopped.wait(None if plan.duration_s is None else plan.duration_s + max(0.0, ahead_s))
    run.stop("duration")
    run.phase("drain")
    spawning.kill()
    master.end()
