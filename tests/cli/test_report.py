"""`tensorix report` as people use it: each format, each option, and what is said of a mistake."""

from __future__ import annotations

import csv
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pyarrow.parquet as pq
import pytest

from tensorix_records import Run

Command = Callable[..., subprocess.CompletedProcess[str]]
_DEFAULT = {"report.html", "report.md", "summary.json"}


@pytest.fixture
def run_folder(a_run: Callable[..., Run]) -> Path:
    """A run of 60 requests named `run` where the command runs."""
    return a_run("run").path


def _written(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_without_options_it_writes_the_page_and_all_that_it_shows(tensorix_here: Command, run_folder: Path) -> None:
    """Page, Markdown, JSON and CSV lie in RUN/report; the verdict and where the page is are printed."""
    done = tensorix_here("report", "run")
    assert (done.returncode, done.stderr) == (0, "")
    assert "None of 60 requests failed" in done.stdout
    (last,) = done.stdout.splitlines()[-1:]
    assert last.startswith("Report: ")
    assert Path(last.removeprefix("Report: ")).samefile(run_folder / "report" / "report.html")
    names = _written(run_folder / "report")
    assert names > _DEFAULT
    assert {name.split(".")[-1] for name in names} == {"html", "md", "json", "csv"}


@pytest.mark.parametrize("format_", ["html", "json", "csv", "md", "png", "svg", "parquet"])
def test_a_format_writes_its_own_files_only(tensorix_here: Command, run_folder: Path, format_: str) -> None:
    """Of one format nothing else is written, and each file is what its name says."""
    done = tensorix_here("report", "run", "--format", format_)
    assert (done.returncode, done.stderr) == (0, "")
    files = list((run_folder / "report").iterdir())
    assert files
    assert {path.suffix for path in files} == {f".{format_}"}
    for path in files:
        if format_ == "html":
            assert path.read_text().startswith("<!doctype html>")
        elif format_ == "json":
            assert json.loads(path.read_text())["latency"]["outcomes"][0]["success"] == 60
        elif format_ == "csv":
            with path.open(newline="") as file:
                rows = list(csv.reader(file))
            assert len(rows[0]) > 1
            assert {len(row) for row in rows} == {len(rows[0])}
        elif format_ == "md":
            assert path.read_text().startswith("# ")
        elif format_ == "png":
            assert path.read_bytes().startswith(b"\x89PNG\r\n")
        elif format_ == "svg":
            assert path.read_text().startswith("<svg ")
    if format_ == "parquet":
        table = pq.read_table(run_folder / "report" / "requests.parquet")
        assert table.num_rows == 60


def test_formats_are_taken_in_any_case_and_with_blanks(tensorix_here: Command, run_folder: Path) -> None:
    """Several with commas between; where the page is not among them the folder is named."""
    done = tensorix_here("report", "run", "--format", " JSON, md,")
    assert done.returncode == 0
    assert _written(run_folder / "report") == {"summary.json", "report.md"}
    assert done.stdout.splitlines()[-1].endswith("report")


def test_an_older_reports_pictures_do_not_stay(tensorix_here: Command, run_folder: Path) -> None:
    """They would tell of another state of the run; what is not the report's own stays."""
    assert tensorix_here("report", "run", "--format", "html,json,csv,md,svg").returncode == 0
    (run_folder / "report" / "notes.txt").write_text("mine")
    assert ".svg" in {path.suffix for path in (run_folder / "report").iterdir()}
    assert tensorix_here("report", "run").returncode == 0
    assert ".svg" not in {path.suffix for path in (run_folder / "report").iterdir()}
    assert (run_folder / "report" / "notes.txt").read_text() == "mine"


def test_out_names_another_folder(tensorix_here: Command, run_folder: Path, tmp_path: Path) -> None:
    """It is made where there is none, files in it stay, and nothing is written into the run."""
    before = _written(run_folder)
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "other.txt").write_text("mine")
    for out in ("pages", "new/and/deep"):
        assert tensorix_here("report", "run", "--out", out).returncode == 0
        assert _written(tmp_path / out) > _DEFAULT
    assert (tmp_path / "pages" / "other.txt").read_text() == "mine"
    assert _written(run_folder) == before


def test_the_schema_is_that_of_the_summary(tensorix_here: Command, run_folder: Path) -> None:
    """`--schema` asks for no run, prints a JSON Schema and nothing else, and the summary is held to it."""
    done = tensorix_here("report", "--schema")
    assert (done.returncode, done.stderr) == (0, "")
    validator = jsonschema.Draft202012Validator(json.loads(done.stdout))
    assert tensorix_here("report", "run", "--format", "json").returncode == 0
    summary = json.loads((run_folder / "report" / "summary.json").read_text())
    validator.validate(summary)
    assert not validator.is_valid(summary | {"verdict": None})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "which run"),
        (["run", "run"], "unexpected extra argument"),
        (["nowhere"], "is no run"),
        (["nowhere", "--watch"], "is no run"),
        (["folder"], "holds no manifest.json"),
        (["file"], "is a file, and a run is a folder"),
        (["x" * 300], "name too long"),
        (["newer"], "upgrade tensorix-toolkit"),
        (["garbled"], "damaged or not a run's"),
        (["run", "--format", "gif"], "html, json, csv, md, png, svg, parquet"),
        (["run", "--format", "html,gif"], "html,gif"),
        (["run", "--format", ""], "--format takes"),
        (["run", "--form"], "--form"),
    ],
    ids=lambda one: " ".join(one)[:30] if isinstance(one, list) else "",
)
def test_a_mistake_is_one_line(
    tensorix_here: Command,
    a_run: Callable[..., Run],
    run_folder: Path,
    tmp_path: Path,
    arguments: list[str],
    said: str,
) -> None:
    """Status 2, one line on standard error that says what is wrong, nothing printed and nothing written."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("{}")
    newer = a_run("newer").path / "manifest.json"
    newer.write_text(json.dumps(json.loads(newer.read_text()) | {"format": 99}))
    (a_run("garbled").path / "manifest.json").write_text("{")
    done = tensorix_here("report", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said.lower() in done.stderr.lower()
    assert len(done.stderr.splitlines()) == 1
    assert not (run_folder / "report").exists()


@pytest.mark.parametrize("out", ["file", "file/below"])
def test_where_it_cannot_write_it_says_so(tensorix_here: Command, run_folder: Path, tmp_path: Path, out: str) -> None:
    """Status 1 and one line; the file in the way is as it was."""
    (tmp_path / "file").write_text("mine")
    done = tensorix_here("report", "run", "--out", out)
    assert (done.returncode, done.stdout) == (1, "")
    assert "cannot be written to" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert (tmp_path / "file").read_text() == "mine"
    assert not (run_folder / "report").exists()
