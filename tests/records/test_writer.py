from __future__ import annotations

import json
import subprocess
from array import array
from collections.abc import Callable

import pytest

from tensorix_api import Secret
from tensorix_api.errors import RunFolderError
from tensorix_records import RequestRecord, Run

Start = Callable[..., "subprocess.Popen[str]"]

# Writes until it is killed; after each flush it says on its standard output how many records are now safe.
_ENDLESS = """
import os, sys
from tensorix_records import RequestRecord, Run

folder, name, batch = sys.argv[1:]
writer = Run.open(folder).writer(name)
number = 0
while True:
    for _ in range(int(batch)):
        writer.add(RequestRecord(run_id="run-1", record_id=f"{name}-{number}", request_id="q", endpoint="/models",
                                 start_unix_ns=number, outcome="success", error_message="x" * (number % 50)))
        writer.add_gaps("m", [number, number + 1000])
        number += 1
    writer.flush()
    writer.event("flushed", number=number)
    os.write(1, f"{number}\\n".encode())
"""

# Starts twenty such writers, forked so that each is there at once, kills each after some lines, tells what was safe.
_KILLER = """
import json, os, random, signal, sys, warnings
import pyarrow

# Imports what pyarrow only imports then: once rather than in each child.
pyarrow.array([1])
# numpy keeps idle threads, of which newer Pythons warn at each fork.
warnings.simplefilter("ignore", DeprecationWarning)
rng, safe = random.Random(7), {}
for number in range(20):
    name, batch = f"w{number}", rng.choice([1, 3, 40])
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(writing, 1)
        program, sys.argv[2:] = sys.argv[2], [name, str(batch)]
        exec(program)
    os.close(writing)
    with open(reading) as pipe:
        told = [pipe.readline() for _ in range(rng.randrange(1, 12))]
        os.kill(child, signal.SIGKILL)
        told += pipe.readlines()
    os.waitpid(child, 0)
    # The last line may itself be cut.
    safe[name] = int([line for line in told if line.endswith("\\n")][-1])
print(json.dumps(safe))
"""

# Fills what it may use of the disk.
_FILLS = """
import resource, sys
from tensorix_api.errors import RunFolderError
from tensorix_records import RequestRecord, Run

writer = Run.open(sys.argv[1]).writer("w1")
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
flushed = 0
try:
    while True:
        for number in range(flushed, flushed + 10):
            writer.add(RequestRecord(run_id="run-1", record_id=str(number), request_id="q", endpoint="/models",
                                     start_unix_ns=number, outcome="success"))
        writer.flush()
        flushed += 10
except RunFolderError as error:
    print(error)
writer.close()
writer.close()
print(flushed)
"""


def test_whatever_was_flushed_survives_sigkill(run: Run, start_program: Start) -> None:
    """Twenty writers killed at random moments: each one's flushed records are there, in order, whole and once."""
    with start_program(_KILLER, run.path, _ENDLESS) as process:
        output, _ = process.communicate(timeout=100)
    assert process.returncode == 0
    safe: dict[str, int] = json.loads(output)
    found: dict[str, list[int]] = {name: [] for name in safe}
    for record_id in run.records(["record_id"]).column("record_id").to_pylist():
        name, _, number = record_id.partition("-")
        found[name].append(int(number))
    for name, count in safe.items():
        assert found[name] == list(range(len(found[name])))
        assert len(found[name]) >= count
    assert run.gap_counts()["count"].to_numpy().sum() >= sum(safe.values())
    assert {event["process_id"] for event in run.events()} <= set(safe)
    findings = run.findings()
    assert all(any(f"records-{name}.arrows" in text for text in findings) for name in safe)


def test_a_full_disk_is_one_clear_error(run: Run, start_program: Start) -> None:
    """The owner is told in a line, closing is quiet, and all that was flushed before is there without a cut."""
    with start_program(_FILLS, run.path) as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    message, flushed = output.splitlines()
    assert "cannot be written" in message
    assert "free space or choose another folder" in message
    assert int(flushed) > 0
    assert run.records().num_rows == int(flushed)
    assert not [text for text in run.findings() if "is cut" in text]


