"""Plain `locust -f …`: the same classes, the same run folder, and a request event that tells the truth."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tensorix_records import Run
from tensorix_simulator import Simulator

if TYPE_CHECKING:
    from tests.loadtests.conftest import Peer, Server

LOCUSTFILE = Path(__file__).parents[2] / "loadtests" / "locustfile.py"

# Writes each request event that Locust fires, and which classes run.
LISTENER = """
import json
from locust import events

EVENTS = open("events-fired.jsonl", "w")

@events.request.add_listener
def note(request_type, name, response_time, response_length, exception, **_):
    EVENTS.write(json.dumps([request_type, name, response_time, response_length, str(exception or "")]) + "\\n")
    EVENTS.flush()
"""

OWN_TASK = (
    LISTENER
    + """
from locust import task
from tensorix_loadtests import ChatUser

class Poet(ChatUser):
    max_tokens = 2
    temperature = 0.5
    body = {"seed": 7}

    def on_start(self):
        super().on_start()
        self.lines = 0

    @task
    def write(self):
        record = self.chat("a line, please", scenario="poem", stream=False)
        assert record.scenario == "poem"
        self.lines += 1

    @task
    def again(self):
        self.chat("another")
"""
)


@pytest.fixture(scope="module")
def quick() -> Iterator[Simulator]:
    """A simulator without limits that answers at once."""
    with Simulator(rpm=None, tpm=None, ttft="2ms", between_tokens="1ms") as simulator:
        yield simulator


class Locust:
    """`locust -f FILE --headless …` in a folder of its own."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = environment | {"TENSORIX_API_KEY": "sk-for-plain-locust"}
        self._started: list[subprocess.Popen[str]] = []

    def start(
        self, file: Path | str, base_url: str, *options: str, key: str | None = None, headless: bool = True
    ) -> subprocess.Popen[str]:
        """Start it; a text instead of a path is the locustfile's content."""
        if isinstance(file, str):
            path = self.folder / "own_locustfile.py"
            path.write_text(file)
            file = path
        environment = self.environment | ({"TENSORIX_API_KEY": key} if key else {})
        command = [sys.executable, "-m", "locust", "-f", str(file), "--host", base_url]
        command += ["--headless", *options] if headless else options
        process = subprocess.Popen(
            command, cwd=self.folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self._started.append(process)
        return process

    def page(self, base_url: str, *options: str) -> tuple[subprocess.Popen[str], Callable[..., None]]:
        """Start the locustfile with its web page; the function posts a form to one of the page's addresses."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port: int = free.getsockname()[1]
        web = ["--web-host", "127.0.0.1", "--web-port", str(port)]
        process = self.start(LOCUSTFILE, base_url, *web, *options, headless=False)

        def post(path: str, **form: object) -> None:
            data = urllib.parse.urlencode(form).encode()
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", data, timeout=30) as answer:
                assert json.load(answer)["success"]

        return process, post

    def run(self, file: Path | str, base_url: str, *options: str, key: str | None = None) -> tuple[int, str]:
        """Run it to its end: its exit status and what it said."""
        process = self.start(file, base_url, *options, key=key)
        said, _ = process.communicate(timeout=60)
        return process.returncode, said

    def fired(self) -> list[list[Any]]:
        """The request events that the listener wrote."""
        lines = (self.folder / "events-fired.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def stop(self) -> None:
        """Kill what still runs."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.communicate()


@pytest.fixture
def locust(tmp_path: Path, subprocess_environment: dict[str, str]) -> Iterator[Locust]:
    """See `Locust`."""
    one = Locust(tmp_path, subprocess_environment)
    yield one
    one.stop()


def _rows(run: Run) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = run.records().to_pylist()
    return [row for row in rows if row["scenario"] != "preflight"]


def test_the_locustfile_writes_a_run_folder(quick: Simulator, locust: Locust) -> None:
    """The locustfile of the repository gives the folder that `tensorix load` gives: records, events, end reason."""
    options = ["--users", "3", "--spawn-rate", "50", "--requests", "24", "--max-tokens", "4", "--out", "run"]
    status, said = locust.run(LOCUSTFILE, quick.base_url, *options)
    assert status == 0, said
    run = Run.open(locust.folder / "run")
    assert run.manifest["end_reason"] == "requests"
    asked = run.manifest["asked"]
    assert (asked["max_tokens"], asked["requests"], asked["duration_s"], asked["endless"]) == (4, 24, None, False)
    assert asked["user_classes"] == {"Chat": {"weight": 19}, "ModelList": {"weight": 1}}
    assert "mix" not in asked
    assert run.findings() == []
    rows = _rows(run)
    assert len(rows) == 24
    assert {row["outcome"] for row in rows} == {"success"}
    assert {row["user_class"] for row in rows} <= {"Chat", "ModelList"}
    assert max(row["completion_tokens"] or 0 for row in rows) == 4
    kinds = [event["kind"] for event in run.events() if event["kind"] != "second"]
    assert kinds[0] == "run_started"
    assert kinds[-1] == "run_ended"
    assert {event.get("name") for event in run.events() if event["kind"] == "phase"} == {"ramp", "steady", "drain"}
    assert "tensorix report" in said
    seen = {line["request_id"] for line in quick.truth() if line["event"] == "arrival"}
    assert {row["request_id"] for row in rows} <= seen


def test_a_run_time_ends_it(locust: Locust) -> None:
    """Locust's own --run-time ends the run, and what is in flight is drained."""
    with Simulator(rpm=None, tpm=None, ttft="300ms", between_tokens="100ms") as slow:
        options = ["--users", "2", "--spawn-rate", "50", "--run-time", "3s", "--max-tokens", "40", "--out", "run"]
        status, said = locust.run(LOCUSTFILE, slow.base_url, *options, "Chat")
    assert status == 0, said
    run = Run.open(locust.folder / "run")
    assert run.manifest["end_reason"] == "duration"
    rows = _rows(run)
    assert {row["outcome"] for row in rows} == {"success"}
    drain = next(event["t_unix_ns"] for event in run.events() if event.get("name") == "drain")
    assert sum(row["start_unix_ns"] + row["end_at_ns"] > drain for row in rows) == 2
    assert run.events()[-1]["in_flight"] == 0


def test_a_slow_import_takes_nothing_off_the_run_time(locust: Locust, quick: Simulator) -> None:
    """A locustfile that takes longer to be read than the run may last has its whole run time all the same."""
    slow = """
import time
import tensorix_loadtests
from locust import constant

end = time.perf_counter() + 2.5
while time.perf_counter() < end:
    pass

class Reader(tensorix_loadtests.ChatUser):
    wait_time = constant(0.1)
    max_tokens = 1
"""
    status, said = locust.run(slow, quick.base_url, "--users", "1", "--run-time", "2s", "--out", "run")
    assert status == 0, said
    run = Run.open(locust.folder / "run")
    assert run.manifest["end_reason"] == "duration"
    assert len(_rows(run)) > 1


def test_a_busy_start_does_not_hide_why_it_ended(locust: Locust, quick: Simulator) -> None:
    """Locust's timer counts from when its loop last looked at the clock: even where it is early, it is the reason."""
    busy = """
import time
from locust import constant, events
from tensorix_loadtests import ChatUser

@events.init.add_listener
def work(**_):
    end = time.perf_counter() + 1.5
    while time.perf_counter() < end:
        pass

class Reader(ChatUser):
    wait_time = constant(0.1)
    max_tokens = 1
"""
    status, said = locust.run(busy, quick.base_url, "--users", "1", "--run-time", "4s", "--out", "run")
    assert status == 0, said
    manifest = Run.open(locust.folder / "run").manifest
    assert manifest["end_reason"] == "duration"


def test_a_signal_ends_it_in_order(locust: Locust, wait_until: Callable[..., None]) -> None:
    """SIGINT and SIGTERM to locust drain what is in flight and leave a whole run folder."""
    with Simulator(rpm=None, tpm=None, ttft="300ms", between_tokens="100ms") as slow:
        # The run time is far from over, so it is not what ended the test.
        options = ["--users", "2", "--spawn-rate", "50", "--max-tokens", "5", "--run-time", "1h", "Chat", "--out"]
        processes = {name: locust.start(LOCUSTFILE, slow.base_url, *options, name) for name in ("int", "term")}
        for name, number in (("int", signal.SIGINT), ("term", signal.SIGTERM)):
            events = locust.folder / name / "events.jsonl"
            wait_until(lambda events=events: events.exists() and b'"second"' in events.read_bytes())
            processes[name].send_signal(number)
        for name, process in processes.items():
            process.communicate(timeout=30)
            run = Run.open(locust.folder / name)
            assert run.manifest["end_reason"] == "interrupted"
            assert run.findings() == []
            assert {row["outcome"] for row in _rows(run)} == {"success"}


def test_a_second_ctrl_c_ends_it_at_once(locust: Locust, wait_until: Callable[..., None]) -> None:
    """A second SIGINT does not wait for streams that last; the folder is whole, or says what it lacks."""
    with Simulator(rpm=None, tpm=None, ttft="100ms", between_tokens="30s") as endless:
        options = ["--users", "2", "--spawn-rate", "50", "--max-tokens", "5", "--out", "run", "Chat"]
        process = locust.start(LOCUSTFILE, endless.base_url, *options)
        events = locust.folder / "run" / "events.jsonl"
        wait_until(lambda: events.exists() and b'"second"' in events.read_bytes())
        process.send_signal(signal.SIGINT)
        wait_until(lambda: b'"drain"' in events.read_bytes())
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=15)
    run = Run.open(locust.folder / "run")
    assert {row["outcome"] for row in _rows(run)} == {"cancelled"}
    assert run.manifest["end_reason"] == "interrupted"


