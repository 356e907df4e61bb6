"""The engine against the simulator: how a run begins, what it counts, and each way in which it ends."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tensorix_records import Run
from tensorix_simulator import Simulator

if TYPE_CHECKING:
    from tests.loadtests.conftest import Engine, Server

Start = Callable[..., "Engine"]
WaitUntil = Callable[..., None]


@pytest.fixture(scope="module")
def quick() -> Iterator[Simulator]:
    """A simulator without limits that answers at once."""
    with Simulator(rpm=None, tpm=None, ttft="2ms", between_tokens="1ms") as simulator:
        yield simulator


@pytest.fixture
def slow() -> Iterator[Simulator]:
    """A simulator without limits whose streams of three tokens last for over a second."""
    with Simulator(rpm=None, tpm=None, ttft="500ms", between_tokens="300ms") as simulator:
        yield simulator


def _rows(out: Path) -> list[dict[str, Any]]:
    """A run's records, without the one that looked whether the server can be used."""
    rows: list[dict[str, Any]] = Run.open(out).records().to_pylist()
    return [row for row in rows if row["scenario"] != "preflight"]


def _truth(simulator: Simulator, out: Path) -> set[str]:
    """The request ids of this run that the simulator saw."""
    run_id = Run.open(out).manifest["run_id"]
    seen = [line["request_id"] for line in simulator.truth() if line["event"] == "arrival"]
    return {request_id for request_id in seen if request_id.startswith(run_id)}


def _in_flight(simulator: Simulator) -> int:
    """Streams that the simulator has begun and not ended."""
    lines = [line for line in simulator.truth() if line.get("event") in ("arrival", "end")]
    return sum(1 if line["event"] == "arrival" else -1 for line in lines)


def test_the_number_of_requests_is_exact(quick: Simulator, start_engine: Start) -> None:
    """A run of 57 requests by 5 users sends 57, has a record of each, and the server saw the same ones."""
    engine = start_engine(quick.base_url, users=5, requests=57)
    assert engine.end() == 0
    assert engine.said == []
    rows = _rows(engine.out)
    assert len(rows) == 57
    assert {row["outcome"] for row in rows} == {"success"}
    assert {row["user_id"] for row in rows} == set(range(5))
    preflight = {
        row["request_id"] for row in Run.open(engine.out).records().to_pylist() if row["scenario"] == "preflight"
    }
    assert len(preflight) == 1
    assert _truth(quick, engine.out) == {row["request_id"] for row in rows} | preflight


def test_the_folder_of_a_run_that_ended_in_order(quick: Simulator, start_engine: Start) -> None:
    """The manifest says what was asked and how it ended, the events are in order, and nothing is left uncompacted."""
    engine = start_engine(quick.base_url, users=2, requests=8, label="a label", headers={"X-Team": "blue-team-value"})
    assert engine.end() == 0
    run = Run.open(engine.out)
    manifest = run.manifest
    assert manifest["end_reason"] == "requests"
    assert manifest["started_unix_ns"] < manifest["ended_unix_ns"]
    assert (manifest["asked"]["requests"], manifest["asked"]["users"], manifest["label"]) == (8, 2, "a label")
    assert manifest["asked"]["headers"] == ["X-Team"]
    assert "blue-team-value" not in json.dumps(manifest)
    assert manifest["key_alias"].startswith("key-")
    assert {"python", "locust", "gevent"} <= set(manifest["versions"])
    kinds = [event["kind"] for event in run.events() if event["kind"] != "second"]
    assert kinds == ["run_started", "phase", "phase", "stop", "phase", "run_ended"]
    phases = [event["name"] for event in run.events() if event["kind"] == "phase"]
    assert phases == ["ramp", "steady", "drain"]
    assert run.events()[-1]["in_flight"] == 0
    assert run.findings() == []
    assert not list(engine.out.glob("*.arrows"))
    assert run.gap_counts().num_rows > 0
    # No model was named, so the first that is listed was asked.
    first = quick.settings.models[0]
    assert manifest["asked"]["model"] == first
    assert {row["model_requested"] for row in _rows(engine.out)} == {first}


def test_a_duration_and_the_drain(slow: Simulator, start_engine: Start) -> None:
    """After its time a run begins nothing, and what is in flight is waited for and counted."""
    engine = start_engine(slow.base_url, users=4, duration_s=1.5)
    assert engine.end() == 0
    run = Run.open(engine.out)
    assert run.manifest["end_reason"] == "duration"
    rows = _rows(engine.out)
    assert {row["outcome"] for row in rows} == {"success"}
    drain = next(event["t_unix_ns"] for event in run.events() if event.get("name") == "drain")
    assert all(row["start_unix_ns"] <= drain + 5_000_000 for row in rows)
    drained = [row for row in rows if row["start_unix_ns"] + row["end_at_ns"] > drain]
    assert len(drained) == 4
    assert len(_truth(slow, engine.out)) == len(rows) + 1


