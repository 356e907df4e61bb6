"""The Parquet file of a run: its rows, and which stream files they came from."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from tensorix_api.errors import RunFolderError
from tensorix_records._schema import DAMAGE, conform

__all__ = ["Compacted", "open_compacted", "parquet_path", "write_compacted"]

_KEY = b"tensorix"
_GROUP_ROWS = 50_000


def parquet_path(folder: Path, kind: str) -> Path:
    """Where the compacted rows of a kind (`records`, `gaps`) lie."""
    return folder / f"{kind}.parquet"


@dataclass(frozen=True, slots=True)
class Compacted:
    """What was compacted so far: nothing, or an open Parquet file that stays the same when it is replaced."""

    sources: dict[str, int] = field(default_factory=dict)
    """Rows by the name of the stream file, in the order in which they lie."""
    findings: list[str] = field(default_factory=list)
    """What was wrong with those files."""
    _file: Any = None
    _path: Path = Path()

    def batches(self, schema: Any) -> Iterator[Any]:
        """Its rows as tables of a bounded size with the columns of `schema`."""
        if self._file is None:
            return
        try:
            # Names that the file does not have are passed over.
            for batch in self._file.iter_batches(_GROUP_ROWS, columns=schema.names):
                table = pa.Table.from_batches([batch]).replace_schema_metadata(None)
                table.validate(full=True)
                yield conform(table, schema)
        except DAMAGE as error:
            raise _damaged(self._path, error) from error

    def table(self, schema: Any) -> Any:
        """All its rows with the columns of `schema`."""
        return pa.concat_tables([schema.empty_table(), *self.batches(schema)])


def _damaged(path: Path, error: BaseException) -> RunFolderError:
    return RunFolderError(f"{path} cannot be read: it is damaged or not a run's ({type(error).__name__})")


@contextlib.contextmanager
def open_compacted(folder: Path, kind: str) -> Iterator[Compacted]:
    """Open what was compacted. The file is opened once: sources and rows are then of the same version of it.

    Raises RunFolderError where it is damaged, also while it is being read.
    """
    path = parquet_path(folder, kind)
    try:
        # Handed over open: given a path, pyarrow would open it again for each thing it is asked.
        source = pa.OSFile(str(path))
    except FileNotFoundError:
        yield Compacted()
        return
    # Imported where it is used: 0.1 s and 10 MB that the start of a run need not wait for.
    import pyarrow.parquet as pq

    with source:
        try:
            file = pq.ParquetFile(source, page_checksum_verification=True)
            told = json.loads((file.metadata.metadata or {})[_KEY])
            compacted = Compacted(dict(told["sources"]), list(told["findings"]), file, path)
        except DAMAGE as error:
            raise _damaged(path, error) from error
        yield compacted


def write_compacted(
    path: Path, schema: Any, tables: Iterator[Any], sources: dict[str, int], findings: list[str]
) -> None:
    """Write a Parquet file. `sources` and `findings` are read after the last of `tables`, which may fill them."""
    import pyarrow.parquet as pq

    with pq.ParquetWriter(path, schema, compression="zstd", write_page_checksum=True) as writer:
        for table in tables:
            writer.write_table(table)
        told = {"sources": list(sources.items()), "findings": findings}
        writer.add_key_value_metadata({_KEY: json.dumps(told).encode()})
