"""Locks that end with their process, however it ends: who writes a file, who rearranges a folder."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: there an open file cannot be replaced or removed anyway
    fcntl = None  # type: ignore[assignment,unused-ignore]

__all__ = ["close_unlocked", "is_held", "lock_for_life", "locked", "try_lock_for_life"]


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let one process at a time add, replace or remove files of a folder that others count on."""
    if fcntl is None:
        yield
        return
    fd = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        close_unlocked(fd)


def lock_for_life(fd: int) -> None:
    """Hold a file until `close_unlocked`, or until this process ends."""
    if fcntl is not None:
        fcntl.flock(fd, fcntl.LOCK_EX)


def try_lock_for_life(fd: int) -> bool:
    """As `lock_for_life`, but without waiting: whether nobody else holds the file."""
    if fcntl is not None:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
    return True


def close_unlocked(fd: int) -> None:
    """Give up the lock on a file and close it.

    Closing alone is not enough: in a process that gevent has patched, a close takes effect only when the event loop
    comes round, and a lock that is taken again before waits for itself.
    """
    try:
        if fcntl is not None:
            fcntl.flock(fd, fcntl.LOCK_UN)
    finally:
        os.close(fd)


def is_held(path: Path) -> bool:
    """Whether a living process holds this file."""
    if fcntl is None:
        return False
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False
