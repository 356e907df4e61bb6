"""`tensorix load` and `tensorix report`, from the command line to the page, against the simulator."""

from __future__ import annotations

import base64
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

from tensorix_cli._load_command import _with_web_on
from tensorix_records import Run
from tensorix_simulator import Simulator

Command = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., "subprocess.Popen[str]"]

KEY = "sk-made-up-for-this-test-8471"


@pytest.fixture
def start(tmp_path: Path, environment: dict[str, str]) -> Iterator[Start]:
    """Starts `tensorix` and leaves it running; what is left at the end of the test is killed."""
    started: list[subprocess.Popen[str]] = []

    def run(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "tensorix_cli", *arguments],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def of_users(run: Path, column: str) -> list[Any]:
    """A column of a run's records, without the engine's own question which models there are."""
    records = Run.open(run).records()
    return [
        value for value, by in zip(*(records[name].to_pylist() for name in (column, "user_class")), strict=True) if by
    ]


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Until something is so; a test that waits in vain fails."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)


def has_records(run: Path) -> bool:
    """Whether a run has begun and some request of it has ended."""
    return any(path.stat().st_size > 20_000 for path in run.glob("records-*.arrows"))


def in_flight(run: Path) -> int:
    """How many requests the run's latest second had in flight; 0 before the first."""
    if not (run / "events.jsonl").exists():
        return 0
    seconds = [event for event in Run.open(run).events() if event["kind"] == "second"]
    return int(seconds[-1]["in_flight"]) if seconds else 0


def engine_of(run: Path) -> int:
    """The process id of the engine that writes a run."""
    (path,) = run.glob("records-p*.arrows")
    return int(path.stem.removeprefix("records-p"))


