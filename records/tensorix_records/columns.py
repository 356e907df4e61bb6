"""The records of a run column by column, each read when it is asked for: ten million rows need not be held at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tensorix_api.errors import RunFolderError
from tensorix_records._compact import stream_paths
from tensorix_records._parquet import parquet_path
from tensorix_records._run import Run
from tensorix_records._schema import DAMAGE, SCHEMA
from tensorix_records._stream import BatchReader

__all__ = ["PartDamagedError", "RecordColumns"]


class PartDamagedError(RunFolderError):
    """A part of the records turned out damaged. It was left out just now: start again, with what is left."""


class RecordColumns:
    """The records of a run in the order of their files: first what was compacted, then what is in streams.

    A part that cannot be read (a row group of the Parquet file, a stream's rest) is left out, and `findings` names it.
    The Parquet file is held open, so that every column is of the same version of it. Raises RunFolderError where
    nothing of it can be read.
    """

    def __init__(self, run: Run) -> None:
        self._path = run.path
        self._file: Any = None
        self._source: Any = None
        self._texts: list[str] = []
        self._of_thread = threading.local()
        self._groups: list[int] = []
        self._damaged: dict[int, int] = {}
        while not self._opened():
            pass

    def _opened(self) -> bool:
        """Whether the files stayed where they were while they were opened."""
        # Streams are listed first: see read_rows.
        paths = stream_paths(self._path, "records")
        self.sources: dict[str, int] = {}
        self._told: list[str] = []
        self._open_compacted()
        readers = [BatchReader(path, SCHEMA) for path in paths if path.name not in self.sources]
        try:
            batches = [batch for reader in readers for batch in reader.batches()]
        except FileNotFoundError:
            return False
        self._streamed = pa.Table.from_batches(batches, schema=SCHEMA)
        self.sources |= {reader.path.name: reader.rows for reader in readers}
        self._told += [text for reader in readers if (text := reader.finding())]
        return True

    def _open_compacted(self) -> None:
        import json

        import pyarrow.parquet as pq

        path = parquet_path(self._path, "records")
        try:
            source = pa.OSFile(str(path))
        except FileNotFoundError:
            return
        try:
            self._file = pq.ParquetFile(source, page_checksum_verification=True)
            told = json.loads((self._file.metadata.metadata or {})[b"tensorix"])
            self.sources |= dict(told["sources"])
            self._told += list(told["findings"])
            schema = self._file.schema_arrow
            self._source = source
            self._texts = [name for name in schema.names if schema.field(name).type == pa.string()]
            self._reader(coded=True)
        except DAMAGE as error:
            raise RunFolderError(
                f"{path} cannot be read: it is damaged or not a run's ({type(error).__name__})"
            ) from error
        self._groups = list(range(self._file.metadata.num_row_groups))

    def _reader(self, *, coded: bool) -> Any:
        """A reader of the file for this thread alone, texts as codes or as they are: one is not for two at a time."""
        import pyarrow.parquet as pq

        name = "coded" if coded else "plain"
        if not hasattr(self._of_thread, name):
            texts = self._texts if coded else None
            reader = pq.ParquetFile(
                self._source, page_checksum_verification=True, read_dictionary=texts, metadata=self._file.metadata
            )
            setattr(self._of_thread, name, reader)
        return getattr(self._of_thread, name)

    def __len__(self) -> int:
        return sum(self._rows_of(group) for group in self._groups) + int(self._streamed.num_rows)

    def _rows_of(self, group: int) -> int:
        return int(self._file.metadata.row_group(group).num_rows)

    @property
    def findings(self) -> list[str]:
        """What was wrong with the files, in plain words."""
        found = list(self._told)
        if self._damaged:
            number, rows = len(self._damaged), sum(self._damaged.values())
            parts = "1 part" if number == 1 else f"{number:,} parts"
            found.append(
                f"records.parquet is damaged: {parts} with {rows:,} records could not be read, and were left out"
            )
        return found

    def column(self, name: str, *, coded: bool = False) -> Any:
        """A column as a ChunkedArray; with `coded` a text as codes into a dictionary, where few values repeat.

        Raises PartDamagedError where a part of it cannot be read, KeyError for a column that no record has.
        """
        return pa.chunked_array(list(self.pieces(name, coded=coded)), self._type(name, coded))

    def table(self, names: Sequence[str]) -> Any:
        """Some columns as a table, of the parts in which all of them can be read; `findings` names the others."""
        while True:
            try:
                return pa.table(
                    [self.column(name) for name in names], pa.schema([SCHEMA.field(name) for name in names])
                )
            except PartDamagedError:
                continue

    def _type(self, name: str, coded: bool) -> Any:
        kind = SCHEMA.field(name).type
        return pa.dictionary(pa.int32(), pa.string()) if coded and kind == pa.string() else kind

    def pieces(self, name: str, *, coded: bool = False) -> Iterator[Any]:
        """A column as arrays of a bounded size, in order."""
        kind = self._type(name, coded)
        if self._groups and name not in self._file.schema_arrow.names:
            yield from (pa.nulls(self._rows_of(group), kind) for group in self._groups)
        elif self._groups:
            file = self._reader(coded=pa.types.is_dictionary(kind))
            for group in self._groups:
                yield from self._read(file, group, name, kind)
        streamed = self._streamed.column(name)
        yield from (streamed.dictionary_encode() if pa.types.is_dictionary(kind) else streamed).chunks

    def texts_at(self, name: str, places: Sequence[int]) -> list[str | None]:
        """The texts at a few places: only the parts that hold them are read. Raises PartDamagedError."""
        found: dict[int, str | None] = {}
        begin = 0
        for group in [*self._groups, None]:
            size = self._streamed.num_rows if group is None else self._rows_of(group)
            mine = [place for place in places if begin <= place < begin + size]
            if mine and (group is None or name in self._file.schema_arrow.names):
                parts = (
                    self._streamed.column(name)
                    if group is None
                    else self._read(self._reader(coded=False), group, name, pa.string())
                )
                texts = parts if group is None else pa.chunked_array(parts)
                found |= {place: texts[place - begin].as_py() for place in mine}
            begin += size
        return [found.get(place) for place in places]

    def _read(self, file: Any, group: int, name: str, kind: Any) -> list[Any]:
        try:
            column = file.read_row_group(group, columns=[name], use_threads=False).column(0)
            column.validate(full=True)
            chunks: list[Any] = [chunk if chunk.type == kind else chunk.cast(kind) for chunk in column.chunks]
            if sum(map(len, chunks)) != self._rows_of(group):
                raise ValueError("rows are missing")
            return chunks
        except DAMAGE as error:
            self._groups = [one for one in self._groups if one != group]
            self._damaged[group] = self._rows_of(group)
            raise PartDamagedError(f"{parquet_path(self._path, 'records')} is damaged in part {group}") from error

    def bounds(self, name: str) -> tuple[float, float] | None:
        """The least and the greatest of a numeric column, as the Parquet file's own statistics tell; None where there
        is none, or nobody says.
        """
        found: list[float] = []
        if self._groups and name in self._file.schema_arrow.names:
            at = self._file.schema_arrow.names.index(name)
            for group in self._groups:
                told = self._file.metadata.row_group(group).column(at)
                if told.path_in_schema != name or told.statistics is None:
                    return None
                if told.statistics.has_min_max:
                    found += [told.statistics.min, told.statistics.max]
        least = pc.call_function("min_max", [self._streamed.column(name)]).as_py()
        found += [value for value in least.values() if value is not None]
        return (min(found), max(found)) if found else None
