"""A run that several processes of this machine share: together they do what was asked, and one folder holds it."""

from __future__ import annotations

import itertools
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tensorix_records import Run
from tensorix_simulator import Simulator

if TYPE_CHECKING:
    from tests.loadtests.conftest import Engine

LOCUSTFILE = Path(__file__).parents[3] / "loadtests" / "locustfile.py"
Start = Callable[..., "Engine"]

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def free(borrow: Callable[..., Simulator]) -> Simulator:
    """A simulator without limits."""
    return borrow(rpm=None, tpm=None, ttft="10ms")


def _chats(simulator: Simulator, run: Run | None = None) -> list[dict[str, Any]]:
    """The chat requests that arrived, of a run (whose name is in their identities) or of all tests so far."""
    name = run.manifest["run_id"] if run is not None else ""
    chats = [one for one in simulator.truth() if one["event"] == "arrival" and one["path"] == "/v1/chat/completions"]
    return [one for one in chats if one["request_id"].startswith(name)]


@pytest.fixture
def run_of(start_engine: Start) -> Callable[..., Run]:
    """Runs a plan with two processes to its end, and gives the run."""

    def make(base_url: str, *, status: int = 0, **plan: Any) -> Run:
        engine = start_engine(base_url, users=4, machines={"processes": 2}, **plan)
        assert engine.end(120) == status, engine.said
        return Run.open(engine.out)

    return make


def test_the_parts_are_the_whole(free: Simulator, run_of: Callable[..., Run]) -> None:
    """Two processes make the number of requests asked for, with the header whose value nobody wrote down; each request
    that arrived has one record, and what the manifest says of the two adds up."""
    secret = f"00-{'ab' * 16}-{'cd' * 8}-01"
    run = run_of(free.base_url, requests=41, headers={"traceparent": secret})
    rows = run.records(["request_id", "record_id", "process_id", "user_class"]).to_pylist()
    arrivals = _chats(free, run)
    assert {one["traceparent"] for one in arrivals} == {secret}
    assert sorted(row["request_id"] for row in rows if row["user_class"]) == sorted(o["request_id"] for o in arrivals)
    assert len({row["record_id"] for row in rows}) == len(rows) == 42
    workers = run.manifest["workers"]
    assert run.manifest["end_reason"] == "requests"
    assert [worker["records"] for worker in workers] == [21, 20]
    counted = Counter(row["process_id"] for row in rows)
    assert all(counted[worker["process_id"]] == worker["records"] == worker["finished"] for worker in workers)
    assert run.manifest["losses"] == run.findings() == []
    assert int(sum(run.gap_counts()["count"].to_pylist())) == 41 * 2
    (ended,) = [event for event in run.events() if event["kind"] == "run_ended"]
    assert (ended["started"], ended["finished"], ended["in_flight"]) == (41, 41, 0)
    assert not list(run.path.glob("*.arrows"))
    written = b"".join(path.read_bytes() for path in run.path.iterdir() if path.is_file())
    assert secret.encode() not in written
    assert b"sk-of-a-test-run" not in written


def test_a_shared_schedule(free: Simulator, run_of: Callable[..., Run]) -> None:
    """Of an open loop each arrival is sent once, by the process whose it is, and intended on one common schedule."""
    arrivals = {"stages": [{"duration_s": 3.0, "rate": 40.0}], "gaps": "constant"}
    run = run_of(free.base_url, arrivals=arrivals, requests=None)
    assert run.manifest["end_reason"] == "schedule"
    rows = run.records(["schedule_index", "process_id", "start_unix_ns", "intended_at_ns"]).to_pylist()
    sent = sorted((row for row in rows if row["schedule_index"] is not None), key=lambda row: row["schedule_index"])
    assert [row["schedule_index"] for row in sent] == list(range(len(sent)))
    assert len(sent) == len(_chats(free, run)) == 120
    assert all(len({row["process_id"] for row in sent[part::2]}) == 1 for part in (0, 1))
    intended = [row["start_unix_ns"] + row["intended_at_ns"] for row in sent]
    # Each process measures how its two clocks differ by itself, to some microseconds on a machine at rest.
    assert all(abs(later - at - 25_000_000) < 5_000_000 for at, later in itertools.pairwise(intended))


