"""The Arrow schema of a record, taken from the annotations of `RequestRecord`, and rows to and from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from operator import attrgetter
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pyarrow as pa

from tensorix_records._record import RequestRecord

__all__ = ["COLUMNS", "DAMAGE", "SCHEMA", "batch_of_rows", "conform", "records_of_table", "row_of_record"]

_TYPES = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_(), list[int]: pa.list_(pa.int64())}


def _arrow_type(annotation: Any) -> Any:
    """The Arrow type of an annotation such as `int | None` or a Literal of strings."""
    parts = set(get_args(annotation)) if get_origin(annotation) in (Union, UnionType) else {annotation}
    (kind,) = parts - {type(None)}
    if get_origin(kind) is Literal:
        (kind,) = {type(value) for value in get_args(kind)}
    return _TYPES[kind]


COLUMNS = tuple(column.name for column in fields(RequestRecord))
_HINTS = get_type_hints(RequestRecord)

# Every column may be null in a file, also those that a record always has: what an older version did not write, and a
# value that could not be stored.
SCHEMA = pa.schema([pa.field(name, _arrow_type(_HINTS[name])) for name in COLUMNS])

row_of_record: Callable[[RequestRecord], tuple[Any, ...]] = attrgetter(*COLUMNS)
"""A record as a tuple in the order of `COLUMNS`; in C, as it is called once a request inside an event loop."""


def _storable(value: Any, kind: Any) -> Any:
    """`value` as `kind` can hold it; None where it cannot."""
    if isinstance(value, str):
        # A server may send half a surrogate pair in JSON, which is no UTF-8: kept, in escaped form.
        value = value.encode("utf-8", "backslashreplace").decode()
    try:
        return pa.scalar(value, kind).as_py()
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        return None


def batch_of_rows(rows: Sequence[tuple[Any, ...]]) -> tuple[Any, list[str]]:
    """The rows as one RecordBatch, and the columns in which a value had to be dropped or escaped.

    What cannot be stored (a number beyond 64 bits, half a surrogate pair) came from a server; it costs its own cell,
    not the thousand records beside it.
    """
    arrays = []
    odd: list[str] = []
    for column, values in zip(SCHEMA, zip(*rows, strict=True), strict=True):
        try:
            arrays.append(pa.array(values, column.type))
        except (pa.ArrowException, OverflowError, TypeError, ValueError):
            odd.append(column.name)
            arrays.append(pa.array([_storable(value, column.type) for value in values], column.type))
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA), odd


DAMAGE = (pa.ArrowException, OSError, LookupError, ValueError, TypeError, MemoryError, OverflowError)
"""What decoding bytes that were changed on the disk can raise: a wrong number may be a length, a name or a type."""


def conform(table: Any, schema: Any) -> Any:
    """A table or batch with exactly the columns of `schema`: what an older version did not write is null."""
    if table.schema.equals(schema):
        return table
    present = set(table.schema.names)
    columns = [
        table.column(column.name).cast(column.type) if column.name in present else pa.nulls(table.num_rows, column.type)
        for column in schema
    ]
    return type(table).from_arrays(columns, schema=schema)


def records_of_table(table: Any) -> Iterable[RequestRecord]:
    """The rows of a table of whole records, as records."""
    return (RequestRecord(**row) for row in table.to_pylist())
