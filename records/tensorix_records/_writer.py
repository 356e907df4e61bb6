"""What one process of a run writes: its records, its gap counts, and its lines of the common events."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
from numpy.typing import ArrayLike

from tensorix_api.errors import CannotWriteError, RunFolderError
from tensorix_records._events import EVENTS_NAME
from tensorix_records._lock import locked
from tensorix_records._parquet import open_compacted
from tensorix_records._record import RequestRecord
from tensorix_records._schema import SCHEMA, batch_of_rows, row_of_record
from tensorix_records._stream import BatchFile, write_all
from tensorix_records.gaps import GAP_SCHEMA, GapCounter

__all__ = ["RunWriter"]

# A burst between two flushes does not grow without bound.
_ROWS_MAX = 4096


class RunWriter:
    """Appends to a run. It has no thread and no timer: who owns it calls `flush` at least once a second.

    A write that fails raises CannotWriteError to the owner, who ends the run in order; `close` is quiet afterwards, and
    what was flushed before stays readable. Not for use by several threads at a time.
    """

    def __init__(self, folder: Path, process_id: str, *, now_unix_ns: Callable[[], int] = time.time_ns) -> None:
        if not process_id or not all(character.isalnum() or character in "-_." for character in process_id):
            raise RunFolderError(f"the process id {process_id!r} names no file: use letters, digits, '-', '_' and '.'")
        self.process_id = process_id
        self._now_unix_ns = now_unix_ns
        self._rows: list[tuple[Any, ...]] = []
        self._gaps = GapCounter()
        self._events_path = folder / EVENTS_NAME
        self._events_fd: int | None = None
        # pyarrow imports much on its first conversion (0.3 s): here, not in the first flush inside an event loop.
        pa.array([self._now_unix_ns()], pa.int64())
        self._failed = False
        self._files: list[BatchFile] = []
        try:
            # Locked, so that no compaction takes a file that was made but is not held yet.
            with locked(folder):
                for kind, schema in (("records", SCHEMA), ("gaps", GAP_SCHEMA)):
                    path = folder / f"{kind}-{process_id}.arrows"
                    with open_compacted(folder, kind) as compacted:
                        if path.name in compacted.sources:
                            raise RunFolderError(f"{path} was compacted: give each process of a run its own id")
                    self._files.append(BatchFile(path, schema))
                self._events_fd = self._open_events()
        except RunFolderError:
            self._release()
            raise

    def _open_events(self) -> int:
        try:
            fd = os.open(self._events_path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            size = os.fstat(fd).st_size
            if size and os.pread(fd, 1, size - 1) != b"\n":
                # Somebody was killed within a line: ours does not continue it.
                write_all(fd, b"\n")
        except OSError as error:
            raise CannotWriteError(f"{self._events_path} cannot be written: {error.strerror}") from error
        return fd

    def add(self, record: RequestRecord) -> None:
        """Take a record; it is on disk after the next `flush`. Raises RunFolderError if a flush was due and failed."""
        self._rows.append(row_of_record(record))
        if len(self._rows) >= _ROWS_MAX:
            self._flush_records()

    def add_gaps(self, model: str | None, chunk_unix_ns: ArrayLike) -> None:
        """Count the gaps between the chunks of one response, given as Unix ns in order (`array('q')`, NumPy, list)."""
        self._gaps.add(model, chunk_unix_ns)

    def event(self, kind: str, **fields: Any) -> None:
        """Append a line to the events now: `t_unix_ns` (unless given), `kind`, `process_id` and `fields`.

        Raises CannotWriteError where it cannot be written.
        """
        line = {"t_unix_ns": self._now_unix_ns(), "kind": kind, "process_id": self.process_id} | fields
        if self._events_fd is None:
            raise RunFolderError(f"{self._events_path} is closed: nothing more can be written to it")
        try:
            # One write a line, appended: lines of several processes do not mix.
            write_all(self._events_fd, json.dumps(line, default=str, separators=(",", ":")).encode() + b"\n")
        except OSError as error:
            self._failed = True
            raise CannotWriteError(
                f"{self._events_path} cannot be written: {error.strerror}; free space or choose another folder"
            ) from error

    def flush(self) -> None:
        """Hand everything taken so far to the operating system, one batch a file.

        Raises CannotWriteError where it cannot be written.
        """
        self._flush_records()
        if (batch := self._gaps.take()) is not None:
            self._append(1, batch)

    def append(self, *, records: Any = None, gaps: Any = None) -> None:
        """Append batches that another process made (`tensorix_records.parcels`). Raises CannotWriteError."""
        for file, batch in enumerate((records, gaps)):
            if batch is not None:
                self._append(file, batch)

    def _append(self, file: int, batch: Any) -> None:
        try:
            self._files[file].append(batch)
        except RunFolderError:
            self._failed = True
            raise

    def _flush_records(self) -> None:
        if not self._rows:
            return
        # Off the list before they are written: after a failure they are lost once, not tried again and again.
        rows, self._rows = self._rows, []
        batch, odd = batch_of_rows(rows)
        self._append(0, batch)
        if odd:
            self.event("unstorable_values", columns=odd, records=len(rows))

    def close(self) -> None:
        """Flush and close. Raises RunFolderError where the last records cannot be written, but not after an earlier
        failure; the files are closed either way, and a second call does nothing.
        """
        try:
            if not self._failed:
                self.flush()
        finally:
            self._release()

    def _release(self) -> None:
        self._failed = True
        for file in self._files:
            file.close()
        if self._events_fd is not None:
            fd, self._events_fd = self._events_fd, None
            with contextlib.suppress(OSError):
                os.close(fd)
