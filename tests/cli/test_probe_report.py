"""`tensorix probe report`, as people call it: the verdict is printed, the page is written, a mistake is a line."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tensorix_records.history import History, RoundRow

Command = Callable[..., subprocess.CompletedProcess[str]]

_CONFIGURATION = """
[history]
url = "history.sqlite"

[[target]]
name = "here"
base_url = "http://127.0.0.1:9/v1"
model = "m"
key_env = "TENSORIX_API_KEY"
objective.availability = 0.9

[[target]]
name = "silent"
base_url = "http://127.0.0.1:9/v1"
model = "m"
key_env = "TENSORIX_API_KEY"
"""


@pytest.fixture
def history(tmp_path: Path) -> Path:
    """Two hours of a probe a minute until now, of two targets in two places; 12 of the first are down."""
    now = time.time_ns()
    path = tmp_path / "history.sqlite"
    rounds = [
        RoundRow(
            round_id=f"{target}-{location}-{n}",
            target=target,
            location=location,
            state="down" if bad else "up",
            started_unix_ns=now - (120 - n) * 60 * 10**9,
            cause_check="chat" if bad else None,
            cause="status_is_200" if bad else None,
            reason="the server answered 500" if bad else None,
        )
        for target in ("here", "gone")
        for location in ("fra", "nyc")
        for n in range(120)
        for bad in [target == "here" and 50 <= n < 56]
    ]
    with History.open(str(path)) as opened:
        opened.append(rounds)
    return path


def test_a_history_is_reported(tensorix: Command, history: Path, tmp_path: Path) -> None:
    """The verdict is printed, and the page, JSON and Markdown are where the command says."""
    ran = tensorix("probe", "report", "--history", str(history), "--days", "1", "--out", "told")
    assert (ran.returncode, ran.stderr) == (0, "")
    lines = ran.stdout.strip().splitlines()
    assert lines[0] == "2 of 2 targets meet their objective so far"
    assert any(line.split()[:3] == ["MET", "SO", "FAR"] and "95 % of 240 conclusive probes" in line for line in lines)
    assert lines[-1] == "Report: told/uptime.html"
    assert (tmp_path / "told" / "uptime.html").is_file()
    figures = json.loads((tmp_path / "told" / "uptime.json").read_text())
    assert [row["failed"] for row in figures["incidents"]] == [12]


def test_a_configuration_has_the_objectives(tensorix: Command, history: Path, tmp_path: Path) -> None:
    """With a configuration its objectives are judged, its silent targets told, and others left out."""
    (tmp_path / "probes.toml").write_text(_CONFIGURATION)
    ran = tensorix("probe", "report", "probes.toml", "--pictures", "svg")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "1 of 2 targets meets its objective so far, too little is known of 1" in ran.stdout
    assert "the objective of 90 % over 30 d" in ran.stdout
    assert "gone" not in ran.stdout
    assert (tmp_path / "uptime-report" / "calendar.svg").is_file()
    assert "sk-test-of-the-command" not in "".join(path.read_text() for path in (tmp_path / "uptime-report").iterdir())


def test_targets_and_locations_can_be_chosen(tensorix: Command, history: Path, tmp_path: Path) -> None:
    """`--target` and `--location` narrow the report down."""
    chosen = ["--target", "here", "--location", "nyc"]
    assert tensorix("probe", "report", "--history", str(history), *chosen).returncode == 0
    figures = json.loads((tmp_path / "uptime-report" / "uptime.json").read_text())
    assert [(row["target"], row["location"], row["rounds"]) for row in figures["now"]] == [("here", "nyc", 120)]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ([], "--history"),
        (["--history", "none.sqlite"], "none.sqlite"),
        (["--history", "probes.toml"], "probes.toml"),
        (["none.toml"], "none.toml"),
        (["--history", "history.sqlite", "--target", "nobody"], "the history has gone, here"),
        (["probes.toml", "--target", "gone"], "probes.toml has here, silent"),
        (["--history", "history.sqlite", "--location", "moon"], "moon"),
        (["--history", "history.sqlite", "--days", "0"], "--days"),
        (["--history", "history.sqlite", "--days", "soon"], "--days"),
        (["--history", "history.sqlite", "--pictures", "gif"], "png or svg"),
        (["--history", "postgresql://user:secret-word@127.0.0.1:9/x"], "127.0.0.1"),
    ],
)
def test_mistakes(tensorix_here: Command, history: Path, tmp_path: Path, arguments: list[str], word: str) -> None:
    """What cannot be reported is one line that says what to do, exit status 2, and makes no file."""
    (tmp_path / "probes.toml").write_text(_CONFIGURATION)
    before = {path.name for path in tmp_path.iterdir()}
    ran = tensorix_here("probe", "report", *arguments)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("tensorix: error: ")
    assert ran.stderr.count("\n") == 1
    assert word in ran.stderr
    assert "secret-word" not in ran.stderr
    left = {path.name for path in tmp_path.iterdir()} - {"history.sqlite-wal", "history.sqlite-shm"}
    assert left <= before


def test_a_place_that_cannot_be_written(tensorix: Command, history: Path, tmp_path: Path) -> None:
    """Where the folder cannot be made it says so in one line, exit status 1 or 2."""
    (tmp_path / "file").write_text("")
    ran = tensorix("probe", "report", "--history", str(history), "--out", "file/below")
    assert ran.returncode in (1, 2)
    assert ran.stderr.count("\n") == 1
    assert "file" in ran.stderr
