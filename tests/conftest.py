"""What every room's tests share: the environment they run in, the rule for system packages, a simulator, a browser."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from fcntl import F_DUPFD, fcntl
from pathlib import Path
from typing import Any

# Before anything can import Locust: the tests' own process stays unpatched. The engine is a process of its own, and
# `subprocess_environment` leaves this variable out for it.
os.environ["LOCUST_SKIP_MONKEY_PATCH"] = "1"

import pytest

from tensorix_simulator import Simulator
from tensorix_simulator.settings import SimulatorSettings

_FLAGS = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
_FLAGS += " --disable-component-update --disable-sync --hide-scrollbars --remote-debugging-pipe"
_DRAWN = "document.documentElement?.dataset.drawn"
_PROGRAMS = {"chromium": ("chromium", "chromium-browser", "google-chrome")}
# Debian leaves PostgreSQL's own programs off the PATH.
_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), *map(str, Path("/usr/lib/postgresql").glob("*/bin"))])
_PROXIES = {"http_proxy", "https_proxy", "all_proxy", "no_proxy"}
_QUICK: dict[str, Any] = {"ttft": "1ms", "between_tokens": "1ms"}


def _is_users_own(name: str) -> bool:
    """Whether a variable could lead a test away from loopback, or hands it somebody's real key."""
    return name.startswith("TENSORIX_") or name.lower() in _PROXIES


@pytest.fixture(autouse=True)
def no_real_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the key, address or proxy of whoever runs it."""
    for name in list(os.environ):
        if _is_users_own(name):
            monkeypatch.delenv(name)


@pytest.fixture
def subprocess_environment() -> dict[str, str]:
    """The environment for a process that a test starts: no key, no proxy, and Locust free to patch."""
    left_out = {"LOCUST_SKIP_MONKEY_PATCH"}
    return {name: value for name, value in os.environ.items() if name not in left_out and not _is_users_own(name)}


@pytest.fixture(scope="session")
def find_program() -> Callable[[str], str]:
    """Where a program is that a test marked `system(program)` needs."""

    def find(program: str) -> str:
        found = shutil.which(program, path=_PATH)
        assert found is not None
        return found

    return find


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test marked `system(program)` by the program's name where it is missing; under CI=true, fail it."""
    for mark in item.iter_markers("system"):
        for program in mark.args:
            if any(shutil.which(name, path=_PATH) for name in _PROGRAMS.get(program, (program,))):
                continue
            if os.environ.get("CI", "").lower() in ("1", "true"):
                pytest.fail(f"{program} is not installed, and under CI no test is skipped for that", pytrace=False)
            pytest.skip(f"{program} is not installed")


@pytest.fixture(scope="module")
def lasting() -> Iterator[Simulator]:
    """One that lasts for all tests of a module."""
    with Simulator(**_QUICK) as simulator:
        yield simulator
        assert simulator.complaints() == ""


@pytest.fixture
def borrow(lasting: Simulator) -> Callable[..., Simulator]:
    """Gives the one that lasts settings of one's own, quick unless told otherwise, and forgets what came before."""

    def borrow_it(**settings: Any) -> Simulator:
        wanted = SimulatorSettings(**{**_QUICK, **settings}).to_dict()
        lasting.change(**{name: value for name, value in wanted.items() if name != "format"})
        lasting.reset()
        return lasting

    return borrow_it


class Browser:
    """One page of a headless Chromium, spoken to over the DevTools pipe: JSON messages that end with a zero byte."""

    def __init__(self, process: subprocess.Popen[bytes], send: int, receive: int) -> None:
        self._process, self._send, self._receive = process, send, receive
        self._buffer = b""
        self._number = 0
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        off = {"latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
        self.call("Network.emulateNetworkConditions", offline=True, **off)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One DevTools command and its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._send, json.dumps(message).encode() + b"\0")
        while True:
            reply = self._next()
            if reply.get("id") != self._number:
                self.events.append(reply)
                continue
            assert "error" not in reply, f"{method}: {reply['error']}"
            return dict(reply["result"])

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            data = os.read(self._receive, 1 << 16)
            assert data, f"Chromium ended with status {self._process.poll()}"
            self._buffer += data
        message, self._buffer = self._buffer.split(b"\0", 1)
        return dict(json.loads(message))

    def value(self, expression: str) -> Any:
        """What a JavaScript expression is."""
        result = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def until(self, expression: str, seconds: float = 30.0) -> Any:
        """Wait for an expression to be true; a page has no other way to tell that it is done."""
        deadline = time.monotonic() + seconds
        while not (value := self.value(expression)):
            assert time.monotonic() < deadline, f"never true: {expression}; {self.complaints()}"
            time.sleep(0.02)
        return value

    def open(self, page: Path, width: int, *, dark: bool = False, ready: str = _DRAWN) -> None:
        """Load a page at a width and wait until `ready`: until it has drawn its pictures."""
        self.events.clear()
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=page.as_uri())
        self.until(f"location.href === {json.dumps(page.as_uri())} && ({ready})")

    def mouse(self, what: str, x: float, y: float, **more: Any) -> None:
        """Move the mouse, or press (`mousePressed`) or release (`mouseReleased`) its left button."""
        self.call("Input.dispatchMouseEvent", type=what, x=x, y=y, **more)

    def complaints(self) -> list[str]:
        """Everything that went to the console, every error, and every request but the page's own."""
        found = []
        for event in self.events:
            method, parameters = event.get("method"), event.get("params", {})
            if method in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
                found.append(json.dumps(parameters)[:500])
            if method == "Network.requestWillBeSent":
                url = parameters["request"]["url"]
                if parameters.get("type") != "Document" and not url.startswith("data:"):
                    found.append(f"asked for {url}")
            if method == "Page.javascriptDialogOpening":
                found.append(f"dialog: {parameters}")
        return found


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A Chromium of one's own, ended by its process."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert program is not None
    to_child, send = os.pipe()
    receive, from_child = os.pipe()
    # Chromium reads from descriptor 3 and writes to 4; ours are moved out of the way first.
    reading, writing = fcntl(to_child, F_DUPFD, 10), fcntl(from_child, F_DUPFD, 10)

    def take_places() -> None:
        os.dup2(reading, 3)
        os.dup2(writing, 4)

    folder = tmp_path_factory.mktemp("chromium")
    process = subprocess.Popen(
        [program, *_FLAGS.split(), f"--user-data-dir={folder}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        close_fds=False,
        preexec_fn=take_places,
    )
    for descriptor in (to_child, from_child, reading, writing):
        os.close(descriptor)
    try:
        yield Browser(process, send, receive)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(send)
        os.close(receive)
