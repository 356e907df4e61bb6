"""Rounds on their way into a history: nothing waits for it, nothing that was reported as written is lost."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tensorix_api.errors import HistoryError
from tensorix_probes.keeping import (
    Keeper,
    keep_once,
    recall_counts,
    recall_memory,
    recall_spends,
    row_of,
)
from tensorix_probes.memory import Clock, TargetMemory
from tensorix_probes.result import Assertion, Phases, ProbeResult, Round, Spent, State
from tensorix_probes.settings import HistorySettings
from tensorix_records.history import History

HOUR_NS = 3600 * 10**9
START = 1_800_000_000_000_000_000 // HOUR_NS * HOUR_NS


def _round(number: int, **changes: Any) -> Round:
    result = ProbeResult(
        check="chat",
        target="here",
        state=State.DEGRADED,
        reason="slow",
        assertions=(
            Assertion("schema_fits", True),
            Assertion("odd", False, "an odd thing", State.INCONCLUSIVE),
            Assertion("quick", False, "took 21 s", State.DEGRADED),
        ),
        phases=Phases(connect_ns=5, total_ns=21 * 10**9),
        figures={"tokens_per_second": 2.5},
        spent=Spent(1, 20, 0.5),
        started_unix_ns=START + number,
        status=200,
        request_id="q",
        key_alias="key-1",
        model="m",
    )
    known: dict[str, Any] = {
        "round_id": f"r-{number}",
        "target": "here",
        "location": "fra",
        "state": State.DEGRADED,
        "started_unix_ns": START + number,
        "results": (result,),
    }
    return Round(**(known | changes))


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a history will be."""
    return tmp_path / "history.db"


@pytest.fixture
def keeper(path: Path) -> Iterator[Keeper]:
    """One that writes there and waits for a lock a tenth of a second."""
    keeper = Keeper(HistorySettings(url=str(path), keep_results_s=1e10, keep_hours_s=1e10), wait_s=0.1)
    keeper.start()
    yield keeper
    keeper.close(10)


def _ids(path: Path) -> list[str]:
    with History.open(str(path), create=False) as history:
        return [row.round_id for row in history.rounds(results=False)]


def test_a_round_becomes_a_row_with_all_that_was_found() -> None:
    """Each fact of a round and its results, the assertion that decided first among those that failed."""
    row = row_of(_round(3, cause_check="chat", cause="quick", maintenance="sunday", slot_unix_ns=1, duration_ns=9))
    assert (row.round_id, row.target, row.location, row.state) == ("r-3", "here", "fra", "degraded")
    assert (row.cause_check, row.cause, row.maintenance, row.slot_unix_ns, row.duration_ns) == (
        "chat",
        "quick",
        "sunday",
        1,
        9,
    )
    (result,) = row.results
    assert (result.check, result.state, result.reason, result.failed) == ("chat", "degraded", "slow", ("quick", "odd"))
    assert result.assertions[2] == {"name": "quick", "held": False, "detail": "took 21 s", "otherwise": "degraded"}
    assert result.phases_ns == {"connect": 5, "total": 21 * 10**9}
    assert (result.requests, result.tokens, result.cost, result.key_alias) == (1, 20, 0.5, "key-1")
    assert (result.status, result.request_id, result.model) == (200, "q", "m")
    assert result.figures == {"tokens_per_second": 2.5}


def test_rounds_are_written_within_a_second_of_their_own_accord(keeper: Keeper, path: Path) -> None:
    """A kept round is in the file, with what is known of its target, while the keeper stays open."""
    memory = TargetMemory({"models": {"known": ["a"]}}, {"models": 7}, "a")
    assert keeper.opened(10) is not None
    began = time.monotonic()
    keeper.keep(_round(0), memory)
    memory.checks["models"]["known"].append("changed afterwards")
    _until(lambda: keeper.standing().written == 1)
    assert time.monotonic() - began < 20
    assert _ids(path) == ["r-0"]
    with History.open(str(path)) as history:
        recalled = recall_memory(history, "here", "fra")
        assert recalled == TargetMemory({"models": {"known": ["a"]}}, {"models": 7}, "a")
        assert recall_memory(history, "here", None) == TargetMemory()
        assert recall_spends(history, "key-1", 0) == [(START, Spent(1, 20, 0.5))]