def test_the_web_page(quick: Simulator, locust: Locust, wait_until: Callable[..., None]) -> None:
    """Tests that the page starts, changes and stops: a folder each, one steady phase each, and `stopped` for why.

    A test that nothing but a hand ends says so, and names no mix that nobody asked for; Ctrl-C interrupts the last.
    """
    options = ["--autostart", "--users", "2", "--spawn-rate", "50", "--max-tokens", "2"]
    process, post = locust.page(quick.base_url, *options)
    runs = locust.folder / "runs"

    def seconds(folder: Path) -> list[dict[str, Any]]:
        return [event for event in Run.open(folder).events() if event["kind"] == "second"]

    def newest_steady() -> Path | None:
        # Named after the time at which they began.
        events = max(runs.glob("*/events.jsonl"), default=None)
        return events.parent if events and b'"steady"' in events.read_bytes() else None

    wait_until(newest_steady)
    first = newest_steady()
    assert first is not None
    post("swarm", user_count=5, spawn_rate=50, limit_requests="", limit_window="")
    wait_until(lambda: seconds(first)[-1]["users"] == 5)
    post("stop")
    wait_until(lambda: Run.open(first).manifest["end_reason"])
    run = Run.open(first)
    assert run.manifest["end_reason"] == "stopped"
    asked = run.manifest["asked"]
    assert (asked["endless"], asked["duration_s"], asked["requests"]) == (True, None, None)
    phases = [event["name"] for event in run.events() if event["kind"] == "phase"]
    assert phases == ["ramp", "steady", "drain"]
    post("swarm", user_count=1, spawn_rate=50, limit_requests="7", limit_window="")
    wait_until(lambda: newest_steady() not in (None, first))
    second = newest_steady()
    assert second is not None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    run = Run.open(second)
    assert run.manifest["end_reason"] == "interrupted"
    assert (run.manifest["asked"]["users"], run.manifest["limits"]["requests"]) == (1, 7)
    phases = [event["name"] for event in run.events() if event["kind"] == "phase"]
    assert phases == ["ramp", "steady", "drain"]


