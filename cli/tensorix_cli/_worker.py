"""`tensorix worker`: one of the processes that send a run's requests, for a master on this machine or another."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from types import FrameType
from typing import Annotated, Any

import typer

from tensorix_api.errors import TensorixError
from tensorix_cli import _load_options as option
from tensorix_cli import _options
from tensorix_cli._extras import require
from tensorix_cli._output import complain
from tensorix_cli.exit_status import ExitStatus

__all__ = ["worker"]

_LEFT_OUT = "LOCUST_SKIP_MONKEY_PATCH"


def worker(
    master: Annotated[
        str, typer.Option("--master", metavar="HOST:PORT", help="Where `tensorix load --workers` listens.")
    ],
    wait: Annotated[float, option.option_of_time("How long to wait for the master", "60s")] = 60.0,
    headers: option.Headers = None,
) -> None:
    """Send a share of a run's requests, for a master that `tensorix load --workers N` started. For one run.

    The plan comes from the master. Keys and the values of extra headers do not: the key is read from TENSORIX_API_KEY
    here, and each header of the run is given again.
    """
    require("loadtests")
    raise typer.Exit(_run(master, wait, dict(map(_options.header, headers or []))))


def _run(master: str, wait_s: float, headers: dict[str, str]) -> int:
    command = [sys.executable, "-P", "-m", "tensorix_loadtests", "worker", "--master", master, "--wait", str(wait_s)]
    command += ["--as", "tensorix"]
    environment = {name: value for name, value in os.environ.items() if name != _LEFT_OUT}
    try:
        # In a session of its own: a terminal's Ctrl-C reaches it once, from here.
        process = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment, start_new_session=True)  # noqa: S603
    except OSError as error:
        raise TensorixError(f"the worker cannot be started ({error.strerror}): is it installed whole?") from None

    def pass_on(number: int, frame: FrameType | None) -> None:
        process.send_signal(signal.SIGINT if number == signal.SIGHUP else number)

    before: dict[int, Any] = {
        number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        # Header values may be secrets: they go where no process list shows them.
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps({"headers": headers}).encode())
            process.stdin.close()
        except BrokenPipeError:
            pass  # it has ended already, and said why
        status = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if status < 0:
        complain(f"error: the worker was killed by signal {-status}: what it had not brought is lost")
        return ExitStatus.NOT_DONE
    return status
