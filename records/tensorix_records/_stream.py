"""Arrow IPC stream files that are appended to batch by batch, and read up to the last whole batch.

The framing is the format's own (https://arrow.apache.org/docs/format/Columnar.html#ipc-streaming-format), so that any
Arrow reader opens a file that was closed. Messages are written and read one by one: a write is known to be whole or
not at all, and a reader of a growing file can go on where it stopped.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from tensorix_api.errors import CannotWriteError, RunFolderError
from tensorix_records._lock import close_unlocked, lock_for_life
from tensorix_records._schema import DAMAGE, conform

__all__ = ["BatchFile", "BatchReader", "write_all"]

_END = b"\xff\xff\xff\xff\0\0\0\0"


def write_all(fd: int, data: Any) -> None:
    """Write every byte: a file system that runs full takes the first part and reports nothing."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


class BatchFile:
    """A new stream file. Each `append` is in the operating system's hands when it returns.

    After a write that failed the file ends with its last whole batch, and is closed.
    """

    def __init__(self, path: Path, schema: Any) -> None:
        self._path = path
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        try:
            self._fd: int | None = os.open(path, flags, 0o644)
        except FileExistsError:
            raise RunFolderError(f"{path} exists already: give each process of a run its own id") from None
        except OSError as error:
            raise CannotWriteError(f"{path} cannot be made: {error.strerror}") from error
        # Nobody compacts a file under its writer.
        lock_for_life(self._fd)
        self._size = 0
        self._write(schema.serialize())

    def append(self, batch: Any) -> None:
        """Append a batch; raises CannotWriteError where it cannot be written whole."""
        self._write(batch.serialize())

    def _write(self, data: Any) -> None:
        if self._fd is None:
            raise RunFolderError(f"{self._path} is closed: nothing more can be written to it")
        try:
            write_all(self._fd, data)
        except OSError as error:
            fd, self._fd = self._fd, None
            with contextlib.suppress(OSError):
                os.ftruncate(fd, self._size)
            close_unlocked(fd)
            raise CannotWriteError(
                f"{self._path} cannot be written: {error.strerror}; free space or choose another folder"
            ) from error
        self._size += len(data)

    def close(self) -> None:
        """End the stream and close the file. Never raises: what was appended is there with or without the end."""
        if self._fd is None:
            return
        fd, self._fd = self._fd, None
        with contextlib.suppress(OSError):
            write_all(fd, _END)
            os.fsync(fd)
        with contextlib.suppress(OSError):
            close_unlocked(fd)


class BatchReader:
    """Reads a stream file that may grow, or may have been cut anywhere: each call goes on where the last stopped.

    `rows` counts what was read so far, `ended` says whether the file was closed in order.
    """

    def __init__(self, path: Path, schema: Any) -> None:
        self.path = path
        self.rows = 0
        self.ended = False
        self._schema = schema
        self._own_schema: Any = None
        self._offset = 0
        self._size = 0
        self._damage: str | None = None

    def batches(self) -> Iterator[Any]:
        """The whole batches that were not read yet, with the columns of `schema`.

        Raises FileNotFoundError where the file is gone: it was compacted.
        """
        with self.path.open("rb") as file:
            self._size = os.fstat(file.fileno()).st_size
            while not self.ended and (message := self._next_message(file)) is not None:
                try:
                    batch = self._decoded(message)
                except DAMAGE as error:
                    # No later message can be trusted to begin where it seems to.
                    self._damage = type(error).__name__
                    return
                self._offset = file.tell()
                if batch is not None:
                    self.rows += batch.num_rows
                    yield batch

    def _decoded(self, message: Any) -> Any:
        """The rows of a message; None for the first one, which holds the columns."""
        if self._own_schema is None:
            self._own_schema = pa.ipc.read_schema(message)
            return None
        batch = pa.ipc.read_record_batch(message, self._own_schema)
        # Offsets that lead out of a buffer crash whoever reads the texts later.
        batch.validate(full=True)
        return conform(batch, self._schema)

    def _next_message(self, file: Any) -> Any:
        """The next whole message; None where there is none, or not yet."""
        file.seek(self._offset)
        prefix = file.read(8)
        if prefix == _END:
            self.ended = True
        if len(prefix) < 8 or self.ended:
            return None
        file.seek(self._offset)
        try:
            return pa.ipc.read_message(file)
        except (*DAMAGE, EOFError):
            return None

    def finding(self) -> str | None:
        """What is wrong with the file as far as it was read, in plain words; None where nothing is."""
        name, rest = self.path.name, self._size - self._offset
        if self.ended:
            return None
        if self._size == 0:
            return f"{name} is empty: its process ended before it wrote anything"
        if self._damage is not None:
            return f"{name} is damaged ({self._damage}): after {self.rows} rows, {rest} bytes could not be read"
        if self._own_schema is None:
            return f"{name} has no whole header: its process ended while writing it; nothing can be read from it"
        if rest:
            return f"{name} is cut: {rest} bytes after its last whole batch ({self.rows} rows) were not read"
        return f"{name} was not closed: its process was killed or is still running; {self.rows} rows were read"
