"""The files of the uptime report: complete, agreeing with each other, and safe with whatever a server sent."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tensorix_api.errors import CannotWriteError
from tensorix_records.history import ResultRow, RoundRow
from tensorix_reports.uptime import Objective, UptimePaths, uptime_report, write_uptime_report

ORIGIN = datetime(2026, 9, 22, tzinfo=UTC)
EVIL = "</script><script>alert(1)</script><!--<img src=x onerror=alert(2)>\"'&|`*_[x](http://x.invalid)"

Write = Callable[..., UptimePaths]


@pytest.fixture(scope="module")
def eventful(round_at: Callable[..., RoundRow]) -> Callable[..., list[RoundRow]]:
    """Two days of two locations with an outage, a gap, maintenance and all states; `text` wherever others can write."""

    def make(text: str | None = None, *, end: str = "up") -> list[RoundRow]:
        rounds = []
        columns: dict[str, Any] = {} if text is None else {"reason": text, "cause_check": text, "cause": text}
        for location in ("fra", "nyc") if text is None else ("fra", text):
            for n in range(576):
                if 200 <= n < 220:
                    continue
                state = {50: "down", 51: "down", 70: "inconclusive", 71: "payment", 72: "degraded"}.get(n, "up")
                state = "down" if location == "fra" and n == 400 else end if n == 575 else state
                at_s = 300 * n + (0 if location == "fra" else 150)
                start = round(ORIGIN.timestamp() + at_s) * 10**9
                stream = ResultRow(
                    check="stream",
                    state="up",
                    started_unix_ns=start,
                    phases_ns={"first_token": 10**8 + n * 10**5, "total": 10**9, "connect": 10**6},
                    requests=1,
                    tokens=30,
                    cost=0.0001,
                )
                window = (text or "upgrade") if 300 <= n < 310 else None
                more = {"location": location, "maintenance": window, "target": text or "here", "results": (stream,)}
                rounds.append(round_at(at_s, state, **more, **(columns if state != "up" else {})))
        return rounds

    return make


@pytest.fixture
def write(make_history: Callable[..., str], tmp_path: Path) -> Write:
    """Write the report of two days of some rounds."""

    def make(rounds: list[RoundRow], *, pictures: tuple[str, ...] = (), **options: Any) -> UptimePaths:
        report = uptime_report(
            make_history(rounds), since=ORIGIN, until=ORIGIN + timedelta(days=2), objectives=Objective(), **options
        )
        return write_uptime_report(report, tmp_path / "uptime", pictures=pictures)

    return make


def test_all_files_are_there(write: Write, eventful: Callable[..., list[RoundRow]]) -> None:
    """A report is a page, JSON, Markdown and CSV files, and pictures on request; an older report's pictures go."""
    names = {"uptime.json", "uptime.html", "uptime.md", "availability.csv", "objectives.csv", "incidents.csv"}
    names |= {"gaps.csv", "maintenance.csv", "latency.csv", "days.csv", "causes.csv", "spent.csv"}
    paths = write(eventful(), pictures=("png", "svg"))
    pictures = {"calendar", "timeline", "latency-1", "latency-2", "latency-4"}
    assert {path.name for path in paths.folder.iterdir()} == names | {
        f"{name}.{kind}" for name in pictures for kind in ("png", "svg")
    }
    assert (paths.folder / "calendar.png").read_bytes().startswith(b"\x89PNG")
    assert "below the objective" in (paths.folder / "calendar.svg").read_text()
    (paths.folder / "own.txt").write_text("mine")
    assert {path.name for path in write(eventful()).folder.iterdir()} == names | {"own.txt"}


def test_the_verdict_says_what_is_going_on(write: Write, eventful: Callable[..., list[RoundRow]]) -> None:
    """The headline tells the objective, the budget and an outage that goes on; the statements the figures."""
    paths = write(eventful(end="down"))
    # 556 probes of each location: 10 in maintenance, one inconclusive and one unpaid; 4 + 1 + 2 are down.
    assert paths.verdict[0] == "Objective missed: 99.356 % available, error budget overdrawn; down now"
    text = "\n".join(paths.verdict)
    assert "99.356 % of 1,088 conclusive probes found it up" in text
    assert "overdrawn by 1.6 probes (3 min 54 s)" in text
    assert (
        "here has been down from all 2 locations since 2026-09-23 23:55:00 UTC (2 probes failed): "
        "chat.status_is_200 failed" in text
    )
    assert "for 1 h 40 min nobody looked at here, from fra (and at 1 more for less)" in text
    figures = json.loads(paths.figures.read_text(), parse_constant=pytest.fail)
    assert figures["verdict"]["headline"] == paths.verdict[0]
    met = write(eventful(), targets=["here"], locations=["nyc"]).verdict
    assert met[0] == "Objective met: 99.632 % available, 26.4 % of the error budget left"
    assert "chance could have decided this" in "\n".join(met)


