from __future__ import annotations

import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from tensorix_records import RequestRecord, Run

Start = Callable[..., "subprocess.Popen[str]"]
Maker = Callable[..., RequestRecord]

# Three writers, one after the other, compaction between and after them; after the first batch it waits for a line.
_WHOLE_RUN = """
import sys
from tensorix_records import RequestRecord, Run

run = Run.open(sys.argv[1])
for process in range(3):
    writer = run.writer(f"w{process}")
    for batch in range(60):
        for number in range(7):
            writer.add(RequestRecord(run_id="run-1", record_id=f"{process}-{batch}-{number}", request_id="q",
                                     endpoint="/models", start_unix_ns=batch, outcome="success"))
        writer.flush()
        writer.event("batch", process=process, batch=batch)
        if process == batch == 0:
            sys.stdin.readline()
    writer.close()
    run.compact()
"""


def _new_ids(table: object) -> list[str]:
    return [] if table is None else list(table.column("record_id").to_pylist())  # type: ignore[attr-defined]


def _go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    if not process.stdin.closed:
        process.stdin.close()


def test_a_follower_sees_all_of_a_run_that_another_process_writes(run: Run, start_program: Start) -> None:
    """Each record and each event comes once, whatever is appended, compacted or removed between and during polls."""
    follower = run.follow()
    ids: Counter[str] = Counter()
    events = []
    polls_with_news = 0
    with start_program(_WHOLE_RUN, run.path) as process:
        ended = False
        while not ended:
            if polls_with_news == 1:
                _go_on(process)
            # Asked before the poll: what was written before the end is seen by the poll after it.
            ended = process.poll() is not None
            table, new_events = follower.poll()
            ids.update(_new_ids(table))
            events += new_events
            polls_with_news += table is not None
    assert process.returncode == 0
    assert set(ids) == {f"{p}-{b}-{n}" for p in range(3) for b in range(60) for n in range(7)}
    assert set(ids.values()) == {1}
    assert [(event["process"], event["batch"]) for event in events] == [(p, b) for p in range(3) for b in range(60)]
    assert polls_with_news >= 2


def _compacting_at(run: Run, step: int, reading: Callable[[], object]) -> tuple[object, bool]:
    """The result of `reading` when the run is compacted just before the line numbered `step` that it executes in the
    modules that know of compaction; and whether it came so far.
    """
    left = step

    def watch(frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal left
        if not frame.f_code.co_filename.endswith(("_compact.py", "_follow.py", "_parquet.py")):
            return None
        left -= event == "line"
        if left == 0:
            left = -1
            # Python does not trace what the tracing function calls.
            run.compact()
        return watch

    earlier = sys.gettrace()
    sys.settrace(watch)
    try:
        return reading(), left < 0
    finally:
        sys.settrace(earlier)


@pytest.mark.parametrize("compacted_before", [False, True])
def test_compaction_at_any_line_of_reading_changes_nothing(
    run: Run, make_record: Maker, tmp_path: Path, compacted_before: bool
) -> None:
    """Whole readings, and polls before and after: whenever between two lines compaction happens, each row is given."""
    for name in ("a", "b"):
        writer = run.writer(name)
        writer.add(make_record(record_id=name))
        writer.close()
        if compacted_before:
            run.compact()
            compacted_before = False
    reached = True
    step = 0
    while reached:
        step += 1
        whole, followed = (
            Run.open(shutil.copytree(run.path, tmp_path / f"{step}-{kind}")) for kind in ("whole", "followed")
        )
        table, reached_whole = _compacting_at(whole, step, whole.records)
        assert sorted(_new_ids(table)) == ["a", "b"], step
        follower = followed.follow()
        first, reached_poll = _compacting_at(followed, step, follower.poll)
        ids = _new_ids(first[0]) + _new_ids(follower.poll()[0])  # type: ignore[index]
        assert sorted(ids) == ["a", "b"], step
        reached = reached_whole or reached_poll
    assert step > 20


def test_a_reader_of_the_whole_sees_no_row_twice_or_vanish(run: Run, start_program: Start) -> None:
    """`records` may be called at any time: also in the middle of a compaction it is everything so far, once."""
    before: set[str] = set()
    with start_program(_WHOLE_RUN, run.path) as process:
        _go_on(process)
        ended = False
        while not ended:
            ended = process.poll() is not None
            ids = Counter(_new_ids(run.records(["record_id"])))
            assert set(ids.values()) <= {1}
            assert before <= ids.keys()
            before = set(ids)
    assert len(before) == 3 * 60 * 7


@pytest.mark.parametrize("seed", range(20))
def test_any_interleaving_of_polls_with_writing_and_compaction_gives_each_row_once(
    run: Run, make_record: Maker, seed: int
) -> None:
    """A random order of adding, flushing, closing, compacting and polling, by several followers."""
    rng = random.Random(seed)
    followers = [(run.follow(), Counter[str]()) for _ in range(3)]
    writers = [run.writer("w0")]
    written = 0
    for _ in range(60):
        match rng.randrange(6):
            case 0 | 1:
                writer = rng.choice(writers)
                for _ in range(rng.randrange(4)):
                    writer.add(make_record(written))
                    written += 1
                writer.flush()
            case 2:
                writers.append(run.writer(f"w{len(writers)}-{rng.random()}"))
            case 3 if len(writers) > 1:
                writers.pop(rng.randrange(len(writers))).close()
            case 4:
                run.compact()
            case _:
                follower, seen = rng.choice(followers)
                seen.update(_new_ids(follower.poll()[0]))
    for writer in writers:
        writer.close()
    for follower, seen in followers:
        seen.update(_new_ids(follower.poll()[0]))
        assert seen == Counter(f"r-{number}" for number in range(written))
        assert follower.poll() == (None, [])


def test_a_batch_or_line_that_is_not_whole_yet_is_waited_for(run: Run, make_record: Maker) -> None:
    """What is there in part is given once, when it is whole."""
    writer = run.writer("w1", now_unix_ns=lambda: 1)
    writer.add(make_record(1))
    writer.event("one")
    writer.close()
    stream, lines = run.path / "records-w1.arrows", run.path / "events.jsonl"
    whole_stream, whole_lines = stream.read_bytes(), lines.read_bytes()
    follower = run.follow()
    for cut in (0, 5, 100, len(whole_stream) - 9):
        stream.write_bytes(whole_stream[:cut])
        lines.write_bytes(whole_lines[: min(cut, 30)])
        assert follower.poll() == (None, [])
    stream.write_bytes(whole_stream)
    lines.write_bytes(whole_lines)
    table, events = follower.poll()
    assert _new_ids(table) == ["r-1"]
    assert [event["kind"] for event in events] == ["one"]
    assert follower.poll() == (None, [])


def test_a_follower_may_come_first_or_last(run: Run, make_record: Maker) -> None:
    """One that starts before anything is there, and one that starts after compaction, see the same."""
    early = run.follow()
    assert early.poll() == (None, [])
    writer = run.writer("w1")
    writer.add(make_record(1))
    writer.close()
    run.compact()
    assert _new_ids(early.poll()[0]) == _new_ids(run.follow().poll()[0]) == ["r-1"]
