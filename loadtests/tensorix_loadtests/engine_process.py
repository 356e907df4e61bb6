"""The engine, which sends the requests in another process: started, watched and signalled from here."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

from tensorix_api.errors import TensorixError
from tensorix_api.secret import Secret
from tensorix_loadtests.plan import LoadPlan

__all__ = ["Engine"]

# In order; then those in flight cancelled; then nothing is left to lose.
_ESCALATION = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)


def _start(out: Path, key: Secret | None, said: IO[bytes], *, resume: bool) -> subprocess.Popen[bytes] | str:
    """The process, or why there is none: no exception, since its frames would hold the key in the clear."""
    environment = {name: value for name, value in os.environ.items() if name != "LOCUST_SKIP_MONKEY_PATCH"}
    environment.pop("TENSORIX_API_KEY", None)
    if key:
        environment["TENSORIX_API_KEY"] = key.reveal()
    try:
        return subprocess.Popen(  # noqa: S603  our own module
            # -P: a file in the current folder that is named like a library must not stand in for it.
            [sys.executable, "-P", "-m", "tensorix_loadtests", "--out", str(out), *(["--resume"] if resume else [])],
            stdin=subprocess.PIPE,
            stdout=said,
            stderr=said,
            start_new_session=True,
            env=environment,
        )
    except OSError as error:
        return error.strerror or str(error)


class Engine:
    """`python -m tensorix_loadtests`, in a session of its own: Ctrl-C reaches it only through `stop`.

    It outlives this process if it must: what it says goes to an unnamed file, never to a pipe that could break.
    """

    def __init__(self, plan: LoadPlan, out: Path, key: Secret | None, *, resume: bool = False) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  closed in `close`
        self._read = 0
        self._stops = 0
        started = _start(out, key, self._said, resume=resume)
        if isinstance(started, str):
            self.close()
            raise TensorixError(
                f"the engine cannot be started with {sys.executable} ({started}): is it installed whole?"
            )
        self._process = started
        # The plan may hold secrets in its headers, so it goes where no process list shows it.
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(plan.to_dict()).encode())
            self._process.stdin.close()
        except BrokenPipeError:
            pass  # it has ended already; its last line says why

    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def wait(self, seconds: float) -> None:
        """Until it ends, but no longer than this."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            pass

    def stop(self) -> None:
        """Ask it to end: the first time in order, the second at once, the third by force."""
        self._process.send_signal(_ESCALATION[min(self._stops, len(_ESCALATION) - 1)])
        self._stops += 1

    def close(self) -> None:
        """Forget what it said; nothing is read of it afterwards."""
        self._said.close()

    def end(self) -> None:
        """Ask it to end in order, unless it was asked already."""
        if not self._stops:
            self.stop()

    @property
    def status(self) -> int | None:
        """Its exit status, negative for the signal that killed it; None while it runs."""
        return self._process.returncode

    @property
    def killed_by(self) -> str | None:
        """The name of the signal that killed it; None where none did."""
        status = self.status
        if status is None or status >= 0:
            return None
        try:
            return signal.Signals(-status).name
        except ValueError:
            return f"signal {-status}"

    def new_lines(self) -> list[str]:
        """The whole lines that it has said since the last call."""
        fresh = os.pread(self._said.fileno(), 1 << 20, self._read)
        whole = fresh if not self.running() else fresh[: fresh.rfind(b"\n") + 1]
        self._read += len(whole)
        return [line for line in whole.decode("utf-8", "replace").splitlines() if line.strip()]
