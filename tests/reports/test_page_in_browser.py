"""The page in Chromium with the network off: it draws, answers to the mouse, fits, and asks nobody for anything."""

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

import pytest

from tensorix_reports.pages import write_report

pytestmark = pytest.mark.system("chromium")

_FLAGS = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
_FLAGS += " --disable-component-update --disable-sync --hide-scrollbars --remote-debugging-pipe"
_EVIL = "</script><script>alert(1)</script><!--<img src=x onerror=alert(2)>\"'&|`"


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

    def open(self, page: Path, width: int, *, dark: bool = False) -> None:
        """Load a page at a width and wait until it has drawn its pictures."""
        self.events.clear()
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=page.as_uri())
        self.until(f"location.href === {json.dumps(page.as_uri())} && document.documentElement?.dataset.drawn")

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


def _page(make_run: Callable[..., Path], request_at: Callable[..., Any], text: str | None = None) -> Path:
    """A page with all its pictures; with `text` wherever a server can write."""
    more: dict[str, Any] = {} if text is None else {"key_alias": text, "model_requested": text}
    records = [
        request_at(n, n / 3, remaining_requests=60 - n, remaining_tokens=2_000_000 - 53 * n, **more) for n in range(60)
    ]
    records += [request_at(100 + n, 21 + n, status=429, error_message=text, **more) for n in range(5)]
    failed = {"outcome": "failed", "status": 500, "error_kind": text or "server_error", "error_message": text}
    records += [request_at(200 + n, 30 + n, **failed, **more) for n in range(5)]
    records += [request_at(300, 31, endpoint=f"/{text}", **more)] if text else []
    events = [(float(n), "second", {"users": 4, "in_flight": n % 4}) for n in range(1, 40)]
    asked = {"base_url": text or "http://127.0.0.1:9/v1", "model": text or "m"}
    return write_report(make_run(records, events, ended_s=40.0, asked=asked)).page


