"""Records and gap counts on their way from the process that saw them to the one that writes them.

A parcel is an Arrow record batch (its message alone, without the schema that both ends have), compressed with zstd.
Packed so, a record takes about a tenth of the room that it takes on the disk of a run that goes on.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike

from tensorix_api.errors import RunFolderError
from tensorix_records._record import RequestRecord
from tensorix_records._schema import DAMAGE, SCHEMA, batch_of_rows, records_of_table, row_of_record
from tensorix_records.gaps import GAP_SCHEMA, GapCounter

__all__ = ["Gathering", "pack", "records_in", "shifted", "unpack_gaps", "unpack_records"]

_HEAD = struct.Struct("<Q")
# What a parcel may hold when it is opened; those that are made here hold a hundredth of that.
_MOST_BYTES = 64 << 20


def pack(batch: Any) -> bytes:
    """A record batch as bytes."""
    message = batch.serialize()
    return _HEAD.pack(message.size) + bytes(pa.compress(message, codec="zstd", asbytes=True))


def _unpack(data: bytes, schema: Any) -> Any:
    try:
        (size,) = _HEAD.unpack_from(data)
        if size > _MOST_BYTES:
            raise ValueError(f"{size} bytes")
        message = pa.decompress(pa.py_buffer(data)[_HEAD.size :], decompressed_size=size, codec="zstd")
        batch = pa.ipc.read_record_batch(message, schema)
        batch.validate(full=True)
    except (*DAMAGE, struct.error) as error:
        raise RunFolderError(f"a parcel of records is damaged ({type(error).__name__})") from None
    return batch


def unpack_records(data: bytes) -> Any:
    """The batch of records in a parcel. Raises RunFolderError where it is damaged."""
    return _unpack(data, SCHEMA)


def unpack_gaps(data: bytes) -> Any:
    """The batch of gap counts in a parcel. Raises RunFolderError where it is damaged."""
    return _unpack(data, GAP_SCHEMA)


def records_in(batch: Any) -> Iterator[RequestRecord]:
    """The records in a batch, one by one."""
    yield from records_of_table(batch)


def shifted(batch: Any, by_ns: int) -> Any:
    """A batch of records or of gap counts with its Unix times `by_ns` later; of gap counts in whole seconds."""
    counts = batch.schema.equals(GAP_SCHEMA)
    name, by = ("second_unix", round(by_ns / 1e9)) if counts else ("start_unix_ns", by_ns)
    if not by:
        return batch
    times = np.asarray(batch.column(name).fill_null(0), dtype=np.int64) + by
    return batch.set_column(batch.schema.get_field_index(name), batch.schema.field(name), pa.array(times, pa.int64()))


class Gathering:
    """Collects what one process saw, until `take` fetches it as parcels of at most `most_bytes` (a record at least)."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._rows: list[tuple[Any, ...]] = []
        self._gaps = GapCounter()
        # pyarrow imports much on its first conversion (0.3 s): here, not in the first `take` inside an event loop.
        pa.array([0], pa.int64())

    def add(self, record: RequestRecord) -> None:
        """Take a record."""
        self._rows.append(row_of_record(record))

    def add_gaps(self, model: str | None, chunk_unix_ns: ArrayLike) -> None:
        """Count the gaps between the chunks of one response, given as Unix ns in order."""
        self._gaps.add(model, chunk_unix_ns)

    def take(self) -> Iterator[tuple[bytes, bytes, int]]:
        """Parcels of records, of gap counts, and the number of records in them; either may be empty."""
        rows, self._rows = self._rows, []
        if rows:
            batch, _odd = batch_of_rows(rows)
            yield from ((data, b"", count) for data, count in self._split(batch))
        if (gaps := self._gaps.take()) is not None:
            yield from ((b"", data, 0) for data, _ in self._split(gaps))

    def _split(self, batch: Any) -> Iterator[tuple[bytes, int]]:
        data = pack(batch)
        if len(data) <= self._most_bytes or batch.num_rows == 1:
            yield data, batch.num_rows
            return
        half = batch.num_rows // 2
        yield from self._split(batch.slice(0, half))
        yield from self._split(batch.slice(half))
