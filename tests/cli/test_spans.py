"""`tensorix spans`, as people call it: files of spans become a run and its report, a mistake is a line."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., subprocess.CompletedProcess[str]]
_FILE = Path(__file__).parents[1] / "records" / "traces" / "collector.jsonl"


def test_spans_become_a_run_and_its_report(tensorix: Command, tmp_path: Path) -> None:
    """The verdict says what the spans are; page, Markdown and JSON are written, and `tensorix report` takes the run."""
    ran = tensorix("spans", str(_FILE), "--out", "run", "--label", "last week")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "Production traces: limit reached, with failures" in ran.stdout
    assert "every count, total and rate here is of these spans alone" in ran.stdout
    assert "Kept of all traces, by their trace state: 25 % (2 requests)." in ran.stdout
    assert "1 request ended by the service before the answer was whole: 1 closed early." in ran.stdout
    assert "11 spans in 1 file, from 2026-09-21 14:13:20 to 2026-09-21 14:13:31 UTC" in ran.stdout
    assert ran.stdout.splitlines()[-1] == f"Run: {tmp_path / 'run'}"
    report = tmp_path / "run" / "report"
    assert "last week" in (report / "report.html").read_text()
    assert "closed early" in (report / "report.md").read_text()
    summary = json.loads((report / "summary.json").read_text())
    assert (summary["run"]["kind"], summary["run"]["requests"]) == ("traces", 8)
    again = tensorix("report", "run")
    assert (again.returncode, again.stderr) == (0, "")
    assert "Production traces" in again.stdout


def test_spans_without_a_report(tensorix: Command, tmp_path: Path) -> None:
    """`--no-report` makes the run alone; what was told of the key's limits is in its manifest."""
    options = ("--no-report", "--complete", "--limit-requests", "9", "--limit-window", "30s", "--out", "runs/there")
    ran = tensorix("spans", str(_FILE), str(_FILE), *options)
    assert ran.stdout.splitlines() == ["8 requests of 22 spans", f"Run: {tmp_path / 'runs' / 'there'}"]
    manifest = json.loads((tmp_path / "runs" / "there" / "manifest.json").read_text())
    assert manifest["limits"] == {
        "requests": 9,
        "tokens": 2_000_000,
        "window_s": 30.0,
        "told": ["requests", "window_s"],
    }
    assert manifest["complete"] is True
    assert not (tmp_path / "runs" / "there" / "report").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["spans"], "Missing argument 'FILE' (see tensorix spans --help)"),
        (["spans", "none.jsonl"], "'none.jsonl' cannot be read (No such file or directory)"),
        (["spans", "text"], "'text' holds no OTLP JSON: give files as a collector's file exporter writes them"),
        (["spans", str(_FILE), "--out", "text"], "text is a file: choose another name for the run's folder"),
        (["report", "text"], "text is a file, and a run is a folder: of spans, `tensorix spans text` makes one"),
    ],
)
def test_a_mistake_is_one_line(tensorix: Command, tmp_path: Path, arguments: list[str], said: str) -> None:
    """It says what to do, exit status 2."""
    (tmp_path / "text").write_text("no spans\n")
    ran = tensorix(*arguments)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.count("\n") == 1
    assert ran.stderr.startswith("tensorix: error: ")
    assert said in ran.stderr
