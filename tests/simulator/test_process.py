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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
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
    assert addresses["loopback"] is True


def test_under_nohup_it_outlives_the_terminal(subprocess_environment: dict[str, str]) -> None:
    """A SIGHUP that was ignored before it started stays so."""
    with subprocess.Popen(
        ["nohup", *COMMAND],
        env=subprocess_environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        addresses = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGHUP)
        assert httpx.get(f"{addresses['control_url']}/healthz", trust_env=False).json()["status"] == "ok"
        process.terminate()
        assert process.wait(10) == 0


@pytest.mark.parametrize(
    ("closed", "status", "said"),
    [
        (">&-", 1, "error: standard output is closed: nobody would be told where it listens\n"),
        ("--settings - <&-", 2, "error: the settings cannot be read from standard input: it is closed\n"),
        ("--with-parent <&-", 2, "error: --with-parent wants a pipe as standard input, which is closed\n"),
        (">&- 2>&-", 1, ""),
        ("--set odd=1 2>&-", 2, ""),
    ],
)
def test_what_is_closed_is_said(subprocess_environment: dict[str, str], closed: str, status: int, said: str) -> None:
    """A standard stream that is closed is no defect: one line, where there is somewhere to write it."""
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$0" -m tensorix_simulator {closed}', sys.executable],
        env=subprocess_environment, capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (status, "", said)