def test_a_lock_holds_up_nobody_and_loses_nothing(keeper: Keeper, path: Path) -> None:
    """While another process holds the file, rounds wait in memory and the reason shows; then all are written."""
    assert keeper.opened(10) is not None
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        _until(lambda: keeper.standing().error is None)
        other.execute("BEGIN IMMEDIATE")
        for number in range(5):
            began = time.monotonic()
            keeper.keep(_round(number))
            assert time.monotonic() - began < 4
        _until(lambda: keeper.standing().error is not None)
        standing = keeper.standing()
        assert (standing.queued, standing.written, standing.lost) == (5, 0, 0)
        assert "locked by another process" in str(standing.error)
        other.execute("ROLLBACK")
    _until(lambda: keeper.standing().written == 5)
    assert keeper.standing().error is None
    assert _ids(path) == [f"r-{number}" for number in range(5)]


def test_the_queue_is_bounded_and_what_finds_no_room_is_counted(path: Path) -> None:
    """Not one round more than its bound waits; the first ones are those that are written."""
    keeper = Keeper(HistorySettings(url=str(path)), most_rounds=3)
    for number in range(5):
        keeper.keep(_round(number))
    assert (keeper.standing().queued, keeper.standing().lost) == (3, 2)
    keeper.start()
    keeper.close(10)
    assert (keeper.standing().queued, keeper.standing().written) == (0, 3)
    assert _ids(path) == ["r-0", "r-1", "r-2"]
    keeper.keep(_round(9))
    assert keeper.standing().lost == 3


def test_what_cannot_be_written_at_the_end_waits_in_a_file(path: Path) -> None:
    """Closed while the history is locked, the rounds are beside it, and the next that opens it takes them in once."""
    History.open(str(path)).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        keeper = Keeper(HistorySettings(url=str(path)), wait_s=0.1)
        keeper.start()
        for number in range(3):
            keeper.keep(_round(number))
        keeper.close(10)
        other.execute("ROLLBACK")
    assert (keeper.standing().queued, keeper.standing().lost) == (0, 0)
    assert _ids(path) == []
    for _ in range(2):
        again = Keeper(HistorySettings(url=str(path), keep_results_s=1e10))
        again.start()
        _until(lambda: _ids(path) == ["r-0", "r-1", "r-2"])
        again.close(10)
    assert (path.parent / "history.db.spool.jsonl").read_bytes() == b""


def test_a_history_that_is_removed_is_made_anew(keeper: Keeper, path: Path) -> None:
    """A file that was deleted or replaced under the keeper gets no row any more: the next has them."""
    keeper.keep(_round(0))
    _until(lambda: keeper.standing().written == 1)
    for file in path.parent.iterdir():
        file.unlink()
    keeper.keep(_round(1))
    _until(lambda: keeper.standing().written == 2)
    assert _ids(path) == ["r-1"]


def test_a_history_that_cannot_be_opened_ends_nothing(tmp_path: Path) -> None:
    """What is no history leaves rounds in memory, with the reason; put right, it takes them."""
    path = tmp_path / "history.db"
    path.write_bytes(b"not a database at all" * 100)
    keeper = Keeper(HistorySettings(url=str(path)), wait_s=0.1)
    keeper.start()
    assert keeper.opened(10) is None
    assert "no SQLite database" in str(keeper.standing().error)
    keeper.keep(_round(0))
    path.unlink()
    _until(lambda: keeper.standing().written == 1)
    keeper.close(10)
    assert _ids(path) == ["r-0"]


def test_what_cannot_be_remembered_keeps_no_round_out(keeper: Keeper, path: Path) -> None:
    """A check of somebody's own may keep what is no JSON: the round is written all the same."""
    keeper.keep(_round(0), TargetMemory({"own": {"it": object()}}))
    _until(lambda: keeper.standing().written == 1)
    assert _ids(path) == ["r-0"]


