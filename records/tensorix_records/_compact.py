"""The two places where rows of a run lie: stream files while it goes on, one Parquet file after it.

A Parquet file names the stream files whose rows it holds, in order and with their counts. A stream file that is named
there is never read again, whether it was removed yet or not; one that is not named is read beside the Parquet file. So
there is no instant at which a row is missing or there twice, wherever compaction was killed.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from tensorix_api.errors import CannotWriteError, RunFolderError
from tensorix_records._lock import is_held
from tensorix_records._parquet import Compacted, open_compacted, parquet_path, write_compacted
from tensorix_records._stream import BatchReader

__all__ = ["compact", "read_rows", "stream_paths", "sync_folder"]

_GROUP_ROWS = 50_000


def stream_paths(folder: Path, kind: str) -> list[Path]:
    """The stream files of a kind that are there now."""
    return sorted(folder.glob(f"{kind}-*.arrows"))


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, where the platform can."""
    with contextlib.suppress(OSError):
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def read_rows(folder: Path, kind: str, schema: Any) -> tuple[Any, list[str]]:
    """Every row of a kind as a table with the columns of `schema`, and what was found wrong on the way."""
    while True:
        # Streams are listed before the Parquet file is opened: compaction writes the one before it removes the
        # others, so what was removed before the listing is in the Parquet file, and what is removed after it is
        # noticed when it is opened.
        paths = stream_paths(folder, kind)
        with open_compacted(folder, kind) as compacted:
            readers = [BatchReader(path, schema) for path in paths if path.name not in compacted.sources]
            try:
                batches = [batch for reader in readers for batch in reader.batches()]
            except FileNotFoundError:
                continue
            table = pa.concat_tables([compacted.table(schema), pa.Table.from_batches(batches, schema=schema)])
            return table, compacted.findings + [text for reader in readers if (text := reader.finding())]


def _tables(compacted: Compacted, readers: list[BatchReader], schema: Any) -> Iterator[Any]:
    """What the new Parquet file will hold, in pieces of a bounded size."""
    yield from compacted.batches(schema)
    waiting: list[Any] = []
    rows = 0
    for reader in readers:
        for batch in reader.batches():
            waiting.append(batch)
            rows += batch.num_rows
            if rows >= _GROUP_ROWS:
                yield pa.Table.from_batches(waiting, schema=schema)
                waiting, rows = [], 0
        compacted.sources[reader.path.name] = reader.rows
        if text := reader.finding():
            compacted.findings.append(text)
    yield pa.Table.from_batches(waiting, schema=schema)


def compact(folder: Path, kind: str, schema: Any) -> None:
    """Move the rows of every stream file that nobody writes any more into the Parquet file, then remove the streams.

    May be called again, and after having been killed at any point. Raises CannotWriteError where it cannot be written,
    and has then changed nothing. The caller holds the folder's lock.
    """
    with open_compacted(folder, kind) as compacted:
        paths = stream_paths(folder, kind)
        fresh = [path for path in paths if path.name not in compacted.sources and not is_held(path)]
        if fresh:
            tables = _tables(compacted, [BatchReader(path, schema) for path in fresh], schema)
            target = parquet_path(folder, kind)
            trial = target.with_suffix(".parquet.new")
            try:
                write_compacted(trial, schema, tables, compacted.sources, compacted.findings)
                with trial.open("rb") as file:
                    os.fsync(file.fileno())
                trial.replace(target)
            except OSError as error:
                trial.unlink(missing_ok=True)
                reason = error.strerror or error
                raise CannotWriteError(f"{target} cannot be written: {reason}; free space and repeat") from error
            except RunFolderError:
                # What was compacted before is damaged: it stays as it is.
                trial.unlink(missing_ok=True)
                raise
            sync_folder(folder)
        # All of these are in the file that lies there now.
        for path in paths:
            if path.name in compacted.sources:
                path.unlink(missing_ok=True)
