"""The command on a terminal: the block that renews itself, the question before money is spent, Ctrl-C."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tensorix_records import Run
from tensorix_simulator import Simulator


class Terminal:
    """A `tensorix` on a pseudo-terminal of its own, as a person has it: typed to and read from."""

    def __init__(self, arguments: tuple[str, ...], folder: Path, environment: dict[str, str]) -> None:
        self.shown = ""
        self._fd, terminal = pty.openpty()
        # A session of its own with this as its terminal, so that a typed Ctrl-C is a signal to its whole group.
        code = (
            "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, sys.executable, "-m", "tensorix_cli", *arguments],
            cwd=folder,
            env=environment | {"TERM": "xterm-256color", "LINES": "30"},
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
        )
        os.close(terminal)

    def read_until(self, pattern: str, seconds: float = 30) -> None:
        """Read on until what was shown holds the pattern."""
        until = time.monotonic() + seconds
        while not re.search(pattern, self.shown):
            assert time.monotonic() < until, f"{pattern!r} is not in {self.shown!r}"
            assert self._read(), f"{pattern!r} never came: {self.shown!r}"

    def _read(self) -> bool:
        if not select.select([self._fd], [], [], 0.1)[0]:
            return True
        try:
            data = os.read(self._fd, 65536)
        except OSError:  # Linux: the other end is closed
            return False
        self.shown += data.decode("utf-8", "replace")
        return bool(data)

    def type(self, text: str) -> None:
        """Type on the keyboard."""
        os.write(self._fd, text.encode())

    def end(self, seconds: float = 30) -> int:
        """Read to the end; returns the exit status."""
        until = time.monotonic() + seconds
        while self._read():
            assert time.monotonic() < until, f"it does not end: {self.shown!r}"
        return self.process.wait(seconds)

    def close(self) -> None:
        """Kill what is left."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.hang_up()

    def hang_up(self) -> None:
        """Close the terminal, as its window is closed."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


Open = Callable[..., Terminal]


@pytest.fixture
def terminal(tmp_path: Path, environment: dict[str, str]) -> Iterator[Open]:
    """Opens terminals with a `tensorix` on them."""
    opened: list[Terminal] = []

    def open_one(*arguments: str, **variables: str) -> Terminal:
        opened.append(Terminal(arguments, tmp_path, environment | variables))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


def test_a_run_is_shown_as_it_goes_on(terminal: Open, simulator: Simulator) -> None:
    """Progress, time, users, rates, TTFT and 429s are on the screen and renewed in place; the verdict comes last."""
    shown = terminal("load", "--base-url", simulator.base_url, "--users", "2", "--duration", "3s", "--out", "run")
    shown.read_until(r"\d+ requests, 0:0\d of 0:03, about 0:0\d left")
    for name in ("users", "in flight", "requests/s", "TTFT p50", "tokens/s", "429s", "failed", "remaining"):
        assert name in shown.shown
    assert shown.end() == 0
    # Moved up and cleared: the block was drawn again in its own place.
    assert "\x1b[1A\x1b[2K" in shown.shown
    assert "Report: " in shown.shown.splitlines()[-1]


def test_ctrl_c_on_the_keyboard_ends_the_run_in_order(terminal: Open, simulator: Simulator, tmp_path: Path) -> None:
    """A typed Ctrl-C reaches the command alone; it ends the engine in order, and the run is reported."""
    shown = terminal("load", "--base-url", simulator.base_url, "--users", "2", "--duration", "5m", "--out", "run")
    shown.read_until(r"[1-9]\d* requests, 0:0[1-9]")
    shown.type("\x03")
    assert shown.end() == 130
    assert "waiting for those in flight" in shown.shown
    assert "Report: " in shown.shown
    assert "Traceback" not in shown.shown
    assert Run.open(tmp_path / "run").manifest["end_reason"] == "interrupted"


def test_a_terminal_that_is_closed_ends_the_run_in_order(terminal: Open, simulator: Simulator, tmp_path: Path) -> None:
    """Nobody watches any more: no new requests, those in flight are waited for, and the run is reported."""
    shown = terminal("load", "--base-url", simulator.base_url, "--users", "2", "--duration", "5m", "--out", "run")
    shown.read_until(r"[1-9]\d* requests, 0:0[1-9]")
    shown.hang_up()
    assert shown.process.wait(30) == 130
    run = Run.open(tmp_path / "run")
    assert run.manifest["end_reason"] == "interrupted"
    assert "cancelled" not in run.records(["outcome"])["outcome"].to_pylist()
    assert (tmp_path / "run" / "report" / "report.html").exists()


@pytest.mark.parametrize("encoding", ["latin-1", "ascii:strict"])
def test_a_terminal_of_another_encoding_shows_the_run(terminal: Open, simulator: Simulator, encoding: str) -> None:
    """What the terminal cannot write is a question mark; the run is shown and goes on to its end."""
    load = ("load", "--base-url", simulator.base_url, "--requests", "3", "--no-report", "--out", "run")
    shown = terminal(*load, PYTHONIOENCODING=encoding)
    assert shown.end() == 0
    assert "asking the server ?" in shown.shown
    assert "3 of 3 requests" in shown.shown


def test_the_help_can_be_read_in_every_encoding(terminal: Open) -> None:
    """The marks of the help that the terminal cannot write are no defect."""
    shown = terminal("load", "--help", PYTHONIOENCODING="latin-1")
    assert shown.end() == 0
    assert "KIND=SHARE,?" in shown.shown


@pytest.mark.parametrize("answer", ["n\r", "\r", "\x04"])
def test_no_is_the_answer_unless_yes_is_typed(terminal: Open, tmp_path: Path, answer: str) -> None:
    """Before anything leaves this machine it is asked; no, nothing and the end of input all mean no."""
    shown = terminal("load", "--base-url", "http://far.invalid/v1", "--requests", "10", "--out", "run")
    shown.read_until(r"(?s)at most 11 requests.*Go on\? \[y/N\]")
    shown.type(answer)
    assert shown.end() == 2
    assert "nothing was sent" in shown.shown
    assert not (tmp_path / "run").exists()


def test_yes_goes_on(terminal: Open) -> None:
    """After a typed yes the server is asked: here it has no address."""
    shown = terminal("load", "--base-url", "http://far.invalid/v1", "--requests", "10", "--out", "run")
    shown.read_until(r"Go on\? \[y/N\]")
    shown.type("y\r")
    assert shown.end() == 2
    assert "far.invalid" in shown.shown.splitlines()[-1]


def test_ctrl_c_at_the_question_is_an_interrupt(terminal: Open) -> None:
    """Who would rather leave than answer gets the status of an interrupted command and no traceback."""
    shown = terminal("load", "--base-url", "http://far.invalid/v1", "--requests", "10")
    shown.read_until(r"Go on\? \[y/N\]")
    shown.type("\x03")
    assert shown.end() == 130
    assert "Traceback" not in shown.shown


def test_the_simulator_ends_with_ctrl_c(terminal: Open) -> None:
    """`tensorix simulate` says where it is and ends in order."""
    shown = terminal("simulate", "--port", "0")
    shown.read_until(r"Simulating a chat API at http://127\.0\.0\.1:\d+/v1")
    shown.read_until("tensorix load --base-url")
    shown.type("\x03")
    assert shown.end() == 0
    assert "Traceback" not in shown.shown
