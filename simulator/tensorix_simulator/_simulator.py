"""The simulator for one's own tests: a context manager that runs it as a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, Request, build_opener

from tensorix_api.errors import SettingsError, TensorixError
from tensorix_simulator.http.certificates import check_kind
from tensorix_simulator.presets import preset_settings
from tensorix_simulator.settings import SimulatorSettings

__all__ = ["Simulator"]

_STOP_S = 5.0


class Simulator:
    """A simulator on loopback for as long as the `with` block lasts::

        with Simulator(rpm=5, ttft="50ms") as sim:
            client = openai.OpenAI(base_url=sim.base_url, api_key="any")

    Keyword arguments are the fields of `tensorix_simulator.settings.SimulatorSettings` and `presets`, or `settings` is
    given whole. With `tls` ("valid", "expired", "wrong_name" or "unknown_chain") it speaks HTTPS, and `ca_path` is what
    clients are to trust. It is a process of its own, so it is not slowed by what it serves, and nothing of gevent
    reaches it. The truth of its requests is appended to `truth_path`, by default a file that goes with the block.

    A block that is over may be followed by another; each is a new process. Raises SettingsError for a wrong setting,
    TensorixError where the process does not come up, and where it is used while it does not run.
    """

    def __init__(
        self,
        settings: SimulatorSettings | None = None,
        *,
        truth_path: Path | str | None = None,
        port: int = 0,
        control_port: int = 0,
        tls: str | None = None,
        **changes: Any,
    ) -> None:
        if settings is not None and not isinstance(settings, SimulatorSettings):
            raise SettingsError(
                "settings must be a SimulatorSettings, such as SimulatorSettings(rpm=5) or what read_settings(path) "
                f"of tensorix_simulator.settings_file gives, not {settings!r}; single ones go by name: Simulator(rpm=5)"
            )
        self.settings = (settings or SimulatorSettings()).changed(changes)
        self._given_truth_path = None if truth_path is None else Path(truth_path)
        self._truth_begins: int | None = None
        """Where in its file the truth of the last block begins: the file may have been there before."""
        self._ports = (port, control_port)
        if tls is not None:
            check_kind(tls)
        self._tls = tls
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
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
        self.base_url = ""
        """What `TENSORIX_BASE_URL` is set to; empty while it does not run, as the next three."""
        self.url = ""
        """The same without the path."""
        self.control_url = ""
        self.ca_path = ""
        """With `tls`: the certificate, as PEM, of the authority that clients are to trust."""
        self.port = 0
        self.truth_path = self._given_truth_path or Path()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise TensorixError("the simulator is not running: use it within its `with` block")
        return self._process

    @property
    def pid(self) -> int:
        """The process, for who wants to watch or kill it."""
        return self._running().pid

    def __enter__(self) -> Simulator:
        if self._process is not None:
            raise TensorixError("the simulator is running already: make another Simulator for a second server")
        # Mixed up with gevent's patching only in the engine: a child that inherits this would not patch itself.
        environment = {name: value for name, value in os.environ.items() if name != "LOCUST_SKIP_MONKEY_PATCH"}
        environment["PYTHONPATH"] = os.pathsep.join(_path())
        self._folder = tempfile.TemporaryDirectory(prefix="tensorix-simulator-")
        folder = Path(self._folder.name)
        self.truth_path = self._given_truth_path or folder / "truth.jsonl"
        self._truth_begins = self.truth_path.stat().st_size if self.truth_path.is_file() else 0
        # What it complains about goes to a file: nobody reads a pipe while it runs.
        with (folder / "stderr").open("wb") as errors:
            self._process = subprocess.Popen(  # noqa: S603 - ourselves
                self._command(folder),
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
            complaint = self.complaints().strip().splitlines()
            self._forget()
            said = complaint[-1].removeprefix("error: ") if complaint else "no reason given"
            raise TensorixError(f"the simulator did not start: {said}")
        addresses = json.loads(line)
        self.base_url, self.control_url = addresses["base_url"], addresses["control_url"]
        self.url = self.base_url.removesuffix(self.settings.prefix)
        self.port = addresses["port"]
        self.ca_path = addresses["ca_path"] or ""
        return self

    def _command(self, folder: Path) -> list[str]:
        settings_path = folder / "settings.json"
        settings_path.write_text(json.dumps(self.settings.to_dict()), encoding="utf-8")
        # -P: what lies in the folder where the user happens to be is not to be taken for a module.
        command = [sys.executable, "-P", "-m", "tensorix_simulator", "--settings", str(settings_path)]
        command += ["--port", str(self._ports[0]), "--control-port", str(self._ports[1])]
        command += ["--truth", str(self.truth_path), "--with-parent"]
        if self._tls is not None:
            command += ["--tls", self._tls, "--ca-file", str(folder / "ca.pem")]
        return command

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

    def truth(self, *events: str) -> list[dict[str, Any]]:
        """The truth so far, as `tensorix_simulator.truth` describes its lines; with `events`, such as "end", only
        those. Whatever a client has seen the end of is in it, and nothing that the file held before this block. Only
        while it runs or, where a path was given, after it. Lines that are torn are left out.
        """
        if self._given_truth_path is None or self._truth_begins is None:
            self._running()
        if self._process is not None:
            # It does one thing after another: when it has answered, the line that follows each answer is written.
            with contextlib.suppress(TensorixError):
                self._control("GET", "/healthz")
        with self.truth_path.open("rb") as file:
            file.seek(self._truth_begins or 0)
            lines = [line for line in map(_read_line, file) if line is not None]
        return [line for line in lines if not events or line["event"] in events]

    def complaints(self) -> str:
        """What it wrote to standard error: nothing, unless it has a defect. Only while it runs."""
        self._running()
        assert self._folder is not None
        return (Path(self._folder.name) / "stderr").read_text(errors="replace")

    def change(self, *, presets: Sequence[str] = (), **changes: Any) -> None:
        """Change settings while it runs, faults among them. Raises SettingsError for a wrong one."""
        self._running()
        wanted = self.settings.changed({"presets": presets, **changes}).to_dict()
        # What else was changed by the control interface stays; and keys go as aliases.
        sent = {name: wanted[name] for name in {**preset_settings(presets), **changes} if name != "format"}
        self.settings = SimulatorSettings.from_dict(self._control("PATCH", "/settings", sent))
        self.base_url = self.url + self.settings.prefix

    def reset(self) -> None:
        """Forget what keys have used and which requests came before."""
        self._control("POST", "/reset")

    def _control(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        self._running()
        data = None if body is None else json.dumps(body).encode()
        request = Request(self.control_url + path, data=data, method=method)  # noqa: S310 - our own address
        try:
            # No proxy, whatever the environment says: this is loopback.
            with build_opener(ProxyHandler({})).open(request, timeout=10) as response:
                return json.loads(response.read())
        except HTTPError as error:
            with error:
                raise SettingsError(json.loads(error.read())["error"]["message"]) from None
        except (URLError, OSError) as error:
            complaint = self.complaints().strip().splitlines()
            said = complaint[-1] if complaint else getattr(error, "reason", error)
            raise TensorixError(f"the simulator does not answer: {said}") from None


def _read_line(line: bytes) -> dict[str, Any] | None:
    """A line of the truth; None of one that is torn: the last, while it is written, or where a disk was full."""
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if line.endswith(b"\n") and isinstance(value, dict) and "event" in value else None


def _path() -> list[str]:
    """Where the child looks for modules: where this process does, for packages that are not installed, but in Python's
    own library first, so that a test's folder with a `random.py` does not break it.
    """
    known = sysconfig.get_paths()
    library = {known["stdlib"], known["platstdlib"], f"{known['platstdlib']}/lib-dynload"}
    here = [str(Path.cwd())] if "" in sys.path else []
    return [*sorted(filter(None, sys.path), key=lambda path: path not in library), *here]
