"""The two places where rows of a run lie: stream files while it goes on, one Parquet file after it.

A Parquet file names the stream files whose rows it holds, in order and with their counts. A stream file that is named
there is never read again, whether it was removed yet or not; one that is not named is read beside the Parquet file. So
there is no instant at which a row is missing or there twice, wherever compaction was killed.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tensorix_api.errors import RunFolderError
from tensorix_records._lock import is_held
from tensorix_records._schema import conform
from tensorix_records._stream import BatchReader

__all__ = ["Kept", "compact", "parquet_path", "read_kept", "read_rows", "stream_paths", "sync_folder"]

_KEY = b"tensorix"
_GROUP_ROWS = 50_000


def parquet_path(folder: Path, kind: str) -> Path:
    """Where the compacted rows of a kind (`records`, `gaps`) lie."""
    return folder / f"{kind}.parquet"


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


@dataclass(frozen=True, slots=True)
class Kept:
    """What a Parquet file says of where its rows came from."""

    sources: dict[str, int] = field(default_factory=dict)
    """Rows by the name of the stream file, in the order in which they lie."""
    findings: list[str] = field(default_factory=list)
    """What was wrong with those files."""


def read_kept(folder: Path, kind: str) -> Kept:
    """The sources of the Parquet file; none where there is no such file. Raises RunFolderError where it is broken."""
    path = parquet_path(folder, kind)
    try:
        metadata = pq.read_metadata(path).metadata or {}
        told = json.loads(metadata[_KEY])
        return Kept(dict(told["sources"]), list(told["findings"]))
    except FileNotFoundError:
        return Kept()
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise RunFolderError(f"{path} cannot be read: it is damaged or not a run's ({type(error).__name__})") from error


def _read_parquet(folder: Path, kind: str, schema: Any) -> Any:
    path = parquet_path(folder, kind)
    there = set(pq.read_schema(path).names)
    table = pq.read_table(path, columns=[name for name in schema.names if name in there])
    return conform(table.replace_schema_metadata(None), schema)


def read_rows(folder: Path, kind: str, schema: Any) -> tuple[Any, list[str]]:
    """Every row of a kind as a table with the columns of `schema`, and what was found wrong on the way."""
    while True:
        # Streams are listed before the Parquet file is looked at: compaction writes the one before it removes the
        # others, so what was removed before the listing is in the Parquet file, and what is removed after it is
        # noticed when it is opened.
        paths = stream_paths(folder, kind)
        kept = read_kept(folder, kind)
        readers = [BatchReader(path, schema) for path in paths if path.name not in kept.sources]
        tables = []
        if kept.sources:
            tables.append(_read_parquet(folder, kind, schema))
        try:
            batches = [batch for reader in readers for batch in reader.batches()]
        except FileNotFoundError:
            continue
        tables.append(pa.Table.from_batches(batches, schema=schema))
        findings = kept.findings + [text for reader in readers if (text := reader.finding())]
        return pa.concat_tables(tables), findings


def _groups(folder: Path, kind: str, schema: Any, kept: Kept, readers: list[BatchReader]) -> Iterator[Any]:
    """What the new Parquet file will hold, in pieces of a bounded size."""
    if kept.sources:
        with pq.ParquetFile(parquet_path(folder, kind)) as file:
            for batch in file.iter_batches(_GROUP_ROWS):
                yield conform(pa.Table.from_batches([batch]).replace_schema_metadata(None), schema)
    waiting: list[Any] = []
    rows = 0
    for reader in readers:
        for batch in reader.batches():
            waiting.append(batch)
            rows += batch.num_rows
            if rows >= _GROUP_ROWS:
                yield pa.Table.from_batches(waiting, schema=schema)
                waiting, rows = [], 0
    yield pa.Table.from_batches(waiting, schema=schema)


def compact(folder: Path, kind: str, schema: Any) -> None:
    """Move the rows of every stream file that nobody writes any more into the Parquet file, then remove the streams.

    May be called again, and after having been killed at any point. Raises RunFolderError where it cannot be written,
    and has then changed nothing. The caller holds the folder's lock.
    """
    kept = read_kept(folder, kind)
    fresh = [path for path in stream_paths(folder, kind) if path.name not in kept.sources and not is_held(path)]
    if fresh:
        readers = [BatchReader(path, schema) for path in fresh]
        target = parquet_path(folder, kind)
        trial = target.with_suffix(".parquet.new")
        try:
            with pq.ParquetWriter(trial, schema, compression="zstd") as writer:
                for table in _groups(folder, kind, schema, kept, readers):
                    writer.write_table(table)
                told = {
                    "sources": list((kept.sources | {reader.path.name: reader.rows for reader in readers}).items()),
                    "findings": kept.findings + [text for reader in readers if (text := reader.finding())],
                }
                writer.add_key_value_metadata({_KEY: json.dumps(told).encode()})
            with trial.open("rb") as file:
                os.fsync(file.fileno())
            trial.replace(target)
            sync_folder(folder)
        except OSError as error:
            trial.unlink(missing_ok=True)
            raise RunFolderError(
                f"{target} cannot be written: {error.strerror or error}; free space and repeat"
            ) from error
    kept = read_kept(folder, kind)
    for path in stream_paths(folder, kind):
        if path.name in kept.sources:
            path.unlink(missing_ok=True)
