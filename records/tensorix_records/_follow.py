"""Following a run as it grows, from another process than those that write it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from tensorix_records._compact import stream_paths
from tensorix_records._events import EVENTS_NAME, EventReader
from tensorix_records._parquet import open_compacted
from tensorix_records._schema import SCHEMA
from tensorix_records._stream import BatchReader

__all__ = ["RunFollower"]


class RunFollower:
    """Gives each record and each event of a run once, whole batches and whole lines only.

    Files that appear later are taken up. Compaction between two calls neither repeats nor loses a row: the Parquet
    file says how many rows of which stream it holds, in their order, and the follower knows how many it has given.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._readers: dict[str, BatchReader] = {}
        self._events = EventReader(folder / EVENTS_NAME)

    def poll(self) -> tuple[Any, list[dict[str, Any]]]:
        """The new rows as a table (None where there are none), and the new events."""
        tables: list[Any] = []
        # Streams before the Parquet file: see `read_rows`.
        for path in stream_paths(self._folder, "records"):
            reader = self._readers.setdefault(path.name, BatchReader(path, SCHEMA))
            batches: list[Any] = []
            try:
                batches.extend(reader.batches())
            except FileNotFoundError:
                pass
            tables.append(pa.Table.from_batches(batches, schema=SCHEMA))
        tables.extend(self._compacted())
        table = pa.concat_tables(tables) if tables else None
        return (table if table is not None and table.num_rows else None), self._events.events()

    def _compacted(self) -> list[Any]:
        """Rows that were compacted before they were given."""
        with open_compacted(self._folder, "records") as compacted:
            missing = []
            start = 0
            for name, rows in compacted.sources.items():
                reader = self._readers.setdefault(name, BatchReader(self._folder / name, SCHEMA))
                if reader.rows < rows:
                    missing.append((start + reader.rows, rows - reader.rows))
                    reader.rows = rows
                start += rows
            if not missing:
                return []
            whole = compacted.table(SCHEMA)
        return [whole.slice(first, count) for first, count in missing]
