"""The simulator as a process: how it starts, ends and complains, and who may run it."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

import tensorix_simulator
from tensorix_api.errors import SettingsError, TensorixError
from tensorix_simulator import Simulator
from tensorix_simulator.truth import TruthLog

COMMAND = [sys.executable, "-m", "tensorix_simulator"]


def run(*arguments: str, environment: dict[str, str], stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], env=environment, input=stdin, capture_output=True, text=True, timeout=20, check=False
    )


def started(environment: dict[str, str], *arguments: str) -> tuple[subprocess.Popen[bytes], dict[str, Any]]:
    process = subprocess.Popen(
        [*COMMAND, *arguments], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    return process, json.loads(process.stdout.readline())


def test_what_is_exported() -> None:
    """`Simulator`, and nothing else."""
    assert tensorix_simulator.__all__ == ["Simulator"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_where_and_ends_in_order(subprocess_environment: dict[str, str], number: signal.Signals) -> None:
    """One line of JSON, on loopback; a signal ends it with status 0 and nothing said."""
    process, addresses = started(subprocess_environment)
    with process:
        assert addresses["base_url"] == f"http://127.0.0.1:{addresses['port']}/v1"
        assert addresses["control_url"] == f"http://127.0.0.1:{addresses['control_port']}"
        with socket.create_connection((addresses["host"], addresses["port"]), timeout=5):
            process.send_signal(number)
            out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (0, b"", b"")


def test_a_port_in_use(subprocess_environment: dict[str, str]) -> None:
    """One line and status 2, for either port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for option in ("--port", "--control-port"):
            done = run(option, port, environment=subprocess_environment)
            assert done.returncode == 2
            assert (
                done.stderr == f"error: port {port} on 127.0.0.1 is in use: give another, or 0 for any that is free\n"
            )
            assert done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "stdin", "said"),
    [
        (["--settings", "-"], '{"rpm": -5}', "error: setting 'rpm' must be a whole number from 0 on"),
        (["--settings", "-"], "{", "error: the settings in - are not valid JSON"),
        (["--settings", "-"], "[]", "error: settings must be a JSON object"),
        (["--settings", "missing.json"], "", "error: the settings cannot be read from missing.json"),
        (["--truth", "missing/truth"], "", "error: the truth cannot be written to missing/truth"),
        (["--port", "70000"], "", "error: port 70000 is no port"),
        (["--host", "192.0.2.1"], "", "error: cannot listen on 192.0.2.1"),
    ],
)
def test_a_mistake_gets_one_line(
    subprocess_environment: dict[str, str], arguments: list[str], stdin: str, said: str
) -> None:
    """No traceback: what is wrong, and status 2."""
    done = run(*arguments, environment=subprocess_environment, stdin=stdin)
    assert done.returncode == 2
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == 1


def test_it_ends_with_a_parent_that_is_killed(subprocess_environment: dict[str, str]) -> None:
    """A test run that is killed leaves no simulator behind."""
    script = (
        "from tensorix_simulator import Simulator\n"
        "import time\n"
        "with Simulator() as simulator:\n"
        "    print(simulator.port, flush=True)\n"
        "    time.sleep(1000)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], env=subprocess_environment, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        port = int(parent.stdout.readline())
        with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
            parent.kill()
            # The simulator closes what is open when it ends.
            assert sock.recv(1) == b""


def test_it_runs_from_a_process_patched_by_gevent(subprocess_environment: dict[str, str]) -> None:
    """A locustfile's process may start it, talk to it and stop it."""
    script = (
        "from gevent import monkey; monkey.patch_all()\n"
        "from tensorix_simulator import Simulator\n"
        "import urllib.request\n"
        "with Simulator(rpm=5) as simulator:\n"
        "    simulator.change(rpm=7)\n"
        "    headers = {'Authorization': 'Bearer sk-g'}\n"
        "    request = urllib.request.Request(simulator.base_url + '/models', headers=headers)\n"
        "    answer = urllib.request.urlopen(request)\n"
        "    print(answer.headers['x-ratelimit-api_key-remaining-requests'], len(simulator.truth()) >= 3)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=subprocess_environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("7 True\n", "", 0)


def test_a_simulator_that_cannot_start(tmp_path: Path) -> None:
    """The reason is the exception's message, and the process is gone."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        simulator = Simulator(port=taken.getsockname()[1])
        with pytest.raises(TensorixError, match="in use"):
            simulator.__enter__()
    with pytest.raises(TensorixError, match="cannot be written"), Simulator(truth_path=tmp_path / "no" / "truth"):
        pass


def test_it_stops_and_removes_its_files() -> None:
    """After the block neither the process nor its folder is there; stopping again does nothing."""
    with Simulator() as simulator:
        pid, path = simulator.pid, simulator.truth_path
        assert path.exists()
    assert not path.parent.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    simulator.stop()


def test_a_truth_path_of_ones_own_stays(tmp_path: Path) -> None:
    """It can be read after the block, and a second simulator appends to it."""
    path = tmp_path / "truth.jsonl"
    for _ in range(2):
        with Simulator(truth_path=path) as simulator:
            pass
    assert [line["event"] for line in simulator.truth()] == ["start", "start"]


def test_truth_without_a_file_is_kept_in_memory_up_to_a_bound() -> None:
    """A simulator that runs for days does not grow."""
    log = TruthLog(None)
    for k in range(12_000):
        log.write("arrival", {"n": k})
    data, _ = log.read(0, 100)
    kept = [json.loads(line)["n"] for line in data.splitlines()]
    assert kept == list(range(2_000, 12_000))


def test_a_truth_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    """A folder in a file's place is the caller's mistake."""
    with pytest.raises(SettingsError, match="cannot be written"):
        TruthLog(tmp_path)


def test_it_ends_when_the_truth_can_no_longer_be_written(tmp_path: Path) -> None:
    """A full disk ends it with one line that says so, and what was written before is whole."""
    path = tmp_path / "truth.jsonl"
    with Simulator(truth_path=path) as simulator:
        resource.prlimit(simulator.pid, resource.RLIMIT_FSIZE, (path.stat().st_size + 500, resource.RLIM_INFINITY))
        headers = {"authorization": "Bearer sk-a"}
        with httpx.Client(base_url=simulator.base_url, headers=headers, trust_env=False) as client:

            def ask_ten_times() -> None:
                for _ in range(10):
                    client.get("/models")

            with pytest.raises(httpx.TransportError):
                ask_ten_times()
        deadline = time.monotonic() + 10
        while not simulator.complaints() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert simulator.complaints() == f"error: the truth cannot be written to {path}: File too large\n"
    assert simulator.truth()[0]["event"] == "start"


def test_a_full_disk_at_the_start(subprocess_environment: dict[str, str]) -> None:
    """Nothing is announced, and the reason is one line."""
    done = run("--truth", "/dev/full", environment=subprocess_environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: the truth cannot be written to /dev/full: No space left on device\n"
