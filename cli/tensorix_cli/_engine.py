"""The engine of a load test as seen from here: a process of its own, which this one starts, watches and signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from tensorix_api.secret import Secret
from tensorix_loadtests.plan import LoadPlan

__all__ = ["Engine"]

# In order; then those in flight cancelled; then nothing is left to lose.
_ESCALATION = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)


class Engine:
    """`python -m tensorix_loadtests`, in a session of its own: Ctrl-C reaches it only through `stop`.

    It outlives this process if it must: what it says goes to an unnamed file, never to a pipe that could break.
    """

    def __init__(self, plan: LoadPlan, out: Path, key: Secret | None) -> None:
        environment = {name: value for name, value in os.environ.items() if name != "LOCUST_SKIP_MONKEY_PATCH"}
        environment.pop("TENSORIX_API_KEY", None)
        if key:
            environment["TENSORIX_API_KEY"] = key.reveal()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  closed with the process that holds it
        self._read = 0
        self._stops = 0
        self._process = subprocess.Popen(  # noqa: S603  our own module
            # -P: a file in the current folder that is named like a library must not stand in for it.
            [sys.executable, "-P", "-m", "tensorix_loadtests", "--out", str(out)],
            stdin=subprocess.PIPE,
            stdout=self._said,
            stderr=self._said,
            start_new_session=True,
            env=environment,
        )
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

    def stop(self) -> int:
        """Ask it to end: the first time in order, the second at once, the third by force. Returns how often asked."""
        self._process.send_signal(_ESCALATION[min(self._stops, len(_ESCALATION) - 1)])
        self._stops += 1
        return self._stops

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
