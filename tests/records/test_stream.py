from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from tensorix_api.errors import RunFolderError
from tensorix_records import RequestRecord, Run
from tensorix_records._schema import SCHEMA
from tensorix_records._stream import BatchFile, BatchReader
from tensorix_records.gaps import GAP_SCHEMA


def _boundaries(path: Path) -> list[int]:
    """Where each whole message ends, as pyarrow's own reader sees it."""
    ends: list[int] = []
    with path.open("rb") as file:
        while True:
            try:
                pa.ipc.read_message(file)
            except EOFError:
                return ends
            ends.append(file.tell())


def test_a_closed_file_is_an_ordinary_arrow_stream(run: Run, make_record: Callable[..., RequestRecord]) -> None:
    """Any Arrow reader opens what was written."""
    writer = run.writer("w1")
    for number in range(3):
        writer.add(make_record(number))
        writer.flush()
    writer.close()
    with pa.ipc.open_stream(run.path / "records-w1.arrows") as reader:
        assert reader.read_all().equals(run.records())


def test_a_file_cut_at_any_byte_gives_its_whole_batches(run: Run, make_record: Callable[..., RequestRecord]) -> None:
    """Every length that a killed writer can leave is read up to the last whole batch, and said to be cut."""
    writer = run.writer("w1")
    for number in range(3):
        writer.add(make_record(number, error_message="x" * number))
        writer.flush()
    writer.close()
    path = run.path / "records-w1.arrows"
    data = path.read_bytes()
    ends = _boundaries(path)
    assert len(ends) == 4
    for length in reversed(range(len(data))):
        os.truncate(path, length)
        reader = BatchReader(path, SCHEMA)
        rows = sum(batch.num_rows for batch in reader.batches())
        assert rows == sum(end <= length for end in ends[1:]), length
        finding = reader.finding()
        assert finding
        assert ("empty" in finding) == (length == 0)
        assert ("no whole header" in finding) == (0 < length < ends[0])
        assert ("not closed" in finding) == (length in ends)
    path.write_bytes(data)
    assert run.records().num_rows == 3
    assert not [text for text in run.findings() if "records-" in text]


def test_a_cut_gap_file_is_read_as_far_as_it_goes(run: Run) -> None:
    """The gap counts are held to the same rule, through the run's own functions."""
    writer = run.writer("w1")
    for second in range(3):
        writer.add_gaps("m", [second * 10**9, second * 10**9 + 5])
        writer.flush()
    writer.close()
    path = run.path / "gaps-w1.arrows"
    data, ends = path.read_bytes(), _boundaries(path)
    for length in (0, 1, 7, 8, ends[0] - 1, ends[0], ends[1] - 1, ends[1], ends[2] + 9, ends[3], len(data) - 1):
        path.write_bytes(data[:length])
        assert run.gap_counts().num_rows == sum(end <= length for end in ends[1:])
        assert [text for text in run.findings() if "gaps-" in text]


def test_garbage_after_whole_batches_is_a_finding(tmp_path: Path) -> None:
    """Bytes that are no message end the reading, whatever they are."""
    path = tmp_path / "gaps-x.arrows"
    file = BatchFile(path, GAP_SCHEMA)
    file.append(pa.RecordBatch.from_pylist([{"second_unix": 1, "model": None, "bucket": 2, "count": 3}], GAP_SCHEMA))
    whole = path.read_bytes()
    for garbage in (b"\0" * 500, b"\xff" * 500, b"\xff\xff\xff\xff\x10\0\0\0" + b"\x07" * 600, b"garbage" * 99):
        path.write_bytes(whole + garbage)
        reader = BatchReader(path, GAP_SCHEMA)
        assert [batch.num_rows for batch in reader.batches()] == [1]
        assert reader.finding() is not None
    file.close()


def test_a_process_id_is_used_once(run: Run) -> None:
    """A second writer with the same id is told, before and after compaction, rather than mixed in or lost."""
    run.writer("w1").close()
    with pytest.raises(RunFolderError, match="own id"):
        run.writer("w1")
    run.compact()
    with pytest.raises(RunFolderError, match="own id"):
        run.writer("w1")


def test_a_closed_file_refuses_more(tmp_path: Path) -> None:
    """Appending after the end is an error, closing again is not."""
    file = BatchFile(tmp_path / "gaps-x.arrows", GAP_SCHEMA)
    file.close()
    file.close()
    with pytest.raises(RunFolderError, match="closed"):
        file.append(pa.RecordBatch.from_pylist([], GAP_SCHEMA))
