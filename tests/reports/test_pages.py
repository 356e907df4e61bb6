"""The files of a report: complete, agreeing with each other, and safe with whatever a server sent."""

from __future__ import annotations

import csv
import json
import re
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from tensorix_api.errors import CannotWriteError, RunFolderError
from tensorix_records import Run
from tensorix_reports.load import DEFAULT_FORMATS, SUMMARY_FORMAT, write_report
from tensorix_reports.page._picture import MOST_POINTS, thinned
from tensorix_reports.page._placing import place

EVIL = "</script><script>alert(1)</script><!--<img src=x onerror=alert(2)>\"'&|`*_[x](http://x.invalid)"


def _limited(request_at: Callable[..., Any], text: str | None = None) -> list[Any]:
    """40 requests, some refused, some failed; with `text` in every column that a server can fill."""
    columns: dict[str, Any] = {}
    if text is not None:
        names = ("error_message", "error_type", "error_code", "model_served", "response_id", "finish_reason")
        columns = dict.fromkeys((*names, "limit_anomaly", "limit_spelling", "key_alias", "model_requested"), text)
    records = [request_at(n, n, **columns, remaining_requests=30 - n, remaining_tokens=1000 - n) for n in range(30)]
    records += [request_at(30 + n, 30 + n, status=429, **columns) for n in range(5)]
    bad = {"outcome": "failed", "status": 500, "error_kind": text or "server_error", "error_phase": text}
    return records + [request_at(40 + n, 40 + n, **(columns | bad)) for n in range(5)]


class _Scripts(HTMLParser):
    """The elements of a page that could do something, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts: list[dict[str, str | None]] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.addresses: set[str | None] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.addresses |= {value for name, value in attrs if name in ("src", "href", "srcset", "data", "action")}
        if tag == "script":
            self.scripts.append(dict(attrs))


def test_all_files_are_there(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """A report is a summary, a page, Markdown and CSV files, in RUN/report."""
    run = make_run(_limited(request_at))
    paths = write_report(run)
    assert paths.folder == run / "report"
    assert {path.name for path in paths.folder.iterdir()} == {
        *("summary.json", "report.html", "report.md", "latency.csv", "failures.csv", "windows.csv", "episodes.csv"),
        *("seconds.csv", "minutes.csv", "headers.csv", "remaining.csv"),
    }
    assert paths.page.is_file()
    assert paths.verdict[0] == json.loads(paths.summary.read_text())["verdict"]["headline"]


def test_summary_is_versioned_and_whole(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """The summary names its format, holds both reports, and is JSON without NaN."""
    summary = json.loads(write_report(make_run(_limited(request_at))).summary.read_text(), parse_constant=pytest.fail)
    assert summary["format"] == SUMMARY_FORMAT
    assert set(summary) >= {"format", "run", "verdict", "goals", "rates", "latency", "rate_limit"}
    assert summary["run"]["requests"] == 40
    assert summary["rate_limit"]["totals"] == {"sent": 40, "success": 30, "throttled": 5, "failed": 5, "cancelled": 0}


def test_csv_and_markdown_agree_with_the_summary(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """The other files are views of the same figures."""
    paths = write_report(make_run(_limited(request_at)))
    summary = json.loads(paths.summary.read_text())
    with (paths.folder / "latency.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["p50"]) for row in rows] == [row["p50"]["value"] for row in summary["latency"]["figures"]]
    assert [row["p99"] for row in rows] == [""] * len(rows)
    with (paths.folder / "windows.csv").open(newline="") as file:
        windows = list(csv.DictReader(file))
    assert [(int(row["passed"]), int(row["refused"])) for row in windows] == [(30, 5)]
    with (paths.folder / "seconds.csv").open(newline="") as file:
        assert sum(int(row["sent"]) for row in csv.DictReader(file)) == 40
    markdown = paths.markdown.read_text()
    assert f"**{summary['verdict']['headline']}**" in markdown
    assert "| chat, streamed | 40 | 30 | 5 | 5 | 0 | 14.3% |" in markdown


def test_page_runs_nothing_that_a_server_sent(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """Markup in every field that a server or a user can fill stays text, in the tables and in the pictures' data."""
    run = make_run(_limited(request_at, EVIL), asked={"base_url": EVIL, "model": EVIL, EVIL: EVIL}, label=EVIL)
    page = write_report(run).page.read_text()
    parser = _Scripts()
    parser.feed(page)
    assert [script.get("type") for script in parser.scripts] == ["application/json", None, None]
    assert not {"img", "iframe", "object", "embed", "form"} & parser.tags
    assert not {name for name in parser.attributes if name.startswith("on")}
    assert "<script>alert" not in page
    data = re.search(r'<script type="application/json" id="drawings">(.*?)</script>', page, re.DOTALL)
    assert data is not None
    drawings = json.loads(data[1])
    assert EVIL in drawings["remaining_requests"]["data"]["rows"]["key_alias"]["texts"]
    assert "<" not in data[1]