def test_a_round_that_is_none_holds_up_no_other(keeper: Keeper, path: Path) -> None:
    """What a check of somebody's own got wrong is counted and told; those after it are written."""
    keeper.keep(_round(0, results=(None,)))
    standing = keeper.standing()
    assert (standing.queued, standing.lost) == (0, 1)
    keeper.keep(_round(1))
    _until(lambda: keeper.standing().written == 1)
    assert _ids(path) == ["r-1"]


def test_it_rolls_up_and_forgets_of_its_own_accord(path: Path) -> None:
    """At the start, old rounds become hours and go, as the settings say; what is younger stays."""
    with History.open(str(path)) as history:
        old = [_round(number, started_unix_ns=START + number * 10**9) for number in range(1_200)]
        history.append([row_of(one) for one in [*old, _round(5_000, started_unix_ns=START + 4 * HOUR_NS)]])
    settings = HistorySettings(url=str(path), keep_results_s=3600.0, keep_hours_s=1e9)
    keeper = Keeper(settings, clock=Clock(unix_ns=lambda: START + 4 * HOUR_NS + 5))
    keeper.start()
    _until(lambda: _ids(path) == ["r-5000"])
    keeper.close(10)
    with History.open(str(path)) as history:
        assert [row.degraded for row in history.hours(checks=False)] == [1_200, 1]


def test_counts_for_a_page_are_those_of_the_history(path: Path) -> None:
    """By how long ago and state: the last day's one by one, those before by the hour; no maintenance among them."""
    with History.open(str(path)) as history:
        ages = [50, 49.9, 30, 23.5, 1, 0.5]
        now = START + 100 * HOUR_NS
        rounds = [
            _round(number, started_unix_ns=now - int(age * HOUR_NS), state=State.DOWN if number == 1 else State.UP)
            for number, age in enumerate(ages)
        ]
        rounds.append(_round(90, started_unix_ns=now - HOUR_NS, maintenance="window"))
        rounds.append(_round(91, started_unix_ns=now - HOUR_NS, location="nyc"))
        history.append([row_of(one) for one in rounds])
        expected = [(50.0, "up"), (50.0, "down"), (30.0, "up"), (23.5, "up"), (1.0, "up"), (0.5, "up")]
        for _ in range(2):
            counts = recall_counts(history, "here", "fra", now - 60 * HOUR_NS, now)
            assert [(ago / 3600, str(state)) for ago, state, _ in counts] == expected
            assert [number for *_, number in counts] == [1] * 6
            history.maintain(now, keep_results_s=1e9, keep_hours_s=1e9)


def test_once_keeps_what_it_found_and_what_it_knows(path: Path) -> None:
    """Rounds and memories are there for the next run, and old hours are rolled up once an hour."""
    clock = Clock(unix_ns=lambda: START + 2 * HOUR_NS)
    keep_once(str(path), [_round(0)], {"here": TargetMemory({"models": {"a": 1}})}, clock=clock)
    keep_once(str(path), [_round(1)], clock=clock)
    with History.open(str(path)) as history:
        assert recall_memory(history, "here", "fra").checks == {"models": {"a": 1}}
        assert history.recall("maintained_unix_ns") == START + 2 * HOUR_NS
        with closing(sqlite3.connect(path)) as other:
            assert other.execute("SELECT rolled_up FROM probe_rounds ORDER BY id").fetchall() == [(1,), (0,)]
        assert [row.degraded for row in history.hours(checks=False)] == [2]


def test_once_leaves_what_it_cannot_write_for_the_next(path: Path) -> None:
    """Locked, it says so in one line within its time; the results lie beside it until the next run takes them in."""
    keep_once(str(path), [_round(0)])
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        with pytest.raises(HistoryError, match="locked by another process") as caught:
            keep_once(str(path), [_round(1)], wait_s=0.2)
        assert time.monotonic() - began < 10
        assert "\n" not in str(caught.value)
        assert "history.db.spool.jsonl" in str(caught.value)
        with pytest.raises(HistoryError):
            keep_once(str(path), [_round(2)], wait_s=0.2)
        other.execute("ROLLBACK")
    # A line that a full disk cut short spoils no other.
    spool = path.with_name("history.db.spool.jsonl")
    spool.write_bytes(spool.read_bytes() + b'{"round_id": "half')
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(HistoryError):
            keep_once(str(path), [_round(3)], wait_s=0.2)
        other.execute("ROLLBACK")
    keep_once(str(path), [_round(4)])
    assert _ids(path) == ["r-0", "r-1", "r-2", "r-3", "r-4"]
    with History.open(str(path)) as history:
        assert [row.results for row in history.rounds()] == [row_of(_round(number)).results for number in range(5)]