def test_a_slow_worker(
    free: Simulator,
    start_engine: Start,
    subprocess_environment: dict[str, str],
    wait_until: Callable[..., None],
) -> None:
    """No part of a shared schedule begins before the last worker is ready; then all begin at one instant."""
    with socket.create_server(("127.0.0.1", 0)) as trial:
        address = f"127.0.0.1:{trial.getsockname()[1]}"
    with socket.create_server(("127.0.0.1", 0)) as line:
        line.settimeout(60)
        engine = start_engine(
            free.base_url,
            arrivals={"stages": [{"duration_s": 1.0, "rate": 20.0}], "gaps": "constant"},
            requests=None,
            machines={"processes": 1, "workers": 1, "bind": address},
        )
        slow = Path(__file__).with_name("slow_worker.py")
        worker = subprocess.Popen(
            [sys.executable, str(slow), str(line.getsockname()[1]), "worker", "--master", address],
            env=subprocess_environment | {"TENSORIX_API_KEY": "sk-of-a-slow-worker"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            told, _ = line.accept()
            with told:
                # The other has been ready for a second, which is more than it would be given notice of a start.
                wait_until(lambda: any(one["kind"] == "worker_second" for one in Run.open(engine.out).events()))
                let_unix_ns = time.time_ns()
                told.sendall(b".")
            assert engine.end(60) == 0, engine.said
            assert worker.wait(30) == 0
        finally:
            worker.kill()
            worker.wait()
    run = Run.open(engine.out)
    assert run.manifest["end_reason"] == "schedule"
    assert run.manifest["losses"] == []
    begun = [event["start_unix_ns"] for event in run.events() if event["kind"] == "schedule"]
    assert len(begun) == 2
    # Two measurements of one clock against another, as above.
    assert let_unix_ns < min(begun)
    assert max(begun) - min(begun) < 5_000_000
    sent = [
        row for row in run.records(["schedule_index", "start_unix_ns"]).to_pylist() if row["schedule_index"] is not None
    ]
    assert sorted(row["schedule_index"] for row in sent) == list(range(20))
    assert min(row["start_unix_ns"] for row in sent) > let_unix_ns


def test_a_worker_that_may_not_go_on(borrow: Callable[..., Simulator], run_of: Callable[..., Run]) -> None:
    """What ends one worker for good, such as a key without credit, ends the run of all of them, and is its reason."""
    simulator = borrow(rpm=None, tpm=None, ttft="10ms", credit_tokens=400)
    run = run_of(simulator.base_url, duration_s=100)
    assert run.manifest["end_reason"] == "payment"
    assert len(_chats(simulator, run)) == len(run.records()) - 1


def test_workers_that_do_not_come(start_engine: Start) -> None:
    """A master whose workers do not come says in one line how many did, and makes no folder."""
    machines = {"workers": 2, "processes": 1, "bind": "127.0.0.1:0", "wait_s": 4.0}
    engine = start_engine("http://127.0.0.1:9/v1", users=3, machines=machines)
    assert engine.end() == 2
    assert engine.said[-1].startswith("error: ")
    assert " of 3 workers came within 4 s" in engine.said[-1]
    assert not engine.out.exists()


def test_a_limit_that_cannot_be_divided(free: Simulator, start_engine: Start) -> None:
    """Of one request in a window two processes cannot have one each: that is said before anything is sent."""
    limits = {"requests": 1, "told": ["requests"]}
    spending = {"limit_share": 1.0}
    engine = start_engine(free.base_url, users=2, machines={"processes": 2}, limits=limits, spending=spending)
    assert engine.end(60) == 2
    assert "1 of 1 requests in a window cannot be divided among 2 workers" in engine.said[-1]
    assert not engine.out.exists()


def test_a_worker_without_a_key(
    free: Simulator, start_engine: Start, subprocess_environment: dict[str, str], tmp_path: Path
) -> None:
    """A worker reads its own key: without one it is told so, and so is the master, and nothing is sent."""
    before = len(_chats(free))
    with socket.create_server(("127.0.0.1", 0)) as trial:
        address = f"127.0.0.1:{trial.getsockname()[1]}"
    engine = start_engine(free.base_url, machines={"workers": 1, "bind": address})
    worker = subprocess.run(
        [sys.executable, "-m", "tensorix_loadtests", "worker", "--master", address],
        env=subprocess_environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert worker.returncode == 2
    assert worker.stderr.splitlines()[-1].startswith("error: it has no key: set TENSORIX_API_KEY")
    assert engine.end() == 2
    assert "cannot take part: it has no key" in engine.said[-1]
    assert not engine.out.exists()
    assert len(_chats(free)) == before


def test_a_master_that_is_killed(free: Simulator, start_engine: Start, wait_until: Callable[..., None]) -> None:
    """Workers whose master was killed stop sending and end by themselves; what they had brought can be read."""
    before = len(_chats(free))
    engine = start_engine(free.base_url, users=4, duration_s=100, machines={"processes": 2})
    wait_until(lambda: len(_chats(free)) > before + 20, 60)
    children = psutil.Process(engine.process.pid).children()
    assert len(children) == 2
    engine.signal(signal.SIGKILL)
    assert not psutil.wait_procs(children, timeout=40)[1]
    run = Run.open(engine.out)
    assert run.manifest["end_reason"] is None
    assert any("killed" in finding for finding in run.findings())


def test_plain_locust(free: Simulator, subprocess_environment: dict[str, str], tmp_path: Path) -> None:
    """`locust --processes 2` from a locustfile writes one run folder with the records of both, exactly so many."""
    options = ["--headless", "--processes", "2", "--users", "4", "--spawn-rate", "50", "--requests", "30"]
    process = subprocess.run(
        [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--host", free.base_url, "--out", "run", *options],
        cwd=tmp_path,
        env=subprocess_environment | {"TENSORIX_API_KEY": "sk-for-plain-locust"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert process.returncode == 0, process.stderr
    assert "Traceback" not in process.stderr
    run = Run.open(tmp_path / "run")
    assert run.manifest["end_reason"] == "requests"
    assert [worker["records"] for worker in run.manifest["workers"]] == [15, 15]
    rows = run.records(["request_id", "endpoint"]).to_pylist()
    chats = sorted(row["request_id"] for row in rows if row["endpoint"] == "/chat/completions")
    assert chats == sorted(one["request_id"] for one in _chats(free, run))
    assert len(rows) == 31
    assert run.findings() == []
