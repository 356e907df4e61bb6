"""What can go wrong with a history: each is one line for whoever runs it, and costs no round."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tensorix_api.errors import HistoryError
from tensorix_records.history import History, RoundRow, spool
from tensorix_records.history._engine import place_of

MakeRound = Callable[..., RoundRow]
Start = Callable[..., "subprocess.Popen[str]"]


def _refused(url: str, *, create: bool = True) -> str:
    with pytest.raises(HistoryError) as caught:
        History.open(url, create=create, wait_s=0.2)
    told = str(caught.value)
    assert "\n" not in told
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return told


@pytest.fixture
def path(tmp_path: Path, make_round: MakeRound) -> Path:
    """A history of 300 rounds."""
    path = tmp_path / "history.db"
    with History.open(str(path)) as history:
        history.append([make_round(number) for number in range(300)])
    return path


def test_addresses_that_are_none_are_refused_without_repeating_them() -> None:
    """A file's name, `sqlite:///` and `postgresql://` are taken; else it is said what would be."""
    assert place_of("runs/history.db").file == Path("runs/history.db")
    assert place_of("sqlite:///history.db").file == Path("history.db")
    assert place_of("sqlite:////var/lib/history.db").file == Path("/var/lib/history.db")
    assert place_of("/var/lib/100%/hi?story.db").file == Path("/var/lib/100%/hi?story.db")
    for url in ("mysql://u:secret@h/db", "http://u:secret@h", "postgresql://u:secret@h:port/db", "", "sqlite://"):
        told = _refused(url)
        assert "secret" not in told
        assert "postgresql://" in told or "file" in told
    place = place_of("postgresql://u:secret@h/db?password=other&host=x")
    assert "secret" not in str(place) + repr(place)
    assert "other" not in str(place) + repr(place)
    assert str(place_of("postgres://u@h/db").url) == "postgresql+psycopg://u@h/db"


def test_what_is_no_history_is_told_so(tmp_path: Path) -> None:
    """A folder, a folder that is not there, a text, another program's database, nothing where none is to be made."""
    assert "is a folder" in _refused(str(tmp_path))
    assert "has no folder" in _refused(str(tmp_path / "none" / "history.db"))
    text = tmp_path / "text.db"
    text.write_text("no database at all " * 100)
    assert "no SQLite database" in _refused(str(text))
    other = tmp_path / "other.db"
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE bookmarks (name TEXT)")
    assert "another program" in _refused(str(other))
    assert "there is no history" in _refused(str(tmp_path / "none.db"), create=False)
    (tmp_path / "empty.db").touch()
    assert "there is no history" in _refused(str(tmp_path / "empty.db"), create=False)
    assert not (tmp_path / "none.db").exists()
    History.open(str(tmp_path / "empty.db")).close()


_AS_NOBODY = """
import os, sys
from tensorix_api.errors import HistoryError
from tensorix_records.history import History
import sqlalchemy.dialects.sqlite, sqlite3, alembic.command
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
for path in sys.argv[1:]:
    try:
        History.open(path)
    except HistoryError as error:
        print(error)
"""


def test_without_permission_it_says_so(path: Path, start_program: Start) -> None:
    """A file that may not be read, one in a folder that may not be written, and one whose folder may not be entered."""
    for folder in (path.parent, *path.parent.parents[:3]):
        if folder.stat().st_uid == os.geteuid():
            folder.chmod(0o755)
    unreadable, inside = path.parent / "unreadable.db", path.parent / "closed"
    unreadable.touch()
    unreadable.chmod(0)
    inside.mkdir()
    inside.chmod(0)
    path.parent.chmod(0o555)
    process = start_program(_AS_NOBODY, unreadable, path.parent / "new.db", inside / "new.db")
    told, _ = process.communicate(timeout=60)
    path.parent.chmod(0o755)
    inside.chmod(0o755)
    assert process.returncode == 0
    lines = told.splitlines()
    assert len(lines) == 3
    assert all("ermission" in line for line in lines), lines


@pytest.mark.parametrize("cut", [50, 4_096, 20_000, 100_000])
def test_a_truncated_file_is_told_in_one_line(path: Path, make_round: MakeRound, cut: int) -> None:
    """Opened, read or written: however much of it is missing, there is one line."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    whole = path.read_bytes()
    path.write_bytes(whole[:cut])
    try:
        with History.open(str(path)) as history:
            found = len(list(history.rounds()))
            history.append([make_round(999)])
    except HistoryError as error:
        told = str(error)
        assert "\n" not in told
        assert "damaged" in told or "no SQLite database" in told
    else:
        pytest.fail(f"{found} rounds are read of a cut file as if nothing were amiss")


def test_damage_in_the_middle_is_told_in_one_line(path: Path) -> None:
    """Overwritten pages: reading all of it ends in one line, never in a traceback of the driver's."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(path.read_bytes())
    content[40_000:120_000] = b"\xff" * 80_000
    path.write_bytes(content)
    with pytest.raises(HistoryError) as caught, History.open(str(path)) as history:
        list(history.rounds())
    assert "damaged" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_newer_schema_is_left_alone(path: Path) -> None:
    """What a newer version made is neither read nor changed by this one, and the line says what to do."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE probe_schema SET version_num = '99'")
        connection.commit()
    before = path.read_bytes()
    assert "update tensorix-toolkit" in _refused(str(path))
    assert path.read_bytes() == before


def test_a_lock_is_waited_for_and_then_told(path: Path, make_round: MakeRound) -> None:
    """While another process writes, reading goes on, writing fails within its time, and afterwards succeeds."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other, History.open(str(path), wait_s=0.1) as history:
        other.execute("BEGIN IMMEDIATE")
        assert len(list(history.rounds())) == 300
        with pytest.raises(HistoryError, match="locked by another process"):
            history.append([make_round(999)])
        with pytest.raises(HistoryError, match="locked by another process"):
            history.maintain(2**62, keep_results_s=1e9, keep_hours_s=1e9)
        other.execute("ROLLBACK")
        history.append([make_round(999)])
        assert len(list(history.rounds())) == 301


