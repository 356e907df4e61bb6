"""What a report says of objectives, and the XML that it becomes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tensorix_api.errors import CannotWriteError
from tensorix_records import RequestRecord, Run
from tensorix_reports.load import write_report
from tensorix_reports.load.junit import write_junit

GOALS = {
    "objectives": ["ttft_p50 < 200ms", "error_rate < 1%", "e2e_p99 < 1s", "goodput > 0.5/s"],
    "good": ["ttft < 150ms"],
}


@pytest.fixture(scope="module")
def run(make_run: Callable[..., Path], request_at: Callable[..., RequestRecord]) -> Path:
    """A run of 60 requests, one a second, of which two failed, with four objectives."""
    failed: dict[str, Any] = {"outcome": "failed", "status": 500, "error_kind": "server_error"}
    rows = [request_at(k, float(k), **(failed if k in (7, 9) else {})) for k in range(60)]
    return make_run(rows, label="nightly", asked={"goals": GOALS})


def test_the_objectives_stand_at_the_top(run: Path) -> None:
    """Headline and first statements say what became of each, on the page, in the Markdown and in the summary."""
    report = write_report(run)
    assert report.goals == "broken"
    assert report.verdict[0].startswith("1 of 4 objectives broken. ")
    assert [line.split("  ")[1] for line in report.verdict[1:5]] == ["MET", "BROKEN", "NOT ENOUGH DATA", "MET"]
    summary = json.loads(report.summary.read_text())["goals"]
    assert [one["standing"] for one in summary["objectives"]] == ["met", "broken", "unknown", "met"]
    assert summary["goodput"]["a_second"]["value"] == pytest.approx(58 / 59)
    for text in (report.page.read_text(), report.markdown.read_text()):
        assert "goodput" in text
        assert text.index("1 of 4 objectives broken") < text.index("Requests, and what became of them")


def test_a_run_without_objectives_has_none(make_run: Callable[..., Path]) -> None:
    """Nothing is said of objectives where nobody gave any."""
    report = write_report(make_run([]))
    assert report.goals is None
    assert "bjective" not in "".join(report.verdict)


def test_objectives_that_cannot_be_read_are_said_so(make_run: Callable[..., Path]) -> None:
    """A run of another version, or edited by hand, is reported all the same."""
    report = write_report(make_run([], asked={"goals": {"objectives": ["warp_p95 < 9"]}}))
    assert report.goals == "unknown"
    assert "cannot be read" in report.verdict[1]


def test_a_test_case_is_an_objective(run: Path, tmp_path: Path) -> None:
    """Broken is failed, not enough data is skipped, met is neither; each with its reason."""
    write_junit(Run.open(run), tmp_path / "found.xml")
    suite = ElementTree.parse(tmp_path / "found.xml").getroot()[0]
    assert [suite.get(name) for name in ("name", "tests", "failures", "skipped")] == ["nightly", "4", "1", "1"]
    cases = {case.get("name"): case for case in suite.iter("testcase")}
    assert list(cases) == GOALS["objectives"]
    failure = cases["error_rate < 1%"].find("failure")
    assert failure is not None
    assert "3.33 %" in str(failure.get("message"))
    assert [path.name for path in tmp_path.iterdir()] == ["found.xml"]


def test_a_brake_that_acted_is_a_failed_test_case(make_run: Callable[..., Path], tmp_path: Path) -> None:
    """A run that a brake ended fails its build, whatever its objectives."""
    stop = {"reason": "brake", "words": "error_rate was above 20 % for 10 s"}
    folder = make_run([], [(9.0, "stop", stop)], ended_s=None, end_reason="brake")
    write_junit(Run.open(folder), tmp_path / "found.xml")
    suite = ElementTree.parse(tmp_path / "found.xml").getroot()[0]
    assert [suite.get(name) for name in ("tests", "failures")] == ["1", "1"]
    assert "above 20 %" in ElementTree.tostring(suite, encoding="unicode")


def test_a_file_that_cannot_be_written_is_one_line(run: Path, tmp_path: Path) -> None:
    """And leaves nothing behind."""
    with pytest.raises(CannotWriteError, match="--junit"):
        write_junit(Run.open(run), tmp_path / "no" / "found.xml")
