"""Which core a process runs on, and how much of it the process used. Linux only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["cpu_s", "kept_waiting_s", "on_core", "pin"]


def pin(pid: int, core: int) -> None:
    """Keep a process on one core. Threads that it has already are not moved: see `on_core`."""
    os.sched_setaffinity(pid, {_number(core)})


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """What is started in the block is on one core with all its threads, as a server with threads of its own must be."""
    cores, number = os.sched_getaffinity(0), _number(core)
    os.sched_setaffinity(0, {number})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def _number(core: int) -> int:
    cores = sorted(os.sched_getaffinity(0))
    return cores[core % len(cores)]


def cpu_s(pid: int) -> float:
    """User and system time of a process so far, of all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def kept_waiting_s(pid: int) -> float:
    """How long a process's first thread was ready to run and something else had its core. 0 where nothing counts it."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text(encoding="utf-8").split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0
