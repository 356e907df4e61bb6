from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tensorix_api.errors import RunFolderError
from tensorix_records import RequestRecord, Run

Start = Callable[..., "subprocess.Popen[str]"]
Maker = Callable[..., RequestRecord]

# Compacts copies of a run, each in a child that kills itself at one more line of the code than the one before it,
# until one gets through.
_KILLED_EVERYWHERE = """
import os, shutil, signal, sys, warnings
from pathlib import Path
from tensorix_records import Run

# numpy keeps idle threads, of which newer Pythons warn at each fork.
warnings.simplefilter("ignore", DeprecationWarning)
template, work = Path(sys.argv[1]), Path(sys.argv[2])
step = 0
while True:
    step += 1
    copy = work / str(step)
    shutil.copytree(template, copy)
    child = os.fork()
    if child == 0:
        left = step

        def watch(frame, event, argument):
            global left
            if not frame.f_code.co_filename.endswith(("_compact.py", "_parquet.py")):
                return None
            left -= event == "line"
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return watch

        sys.settrace(watch)
        Run.open(copy).compact()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if status == 0:
        print(step)
        break
    assert os.WIFSIGNALED(status), status
"""


def _written(run: Run, make_record: Maker, *names: str, rows: int = 3) -> None:
    for name in names:
        writer = run.writer(name)
        for number in range(rows):
            writer.add(make_record(number, record_id=f"{name}-{number}"))
            writer.add_gaps("m", [number, number + 10])
            writer.flush()
        writer.close()


def _ids(run: Run) -> list[str]:
    return [str(value) for value in run.records(["record_id"]).column("record_id").to_pylist()]


def test_compaction_changes_nothing_but_the_files(run: Run, make_record: Maker) -> None:
    """Rows and counts are the same before and after, the streams are gone, and doing it again does nothing."""
    _written(run, make_record, "b", "a")
    records, gaps = run.records(), run.gap_counts()
    for _ in range(2):
        run.compact()
        assert sorted(path.name for path in run.path.iterdir()) == [
            "events.jsonl",
            "gaps.parquet",
            "manifest.json",
            "records.parquet",
        ]
        assert run.records().equals(records)
        assert run.gap_counts().equals(gaps)
    assert run.gap_counts()["count"].to_pylist() == [6]


def test_killed_at_any_line_it_loses_and_doubles_nothing(
    run: Run, make_record: Maker, start_program: Start, tmp_path: Path
) -> None:
    """Wherever compaction was killed, the run reads as before, and the next compaction ends what was begun."""
    _written(run, make_record, "a", rows=2)
    run.compact()
    _written(run, make_record, "b", rows=2)
    (run.path / "records-cut.arrows").write_bytes((run.path / "records-b.arrows").read_bytes()[:-900])
    expected, findings, counts = sorted(_ids(run)), run.findings(), run.gap_counts()
    work = tmp_path / "copies"
    work.mkdir()
    with start_program(_KILLED_EVERYWHERE, run.path, work) as process:
        output, _ = process.communicate(timeout=100)
    assert process.returncode == 0
    steps = int(output)
    assert steps > 50
    for step in range(1, steps + 1):
        copy = Run.open(work / str(step))
        assert sorted(_ids(copy)) == expected, step
        assert copy.gap_counts().equals(counts), step
        # In a row of steps nothing changes on disk; the second compaction of a sample is enough.
        if step % 10 == 0 or step == steps:
            copy.compact()
            assert sorted(_ids(copy)) == expected, step
            assert copy.findings() == findings, step
            assert not list(copy.path.glob("*.arrows")), step


def test_what_a_living_process_writes_is_left_alone(run: Run, make_record: Maker) -> None:
    """A stream with a writer stays, is read beside the Parquet file, and is compacted when its writer is gone."""
    _written(run, make_record, "a")
    writer = run.writer("b")
    writer.add(make_record(0, record_id="b-0"))
    writer.flush()
    run.compact()
    assert _ids(run) == ["a-0", "a-1", "a-2", "b-0"]
    writer.add(make_record(1, record_id="b-1"))
    writer.close()
    assert _ids(run) == ["a-0", "a-1", "a-2", "b-0", "b-1"]
    run.compact()
    assert _ids(run) == ["a-0", "a-1", "a-2", "b-0", "b-1"]
    assert not list(run.path.glob("*.arrows"))


def test_findings_outlive_the_streams(run: Run, make_record: Maker) -> None:
    """That a stream was cut is still said when the stream itself is gone, after a second compaction too."""
    for name in ("a", "b"):
        _written(run, make_record, name)
        path = run.path / f"records-{name}.arrows"
        path.write_bytes(path.read_bytes()[:-100])
        before = run.findings()
        assert any(text.startswith(f"records-{name}.arrows is cut") for text in before)
        run.compact()
        assert run.findings() == before
    assert sum("is cut" in text for text in before) == 2


def test_many_small_batches_become_few_large_ones(run: Run, make_record: Maker) -> None:
    """A row group is not the handful of requests that one second had."""
    import pyarrow.parquet as pq

    _written(run, make_record, "a", rows=200)
    run.compact()
    assert pq.ParquetFile(run.path / "records.parquet").num_row_groups == 1


@pytest.mark.parametrize("damage", [b"", b"PAR1", b"\0" * 1000])
def test_a_damaged_parquet_file_is_a_clear_error(run: Run, make_record: Maker, damage: bytes) -> None:
    """A file that somebody damaged is not read as an empty run."""
    _written(run, make_record, "a")
    run.compact()
    (run.path / "records.parquet").write_bytes(damage)
    for reading in (run.records, run.findings, run.compact, run.follow().poll):
        with pytest.raises(RunFolderError, match="damaged"):
            reading()


def test_a_compacted_file_of_an_older_version_is_read(run: Run, make_record: Maker) -> None:
    """Columns that were added since are null, in the whole and in a choice of columns."""
    import pyarrow.parquet as pq

    _written(run, make_record, "a")
    run.compact()
    path = run.path / "records.parquet"
    told = pq.read_metadata(path).metadata[b"tensorix"]
    with pq.ParquetFile(path) as file:
        older = file.read().drop_columns(["cost", "status"])
    with pq.ParquetWriter(path, older.schema) as writer:
        writer.write_table(older)
        writer.add_key_value_metadata({b"tensorix": told})
    assert run.records().column("status").null_count == 3
    assert run.records(["cost", "record_id"]).to_pydict() == {"cost": [None] * 3, "record_id": ["a-0", "a-1", "a-2"]}
    _written(run, make_record, "b")
    run.compact()
    assert len(_ids(run)) == 6


def test_somebody_elses_parquet_file_is_not_taken_for_ours(run: Run) -> None:
    """A Parquet file that does not say which streams it holds is no part of a run."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"x": [1]}), run.path / "records.parquet")
    with pytest.raises(RunFolderError, match="not a run's"):
        run.records()


def test_a_copied_run_reads_the_same(run: Run, make_record: Maker, tmp_path: Path) -> None:
    """Nothing in a run depends on where it lies."""
    _written(run, make_record, "a")
    run.compact()
    shutil.copytree(run.path, tmp_path / "copy")
    assert Run.open(tmp_path / "copy").records().equals(run.records())
    assert str(tmp_path) not in json.dumps(run.manifest)
