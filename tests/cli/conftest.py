"""The command itself, as people start it: a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tensorix_cli import main
from tensorix_records import RequestRecord, Run
from tensorix_records._writer import RunWriter
from tensorix_simulator import Simulator

Command = Callable[..., subprocess.CompletedProcess[str]]

FAST: dict[str, Any] = {"ttft": "20ms", "between_tokens": "2ms"}


@pytest.fixture
def environment(subprocess_environment: dict[str, str]) -> dict[str, str]:
    """What the command runs with: a terminal of usual width and the simulator's favourite key."""
    return subprocess_environment | {"COLUMNS": "100", "TENSORIX_API_KEY": "sk-test-of-the-command"}


@pytest.fixture
def tensorix(tmp_path: Path, environment: dict[str, str]) -> Command:
    """Runs `tensorix` in an empty folder, without a terminal; gives what it said and its status."""

    def run(*arguments: str, timeout: float = 60, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tensorix_cli", *arguments],
            cwd=tmp_path,
            env={name: value for name, value in (environment | variables).items() if value},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )

    return run


@pytest.fixture
def tensorix_here(
    tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """The same in the tests' own process, for what is about the words: it takes no second to import."""

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        monkeypatch.chdir(tmp_path)
        for name, value in (environment | variables).items():
            monkeypatch.setenv(name, value)
            if not value:
                monkeypatch.delenv(name)
        status = main(arguments)
        said = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, status, said.out, said.err)

    return run


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    """A quick simulator without limits, for all tests of a module."""
    with Simulator(rpm=None, tpm=None, **FAST) as running:
        yield running


ORIGIN_NS = 1_790_000_000_000_000_000


@pytest.fixture(scope="session")
def send() -> Callable[[RunWriter, int, int], None]:
    """Write some requests, 0.1 s apart, of these numbers: a batch of the run's file."""

    def written(writer: RunWriter, first: int, count: int) -> None:
        for number in range(first, first + count):
            writer.add(
                RequestRecord(
                    run_id="run",
                    record_id=f"r{number}",
                    request_id=f"q{number}",
                    key_alias="key-1",
                    endpoint="/chat/completions",
                    stream=True,
                    outcome="success",
                    status=200,
                    remaining_requests=1_000 - number,
                    start_unix_ns=ORIGIN_NS + number * 100_000_000,
                    first_token_at_ns=(100 + number) * 1_000_000,
                    end_at_ns=(300 + number) * 1_000_000,
                )
            )
        writer.flush()

    return written


@pytest.fixture
def a_run(tmp_path: Path, send: Callable[[RunWriter, int, int], None]) -> Callable[..., Run]:
    """Makes a run of 60 requests in two batches, of 40 and 20, where the command runs."""

    def make(name: str, *, ended: bool = True) -> Run:
        run = Run.create(tmp_path / name, {"run_id": name, "kind": "load", "started_unix_ns": ORIGIN_NS})
        writer = run.writer("p1", now_unix_ns=lambda: ORIGIN_NS)
        send(writer, 0, 40)
        send(writer, 40, 20)
        writer.close()
        if ended:
            run.update_manifest(ended_unix_ns=ORIGIN_NS + 7_000_000_000, end_reason="duration")
        return run

    return make
