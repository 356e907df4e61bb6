"""What `probe_soak.py` breaks around `tensorix probe serve`, and when."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

_NAMESERVER = "127.66.66.66"


@contextmanager
def silent_servers() -> Iterator[int]:
    """A port that takes connections and never answers, and a name server that never does; gives the port."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=512))
        if os.geteuid() == 0:
            names = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            names.bind((_NAMESERVER, 53))
        yield listening.getsockname()[1]


class Trouble:
    """What goes wrong around it, each to be begun and ended."""

    def __init__(self, folder: Path) -> None:
        self.disk, self.clock = folder / "disk", folder / "clock"
        self._lock: sqlite3.Connection | None = None

    def full(self, on: bool) -> None:
        """Fill the disk of the history to its last byte, or make room again."""
        filler = self.disk / "filler"
        if not on:
            filler.unlink()
            return
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"\0" * 65_536)
            except OSError:
                pass

    def locked(self, on: bool) -> None:
        """Hold the database's write lock, or let it go."""
        if on:
            self._lock = sqlite3.connect(self.disk / "main.db", isolation_level=None, check_same_thread=False)
            self._lock.execute("PRAGMA busy_timeout = 10000")
            self._lock.execute("BEGIN IMMEDIATE")
        elif self._lock is not None:
            self._lock.execute("ROLLBACK")
            self._lock.close()

    def stepped(self, on: bool) -> None:
        """Set its time of day an hour ahead, or back."""
        waiting = self.clock.with_suffix(".new")
        waiting.write_text("+3600\n" if on else "+0\n")
        waiting.replace(self.clock)


def mount(folder: Path) -> None:
    """Give it a small disk for the history, and the name server that never answers; for root only."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", f"{folder}/disk"], check=True)
    (folder / "resolv.conf").write_text(f"nameserver {_NAMESERVER}\n")
    subprocess.run(["mount", "--bind", f"{folder}/resolv.conf", "/etc/resolv.conf"], check=True)


def timetable(trouble: Trouble, root: bool, faked: str | None) -> list[tuple[float, str, Callable[[], None]]]:
    """What is begun and ended when, as a share of the whole time, and in words."""
    steps: list[tuple[float, str, Callable[[], None]]] = [
        (0.24, "the database is locked", lambda: trouble.locked(True)),
        (0.34, "the database is free again", lambda: trouble.locked(False)),
    ]
    if root:
        steps.append((0.08, "the disk is full", lambda: trouble.full(True)))
        steps.append((0.18, "the disk has room again", lambda: trouble.full(False)))
    if faked:
        steps.append((0.40, "the time of day is an hour ahead", lambda: trouble.stepped(True)))
        steps.append((0.55, "the time of day is right again", lambda: trouble.stepped(False)))
    return sorted(steps, key=lambda step: step[0])


def left_out(root: bool, faked: str | None) -> Iterator[str]:
    """What cannot be broken here, and why."""
    if not root:
        yield "a full disk and a silent name server (not root)"
    if not faked:
        yield "a clock that is set (no libfaketime: apt-get install faketime)"