def test_a_failed_write_is_not_tried_again(run: Run, make_record: Callable[..., RequestRecord]) -> None:
    """After a failure each further flush is an error at once, and close says nothing."""
    writer = run.writer("w1")
    writer.add(make_record(1))
    writer.flush()
    writer._files[0].close()
    writer.add(make_record(2))
    for _ in range(2):
        writer.add(make_record(3))
        with pytest.raises(RunFolderError):
            writer.flush()
    writer.add(make_record(4))
    writer.close()
    assert run.records().num_rows == 1


def test_memory_is_bounded_without_a_flush(run: Run, make_record: Callable[..., RequestRecord]) -> None:
    """An owner that forgets to flush does not fill the memory."""
    writer = run.writer("w1")
    for number in range(10_000):
        writer.add(make_record(number))
    assert len(writer._rows) < 5_000
    assert run.records().num_rows > 5_000
    writer.close()
    assert run.records().num_rows == 10_000


def test_close_flushes(run: Run, make_record: Callable[..., RequestRecord]) -> None:
    """Records and gaps that were not flushed are written by close; a second close does nothing."""
    writer = run.writer("w1")
    writer.add(make_record(1))
    writer.add_gaps("m", array("q", [0, 10, 20]))
    writer.close()
    writer.close()
    assert run.records().num_rows == 1
    assert run.gap_counts()["count"].to_pylist() == [2]


def test_events_carry_their_time_and_process(run: Run) -> None:
    """A line has the injected time, the process and the fields; a secret shows nothing of itself."""
    writer = run.writer("w1", now_unix_ns=lambda: 12)
    writer.event("users", count=3, odd="\ud83d\n")
    writer.event("phase", t_unix_ns=5, key=Secret("sk-never-shown-anywhere"))
    writer.close()
    first, second = run.events()
    assert first == {"t_unix_ns": 12, "kind": "users", "process_id": "w1", "count": 3, "odd": "\ud83d\n"}
    assert second["t_unix_ns"] == 5
    assert "never-shown" not in (run.path / "events.jsonl").read_text()
    with pytest.raises(RunFolderError, match="closed"):
        writer.event("late")


def test_cut_and_broken_lines_are_left_out_and_told(run: Run) -> None:
    """Whatever stands in the events file, the good lines are read and the rest is a finding."""
    first = run.writer("w1", now_unix_ns=lambda: 1)
    first.event("good")
    path = run.path / "events.jsonl"
    with path.open("ab") as file:
        file.write(b'{"kind": "cut off by a ki')
    assert [event["kind"] for event in run.events()] == ["good"]
    assert any("last line is cut" in text for text in run.findings())
    second = run.writer("w2", now_unix_ns=lambda: 2)
    second.event("also good")
    with path.open("ab") as file:
        file.write(b"\xff\xfe\n[]\n" + b"[" * 100_000 + b"\n")
    assert [event["kind"] for event in run.events()] == ["good", "also good"]
    assert [text for text in run.findings() if "events" in text] == [
        f"events.jsonl: line {number} is no event and was left out" for number in (2, 4, 5, 6)
    ]
    first.close()
    second.close()


def test_lines_of_several_writers_do_not_mix(run: Run, start_program: Start) -> None:
    """Two processes append to the same file at once, and every line is whole."""
    processes = [start_program(_ENDLESS, run.path, name, 1) for name in ("a", "b")]
    # In turns, so that each goes on until the other has written too.
    for _ in range(50):
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()
    for process in processes:
        process.kill()
        process.communicate()
    lines = (run.path / "events.jsonl").read_bytes().split(b"\n")
    assert {json.loads(line)["process_id"] for line in lines[:-1]} == {"a", "b"}


@pytest.mark.parametrize("name", ["", "a/b", "../x", "a b", "a\0"])
def test_a_process_id_must_name_a_file(run: Run, name: str) -> None:
    """An id that would lead elsewhere is refused."""
    with pytest.raises(RunFolderError, match="process id"):
        run.writer(name)