def test_page_forbids_the_network(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """The page's policy allows its own scripts by their digests and nothing else, and it refers to no address."""
    page = write_report(make_run(_limited(request_at))).page.read_text()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy[1].replace("&#39;", "'").split(";"))
    assert rules["default-src"] == "'none'"
    assert re.fullmatch(r"('sha256-[A-Za-z0-9+/=]{44}' ?){2}", rules["script-src"])
    assert "unsafe-eval" not in policy[1]
    parser = _Scripts()
    parser.feed(page)
    assert parser.addresses == {"data:,"}


def test_markdown_escapes_what_a_server_sent(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """No cell, tag, link or emphasis of a server's own comes about in the Markdown."""
    markdown = write_report(make_run(_limited(request_at, EVIL + "\n# own | heading"))).markdown.read_text()
    assert not re.search(r"(?<!\\)[<`]", re.sub(r"</?(details|summary)>", "", markdown))
    assert "](http" not in re.sub(r"\\.", "", markdown)
    assert not any(line.startswith("# own") for line in markdown.splitlines())
    tables = [line for line in markdown.splitlines() if line.startswith("|")]
    failures = [re.sub(r"\\.", "", line) for line in tables if "alert" in line and "server" not in line]
    assert failures
    headers = [line for line in tables if "one of the messages" in line]
    rows = [line for line in tables if line.startswith("| failed")]
    assert {re.sub(r"\\.", "", row).count("|") for row in rows} == {headers[0].count("|")}


def test_csv_holds_no_formula(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """A message that begins like a spreadsheet's formula does not begin so in the CSV."""
    record = request_at(
        0, 0, outcome="failed", status=500, error_kind="server_error", error_message="=cmd|'/c calc'!A1"
    )
    text = (write_report(make_run([record])).folder / "failures.csv").read_text()
    assert "'=cmd" in text
    assert ",=cmd" not in text


def test_report_replaces_an_older_one(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """Writing the report again replaces its files, pictures that were not asked for included, and nobody else's."""
    run = make_run(_limited(request_at))
    paths = write_report(run, formats=[*DEFAULT_FORMATS, "svg"])
    before = paths.summary.read_bytes()
    assert (paths.folder / "rates.svg").exists()
    for name in ("notes.md", "mine.svg"):
        (paths.folder / name).write_text("kept")
    (paths.folder / "page").mkdir()
    assert write_report(run).summary.read_bytes() == before
    assert not (paths.folder / "rates.svg").exists()
    assert [(paths.folder / name).read_text() for name in ("notes.md", "mine.svg")] == ["kept", "kept"]
    assert (paths.folder / "page").is_dir()
    assert not [path for path in run.iterdir() if path.name.startswith(".report-")]


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), KeyboardInterrupt()])
def test_interrupted_at_any_rename(
    make_run: Callable[..., Path],
    request_at: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
) -> None:
    """Wherever the moving is stopped, each file of the report is there, whole, old or new; a refusal is one error."""
    run = make_run(_limited(request_at))
    paths = write_report(run)
    names = {path.name for path in paths.folder.iterdir()}
    moved = Path.replace
    for stop in range(len(names)):
        left = [stop]

        def replace(self: Path, target: Path, left: list[int] = left) -> Path:
            if left[0] == 0:
                raise error
            left[0] -= 1
            return moved(self, target)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", replace)
            files = dict.fromkeys(sorted(names), b"new")
            expected = CannotWriteError if isinstance(error, OSError) else KeyboardInterrupt
            with pytest.raises(expected):
                place(files, paths.folder)
        assert {path.name for path in paths.folder.iterdir()} == names
        assert sum((paths.folder / name).read_bytes() == b"new" for name in names) == stop
        assert not [path for path in run.iterdir() if path.name.startswith(".report-")]


