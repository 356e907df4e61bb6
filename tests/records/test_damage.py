"""Folders that a disk or a person damaged: read as far as they can be, said in words, and never a crash."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tensorix_api.errors import RunFolderError
from tensorix_records import RequestRecord, Run
from tensorix_records._schema import SCHEMA
from tensorix_records._stream import BatchReader

Maker = Callable[..., RequestRecord]


def _three_batches(run: Run, make_record: Maker) -> None:
    writer = run.writer("w1")
    for number in range(30):
        writer.add(make_record(number, error_message="x" * number, status=200, model_served="größer"))
        if number % 10 == 9:
            writer.flush()
    writer.close()


def _damaged(data: bytes, rng: random.Random) -> bytes:
    """Some bytes flipped, or zeroed from somewhere on."""
    at = rng.randrange(len(data))
    if rng.random() < 0.3:
        return data[:at] + bytes(len(data) - at)
    flipped = bytearray(data)
    for _ in range(rng.choice([1, 1, 4])):
        flipped[rng.randrange(at, min(at + 16, len(data)))] ^= rng.choice([0xFF, 1 << rng.randrange(8)])
    return bytes(flipped)


def test_a_damaged_stream_is_read_to_the_damage(run: Run, make_record: Maker) -> None:
    """Whatever is flipped or zeroed in a stream file, reading it ends with rows and findings."""
    _three_batches(run, make_record)
    path = run.path / "records-w1.arrows"
    data = path.read_bytes()
    rng = random.Random(5)
    said = 0
    for _ in range(600):
        path.write_bytes(_damaged(data, rng))
        reader = BatchReader(path, SCHEMA)
        rows = [row for batch in reader.batches() for row in batch.to_pylist()]
        assert len(rows) == reader.rows <= 30
        said += "damaged" in (reader.finding() or "")
        run.records()
        run.follow().poll()
    assert said > 20


def test_a_zero_filled_tail_is_said(run: Run, make_record: Maker) -> None:
    """What a power failure leaves, a file of the right length with zeros at its end, loses only what is not there."""
    _three_batches(run, make_record)
    path = run.path / "records-w1.arrows"
    data = path.read_bytes()
    last = data.rindex(b"\xff\xff\xff\xff", 0, -8)
    path.write_bytes(data[: last + 100] + bytes(len(data) - last - 100))
    assert len(run.records()) == 20
    assert any("records-w1.arrows is" in finding for finding in run.findings())
    run.compact()
    assert len(run.records()) == 20


def test_a_damaged_parquet_file_is_one_clear_line(run: Run, make_record: Maker) -> None:
    """Whatever is flipped or zeroed in a Parquet file, its rows are right or it is said to be damaged."""
    _three_batches(run, make_record)
    run.compact()
    whole = run.records()
    path: Path = run.path / "records.parquet"
    data = path.read_bytes()
    rng = random.Random(6)
    refused = 0
    for _ in range(300):
        path.write_bytes(_damaged(data, rng))
        with contextlib.suppress(RunFolderError):
            run.records()
            continue
        refused += 1
    assert refused > 150
    path.write_bytes(data)
    assert run.records().equals(whole)
    # In the middle of the pages: found when the rows are read, not when the file is opened.
    path.write_bytes(data[:200] + bytes([data[200] ^ 0xFF]) + data[201:])
    with pytest.raises(RunFolderError, match=r"records\.parquet cannot be read: it is damaged"):
        run.records()