def test_modules_of_the_users_folder_do_not_shadow_its_own(
    subprocess_environment: dict[str, str], tmp_path: Path
) -> None:
    """A `random.py` or `json.py` where the user is, or on the path of his tests, is not taken for Python's."""
    for name in ("random.py", "json.py", "asyncio.py"):
        (tmp_path / name).write_text("raise SystemExit('taken for a module')\n")
    script = (
        "from tensorix_simulator import Simulator\n"
        "import os, sys\n"
        "os.chdir(sys.argv[1])\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "with Simulator() as simulator: print(len(simulator.truth()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        env=subprocess_environment, capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("1\n", "")


def test_another_prefix_is_another_base_url() -> None:
    """Where a change moves the API's path, `base_url` follows; `url` stays."""
    with Simulator() as simulator:
        url = simulator.url
        simulator.change(prefix="/api/v2")
        assert (simulator.url, simulator.base_url) == (url, f"{url}/api/v2")
        headers = {"authorization": "Bearer sk-a"}
        assert httpx.get(f"{simulator.base_url}/models", headers=headers, trust_env=False).status_code == 200


@pytest.mark.parametrize("settings", ["x", {"rpm": 5}, 3])
def test_settings_that_are_none_are_said(settings: Any) -> None:
    """`Simulator(settings=…)` takes a `SimulatorSettings`, and says so of anything else."""
    with pytest.raises(SettingsError, match=r"must be a SimulatorSettings, .*Simulator\(rpm=5\)"):
        Simulator(settings)


@pytest.mark.parametrize(
    ("host", "tls", "base_url", "warned"),
    [
        ("0.0.0.0", [], "http://127.0.0.1:", "keys that are sent to it travel in clear"),
        ("0.0.0.0", ["--tls", "valid"], "https://127.0.0.1:", "everybody who reaches this machine can use it\n"),
        ("::", [], "http://[::1]:", "listening on :: port"),
        ("localhost", [], "http://localhost:", None),
        ("127.0.0.2", [], "http://127.0.0.2:", None),
    ],
)
def test_it_says_loudly_that_others_can_reach_it(
    subprocess_environment: dict[str, str], host: str, tls: list[str], base_url: str, warned: str | None
) -> None:
    """A warning on standard error and `loopback` false, unless only this machine reaches it."""
    if host == "::" and not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    process, addresses = started(subprocess_environment, "--host", host, *tls)
    with process:
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=10)
    assert addresses["base_url"].startswith(base_url)
    assert addresses["loopback"] is (warned is None)
    # The control port is for this machine alone, whatever the other one is.
    assert addresses["control_url"].startswith("http://127.0.0.1:")
    if warned is None:
        assert err == b""
    else:
        assert err.startswith(b"WARNING: listening on ")
        assert warned.encode() in err


def test_what_is_missing_is_named(subprocess_environment: dict[str, str]) -> None:
    """Without the parts of its extra it says in one line what to install; and so it does for TLS."""
    for module, arguments in (("httptools", []), ("re2", []), ("trustme", ["--tls", "valid"])):
        code = (
            f"import sys; sys.modules[{module!r}] = None; sys.argv[1:] = {arguments!r}\n"
            "from tensorix_simulator.__main__ import main; sys.exit(main())"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=subprocess_environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert done.returncode == 2
        assert done.stderr.startswith(f"error: {module} is not installed")
        assert done.stderr.endswith("pip install 'tensorix-toolkit[simulator]'\n")
        assert done.stderr.count("\n") == 1


def test_a_simulator_is_used_within_its_block(tmp_path: Path) -> None:
    """Twice at once, or while it does not run, is the caller's mistake, and said so; one block after another is not."""
    simulator = Simulator(rpm=5)

    def all_refused() -> None:
        for use in (simulator.truth, simulator.reset, simulator.complaints, lambda: simulator.pid, simulator.change):
            with pytest.raises(TensorixError, match="not running"):
                use()
        assert (simulator.base_url, simulator.url, simulator.port) == ("", "", 0)

    all_refused()
    for _ in range(2):
        with simulator:
            assert simulator.base_url == simulator.url + "/v1"
            with pytest.raises(TensorixError, match="running already"):
                simulator.__enter__()
            assert [line["event"] for line in simulator.truth()] == ["start"]
        all_refused()


def test_a_simulator_that_has_died_is_said() -> None:
    """Whoever talks to it afterwards gets one exception of the toolkit's own."""
    with Simulator() as simulator:
        os.kill(simulator.pid, signal.SIGKILL)
        with pytest.raises(TensorixError, match="does not answer"):
            simulator.reset()


def test_changes_from_both_sides_add_up() -> None:
    """`change` changes what it names and leaves what the control interface has changed; presets and faults too."""
    with Simulator(rpm=5) as simulator:
        httpx.patch(f"{simulator.control_url}/settings", json={"tpm": 77}, trust_env=False)
        simulator.change(presets=["fast-chat"], faults=["status 503, rate 5%"], valid_keys=["sk-secret"])
        settings = httpx.get(f"{simulator.control_url}/settings", trust_env=False).json()
        assert simulator.settings.to_dict() == settings
        assert (settings["rpm"], settings["tpm"], settings["latency"]) == (5, 77, "batch")
        assert settings["faults"] == ["status 503, rate 5%"]
        assert "sk-secret" not in simulator.truth_path.read_text()


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
        (["--settings", "-"], '{"rpm": -5}', "error: standard input, line 1: setting 'rpm' must be a whole number"),
        (["--settings", "-"], "{", "error: standard input, line 1, column 2: no valid JSON"),
        (["--settings", "-"], "[]", "error: standard input: settings must be a JSON object"),
        (["--set", "rpm=-5"], "", "error: setting 'rpm' must be a whole number from 0 to 10**12"),
        (["--set", "rpm"], "", "error: 'rpm' sets nothing: write NAME=VALUE"),
        (["--preset", "huge"], "", "error: unknown preset 'huge': one of fast-chat, "),
        (["--tls", "odd"], "", "error: tls must be one of valid, expired, wrong_name, unknown_chain, not 'odd'"),
        (["--tls", "valid", "--ca-file", "no/ca.pem"], "", "error: the certificate cannot be written to no/ca.pem"),
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
    """It can be read after the block; a second simulator appends to it, and gives what it wrote itself."""
    path = tmp_path / "truth.jsonl"
    with pytest.raises(TensorixError, match="not running"):
        Simulator(truth_path=path).truth()
    for _ in range(2):
        with Simulator(truth_path=path) as simulator:
            simulator.reset()
    assert [line["event"] for line in simulator.truth()] == ["start", "reset"]
    assert [json.loads(line)["event"] for line in path.read_text().splitlines()] == ["start", "reset"] * 2


def test_a_torn_line_is_ended(tmp_path: Path) -> None:
    """A file that ends in the middle of a line gets an end of it before the next run's first; readers get by."""
    path = tmp_path / "truth.jsonl"
    path.write_bytes(b'{"event":"start"}\n{"event":"arr')
    with Simulator(truth_path=path) as simulator:
        assert [line["event"] for line in simulator.truth()] == ["start"]
        lines = httpx.get(f"{simulator.control_url}/truth", trust_env=False).text.splitlines()
        with path.open("ab") as file:
            file.write(b'{"event":\n')
        simulator.reset()
        assert [line["event"] for line in simulator.truth()] == ["start", "reset"]
    assert lines[:2] == ['{"event":"start"}', '{"event":"arr']
    assert json.loads(lines[2])["pid"]
    assert len(lines) == 3


def test_truth_without_a_file_is_kept_in_memory_up_to_a_bound() -> None:
    """A simulator that runs for days does not grow."""
    log = TruthLog(None)
    for k in range(12_000):
        log.write("arrival", {"n": k})
    data, _ = log.read(0, 10**9)
    kept = [json.loads(line)["n"] for line in data.splitlines()]
    assert kept == list(range(2_000, 12_000))


def test_truth_without_a_file_is_read_on_from_where_one_was(tmp_path: Path) -> None:
    """It pages as a file does, offset for offset; a gap shows, for what is no longer kept is skipped and counted."""
    kept, written = TruthLog(None), TruthLog(tmp_path / "truth.jsonl")
    for k in range(500):
        for log in (kept, written):
            log.write("arrival", {"n": k})
    assert kept.read(0, 1_000_000) == written.read(0, 1_000_000)
    offset, lines = 0, list[bytes]()
    while True:
        data, following = kept.read(offset, 1_000)
        assert following == offset + len(data)
        if not data:
            break
        assert len(data) <= 1_000
        lines += data.splitlines()
        offset = following
    assert [json.loads(line)["n"] for line in lines] == list(range(500))
    kept.write("arrival", {"n": 500})
    assert json.loads(kept.read(offset, 1)[0])["n"] == 500
    for k in range(501, 10_600):
        kept.write("arrival", {"n": k})
    data, following = kept.read(offset, 1)
    assert json.loads(data)["n"] == 600
    assert following - len(data) > offset
    written.close()


@pytest.mark.parametrize("in_a_file", [True, False])
@pytest.mark.parametrize("offset", [1, 25, 27, 10**14])
def test_an_offset_in_the_middle_of_a_line_is_refused(tmp_path: Path, offset: int, in_a_file: bool) -> None:
    """Half a line is never given: neither within one nor beyond the end."""
    log = TruthLog(tmp_path / "truth.jsonl" if in_a_file else None)
    log.write("arrival", {"n": 1})
    log.write("arrival", {"n": 2})
    with pytest.raises(SettingsError, match=f"offset {offset} is not where a line begins"):
        log.read(offset, 100)
    assert log.read(26, 100)[0] == b'{"event":"arrival","n":2}\n'
    assert log.read(52, 100) == (b"", 52)
    log.close()


def test_a_truth_that_cannot_be_read_again_is_said() -> None:
    """A device is no file: what was written to it is gone, and reading from it might never end."""
    log = TruthLog(Path("/dev/null"))
    log.write("arrival", {"n": 1})
    with pytest.raises(SettingsError, match="nothing can be read again"):
        log.read(0, 100)
    log.close()


def test_a_truth_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    """A folder in a file's place is the caller's mistake."""
    with pytest.raises(SettingsError, match="cannot be written"):
        TruthLog(tmp_path)


def test_it_ends_when_the_truth_can_no_longer_be_written(tmp_path: Path) -> None:
    """A full disk ends it with one line that says so and status 1, and what was written before is whole."""
    path = tmp_path / "truth.jsonl"
    with Simulator(truth_path=path) as simulator:
        process = simulator._process
        assert process is not None
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
        assert process.wait(10) == 1
    assert simulator.truth()[0]["event"] == "start"


def test_a_full_disk_at_the_start(subprocess_environment: dict[str, str]) -> None:
    """Nothing is announced, and the reason is one line."""
    done = run("--truth", "/dev/full", environment=subprocess_environment)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: the truth cannot be written to /dev/full: No space left on device\n"