def test_full_disk_leaves_the_older_report(
    make_run: Callable[..., Path], request_at: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A report that cannot be written whole changes nothing, and is no mistake of the user's."""
    run = make_run(_limited(request_at))
    paths = write_report(run)
    before = {path.name: path.read_bytes() for path in paths.folder.iterdir()}

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(CannotWriteError, match=r"cannot be written to .*report: No space left"):
        write_report(run)
    assert {path.name: path.read_bytes() for path in paths.folder.iterdir()} == before


def test_csv_files_have_their_columns_without_a_row(make_run: Callable[..., Path]) -> None:
    """An empty table is a line of column names, the same as those of a full one."""
    for path in write_report(make_run([])).folder.glob("*.csv"):
        (header, *rows) = path.read_text().splitlines()
        assert len(header.split(",")) > 3, path.name
        assert rows == [] or path.name == "seconds.csv"


def test_no_run(tmp_path: Path) -> None:
    """A folder that is no run is the caller's mistake."""
    with pytest.raises(RunFolderError):
        write_report(tmp_path)


@pytest.mark.parametrize("ended_s", [60.0, None], ids=["ended", "no end"])
def test_empty_run(make_run: Callable[..., Path], ended_s: float | None) -> None:
    """A run without a request has a page that says so, instead of empty pictures."""
    page = write_report(make_run([], ended_s=ended_s)).page.read_text()
    assert "Not enough data: no request was sent." in page
    assert 'class="picture"' not in page


def test_only_refusals(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """A run of nothing but 429s shows them, and no latency."""
    page = write_report(make_run([request_at(n, n, status=429) for n in range(20)])).page.read_text()
    assert 'id="picture-rates"' in page
    assert 'id="picture-latency"' not in page
    assert "Not enough data: no request succeeded." in page


def test_unreadable_entries_are_passed_over(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """Manifest entries and events of other writers, of any type, never stop a report."""
    odd_second: dict[str, Any] = {"in_flight": "many", "users": [], "started": None, "loop_lag_max_ns": {}}
    events: list[tuple[float, str, dict[str, Any]]] = [(1.0, "second", odd_second)]
    events += [(2.0, "phase", {}), (3.0, "users", {"count": "x"}), (4.0, "second", {"users": 2, "in_flight": 1})]
    odd: dict[str, Any] = {"limits": "none", "asked": [1, 2], "started_unix_ns": "noon"}
    run = make_run([request_at(n, n, stamp_source=None) for n in range(3)], events, **odd)
    with (run / "events.jsonl").open("a") as file:
        file.write('{"event": "second"}\n[1]\n{"t_unix_ns": "x", "kind": "second"}\n')
    assert write_report(run).page.is_file()


def test_damaged_folder(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """A cut record file is reported up to where it is whole, and the verdict says that it is damaged."""
    run = make_run([request_at(n, n) for n in range(20)])
    writer = Run.open(run).writer("p2")
    writer.add(request_at(99, 30))
    writer.close()
    records = run / "records-p2.arrows"
    records.write_bytes(records.read_bytes()[:-200])
    paths = write_report(run)
    (line,) = [line for line in paths.verdict if "DAMAGED" in line]
    assert "records-p2.arrows" in line
    assert json.loads(paths.summary.read_text())["run"]["requests"] == 20


def test_shortened_window_is_said(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """A page of a run with a shortened minute says so."""
    limits = {"requests": 60, "window_s": 10.0}
    text = "windows of 10 s in this run, not in the documented minute"
    assert text in write_report(make_run(_limited(request_at), limits=limits)).page.read_text()
    assert text not in write_report(make_run(_limited(request_at))).page.read_text()


def test_pictures_as_files(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """The pictures come as PNG and SVG without a browser, those with data only."""
    paths = write_report(make_run(_limited(request_at)), formats=[*DEFAULT_FORMATS, "png", "svg"])
    page = paths.page.read_text()
    names = set(re.findall(r'id="picture-([^"]+)"', page))
    assert names >= {"latency", "rates", "remaining_requests", "remaining_tokens"}
    assert {path.stem for path in paths.folder.glob("*.png")} == names
    assert {path.stem for path in paths.folder.glob("*.svg")} == names
    assert (paths.folder / "latency.png").read_bytes().startswith(b"\x89PNG")
    svg = (paths.folder / "rates.svg").read_text()
    assert svg.count('aria-roledescription="bar"') == 40


def test_unknown_picture_format(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """A format that cannot be drawn is the caller's mistake."""
    with pytest.raises(ValueError, match="png, svg"):
        write_report(make_run(_limited(request_at)), formats=["gif"])


def test_thinning_keeps_the_extremes() -> None:
    """Of 100,000 points no more than 2,000 are drawn, the slowest and the quickest of every stretch among them."""
    values = np.random.default_rng(1).lognormal(5, 1, 100_000)
    frame = pd.DataFrame({"at_s": np.arange(100_000) / 100, "ms": values})
    kept = thinned(frame, "ms")
    assert MOST_POINTS * 0.9 < len(kept) <= MOST_POINTS
    assert kept["at_s"].is_monotonic_increasing
    assert {values.max(), values.min()} <= set(kept["ms"])
    for start in range(0, 100_000, 1000):
        assert values[start : start + 1000].max() in set(kept["ms"])
    assert thinned(frame.head(MOST_POINTS), "ms") is not None
    assert len(thinned(frame.head(MOST_POINTS), "ms")) == MOST_POINTS


@pytest.mark.parametrize("copies", [10, pytest.param(50, marks=pytest.mark.slow)])
def test_a_hundred_thousand_records(make_run: Callable[..., Path], request_at: Callable[..., Any], copies: int) -> None:
    """A report of 100,000 requests, in the quick suite of 20,000, takes seconds; its page stays small and
    says that not every point is drawn.
    """
    small = make_run([request_at(n, n / 100, remaining_requests=n % 60) for n in range(2_000)], ended_s=1000.0)
    run = Run.open(small)
    table = run.records()
    # Written as the room writes them, many times over: adding 100,000 records one by one is not what is tested here.
    (path,) = small.glob("records-p1.arrows")
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
        for copy in range(copies):
            moved = pa.array(table["start_unix_ns"].to_numpy() + copy * 20_000_000_000)
            index = table.schema.get_field_index("start_unix_ns")
            stream.write_table(table.set_column(index, table.schema.field(index), moved))
    began = time.process_time()
    paths = write_report(small)
    took = time.process_time() - began
    assert json.loads(paths.summary.read_text())["run"]["requests"] == copies * 2_000
    assert took < 40
    assert paths.page.stat().st_size < 1_600_000
    assert f"of {copies * 2_000:,} are drawn" in paths.page.read_text()


def test_huge_numbers_from_a_server(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """Values beyond what a float holds exactly, in headers and in `usage`, leave the rest of the report whole."""
    names = ["limit_requests", "limit_tokens", "remaining_requests", "remaining_tokens", "reset_requests_ns"]
    names += ["reset_tokens_ns", "retry_after_ns", "prompt_tokens", "completion_tokens", "reasoning_tokens"]
    records = [*_limited(request_at), request_at(50, 50, **dict.fromkeys(names, 2**63 - 1))]
    records.append(request_at(51, 51, status=429, **dict.fromkeys(names, 2**53 + 1)))
    summary = json.loads(write_report(make_run(records), formats=[*DEFAULT_FORMATS, "svg"]).summary.read_text())
    assert summary["rate_limit"]["totals"]["sent"] == 42


def test_impossible_times_are_left_out(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """Records whose times a damaged disk put centuries off are counted in words, not in tables of 10^10 seconds."""
    odd = [request_at(90, 50, end_at_ns=2**62), request_at(91, 50, first_token_at_ns=-(2**62))]
    odd.append(request_at(92, 50, start_unix_ns=0))
    summary = json.loads(write_report(make_run([*_limited(request_at), *odd])).summary.read_text())
    assert summary["rate_limit"]["totals"]["sent"] == 40
    assert summary["run"]["findings"] == ["3 records have no times that can be true, and were left out"]


def test_rates(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """Requests a second are figures of the summary, the page and the Markdown: over the steady window, and at peak."""
    ramp = [request_at(n, n) for n in range(10)]
    steady = [request_at(100 + n, 10 + n / 2, status=200 if n % 4 else 429) for n in range(41)]
    burst = [request_at(200 + n, 20.1) for n in range(3)]
    phase = [(10.0, "phase", {"name": "steady"})]
    paths = write_report(make_run([*ramp, *steady, *burst], phase))
    rates = json.loads(paths.summary.read_text())["rates"]
    assert rates == {
        "offered": {"a_second": None, "peak_a_second": None},
        "sent": {"a_second": 44 / 20, "peak_a_second": 5},
        "successful": {"a_second": 33 / 20, "peak_a_second": 4},
        "throttled": {"a_second": 11 / 20, "peak_a_second": 1},
    }
    assert "| sent | 2.20 | 5 |" in paths.markdown.read_text()
    assert "Requests a second" in paths.page.read_text()
    due = [request_at(n, n, intended_at_ns=-250_000_000) for n in range(1, 22)]
    summary = json.loads(write_report(make_run(due)).summary.read_text())
    assert summary["rates"]["offered"] == {"a_second": 20 / 20, "peak_a_second": 1}
