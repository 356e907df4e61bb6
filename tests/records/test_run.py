from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tensorix_api import Secret
from tensorix_api.errors import CannotWriteError, RunFolderError
from tensorix_records import Run

Start = Callable[..., "subprocess.Popen[str]"]

_UPDATES = """
import sys
from tensorix_records import Run

run = Run.open(sys.argv[1])
sys.stdin.readline()
for number in range(200):
    run.update_manifest(**{f"{sys.argv[2]}{number}": number})
"""


def test_a_run_is_made_in_a_new_or_empty_folder(tmp_path: Path) -> None:
    """The manifest holds its format, what was given, and an end that is not there yet."""
    (tmp_path / "empty").mkdir()
    for name in ("new", "empty"):
        Run.check_creatable(tmp_path / name)
        run = Run.create(tmp_path / name, {"run_id": "run-1", "asked": {"users": 3}})
        assert run.manifest == {
            "format": 1,
            "run_id": "run-1",
            "asked": {"users": 3},
            "ended_unix_ns": None,
            "end_reason": None,
        }
        assert Run.open(str(tmp_path / name)).path == run.path


def test_checking_leaves_nothing_behind(tmp_path: Path) -> None:
    """A look at whether a run could be made makes nothing."""
    Run.check_creatable(tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_where_no_run_can_be_made_one_line_says_what_to_do(tmp_path: Path) -> None:
    """Each reason has its own line; `create` refuses as `check_creatable` does, and changes nothing."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thing").write_text("x")
    Run.create(tmp_path / "run", {"run_id": "run-1"})
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    before = sorted(tmp_path.rglob("*"))
    cases = {
        "file": "is a file: choose",
        "dangling": "is a file: choose",
        "full": "is not empty: choose",
        "run": "is already a run: choose",
        "none/run": "is no folder: make it first",
        "file/run": "is no folder: make it first",
    }
    for name, words in cases.items():
        for attempt in (Run.check_creatable, lambda path: Run.create(path, {"run_id": "run-2"})):
            with pytest.raises(RunFolderError, match=words) as caught:
                attempt(tmp_path / name)
            assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.skipif(sys.platform != "linux", reason="takes a file system on which nobody, root included, can write")
def test_a_place_that_cannot_be_written_is_told() -> None:
    """The check tries to write rather than to read permissions."""
    with pytest.raises(RunFolderError, match="cannot be written to"):
        Run.check_creatable("/proc/run")


def test_what_is_no_run_is_not_opened(tmp_path: Path) -> None:
    """A folder without a manifest, a damaged one and one of a newer version are told apart."""
    (tmp_path / "file").write_text("x")
    for name in ("missing", "", "file"):
        with pytest.raises(RunFolderError, match="is no run"):
            Run.open(tmp_path / name)
    manifest = tmp_path / "manifest.json"
    for text in ("", "{", "[]", "{}", '{"format": "1"}', "\0" * 50):
        manifest.write_text(text)
        with pytest.raises(RunFolderError, match="damaged or not a run's"):
            Run.open(tmp_path)
    manifest.write_text('{"format": 2}')
    with pytest.raises(RunFolderError, match="newer than 1: upgrade"):
        Run.open(tmp_path)


def test_an_update_is_seen_by_others_and_keeps_the_rest(run: Run) -> None:
    """Whoever has the run open reads the manifest as it is now; what is got from it is one's own."""
    other = Run.open(run.path)
    run.update_manifest(ended_unix_ns=5, end_reason="done")
    assert other.manifest["end_reason"] == "done"
    other.manifest["run_id"] = "changed"
    assert other.manifest["run_id"] == "run-1"


def test_updates_of_two_processes_are_both_kept(run: Run, start_program: Start) -> None:
    """Reading, changing and replacing the manifest is one step."""
    processes = [start_program(_UPDATES, run.path, name) for name in ("a", "b")]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert {f"{name}{number}" for name in "ab" for number in range(200)} <= run.manifest.keys()


def test_a_killed_update_leaves_the_manifest_whole(run: Run, start_program: Start) -> None:
    """At every moment the manifest is the one before or the one after; a trial file left over does no harm."""
    process = start_program(_UPDATES.replace("range(200)", "iter(int, 1)"), run.path, "a")
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    while "a0" not in run.manifest:
        assert process.poll() is None
    process.kill()
    process.communicate()
    (run.path / "manifest.json.new").write_text('{"cut')
    assert run.manifest["run_id"] == "run-1"
    run.update_manifest(after=True)
    assert json.loads((run.path / "manifest.json").read_text())["after"] is True


def test_a_secret_is_not_written(run: Run) -> None:
    """A key that was put into the manifest by mistake is an error, and the manifest stays as it was."""
    with pytest.raises(TypeError):
        Run.create(run.path.parent / "other", {"run_id": "run-1", "key": Secret("sk-never-shown-anywhere")})
    assert not (run.path.parent / "other").exists()
    before = (run.path / "manifest.json").read_bytes()
    with pytest.raises(TypeError):
        run.update_manifest(key=Secret("sk-never-shown-anywhere"))
    assert (run.path / "manifest.json").read_bytes() == before
    assert not any(b"never-shown" in path.read_bytes() for path in run.path.iterdir())


def test_an_empty_run_reads_as_nothing(run: Run) -> None:
    """Before anything was written each table is empty with its columns, and only the end is missing."""
    assert run.records().num_rows == 0
    assert run.records(["status", "record_id"]).column_names == ["status", "record_id"]
    assert run.gap_counts().column_names == ["second_unix", "model", "bucket", "count"]
    assert run.events() == []
    assert [text.split(" ")[0] for text in run.findings()] == ["manifest.json"]
    run.update_manifest(ended_unix_ns=1)
    assert run.findings() == []


def test_the_parent_of_a_run_need_not_be_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run stays where it was made when the process goes elsewhere."""
    monkeypatch.chdir(tmp_path)
    run = Run.create("run", {"run_id": "run-1"})
    os.chdir("/")
    run.update_manifest(still="here")
    assert (tmp_path / "run" / "manifest.json").is_file()


@pytest.mark.parametrize("name", ["x" * 300, "a\0b"])
def test_names_that_no_folder_can_have(tmp_path: Path, name: str) -> None:
    """A name that is too long, or holds a null, is said in one line."""
    for path in (tmp_path / name, tmp_path / name / "run"):
        for make in (Run.check_creatable, lambda path: Run.create(path, {"run_id": "r"})):
            with pytest.raises(RunFolderError) as caught:
                make(path)
            assert "choose another" in str(caught.value)
            assert str(caught.value).isprintable()


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_a_folder_that_may_not_be_looked_into(tmp_path: Path) -> None:
    """Where the folders above forbid even to look, that is said in one line."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    closed.chmod(0)
    mine = os.geteuid()
    if mine == 0:
        # Nothing is forbidden to root, so for a moment somebody else asks.
        os.seteuid(65534)
    try:
        with pytest.raises(RunFolderError, match="choose another"):
            Run.check_creatable(closed / "run")
    finally:
        os.seteuid(mine)
        closed.chmod(0o700)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
def test_a_failed_write_is_told_from_a_mistake(run: Run) -> None:
    """A disk that runs full is an error of its own: what was asked for was right."""
    (run.path / "manifest.json.new").symlink_to("/dev/full")
    with pytest.raises(CannotWriteError, match="No space left"):
        run.update_manifest(end_reason="requests")
    (run.path / "events.jsonl").symlink_to("/dev/full")
    writer = run.writer("w1")
    with pytest.raises(CannotWriteError, match="No space left"):
        writer.event("second")
    writer.close()
