"""`tensorix report` of runs that are cut, damaged, killed or empty, and of one that goes on."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tensorix_records import Run
from tensorix_records._writer import RunWriter

Command = Callable[..., subprocess.CompletedProcess[str]]
_ORIGIN_NS = 1_790_000_000_000_000_000


@pytest.fixture
def run_folder(a_run: Callable[..., Run]) -> Path:
    """A run of 60 requests named `run` where the command runs."""
    return a_run("run").path


def _requests(folder: Path) -> int:
    return int(json.loads((folder / "report" / "summary.json").read_text())["run"]["requests"])


def test_a_cut_file_is_read_up_to_its_last_whole_batch(tensorix_here: Command, run_folder: Path) -> None:
    """The rest is left out, and the verdict says that the folder is damaged; status 0, for there is a report."""
    (stream,) = run_folder.glob("records-*.arrows")
    data = stream.read_bytes()
    stream.write_bytes(data[: len(data) - 200])
    done = tensorix_here("report", "run")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"DAMAGED .*records-p1.arrows is cut", done.stdout)
    assert _requests(run_folder) == 40


def test_a_damaged_part_is_left_out_and_counted(tensorix_here: Command, run_folder: Path) -> None:
    """Of a compacted run whose file was damaged on the disk nothing is guessed: it is named, and its rows are gone."""
    Run.open(run_folder).compact()
    path = run_folder / "records.parquet"
    begin = pq.ParquetFile(path).metadata.row_group(0).column(0).data_page_offset
    data = bytearray(path.read_bytes())
    # Every column's pages are damaged: what lies between the first of them and the footer.
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    data[begin:footer] = bytes(255 - byte for byte in data[begin:footer])
    path.write_bytes(data)
    done = tensorix_here("report", "run")
    assert (done.returncode, done.stderr) == (0, "")
    assert "records.parquet is damaged: 1 part with 60 records could not be read" in done.stdout
    assert _requests(run_folder) == 0


def test_records_that_cannot_be_opened_are_one_line(tensorix_here: Command, run_folder: Path) -> None:
    """A file without its footer cannot be read at all: status 2, and the file is named."""
    Run.open(run_folder).compact()
    path = run_folder / "records.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    done = tensorix_here("report", "run")
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"tensorix: error: .*records\.parquet cannot be read: .*\n", done.stderr)


def test_killed_and_empty_runs_have_reports_too(
    tensorix_here: Command, a_run: Callable[..., Run], tmp_path: Path
) -> None:
    """They say that the run has no end, and that nothing was sent."""
    a_run("killed", ended=False)
    Run.create(tmp_path / "empty", {"run_id": "empty", "kind": "load", "started_unix_ns": _ORIGIN_NS})
    killed, empty = tensorix_here("report", "killed"), tensorix_here("report", "empty")
    assert (killed.returncode, empty.returncode) == (0, 0)
    assert "INCOMPLETE" in killed.stdout
    assert "No request was sent" in empty.stdout


def test_watching_a_run_that_has_ended_reports_it_once(tensorix_here: Command, run_folder: Path) -> None:
    """There is nothing to wait for, and the page does not load itself again."""
    done = tensorix_here("report", "run", "--watch")
    assert done.returncode == 0
    assert "is written again" not in done.stdout
    assert 'http-equiv="refresh"' not in (run_folder / "report" / "report.html").read_text()


@pytest.fixture
def watching(
    tmp_path: Path, environment: dict[str, str], a_run: Callable[..., Run]
) -> Callable[[], subprocess.Popen[str]]:
    """Starts `tensorix report run --watch` of a run that goes on, and waits until the first report is there."""

    def start() -> subprocess.Popen[str]:
        a_run("run", ended=False)
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "tensorix_cli", "report", "run", "--watch"],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        said = process.stdout.readline()
        assert "written again while the run goes on" in said
        return process

    return start


def test_a_watch_ends_with_its_run(
    watching: Callable[[], subprocess.Popen[str]], send: Callable[[RunWriter, int, int], None], tmp_path: Path
) -> None:
    """The page loads itself again while the run goes on; the last one does not, and has what was written since."""
    with watching() as process:
        page = tmp_path / "run" / "report" / "report.html"
        assert 'http-equiv="refresh"' in page.read_text()
        run = Run.open(tmp_path / "run")
        writer = run.writer("p2", now_unix_ns=lambda: _ORIGIN_NS)
        send(writer, 60, 5)
        writer.close()
        run.update_manifest(ended_unix_ns=_ORIGIN_NS + 8_000_000_000, end_reason="duration")
        said, complained = process.communicate(timeout=60)
    assert (process.returncode, complained) == (0, "")
    assert "None of 65 requests failed" in said
    assert 'http-equiv="refresh"' not in page.read_text()


def test_an_interrupted_watch_leaves_its_report(watching: Callable[[], subprocess.Popen[str]], tmp_path: Path) -> None:
    """Ctrl-C ends the watching: status 130, no traceback, and the report so far stays whole."""
    with watching() as process:
        process.send_signal(signal.SIGINT)
        _, complained = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in complained
    assert len(complained.splitlines()) <= 1
    written = {path.name for path in (tmp_path / "run" / "report").iterdir()}
    assert written > {"report.html", "report.md", "summary.json"}
    assert _requests(tmp_path / "run") == 60