_FULL = """
import resource, sys
from tensorix_api.errors import HistoryError
from tensorix_records.history import History, RoundRow

def rows(start):
    return [RoundRow(round_id=str(number), target="here", state="up", started_unix_ns=number, reason="x" * 1000)
            for number in range(start, start + 100)]

history = History.open(sys.argv[1])
history.append(rows(0))
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), hard))
told, written = "", 1
while not told:
    try:
        history.append(rows(100 * written))
        written += 1
    except HistoryError as error:
        told = str(error)
print(told)
print(len(list(history.rounds())) == 100 * written)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
history.append(rows(100 * written))
print(len(list(history.rounds())) == 100 * (written + 1))
"""


def test_a_full_disk_takes_nothing_away(tmp_path: Path, start_program: Start) -> None:
    """Where a file can grow no further, a write fails in one line and whole; with room again it succeeds."""
    process = start_program(_FULL, tmp_path / "history.db", 1_000_000)
    told, _ = process.communicate(timeout=60)
    lines = told.splitlines()
    assert len(lines) == 3, told
    assert "cannot be written" in lines[0]
    assert lines[1:] == ["True", "True"]


_APPEND = """
import sys
from tensorix_records.history import History, RoundRow

sys.stdin.readline()
with History.open(sys.argv[1], wait_s=60) as history:
    for number in range(20):
        row = RoundRow(round_id=f"{sys.argv[2]}-{number}", target=sys.argv[2], state="up", started_unix_ns=number)
        history.append([row], remember={sys.argv[2]: number})
        history.maintain(10**18, keep_results_s=1e10, keep_hours_s=1e10)
"""


def test_processes_share_one_history(history_url: str, start_program: Start) -> None:
    """Two that open a new one at the same instant, write and roll up: each round is there and counted once."""
    processes = [start_program(_APPEND, history_url, f"p{number}") for number in range(2)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=110)
        assert process.returncode == 0
    with History.open(history_url) as history:
        assert sorted(row.round_id for row in history.rounds()) == sorted(
            f"p{process}-{number}" for process in range(2) for number in range(20)
        )
        assert [(row.target, row.up) for row in history.hours()] == [("p0", 20), ("p1", 20)]
        assert [history.recall(f"p{number}") for number in range(2)] == [19] * 2


def test_a_spool_that_cannot_be_written_says_so(tmp_path: Path, make_round: MakeRound) -> None:
    """Where there is no folder for it either, that is one line, too."""
    with pytest.raises(HistoryError, match="No such file or directory"):
        spool(str(tmp_path / "none" / "history.db"), [make_round()])


def test_a_spool_of_another_version_is_taken_in(path: Path, make_round: MakeRound) -> None:
    """Fields that this version does not know are passed over, and so are lines that are no rounds."""
    beside = spool(str(path), [make_round(400)])
    line = beside.read_text().strip()
    beside.write_text(
        line[:-1].replace("r-400", "r-401") + ',"of_tomorrow":1}\n[]\n{}\n"x"\nnull\n{"results":[1]}\n' + line + "\n"
    )
    with History.open(str(path)) as history:
        assert history.take_in() == 2
        assert history.take_in() == 0
        found = list(history.rounds(since_unix_ns=make_round(399).started_unix_ns))
    assert sorted(row.round_id for row in found) == ["r-400", "r-401"]
    assert found[0].results == make_round(400).results


def test_the_spool_for_postgresql_lies_with_the_users_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_round: MakeRound
) -> None:
    """In systemd's folder for state, or the user's; the same for the same database, whatever its password."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    first = spool("postgresql://u:one@h/db", [make_round(1)])
    assert first.parent == tmp_path / "state" / "tensorix"
    assert spool("postgresql://u:two@h/db", [make_round(2)]) == first
    assert len(first.read_text().splitlines()) == 2
    assert "one" not in first.name
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "systemd"))
    assert spool("postgresql://u:one@h/db", [make_round(1)]).parent == tmp_path / "systemd"


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs Linux's /proc")
def test_closing_leaves_no_connection(path: Path) -> None:
    """After `close` nothing of this process has the file open."""
    with History.open(str(path)) as history:
        list(history.rounds())
    opened = [file.readlink() for file in Path("/proc/self/fd").iterdir() if file.is_symlink()]
    assert path not in opened
