"""The simulator for one's own tests: a context manager that runs it as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

from tensorix_api.errors import SettingsError, TensorixError
from tensorix_simulator.settings import SimulatorSettings

__all__ = ["Simulator"]

_STOP_S = 5.0


class Simulator:
    """A simulator on loopback for as long as the `with` block lasts::

        with Simulator(rpm=5, ttft="50ms") as sim:
            client = openai.OpenAI(base_url=sim.base_url, api_key="any")

    Keyword arguments are the fields of `tensorix_simulator.settings.SimulatorSettings`, or `settings` is given whole.
    It is a process of its own, so it is not slowed by what it serves, and nothing of gevent reaches it. The truth of
    its requests goes to `truth_path`, by default a file that goes with the block. Raises SettingsError for a wrong
    setting, TensorixError where the process does not come up.
    """

    def __init__(
        self,
        settings: SimulatorSettings | None = None,
        *,
        truth_path: Path | str | None = None,
        port: int = 0,
        control_port: int = 0,
        **changes: Any,
    ) -> None:
        self.settings = (settings or SimulatorSettings()).changed(changes)
        self._given_truth_path = None if truth_path is None else Path(truth_path)
        self._ports = (port, control_port)
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.base_url = ""
        """What `TENSORIX_BASE_URL` is set to."""
        self.control_url = ""
        self.port = 0
        self.truth_path = Path()

    @property
    def pid(self) -> int:
        """The process, for who wants to watch or kill it."""
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> Simulator:
        # Mixed up with gevent's patching only in the engine: a child that inherits this would not patch itself.
        environment = {name: value for name, value in os.environ.items() if name != "LOCUST_SKIP_MONKEY_PATCH"}
        # The child finds the same packages, also where they are not installed but on the path.
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        self._folder = tempfile.TemporaryDirectory(prefix="tensorix-simulator-")
        folder = Path(self._folder.name)
        self.truth_path = self._given_truth_path or folder / "truth.jsonl"
        settings_path = folder / "settings.json"
        settings_path.write_text(json.dumps(self.settings.to_dict()), encoding="utf-8")
        command = [sys.executable, "-m", "tensorix_simulator", "--settings", str(settings_path)]
        command += ["--port", str(self._ports[0]), "--control-port", str(self._ports[1])]
        command += ["--truth", str(self.truth_path), "--with-parent"]
        # What it complains about goes to a file: nobody reads a pipe while it runs.
        with (folder / "stderr").open("wb") as errors:
            self._process = subprocess.Popen(  # noqa: S603 - ourselves
                command,
                env=environment,
                # Held open and never written to: it ends with this process, and the simulator with it.
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                # Ctrl-C is for whoever uses the simulator, who may still want answers to end in order.
                start_new_session=True,
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            complaint = (folder / "stderr").read_text(errors="replace").strip().splitlines()
            self._forget()
            raise TensorixError(f"the simulator did not start: {complaint[-1] if complaint else 'no reason given'}")
        addresses = json.loads(line)
        self.base_url, self.control_url = addresses["base_url"], addresses["control_url"]
        self.port = addresses["port"]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the process in order, and remove its files; nothing where it has ended."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._forget()

    def _forget(self) -> None:
        if self._process is not None:
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()
        self._process = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def truth(self) -> list[dict[str, Any]]:
        """The truth so far, as `tensorix_simulator.truth` describes its lines. Only while it runs, or from a path
        that was given.
        """
        data = self.truth_path.read_bytes()
        # The last line may be half there.
        return [json.loads(line) for line in data[: data.rfind(b"\n") + 1].splitlines()]

    def complaints(self) -> str:
        """What it wrote to standard error: nothing, unless it has a defect. Only while it runs."""
        assert self._folder is not None
        return (Path(self._folder.name) / "stderr").read_text(errors="replace")

    def change(self, **changes: Any) -> None:
        """Change settings while it runs. Raises SettingsError for a wrong one."""
        self.settings = self.settings.changed(changes)
        self._control("PUT", "/settings", self.settings.to_dict())

    def reset(self) -> None:
        """Forget what keys have used and which requests came before."""
        self._control("POST", "/reset")

    def _control(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = Request(self.control_url + path, data=data, method=method)  # noqa: S310 - our own address
        try:
            # No proxy, whatever the environment says: this is loopback.
            with build_opener(ProxyHandler({})).open(request, timeout=10) as response:
                return json.loads(response.read())
        except HTTPError as error:
            with error:
                raise SettingsError(json.loads(error.read())["error"]["message"]) from None
