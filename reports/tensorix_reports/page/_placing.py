"""Putting a report's files into their folder: no older one is lost to a newer, and what is not ours stays as it is."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from tensorix_api.errors import CannotWriteError

__all__ = ["place"]


def place(files: dict[str, bytes], folder: Path, *, ours: Iterable[str] = ()) -> None:
    """Write all files beside the folder, then move each over its older version; `ours` are names that go if not given.

    Stopped between two moves, it leaves newer files next to older ones, each of them whole, and none is lost. Raises
    CannotWriteError; where the disk is full or the folder read-only, nothing has changed then.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        trial = Path(tempfile.mkdtemp(prefix=".report-", dir=folder.parent))
    except OSError as error:
        raise CannotWriteError(f"{folder.parent} cannot be written to: {error.strerror}") from error
    try:
        for name, data in files.items():
            with (trial / name).open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        folder.mkdir(exist_ok=True)
        for name in files:
            (trial / name).replace(folder / name)
        for name in set(ours) - set(files):
            (folder / name).unlink(missing_ok=True)
        _sync(folder)
    except OSError as error:
        raise CannotWriteError(f"the report cannot be written to {folder}: {error.strerror}") from error
    finally:
        shutil.rmtree(trial, ignore_errors=True)


def _sync(folder: Path) -> None:
    with contextlib.suppress(OSError):
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
