from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import fields
from typing import get_args, get_type_hints

import pyarrow as pa
import pytest

from tensorix_records import RequestRecord, Run
from tensorix_records._schema import SCHEMA, batch_of_rows, conform, records_of_table, row_of_record

_NAMES = {"string": "str", "int64": "int", "double": "float", "bool": "bool", "list<item: int64>": "list[int]"}


def test_schema_agrees_with_the_annotations() -> None:
    """Each annotation of RequestRecord, written out, is the type of the column, in the same order."""
    hints = get_type_hints(RequestRecord)
    assert SCHEMA.names == [column.name for column in fields(RequestRecord)]
    for column in SCHEMA:
        written = str(hints[column.name]).replace("typing.", "").removeprefix("<class '").removesuffix("'>")
        written = "str" if "Literal[" in written else written.removesuffix(" | None")
        assert written == _NAMES[str(column.type)], column.name
        assert column.nullable


def test_ten_thousand_random_records_come_back(
    run: Run, random_record: Callable[[random.Random], RequestRecord]
) -> None:
    """What is written is read again value by value, before and after compaction, None in every place included."""
    rng = random.Random(20)
    records = [random_record(rng) for _ in range(10_000)]
    writer = run.writer("w1")
    for number, record in enumerate(records):
        writer.add(record)
        if number % 1013 == 0:
            writer.flush()
    writer.close()
    assert list(records_of_table(run.records())) == records
    run.compact()
    assert list(records_of_table(Run.open(run.path).records())) == records
    nulls = {name for name in SCHEMA.names if run.records([name]).column(name).null_count}
    assert nulls == {name for name, hint in get_type_hints(RequestRecord).items() if type(None) in get_args(hint)}


@pytest.mark.parametrize(
    ("column", "value", "stored"),
    [
        ("error_message", "half \ud83d a pair", "half \\ud83d a pair"),
        ("completion_tokens", 10**30, None),
        ("completion_tokens", "12 or so", None),
        ("cost", "free", None),
        ("chunk_gaps_ns", [1, 2**70], None),
        ("attempt", 2**70, None),
    ],
)
def test_a_value_that_cannot_be_stored_costs_its_cell(
    make_record: Callable[..., RequestRecord], column: str, value: object, stored: object
) -> None:
    """What a hostile server sent neither stops the writer nor takes the neighbours with it."""
    rows = [row_of_record(make_record(0)), row_of_record(make_record(1, **{column: value, "status": 200}))]
    batch, odd = batch_of_rows(rows)
    assert odd == [column]
    assert batch.column(column).to_pylist() == [getattr(make_record(), column), stored]
    assert batch.column("record_id").to_pylist() == ["r-0", "r-1"]
    assert batch.column("status").to_pylist() == [None, 200]


def test_columns_that_an_older_version_did_not_write_are_null() -> None:
    """A table of other columns is read with exactly ours, in our order."""
    older = pa.table({"status": [200, 429], "outcome": ["success", "throttled"], "left_out_since": [1, 2]})
    table = conform(older, SCHEMA)
    assert table.schema.equals(SCHEMA)
    assert table.column("status").to_pylist() == [200, 429]
    assert table.column("cost").null_count == 2