@pytest.fixture(scope="module")
def page(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> Path:
    """A page with all its pictures and nothing odd in it."""
    return _page(make_run, request_at)


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_draws_without_a_network(browser: Browser, page: Path, width: int, dark: bool) -> None:
    """All pictures are drawn, nobody is asked, nothing is complained of, and the page is no wider than its window."""
    browser.open(page, width, dark=dark)
    assert browser.value("document.documentElement.dataset.drawn") == "5"
    assert browser.value("document.querySelectorAll('.picture svg').length") == 5
    assert browser.value("document.querySelectorAll('#picture-rates path[aria-roledescription=bar]').length") > 20
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.value(
        "[...document.querySelectorAll('.picture svg')].every(svg => svg.getBoundingClientRect().right <= innerWidth)"
    )
    assert browser.complaints() == []


def test_pictures_stand_on_one_time_axis(browser: Browser, page: Path) -> None:
    """In every picture the same instant lies at the same place."""
    browser.open(page, 1280)
    edges = browser.value(
        "[...document.querySelectorAll('.picture')].map(place => {"
        " const axis = place.querySelector('.role-axis-domain line').getBoundingClientRect();"
        " return [Math.round(axis.left), Math.round(axis.right)]; })"
    )
    assert len({tuple(edge) for edge in edges}) == 1


def test_tooltip_appears(browser: Browser, page: Path) -> None:
    """Pointing at a mark shows what it is."""
    browser.open(page, 1280)
    browser.value("document.getElementById('picture-rates').scrollIntoView({block: 'center'})")
    box = browser.value(
        "(b => [b.left + b.width / 2, b.top + b.height / 2])"
        "(document.querySelector('#picture-rates path[aria-roledescription=bar]').getBoundingClientRect())"
    )
    browser.mouse("mouseMoved", 5, 5)
    browser.mouse("mouseMoved", *box)
    text = browser.until("document.querySelector('#vg-tooltip-element.visible')?.innerText")
    assert "success" in text
    assert "requests" in text
    assert browser.value("getComputedStyle(document.querySelector('#vg-tooltip-element')).visibility") == "visible"
    assert browser.complaints() == []


def test_drag_zooms_every_picture(browser: Browser, page: Path) -> None:
    """A drag across one picture shows that stretch of time in all of them; a double click shows the whole run again."""
    browser.open(page, 1280)
    browser.value("document.getElementById('picture-rates').scrollIntoView({block: 'center'})")
    left, right, y = browser.value(
        "(place => { const axis = place.querySelector('.role-axis-domain line').getBoundingClientRect();"
        " return [axis.left, axis.right, axis.top - 60]; })(document.getElementById('picture-rates'))"
    )
    ticks = (
        "[...document.querySelectorAll('.picture')].map(place => [...place.querySelectorAll("
        "'.role-axis-label')].at(-1) && [...place.querySelector('.role-axis-label').querySelectorAll('text')]"
        ".filter(text => text.getAttribute('opacity') !== '0').map(text => +text.textContent).sort((a, b) => a - b))"
    )
    whole = browser.value(ticks)
    assert all(marks[0] == 0 and marks[-1] >= 35 for marks in whole)
    quarter = (right - left) / 4
    browser.mouse("mousePressed", left + quarter, y, button="left", clickCount=1)
    browser.mouse("mouseMoved", left + quarter * 1.5, y, button="left", buttons=1)
    browser.mouse("mouseMoved", left + quarter * 2, y, button="left", buttons=1)
    browser.mouse("mouseReleased", left + quarter * 2, y, button="left", clickCount=1)
    browser.until("!document.getElementById('whole').disabled")
    browser.until(f"{ticks}.every(marks => marks[0] > 0)")
    zoomed = browser.value(ticks)
    assert len(zoomed) == 5, zoomed
    assert all(9 <= marks[0] <= 13 and 17 <= marks[-1] <= 21 for marks in zoomed), zoomed
    for count in (1, 2):
        browser.mouse("mousePressed", left + 10, y, button="left", clickCount=count)
        browser.mouse("mouseReleased", left + 10, y, button="left", clickCount=count)
    browser.until("document.getElementById('whole').disabled")
    browser.until(f"JSON.stringify({ticks}) === {json.dumps(json.dumps(whole, separators=(',', ':')))}")
    assert browser.complaints() == []


def test_a_servers_markup_stays_text(
    browser: Browser, make_run: Callable[..., Path], request_at: Callable[..., Any]
) -> None:
    """Markup from a server is shown as it was sent, in tables, legends and tooltips, and runs nowhere."""
    browser.open(_page(make_run, request_at, _EVIL), 1280)
    assert browser.value("document.querySelectorAll('img, iframe, object').length") == 0
    assert browser.value("document.scripts.length") == 3
    assert _EVIL in browser.value("document.getElementById('failures').innerText")
    browser.value("document.getElementById('picture-remaining_requests').scrollIntoView({block: 'center'})")
    box = browser.value(
        "(b => [b.left + b.width / 2, b.top + b.height / 2])(document.querySelector("
        "'#picture-remaining_requests path[aria-roledescription=circle]').getBoundingClientRect())"
    )
    browser.mouse("mouseMoved", *box)
    text = browser.until("document.querySelector('#vg-tooltip-element.visible')?.innerText")
    assert "<img src=x onerror=alert(2)>" in text
    assert browser.value("document.querySelectorAll('img').length") == 0
    assert browser.complaints() == []


def test_the_policy_forbids_requests(browser: Browser, page: Path) -> None:
    """The page's own policy stops a script in it from asking anybody, and what is stopped is seen by these tests."""
    browser.open(page, 1280)
    assert browser.value("fetch('http://127.0.0.1:9/').then(() => 'sent', error => error.name)") == "TypeError"
    assert browser.value("(() => { try { return eval('1 + 1'); } catch (error) { return error.name; } })()") in (
        "EvalError",
        2,
    )
    assert any("Content Security Policy" in complaint for complaint in browser.complaints())


def test_empty_run(browser: Browser, make_run: Callable[..., Path]) -> None:
    """A page without pictures says so in words and complains of nothing."""
    browser.open(write_report(make_run([])).page, 400)
    assert browser.value("document.querySelectorAll('.picture').length") == 0
    assert browser.value("document.body.innerText").count("Not enough data") >= 5
    assert browser.complaints() == []
