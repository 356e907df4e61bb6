"""The command itself, as people start it: a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tensorix_cli import main
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