def test_ones_own_class(quick: Simulator, locust: Locust) -> None:
    """A subclass with tasks and attributes of its own runs alone: neither the base classes nor their tasks do."""
    options = ["--users", "2", "--spawn-rate", "50", "--requests", "20", "--out", "run"]
    status, said = locust.run(OWN_TASK, quick.base_url, *options)
    assert status == 0, said
    rows = _rows(Run.open(locust.folder / "run"))
    assert len(rows) == 20
    assert {row["user_class"] for row in rows} == {"Poet"}
    assert {(row["scenario"], row["stream"]) for row in rows} == {("poem", False), (None, True)}
    assert {row["max_tokens"] for row in rows} == {2}
    assert {row["outcome"] for row in rows} == {"success"}
    assert len(locust.fired()) == 20


def test_each_request_event_tells_the_truth(serve: Callable[..., Server], locust: Locust) -> None:
    """One event a request, and what failed in the record failed there: a stream that is cut in the middle, too.

    What a listener of the locustfile raises is Locust's to log and costs no record.
    """
    turns = iter(range(10_000))

    def handle(peer: Peer) -> None:
        while True:
            head, _ = peer.request()
            if head.startswith(b"GET"):
                peer.answer(200, {"data": [{"id": "m"}]})
                continue
            turn = next(turns) % 6
            if turn == 0:
                peer.begin_stream(transfer_encoding="chunked")
                peer.send(peer.chunked(peer.stream("a", "b")))
            elif turn == 1:
                peer.begin_stream()
                peer.send(peer.event({"content": "a"}))
                return
            elif turn == 2:
                peer.answer(500, {"error": {"message": "Broken."}})
            elif turn == 3:
                peer.answer(429, {"error": {"message": "Slow down."}}, retry_after="0")
            elif turn == 4:
                peer.begin_stream()
                peer.send(peer.event({"content": "a"}) + b'data: {"error": {"message": "Gone."}}\n\n')
                return
            else:
                peer.begin_stream()
                peer.send(peer.event({"content": "a"}) + b"data: {\n\n")
                return

    options = ["--users", "1", "--spawn-rate", "50", "--requests", "18", "--out", "run", "Chat"]
    failing = "@events.request.add_listener\ndef fail(**_): raise ValueError('no')\n"
    text = LISTENER + failing + LOCUSTFILE.read_text()
    status, said = locust.run(text, serve(handle).base_url, *options)
    assert status == 1, said  # Locust's own: some requests failed
    rows = _rows(Run.open(locust.folder / "run"))
    fired = locust.fired()
    assert len(rows) == len(fired) == 18
    assert Counter(row["error_kind"] for row in rows) == {
        None: 3,
        "cut": 3,
        "server_error": 3,
        "rate_limited": 3,
        "error_event": 3,
        "malformed": 3,
    }
    for row, (method, name, time_ms, length, exception) in zip(rows, fired, strict=True):
        assert (method, name) == ("POST", "/chat/completions streamed")
        assert bool(exception) == (row["outcome"] != "success")
        if row["error_kind"]:
            assert row["error_kind"] in exception
        assert time_ms == row["end_at_ns"] / 1e6
        assert length == row["response_bytes"]


