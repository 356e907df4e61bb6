"""What docs/reports.md shows: its code runs, and its pictures are those that a command makes."""

from __future__ import annotations

import re
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tensorix_reports import compare, latency_report, rate_limit_report
from tensorix_reports.load import FORMATS, ReportPaths, write_report

_ROOT = Path(__file__).parents[2]
_PICTURES = _ROOT / "docs" / "pictures"


@pytest.fixture(scope="module")
def document() -> str:
    """docs/reports.md."""
    return (_ROOT / "docs" / "reports.md").read_text("utf-8")


@pytest.fixture(scope="module")
def run(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> Path:
    """A run that meets its limit."""
    records = [request_at(n, n / 2, remaining_requests=59 - n) for n in range(60)]
    return make_run([*records, *(request_at(60 + n, 31 + n, status=429) for n in range(5))])


def _make_pictures(environment: Mapping[str, str], *words: str) -> str:
    command = [sys.executable, str(_ROOT / "docs" / "make_pictures.py"), *words]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=110, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_the_code_for_a_notebook_runs(
    document: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The example gives frames, whose names and columns are those that it says."""
    (code,) = re.findall(r"```python\n(.*?)```", document, re.DOTALL)
    (tmp_path / "runs").mkdir()
    for name in ("first", "before", "after"):
        (tmp_path / "runs" / name).symlink_to(run)
    monkeypatch.chdir(tmp_path)
    made: dict[str, Any] = {}
    exec(code, made)
    assert made["latency"]["figures"]["count"].max() == 60
    assert made["limits"]["windows"]["passed"].max() == 60
    assert made["differences"] == compare([tmp_path / "runs" / "before", tmp_path / "runs" / "after"]).to_dict()
    said = {*re.findall(r"`(\w+)`", document.split("`to_frames()` gives")[1].split("`to_dict()`")[0])}
    assert said == {*latency_report(run).to_frames(), *rate_limit_report(run).to_frames()}


def test_the_files_are_those_that_are_listed(document: str, run: Path, tmp_path: Path) -> None:
    """Each format writes the files that stand beside it, and there is no other format."""
    rows = re.findall(r"^\| (`(?:html|json|csv|md|png|parquet)`.*?) \| (.*) \|$", document, re.MULTILINE)
    listed = {
        name: {*re.findall(r"`(\w+\.\w+)`", files)} for names, files in rows for name in names[1:-1].split("`, `")
    }
    assert set(listed) == set(FORMATS)
    for name, files in listed.items():
        written: ReportPaths = write_report(run, formats=[name], out=tmp_path / name)
        found = {path.name for path in written.written}
        if name in ("png", "svg"):
            assert found
            assert all(file.endswith(f".{name}") for file in found)
        else:
            assert found == files


def test_the_documents_show_what_the_command_makes(subprocess_environment: dict[str, str]) -> None:
    """The documents show every picture that the command makes, and none besides; each is there and small."""
    made = {f"{name}.png" for name in _make_pictures(subprocess_environment, "--list").split()}
    documents = [_ROOT / "README.md", *(_ROOT / "docs").glob("*.md")]
    shown = {name for path in documents for name in re.findall(r"\]\((?:docs/)?pictures/(.*?)\)", path.read_text())}
    assert shown == made == {path.name for path in _PICTURES.iterdir()}
    for name in made:
        data = (_PICTURES / name).read_bytes()
        assert data.startswith(b"\x89PNG")
        assert len(data) <= 150_000


@pytest.mark.system("chromium")
def test_the_command_makes_a_picture(subprocess_environment: dict[str, str], tmp_path: Path) -> None:
    """From made-up spans to the photograph of a page, as large as the one that is checked in."""
    _make_pictures(subprocess_environment, "traces", "--out", str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["traces.png"]
    sizes = [struct.unpack(">II", (folder / "traces.png").read_bytes()[16:24]) for folder in (tmp_path, _PICTURES)]
    assert sizes[0] == sizes[1] == (1000, 820)