def test_the_mix(quick: Simulator, start_engine: Start) -> None:
    """Users are shared out by the mix, and each kind does what it is for."""
    mix = {"chat-streamed": 2, "chat-unstreamed": 1, "models": 1}
    engine = start_engine(quick.base_url, users=4, requests=40, mix=mix)
    assert engine.end() == 0
    rows = _rows(engine.out)
    users: dict[str, set[int]] = {}
    for row in rows:
        users.setdefault(row["user_class"], set()).add(row["user_id"])
    assert {name: len(ids) for name, ids in users.items()} == {
        "ChatUser": 2,
        "UnstreamedChatUser": 1,
        "ModelListUser": 1,
    }
    assert {(row["user_class"], row["endpoint"], row["stream"]) for row in rows} == {
        ("ChatUser", "/chat/completions", True),
        ("UnstreamedChatUser", "/chat/completions", False),
        ("ModelListUser", "/models", None),
    }
    assert len(rows) == 40


def test_users_hold_back_when_throttled(start_engine: Start) -> None:
    """Told to wait by a 429 a user waits at least that long, so a limit of 6 causes no storm of refusals."""
    with Simulator(rpm=6, window_s=1, retry_after="honest", ttft="1ms", between_tokens="1ms") as limited:
        engine = start_engine(limited.base_url, users=3, duration_s=3, limits={"requests": 6, "window_s": 1})
        assert engine.end() == 0
    rows = sorted(_rows(engine.out), key=lambda row: row["start_unix_ns"])
    refused = [row for row in rows if row["outcome"] == "throttled"]
    assert refused
    assert all(row["retry_after_ns"] for row in refused)
    # Three users, three windows: each is refused once or twice in each.
    assert len(refused) <= 18
    assert sum(row["outcome"] == "success" for row in rows) >= 12
    for row in refused:
        later = [other for other in rows if other["user_id"] == row["user_id"]]
        after = [other for other in later if other["start_unix_ns"] > row["start_unix_ns"]]
        if after:
            waited = after[0]["start_unix_ns"] - row["start_unix_ns"] - row["end_at_ns"]
            assert waited >= row["retry_after_ns"]


def test_payment_stops_the_run_at_once(quick: Simulator, start_engine: Start) -> None:
    """A 402 ends the run: nothing more is sent but what was under way, and the reason is told."""
    engine = start_engine(quick.base_url, key="sk-no-credit", users=3, duration_s=60)
    assert engine.end(20) == 0
    assert Run.open(engine.out).manifest["end_reason"] == "payment"
    rows = _rows(engine.out)
    assert 1 <= len(rows) <= 3
    assert {row["error_kind"] for row in rows} == {"payment"}
    assert len(engine.said) == 1
    assert engine.said[0].startswith("error: the server answered 402")


def test_a_key_that_is_withdrawn_stops_the_run_at_once(slow: Simulator, start_engine: Start) -> None:
    """A 401 in the middle of a run ends it, and the streams that are in flight come to their end."""
    engine = start_engine(slow.base_url, key="sk-withdrawn-soon", users=3, duration_s=60)
    deadline = time.monotonic() + 30
    while not any(line["event"] == "end" and line["status"] == 200 for line in slow.truth()[3:]):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    slow.change(invalid_keys=("sk-withdrawn-soon",))
    assert engine.end(30) == 0
    assert Run.open(engine.out).manifest["end_reason"] == "unauthorised"
    rows = _rows(engine.out)
    refused = [row for row in rows if row["outcome"] == "failed"]
    assert {row["error_kind"] for row in refused} == {"authentication"}
    assert 1 <= len(refused) <= 3
    assert "401" in engine.said[0]


def test_a_403_does_not_stop_the_run(serve: Callable[..., Server], start_engine: Start) -> None:
    """A request that is forbidden is a failure like another: the run goes on to its number of requests."""
    turns = iter(range(1000))

    def handle(peer: Any) -> None:
        while True:
            head, _ = peer.request()
            if head.startswith(b"GET"):
                peer.answer(200, {"data": [{"id": "m"}]})
            elif next(turns) % 2:
                peer.reply()
            else:
                peer.answer(403, {"error": {"message": "Not with this prompt."}})

    engine = start_engine(serve(handle).base_url, requests=6, mix={"chat-unstreamed": 1})
    assert engine.end(20) == 0
    assert engine.said == []
    assert Run.open(engine.out).manifest["end_reason"] == "requests"
    assert [row["status"] for row in _rows(engine.out)] == [403, 200] * 3


# signals