def test_all_the_files_agree(write: Write, eventful: Callable[..., list[RoundRow]]) -> None:
    """The CSV files and the Markdown are views of the figures in the JSON."""
    paths = write(eventful())
    figures = json.loads(paths.figures.read_text())
    for name in (
        "availability",
        "objectives",
        "incidents",
        "gaps",
        "maintenance",
        "latency",
        "days",
        "causes",
        "spent",
    ):
        with (paths.folder / f"{name}.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == len(figures[name]) > 0, name
        for row, figure in zip(rows, figures[name], strict=True):
            missing = {key for key in row if key not in figure} - {"burn_1h", "burn_6h", "burn_24h"}
            assert not missing
            assert row["target"] == figure["target"]
    with (paths.folder / "incidents.csv").open(newline="") as file:
        assert [(row["failed"], row["scope"], row["locations"]) for row in csv.DictReader(file)] == [
            ("4", "all", "fra, nyc"),
            ("1", "some", "fra"),
        ]
    markdown = paths.markdown.read_text()
    assert f"**{figures['verdict']['headline']}**" in markdown
    assert "2026-09-22 (04:10:00)" in markdown
    assert "7 min 30 s to 17 min 30 s" in markdown


def test_every_key_is_documented(write: Write, eventful: Callable[..., list[RoundRow]]) -> None:
    """UPTIME.md names every key of the JSON, and no key that is not there."""

    def keys(value: Any) -> set[str]:
        if isinstance(value, list):
            return set().union(*map(keys, value))
        return set(value).union(*map(keys, value.values())) if isinstance(value, dict) else set()

    found = keys(json.loads(write(eventful()).figures.read_text()))
    text = (Path(__file__).parents[2] / "reports" / "UPTIME.md").read_text()
    named = set(re.findall(r"`([a-z0-9_ ]+)`", text))
    assert found - named == set()
    values = {"good", "notice", "problem", "unknown", "all", "objective", "7 d", "before", "between", "after", "hours"}
    values |= {"rounds", "both", "not up", "some", "only", "null", "_unix_ns"}
    assert named - found - values == set()


def test_an_empty_history_has_a_page(write: Write) -> None:
    """Without a probe the page says so, in place of empty pictures."""
    paths = write([])
    assert paths.verdict[0] == "Nothing is known: there are no probes"
    page = paths.page.read_text()
    assert "Not enough data: no target was probed in this time." in page
    assert 'class="picture"' not in page


def test_a_servers_words_stay_words(write: Write, eventful: Callable[..., list[RoundRow]]) -> None:
    """Markup in every name and reason runs nowhere and makes no Markdown of its own; formulas stay text."""
    paths = write(eventful(EVIL, end="down"))
    page = paths.page.read_text()
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert page.count("<script") == 3
    assert re.search(r"(?<!\\)\]\(http", paths.markdown.read_text()) is None
    formula = write(eventful("=1+1"))
    assert "'=1+1" in (formula.folder / "causes.csv").read_text()


def test_a_place_that_cannot_be_written(make_history: Callable[..., str], tmp_path: Path) -> None:
    """A report that cannot be put anywhere is one error that says where."""
    (tmp_path / "file").write_text("")
    report = uptime_report(make_history(), since=ORIGIN, until=ORIGIN + timedelta(days=1))
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(CannotWriteError, match="file"):
            write_uptime_report(report, folder)


def test_many_incidents_are_cut_on_the_page_only(write: Write, round_at: Callable[..., RoundRow]) -> None:
    """The page shows the latest 200 incidents and says where the others are."""
    paths = write([round_at(300 * n, "down" if n % 2 else "up") for n in range(576)])
    assert len(json.loads(paths.figures.read_text())["incidents"]) == 288
    assert "The latest 200 of 288 incidents; all are in incidents.csv." in paths.page.read_text()