def is_alive(pid: int) -> bool:
    """Whether a process runs (one that has ended and was not waited for does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_run_ends_with_its_verdict_and_page(tensorix: Command, simulator: Simulator, tmp_path: Path) -> None:
    """The number of requests that was asked for is sent, the verdict said, the page written, and the status is 0."""
    ran = tensorix(
        *("load", "--base-url", simulator.base_url, "--users", "3", "--spawn-rate", "30", "--requests", "30"),
        *("--max-tokens", "5", "--header", "X-Team: blue", "--body", '{"top_p": 0.5}', "--out", "run"),
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    page = tmp_path / "run" / "report" / "report.html"
    assert ran.stdout.splitlines()[-1] == f"Report: {page}"
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    summary = json.loads((page.parent / "summary.json").read_text())
    assert summary["verdict"]["headline"] in ran.stdout
    run = Run.open(tmp_path / "run")
    assert run.manifest["end_reason"] == "requests"
    assert of_users(run.path, "max_tokens") == [5] * 30
    again = tensorix("report", "run")
    assert (again.returncode, again.stderr) == (0, "")
    assert (
        again.stdout.strip().splitlines() == ran.stdout.strip().splitlines()[-len(again.stdout.strip().splitlines()) :]
    )


def test_no_report_is_written_where_none_is_wanted(tensorix: Command, simulator: Simulator, tmp_path: Path) -> None:
    """--no-report leaves the run folder alone; without --out it lies under runs/, and chat need not be streamed."""
    ran = tensorix("load", "--base-url", simulator.base_url, "--requests", "2", "--no-report", "--no-stream")
    assert (ran.returncode, ran.stderr) == (0, "")
    (folder,) = (tmp_path / "runs").iterdir()
    assert ran.stdout.splitlines()[-1] == f"Run: {folder}"
    assert not (folder / "report").exists()
    assert of_users(folder, "stream") == [False, False]


def test_only_the_limits_that_were_given_are_told(tensorix: Command, simulator: Simulator, tmp_path: Path) -> None:
    """Of a server that is not Tensorix no limit is made up: it is unknown unless an option says it."""
    for name, options in (("unknown", []), ("told", ["--limit-requests", "60", "--limit-window", "10s"])):
        asked = ("load", "--base-url", simulator.base_url, "--requests", "1", "--no-report", "--out", name, *options)
        assert tensorix(*asked).returncode == 0
    unknown, told = (Run.open(tmp_path / name).manifest["limits"] for name in ("unknown", "told"))
    assert (unknown["requests"], unknown["tokens"], unknown["told"]) == (None, None, [])
    assert (told["requests"], told["window_s"], sorted(told["told"])) == (60, 10.0, ["requests", "window_s"])


def test_a_key_without_credit_stops_the_run(tensorix: Command, simulator: Simulator, tmp_path: Path) -> None:
    """402 ends the run at once; it is reported, and the status says that it could not do its job."""
    ran = tensorix(
        *("load", "--base-url", simulator.base_url, "--requests", "50", "--out", "run"), TENSORIX_API_KEY="sk-no-credit"
    )
    assert ran.returncode == 1
    assert ran.stderr.startswith("tensorix: error: ")
    assert ran.stderr.count("\n") == 1
    assert (tmp_path / "run" / "report" / "report.html").exists()
    assert len(of_users(tmp_path / "run", "outcome")) < 50


def test_a_run_without_a_success_is_no_success(tensorix: Command, tmp_path: Path) -> None:
    """Where each request fails the status is 1."""
    with Simulator(error_rate=1.0) as broken:
        ran = tensorix("load", "--base-url", broken.base_url, "--requests", "3", "--no-report", "--out", "run")
    assert ran.returncode == 1
    assert of_users(tmp_path / "run", "outcome") == ["failed"] * 3


def test_a_model_that_is_refused_stops_the_run(tensorix: Command, simulator: Simulator, tmp_path: Path) -> None:
    """Five refusals of the model end the run as a mistake, with one line; it is reported."""
    ran = tensorix("load", "--base-url", simulator.base_url, "--model", "no/such", "--requests", "50", "--out", "run")
    assert ran.returncode == 2
    assert "tensorix: error: the first 5 requests were all refused with 400, for the model 'no/such'" in ran.stderr
    assert len(of_users(tmp_path / "run", "outcome")) == 5
    assert Run.open(tmp_path / "run").manifest["end_reason"] == "refused"
    assert "the server has no such model" in (tmp_path / "run" / "report" / "report.md").read_text()


def test_a_worker_speaks_as_the_command_does(tensorix: Command) -> None:
    """A master that is not there is one line, which begins as those of all commands."""
    ran = tensorix("worker", "--master", "127.0.0.1:9", "--wait", "0.5s")
    assert ran.returncode == 2
    assert ran.stderr.splitlines()[-1].startswith("tensorix: error: no master answered at 127.0.0.1:9")


def test_the_web_page_needs_no_address() -> None:
    """`--web` alone, at the end or before another option, is the page at its usual place."""
    assert _with_web_on(["--web", "--rate", "5"]) == ["--web", "on", "--rate", "5"]
    assert _with_web_on(["--rate", "5", "--web"]) == ["--rate", "5", "--web", "on"]
    assert _with_web_on(["--web", "0.0.0.0:80", "-y"]) == ["--web", "0.0.0.0:80", "-y"]


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_an_interrupted_run_ends_in_order(start: Start, tmp_path: Path, number: signal.Signals) -> None:
    """After Ctrl-C (or SIGTERM) nothing new is sent, what is in flight is waited for, and the run is reported."""
    with Simulator(rpm=None, ttft="20ms", between_tokens="20ms") as server:
        process = start(
            *("load", "--base-url", server.base_url, "--users", "4", "--spawn-rate", "40", "--duration", "5m"),
            *("--max-tokens", "10", "--out", "run"),
        )
        wait_for(lambda: has_records(tmp_path / "run"))
        process.send_signal(number)
        said, complained = process.communicate(timeout=30)
        truth = [line for line in server.truth() if line.get("kind", line.get("event")) == "end"]
    assert process.returncode == 130
    assert "Report: " in said
    assert "Traceback" not in complained
    run = Run.open(tmp_path / "run")
    assert run.manifest["end_reason"] == "interrupted"
    assert run.findings() == []
    assert set(run.records()["outcome"].to_pylist()) == {"success"}
    assert all(line.get("ended", "complete") == "complete" for line in truth)


def test_a_second_interrupt_cancels_what_is_in_flight(start: Start, tmp_path: Path) -> None:
    """Streams that would go on for minutes are cut by the second Ctrl-C, recorded as cancelled, and reported."""
    with Simulator(rpm=None, ttft="20ms", between_tokens="1s") as server:
        process = start(
            *("load", "--base-url", server.base_url, "--users", "3", "--spawn-rate", "30", "--duration", "5m"),
            *("--max-tokens", "300", "--out", "run"),
        )
        wait_for(lambda: in_flight(tmp_path / "run") == 3)
        process.send_signal(signal.SIGINT)
        wait_for(lambda: any(event["kind"] == "stop" for event in Run.open(tmp_path / "run").events()))
        assert process.poll() is None
        time.sleep(0.35)  # two within 0.3 s are one press
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Report: " in said
    assert of_users(tmp_path / "run", "outcome") == ["cancelled"] * 3


def test_a_killed_engine_is_told_and_its_run_reported(start: Start, simulator: Simulator, tmp_path: Path) -> None:
    """When the engine is killed the command says so, reports what was written, and ends with status 1."""
    process = start(
        *("load", "--base-url", simulator.base_url, "--users", "2", "--duration", "5m", "--max-tokens", "5"),
        *("--out", "run"),
    )
    wait_for(lambda: has_records(tmp_path / "run"))
    os.kill(engine_of(tmp_path / "run"), signal.SIGKILL)
    said, complained = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "killed by SIGKILL" in complained
    assert "Report: " in said
    assert Run.open(tmp_path / "run").records().num_rows > 0
    assert (tmp_path / "run" / "records.parquet").exists()


def test_the_engine_outlives_the_command(start: Start, simulator: Simulator, tmp_path: Path) -> None:
    """When the command is killed the engine goes on and ends its run in order; it can be reported later."""
    process = start(
        *("load", "--base-url", simulator.base_url, "--users", "2", "--duration", "3s", "--max-tokens", "5"),
        *("--out", "run"),
    )
    wait_for(lambda: has_records(tmp_path / "run"))
    engine = engine_of(tmp_path / "run")
    process.kill()
    process.communicate()
    wait_for(lambda: not is_alive(engine))
    run = Run.open(tmp_path / "run")
    assert run.manifest["end_reason"] == "duration"
    assert run.findings() == []


def test_a_reader_that_goes_away_ends_nothing(start: Start, simulator: Simulator, tmp_path: Path) -> None:
    """`tensorix load … | head -1` still runs to the end and writes its report; nobody is told of a broken pipe."""
    process = start("load", "--base-url", simulator.base_url, "--users", "2", "--duration", "3s", "--out", "run")
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    complained = process.stderr.read()
    assert (process.wait(30), complained) == (0, "")
    assert (tmp_path / "run" / "report" / "report.html").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this platform has no /dev/full")
def test_an_output_that_is_full_is_told(environment: dict[str, str], tmp_path: Path) -> None:
    """Words that cannot be written are a complaint in one line and status 1, not a traceback."""
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(
            [sys.executable, "-m", "tensorix_cli", "--version"],
            cwd=tmp_path,
            env=environment,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert ran.returncode == 1
    assert ran.stderr == "tensorix: error: the output cannot be written: No space left on device\n"


def test_a_report_that_cannot_be_written_is_no_mistake(tensorix: Command, simulator: Simulator, tmp_path: Path) -> None:
    """A run without a place for its report is asked for rightly: one line says so, and the status is 1."""
    load = ("load", "--base-url", simulator.base_url, "--requests", "1", "--no-report", "--out", "run")
    assert tensorix(*load).returncode == 0
    (tmp_path / "run" / "report").touch()
    ran = tensorix("report", "run")
    assert (ran.returncode, ran.stderr.count("\n")) == (1, 1)
    assert "report" in ran.stderr
    assert "defect" not in ran.stderr


def test_the_key_is_nowhere(tensorix: Command, simulator: Simulator, tmp_path: Path) -> None:
    """Neither what is said nor any file of the run holds the key or an extra header's value, plain or in base64."""
    ran = tensorix(
        *("load", "--base-url", simulator.base_url, "--requests", "4", "--out", "run", "--header", f"X-Own: {KEY}-2"),
        TENSORIX_API_KEY=KEY,
    )
    assert ran.returncode == 0
    files = [path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert len(files) > 5
    spellings = [KEY.encode(), base64.b64encode(KEY.encode())[:-4]]
    for content in [*files, ran.stdout.encode(), ran.stderr.encode()]:
        assert not [spelling for spelling in spellings if spelling in content]


@pytest.mark.slow
def test_the_demo_runs_into_the_limit_and_out_again(tensorix: Command, tmp_path: Path) -> None:
    """In under a minute: several windows, each with its limit passed and more refused; and it can be run again."""
    begun = time.monotonic()
    ran = tensorix("demo", timeout=120)
    assert time.monotonic() - begun < 60
    assert (ran.returncode, ran.stderr) == (0, "")
    (folder,) = (tmp_path / "runs").iterdir()
    summary = json.loads((folder / "report" / "summary.json").read_text())
    assert "shorten" in json.dumps(summary["verdict"]).lower()
    records = Run.open(folder).records(["endpoint", "outcome"]).to_pylist()
    outcomes = [record["outcome"] for record in records if record["endpoint"] == "/chat/completions"]
    # Three windows of 60 at the most; the first two are whole.
    assert 120 < outcomes.count("success") <= 180
    assert outcomes.count("throttled") > 10