# Forks a child for each line it reads, so that what is slow (the imports) is done once.
_WRITER = """
import os, sys
sys.path.insert(0, sys.argv[1])
import sqlalchemy.dialects.sqlite, alembic.command
from tensorix_probes.keeping import Keeper
from tensorix_probes.result import ProbeResult, Round, State
from tensorix_probes.settings import HistorySettings

def write(path):
    keeper = Keeper(HistorySettings(url=path, keep_results_s=1e10))
    keeper.start()
    number, told = 0, 0
    start = 1_800_000_000_000_000_000
    result = ProbeResult(check="chat", target="here", state=State.UP, started_unix_ns=start, reason="x" * 500)
    while True:
        if keeper.standing().queued < 1_000:
            keeper.keep(Round(round_id=f"{os.getpid()}-{number}", target=str(os.getpid()), state=State.UP,
                              started_unix_ns=start + number, results=(result,)))
            number += 1
        written = keeper.standing().written
        if written != told:
            told = written
            os.write(1, b"%d\\n" % written)

for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        write(line.strip())
    os.write(1, b"pid %d\\n" % pid)
    os.waitpid(pid, 0)
    os.write(1, b"over\\n")
"""


@pytest.mark.parametrize("kills", [6, pytest.param(40, marks=pytest.mark.slow)])
def test_what_was_reported_as_written_survives_a_kill(
    path: Path, subprocess_environment: dict[str, str], kills: int
) -> None:
    """So many times killed with SIGKILL while it writes: each round that counted as written is there, and whole."""
    process = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(Path.cwd())],
        env=subprocess_environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        for kill in range(kills):
            process.stdin.write(f"{path}\n")
            process.stdin.flush()
            pid, reported = 0, 0
            while True:
                line = process.stdout.readline().strip()
                if line == "over":
                    break
                if line.startswith("pid"):
                    pid = int(line.split()[1])
                else:
                    reported = int(line)
                if pid and reported > 500 * (kill % 2):
                    os.kill(pid, signal.SIGKILL)
            with History.open(str(path), create=False) as history:
                found = [row.round_id for row in history.rounds(target=str(pid)) if row.results]
            assert len(found) >= reported > 0
            assert found == [f"{pid}-{number}" for number in range(len(found))]
        process.stdin.close()
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("PRAGMA integrity_check").fetchone() == ("ok",)


_FULL = """
import resource, sys, time
from tensorix_probes.keeping import Keeper
from tensorix_probes.result import Round, State
from tensorix_probes.settings import HistorySettings

keeper = Keeper(HistorySettings(url=sys.argv[1], keep_results_s=1e10))
keeper.start()
assert keeper.opened(30) is not None
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
for number in range(1_000):
    keeper.keep(Round(round_id=str(number), target="here", state=State.UP, reason="x" * 1_000,
                      started_unix_ns=1_800_000_000_000_000_000 + number))
while keeper.standing().error is None:
    time.sleep(0.01)
print(keeper.standing().error, flush=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
while keeper.standing().written < 1_000:
    time.sleep(0.01)
keeper.close(10)
print(keeper.standing())
"""


def test_a_full_disk_holds_rounds_back_until_there_is_room(path: Path, subprocess_environment: dict[str, str]) -> None:
    """Where no file may grow, the reason shows and rounds wait; with room again all are written."""
    ran = subprocess.run(
        [sys.executable, "-c", _FULL, str(path)],
        env=subprocess_environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    error, standing = ran.stdout.splitlines()
    assert "cannot be written" in error
    assert standing == "Standing(queued=0, written=1000, lost=0, error=None)"
    assert len(_ids(path)) == 1_000