def test_interrupted_in_order(start_engine: Start, wait_until: WaitUntil, tmp_path: Path) -> None:
    """A first SIGINT or SIGTERM begins nothing more, and waits for what is in flight."""
    # Longer than one engine may take to start after the other.
    with Simulator(rpm=None, tpm=None, ttft="2s", between_tokens="100ms") as slow:
        engines = [start_engine(slow.base_url, out=tmp_path / name, users=3, duration_s=60) for name in "ab"]
        for number, engine in zip((signal.SIGINT, signal.SIGTERM), engines, strict=True):
            wait_until(lambda engine=engine: (engine.out / "manifest.json").exists())
            wait_until(lambda engine=engine: len(_truth(slow, engine.out)) == 4)
            engine.signal(number)
        for engine in engines:
            assert engine.end(30) == 0
            run = Run.open(engine.out)
            assert run.manifest["end_reason"] == "interrupted"
            assert run.findings() == []
            rows = _rows(engine.out)
            assert len(rows) == 3
            assert {row["outcome"] for row in rows} == {"success"}


def test_interrupted_twice(start_engine: Start, wait_until: WaitUntil) -> None:
    """A second SIGINT cancels what is in flight: each leaves its record, and the run still ends in order."""
    with Simulator(rpm=None, tpm=None, ttft="100ms", between_tokens="20s") as endless:
        engine = start_engine(endless.base_url, users=3, duration_s=60)
        wait_until(lambda: _in_flight(endless) == 3)
        engine.signal(signal.SIGINT)
        events = engine.out / "events.jsonl"
        wait_until(lambda: b'"drain"' in events.read_bytes())
        engine.signal(signal.SIGINT)
        assert engine.end(15) == 0
    run = Run.open(engine.out)
    assert run.manifest["end_reason"] == "interrupted"
    assert run.findings() == []
    rows = _rows(engine.out)
    assert len(rows) == 3
    assert {(row["outcome"], row["error_kind"]) for row in rows} == {("cancelled", "cancelled")}
    assert run.events()[-1]["in_flight"] == 0


def test_interrupted_while_users_hold_back(start_engine: Start, wait_until: WaitUntil) -> None:
    """Users that wait out a Retry-After of a minute do not hold up the end of a run."""
    with Simulator(rpm=2, window_s=60, retry_after="honest", ttft="1ms", between_tokens="1ms") as limited:
        engine = start_engine(limited.base_url, users=2, duration_s=60)
        wait_until(lambda: sum(line.get("status") == 429 for line in limited.truth() if line["event"] == "end") >= 2)
        engine.signal(signal.SIGINT)
        assert engine.end(15) == 0
    assert Run.open(engine.out).manifest["end_reason"] == "interrupted"


# the disk


def test_a_full_disk_ends_the_run_in_order(quick: Simulator, start_engine: Start) -> None:
    """Where the folder cannot be written any more the run stops, says so in one line, and what was written is there."""
    # A limit on a file's size, one MiB or two by the shell, stands for a disk that fills up.
    engine = start_engine(quick.base_url, users=3, duration_s=60, ulimit="-f 2048")
    assert engine.end(30) == 1
    assert len(engine.said) == 1, engine.said
    assert engine.said[0].startswith("error: ")
    assert "cannot be written" in engine.said[0]
    assert _rows(engine.out)


# defects

BREAKS_CALLS = """
from tensorix_loadtests._call import Call

def fail(*_, **__):
    raise LookupError("a defect made for this test")

Call.chat = fail
"""


def test_a_task_that_fails_ends_the_run(quick: Simulator, start_engine: Start, tmp_path: Path) -> None:
    """A user that fails before its first request ends the run with one line, instead of failing for ever."""
    (tmp_path / "sitecustomize.py").write_text(BREAKS_CALLS)
    environment = {"PYTHONPATH": str(tmp_path)}
    engine = start_engine(quick.base_url, users=2, requests=5, environment=environment)
    assert engine.end(20) == 1
    assert len(engine.said) == 1, engine.said
    assert engine.said[0].startswith("error: ")
    assert "LookupError" in engine.said[0]
    run = Run.open(engine.out)
    assert run.manifest["end_reason"] == "defect"
    assert run.findings() == []
    assert _rows(engine.out) == []
    assert (engine.out / "engine.log").stat().st_size < 100_000


# what cannot begin


