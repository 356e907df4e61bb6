"""A master and two workers on machines of their own, as network namespaces are; one of them dies."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tensorix_api.secret import Secret
from tensorix_records import Run
from tensorix_reports.load import write_report

pytestmark = pytest.mark.system("ip")

_HUB = "10.77.0.1"
_KEYS = {"a": "sk-of-the-first-worker", "b": "sk-of-the-second-worker"}


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


class Hosts:
    """Namespaces on one bridge, which lies in the first of them; processes in each."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._prefix = f"tx{os.getpid()}"
        self._environment = environment
        self._processes: list[subprocess.Popen[str]] = []
        self._made: list[str] = []

    def make(self, *names: str) -> None:
        """The hub and, at 10.77.0.2 and on, these."""
        for number, name in enumerate(("hub", *names)):
            space = f"{self._prefix}-{name}"
            _ip("netns", "add", space)
            self._made.append(space)
            _ip("-n", space, "link", "set", "lo", "up")
            if name == "hub":
                _ip("-n", space, "link", "add", "bridge", "type", "bridge")
                _ip("-n", space, "addr", "add", f"{_HUB}/24", "dev", "bridge")
                _ip("-n", space, "link", "set", "bridge", "up")
                continue
            hub = f"{self._prefix}-hub"
            _ip("-n", hub, "link", "add", f"port{number}", "type", "veth", "peer", "name", "eth0", "netns", space)
            _ip("-n", hub, "link", "set", f"port{number}", "master", "bridge", "up")
            _ip("-n", space, "addr", "add", f"10.77.0.{number + 1}/24", "dev", "eth0")
            _ip("-n", space, "link", "set", "eth0", "up")

    def start(self, name: str, *words: str, given: str = "", **variables: str) -> subprocess.Popen[str]:
        """A Python module's command in a namespace."""
        process = subprocess.Popen(
            ["ip", "netns", "exec", f"{self._prefix}-{name}", sys.executable, "-P", "-m", *words],
            env=self._environment | variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._processes.append(process)
        assert process.stdin is not None
        process.stdin.write(given)
        process.stdin.close()
        process.stdin = None
        return process

    def end(self) -> None:
        """End what was started, and take the namespaces away."""
        for process in self._processes:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        for space in self._made:
            with contextlib.suppress(subprocess.CalledProcessError):
                _ip("netns", "delete", space)


@pytest.fixture
def hosts(subprocess_environment: dict[str, str]) -> Iterator[Hosts]:
    """A hub with the namespaces `a` and `b` around it; skipped where this user may not make any."""
    made = Hosts(subprocess_environment)
    try:
        try:
            made.make("a", "b")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespaces can be made here: {error.stderr.strip()}")
        yield made
    finally:
        made.end()


def _truth(path: Path, kind: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line["event"] == kind]


@pytest.mark.timeout(180)
def test_a_worker_that_is_killed(hosts: Hosts, tmp_path: Path, wait_until: Callable[..., None]) -> None:
    """One of two workers in namespaces of their own is killed: the run ends in order, the records of the other are the
    simulator's truth, at most a second of those of the dead are lost, and the run and its report say so."""
    truth, out = tmp_path / "truth.jsonl", tmp_path / "run"
    quick = ["--rpm", "none", "--tpm", "none", "--ttft", "30ms", "--between-tokens", "5ms"]
    hosts.start("hub", "tensorix_cli", "simulate", "--host", _HUB, "--port", "8000", "--truth", str(truth), *quick)
    wait_until(lambda: truth.exists() and truth.stat().st_size)
    plan = {
        "base_url": f"http://{_HUB}:8000/v1",
        "users": 6,
        "spawn_rate": 100.0,
        "duration_s": 9.0,
        "max_tokens": 10,
        "machines": {"workers": 2, "bind": f"{_HUB}:5557"},
    }
    workers = {
        name: hosts.start(name, "tensorix_loadtests", "worker", "--master", f"{_HUB}:5557", TENSORIX_API_KEY=key)
        for name, key in _KEYS.items()
    }
    engine = ("tensorix_loadtests", "--out", str(out))
    master = hosts.start("hub", *engine, given=json.dumps(plan), TENSORIX_API_KEY="sk-of-the-master")
    alias = Secret(_KEYS["a"]).alias

    def is_well_under_way() -> bool:
        ended = [one["end_ns"] for one in _truth(truth, "end") if one["status"] == 200]
        return len(ended) > 60 and time.monotonic_ns() - ended[1] > 3_000_000_000

    wait_until(is_well_under_way, 60)
    workers["a"].send_signal(signal.SIGKILL)
    killed_ns = time.monotonic_ns()
    said, _ = master.communicate(timeout=60)
    assert master.returncode == 0, said
    other, _ = workers["b"].communicate(timeout=20)
    assert workers["b"].returncode == 0, other

    run = Run.open(out)
    manifest, table = run.manifest, run.records()
    assert manifest["end_reason"] == "duration"
    parts = {worker["key_alias"]: worker for worker in manifest["workers"]}
    dead, living = parts.pop(alias), parts.popitem()[1]
    rows = table.select(["process_id", "request_id", "status", "completion_tokens"]).to_pylist()
    mine = {name: [row for row in rows if row["process_id"] == part["process_id"]] for name, part in
            {"dead": dead, "living": living}.items()}  # fmt: skip
    arrivals, ends = _truth(truth, "arrival"), {one["request_id"]: one for one in _truth(truth, "end")}

    # The living: each request that arrived has its record, and each record is of a request that arrived.
    arrived = [one["request_id"] for one in arrivals if one["key_alias"] == living["key_alias"]]
    assert sorted(row["request_id"] for row in mine["living"]) == sorted(arrived)
    assert len(arrived) > 60
    for row in mine["living"]:
        assert (row["status"], row["completion_tokens"]) == (200, ends[row["request_id"]]["completion_tokens"])

    # The dead: all that had ended a second before are there, and how many were received is said.
    recorded = {row["request_id"] for row in mine["dead"]}
    early = [
        one["request_id"]
        for one in arrivals
        if one["key_alias"] == alias and ends[one["request_id"]]["end_ns"] < killed_ns - 1_000_000_000
    ]
    assert early
    assert recorded >= set(early)
    assert dead["records"] == len(recorded)
    assert (dead["missing"], living["missing"]) == (True, False)
    (loss,) = manifest["losses"]
    assert f"was lost: {len(recorded):,} of its records were received" in loss
    assert loss in run.findings()
    assert any(line.startswith("error: ") and loss in line for line in said.splitlines())
    (missing,) = [event for event in run.events() if event["kind"] == "worker_missing"]
    assert missing["worker"] == dead["process_id"]
    page = write_report(out).page.read_text(encoding="utf-8")
    assert "without all of its workers" in page

    # Namespaces share a clock, so what the comparison found is its own error, and within the bound that it gives.
    assert abs(living["clock"]["offset_ns"]) <= living["clock"]["uncertainty_ns"] < 100_000_000
    assert "sk-of" not in json.dumps(manifest) + json.dumps(run.events()) + said + other