FAILING_TASKS = """
import os
from locust import constant, task
from tensorix_loadtests import ChatUser

class Clumsy(ChatUser):
    wait_time = constant(0)

    @task
    def fail(self):
        self.turn = getattr(self, "turn", 0) + 1
        if self.turn % int(os.environ["SENDS_EVERY"]) == 0:
            self.chat("a line, please")
        raise LookupError("no such verse")
"""


def test_a_task_that_fails_again_and_again(quick: Simulator, locust: Locust, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten exceptions with no request in between end the test and say so; nine, again and again, do not."""
    options = ["--users", "1", "--requests", "4", "--out"]
    monkeypatch.setitem(locust.environment, "SENDS_EVERY", "9")
    status, said = locust.run(FAILING_TASKS, quick.base_url, *options, "often")
    assert status == 1, said  # Locust's own: tasks failed
    assert "tensorix: error" not in said
    run = Run.open(locust.folder / "often")
    assert run.manifest["end_reason"] == "requests"
    assert len(_rows(run)) == 4
    monkeypatch.setitem(locust.environment, "SENDS_EVERY", "1000000000")
    status, said = locust.run(FAILING_TASKS, quick.base_url, *options, "always")
    assert status == 1
    lines = [line for line in said.splitlines() if "tensorix: error:" in line]
    assert len(lines) == 1, said
    assert "10 times" in lines[0]
    assert "LookupError" in lines[0]
    run = Run.open(locust.folder / "always")
    assert run.manifest["end_reason"] == "defect"
    assert run.findings() == []


def test_a_classs_body_is_checked(quick: Simulator, locust: Locust) -> None:
    """A class whose `body` sets what an attribute is for is refused as a plan is: one line, status 2, no folder."""
    text = OWN_TASK.replace('{"seed": 7}', '{"stream": False}')
    status, said = locust.run(text, quick.base_url, "--requests", "3", "--out", "run")
    assert status == 2
    lines = [line for line in said.splitlines() if "tensorix: error:" in line]
    assert len(lines) == 1
    assert "Poet" in lines[0]
    assert "'stream'" in lines[0]
    assert not (locust.folder / "run").exists()


def test_what_cannot_begin(quick: Simulator, locust: Locust) -> None:
    """A wrong key and a folder that is taken are told in one line, with status 2, and nothing is made."""
    status, said = locust.run(LOCUSTFILE, quick.base_url, "--requests", "3", "--out", "run", key="sk-invalid")
    assert status == 2
    lines = [line for line in said.splitlines() if "tensorix: error:" in line]
    assert len(lines) == 1
    assert "401" in lines[0]
    assert not (locust.folder / "run").exists()
    (locust.folder / "held").mkdir()
    (locust.folder / "held" / "note").write_text("mine")
    status, said = locust.run(LOCUSTFILE, quick.base_url, "--requests", "3", "--out", "held")
    assert status == 2
    assert "not empty" in said
