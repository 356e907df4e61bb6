"""Files that are replaced as a whole: a reader sees the old or the new, never a half."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

__all__ = ["replace_file"]


@contextmanager
def replace_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of `path` at the end; readable for all as the umask allows.

    What is no ordinary file (`/dev/stdout`, a pipe) is written to as it is. Raises OSError, and leaves nothing.
    """
    if path.exists() and not path.is_file():
        with path.open("wb") as file:
            yield file
        return
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        mask = os.umask(0)
        os.umask(mask)
        Path(name).chmod(0o666 & ~mask)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