class _NotTheApi(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


@pytest.fixture
def web_server() -> Iterator[str]:
    """The address of a web server that is no chat API."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _NotTheApi) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
        thread.join()


def _refused(engine: Engine) -> str:
    """The one line of an engine that could not begin; it left no folder."""
    assert engine.end(60) == 2, engine.said
    assert len(engine.said) == 1, engine.said
    assert engine.said[0].startswith("error: ")
    assert not engine.out.exists()
    return engine.said[0]


def test_no_key(start_engine: Start) -> None:
    """A server that wants a key, and none given: the line names the variable."""
    with Simulator(valid_keys=("sk-the-right-one",)) as simulator:
        without, wrong = start_engine(simulator.base_url, key=None), start_engine(simulator.base_url, key="sk-wrong")
        assert "set TENSORIX_API_KEY" in _refused(without)
        assert "refused the key (401)" in _refused(wrong)


def test_a_wrong_key(quick: Simulator, start_engine: Start) -> None:
    """A wrong key is told before anything is made, also where the model is named."""
    line = _refused(start_engine(quick.base_url, key="sk-invalid", model="some/model"))
    assert "401" in line
    assert "sk-invalid" not in line


def test_nobody_there(start_engine: Start) -> None:
    """An address where nobody listens, and a name that does not exist."""
    closed, unknown = start_engine("http://127.0.0.1:1/v1"), start_engine("http://nobody.invalid/v1")
    assert "cannot be reached" in _refused(closed)
    assert "cannot look up" in _refused(unknown)


def test_not_the_api(web_server: str, start_engine: Start) -> None:
    """A web server that is no such API, with and without a model named."""
    for engine in [start_engine(web_server), start_engine(web_server, model="m")]:
        assert "not an OpenAI-compatible server" in _refused(engine)


def test_a_server_that_hangs(serve: Callable[..., Server], start_engine: Start) -> None:
    """A server that takes the connection and says nothing is given up in time."""
    server = serve(lambda peer: peer.wait_for_end())
    engine = start_engine(server.base_url, timeouts={"first_token_s": 0.5})
    assert "did not answer in time" in _refused(engine)


def test_a_folder_that_is_taken(quick: Simulator, start_engine: Start, tmp_path: Path) -> None:
    """An out folder that holds something, is a run, is a file or has no parent: one line, and nothing touched."""
    held = tmp_path / "held"
    held.mkdir()
    (held / "note.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    complaints = {held: "not empty", tmp_path / "file": "is a file", tmp_path / "a" / "b": "is no folder"}
    engines = [start_engine(quick.base_url, out=out) for out in complaints]
    for engine, words in zip(engines, complaints.values(), strict=True):
        assert engine.end() == 2
        assert len(engine.said) == 1
        assert words in engine.said[0]
    assert [path.name for path in held.iterdir()] == ["note.txt"]


def test_a_plan_that_is_none(start_engine: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan that cannot be read is one line and status 2."""
    texts = iter(["", "[]", '{"users": 1}'])
    monkeypatch.setattr(json, "dumps", lambda plan: next(texts))
    for engine in [start_engine("unused") for _ in range(3)]:
        assert "plan" in _refused(engine)


def test_a_ctrl_c_before_the_run_began(serve: Callable[..., Server], start_engine: Start) -> None:
    """Interrupted while it still looks for the server, the engine ends with one line and leaves nothing."""
    asked = threading.Event()

    def handle(peer: Any) -> None:
        peer.request()
        asked.set()
        peer.wait_for_end()

    engine = start_engine(serve(handle).base_url)
    assert asked.wait(30)
    engine.signal(signal.SIGINT)
    assert engine.end(15) == 2
    assert not engine.out.exists()
    assert engine.said == ["error: interrupted before the run began"]


# open files


def test_open_files_are_raised_where_that_is_allowed(quick: Simulator, start_engine: Start) -> None:
    """A low soft limit under a high hard one is raised in silence."""
    engine = start_engine(quick.base_url, users=80, requests=160, ulimit="-Sn 64")
    assert engine.end() == 0
    assert engine.said == []
    assert {row["outcome"] for row in _rows(engine.out)} == {"success"}


def test_open_files_that_cannot_be_raised_are_warned_of_once(quick: Simulator, start_engine: Start) -> None:
    """Under a hard limit that is too low there is one warning, with the number to set."""
    engine = start_engine(quick.base_url, users=20, requests=40, ulimit="-n 100")
    assert engine.end() == 0
    assert len(engine.said) == 1
    assert engine.said[0].startswith("warning: ")
    assert "ulimit -n 220" in engine.said[0]


def test_connections_that_fail_for_want_of_files_are_records(quick: Simulator, start_engine: Start) -> None:
    """Where the open files really run out, each request that could not connect is a failure that says why."""
    engine = start_engine(quick.base_url, users=60, requests=120, ulimit="-n 48")
    assert engine.end() == 0
    rows = _rows(engine.out)
    assert len(rows) == 120
    failed = [row for row in rows if row["outcome"] == "failed"]
    assert failed
    assert {row["error_kind"] for row in failed} <= {"connection_failed"}
    assert any("open files" in row["error_message"] for row in failed)
