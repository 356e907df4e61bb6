"""What a report can be written as, and that what a server sent is inert in each of them."""

from __future__ import annotations

import csv
import io
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tensorix_reports import latency_report, rate_limit_report
from tensorix_reports.load import FORMATS, ReportPaths, watch_report, write_report

# A script, an attribute's end, Markdown, an address, a name to call; a line turned round, a terminal's command, a bell.
EVIL = (
    "=cmd|'/c calc'!A1 <script>alert(1)</script>\"'&`*_[x](http://x.invalid)@name "
    "\u202egnp.exe\u2066 \x1b[2J\x07\r\n\t+1"
)
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u202a-\u202e\u2066-\u2069]")


@pytest.fixture(scope="module")
def evil(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> ReportPaths:
    """A report in every format, of a run with such a text wherever a server or a user can write one."""
    names = ("error_message", "error_type", "error_code", "model_served", "response_id", "finish_reason")
    columns = dict.fromkeys((*names, "limit_anomaly", "limit_spelling", "key_alias", "model_requested"), EVIL)
    records = [request_at(n, n, **columns, remaining_requests=30 - n) for n in range(20)]
    records += [request_at(20 + n, 20 + n, status=429, **columns) for n in range(5)]
    bad = {"outcome": "failed", "status": 500, "error_kind": EVIL, "error_phase": EVIL}
    records += [request_at(40 + n, 40 + n, **(columns | bad)) for n in range(5)]
    run = make_run(records, asked={"base_url": EVIL, "model": EVIL, EVIL: EVIL}, label=EVIL)
    return write_report(run, formats=FORMATS)


def test_html(evil: ReportPaths) -> None:
    """The page holds no control character, and no line of it is turned round."""
    page = evil.page.read_text()
    assert not CONTROL.search(re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL))
    assert "<script>alert" not in page
    assert "gnp.exe" in page
    drawings = re.search(r'id="drawings">(.*?)</script>', page, re.DOTALL)
    assert drawings is not None
    assert not CONTROL.search(json.dumps(json.loads(drawings[1])["remaining_requests"]["data"], ensure_ascii=False))


def test_json(evil: ReportPaths) -> None:
    """The summary keeps the text, as JSON writes it: no control character stands in the file."""
    text = evil.summary.read_text()
    assert not re.search("[\x00-\x08\x0b-\x1f]", text)
    assert json.loads(text)["run"]["asked"]["model"] == EVIL


def test_csv(evil: ReportPaths) -> None:
    """No cell of a CSV file begins like a formula or holds a control character."""
    for path in evil.folder.glob("*.csv"):
        text = path.read_bytes().decode()
        assert not CONTROL.search(text), path.name
        for row in csv.reader(io.StringIO(text)):
            assert not any(re.match(r"[=+@\t\r]|-(?![\d.])", cell) for cell in row), (path.name, row)


def test_markdown(evil: ReportPaths) -> None:
    """The Markdown calls nobody, links nowhere and holds no control character."""
    text = evil.markdown.read_text()
    assert not CONTROL.search(text)
    assert "@name" not in text
    assert "@\N{WORD JOINER}name" in text
    assert "http://" not in text
    assert "<script" not in text.replace("\\<", "")


def test_svg(evil: ReportPaths) -> None:
    """Each SVG is XML without a script, a link or a handler."""
    drawn = list(evil.folder.glob("*.svg"))
    assert drawn
    for path in drawn:
        for element in ET.fromstring(path.read_bytes()).iter():
            assert element.tag.rpartition("}")[2] not in ("script", "a", "foreignObject", "image"), path.name
            assert not [name for name in element.attrib if name.startswith("on")], path.name
        assert not CONTROL.search(path.read_text()), path.name
    assert {path.stem for path in evil.folder.glob("*.png")} == {path.stem for path in drawn}


def test_parquet(evil: ReportPaths) -> None:
    """Parquet keeps what was sent as it was sent, beside the columns that are computed."""
    frame = pd.read_parquet(evil.folder / "requests.parquet")
    assert len(frame) == 30
    assert set(frame["model_requested"]) == {EVIL}
    good = frame[frame["outcome"] == "success"]
    assert set(good["ttft_ns"]) == {100_000_000.0}
    assert set(good["e2e_ns"]) == {201_000_000.0}
    assert good["itl_ns"].iloc[0] == pytest.approx(10_000_000.0)
    assert frame["in_window"].dtype == bool
    assert frame["at_s"].is_monotonic_increasing
    assert pd.read_parquet(evil.folder / "seconds.parquet")["sent"].sum() == 30
    assert len(pd.read_parquet(evil.folder / "remaining.parquet")) == 20


def test_terminal(evil: ReportPaths) -> None:
    """What is printed commands no terminal."""
    assert all(line.isprintable() for line in evil.verdict)


def test_a_format_alone_goes_where_it_is_told(
    make_run: Callable[..., Path], request_at: Callable[..., Any], tmp_path: Path
) -> None:
    """One format in a folder that was not there yet is one file, and the run's own folder stays as it is."""
    run = make_run([request_at(n, n) for n in range(3)])
    written = write_report(run, formats=["json"], out=tmp_path / "new" / "folder")
    assert [path.name for path in written.written] == ["summary.json"]
    assert [path.name for path in (tmp_path / "new" / "folder").iterdir()] == ["summary.json"]
    assert not (run / "report").exists()


def test_frames_for_a_notebook(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """Both reports come as DataFrames that agree with their values."""
    run = make_run([*(request_at(n, n) for n in range(40)), request_at(50, 50, status=429)])
    latency, limits = latency_report(run), rate_limit_report(run)
    figures = latency.to_frames()["figures"].set_index("quantity")
    assert figures.loc["TTFT", "p50"] == latency.rows[0].figures[50.0].value
    assert set(latency.to_frames()) == {"figures", "figures_whole_run", "throughput", "outcomes", "failures"}
    assert limits.to_frames()["windows"]["refused"].sum() == 1
    assert limits.to_frames()["seconds"]["sent"].sum() == 41


def test_watching(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """A page loads itself again while its run goes on, at most a fifth of a core is used, and the last page stays."""
    run = make_run([request_at(n, n) for n in range(3)], ended_s=None)
    clock, slept, pages = [0.0], [], []

    def cpu_s() -> float:
        clock[0] += 1.5
        return clock[0]

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        pages.append((run / "report" / "report.html").read_text())

    written, ended = watch_report(run, formats=["html"], shown=lambda _: None, sleep=sleep, cpu_s=cpu_s)
    assert not ended
    assert slept[0] == 6.0
    assert len(slept) == 10
    assert all('<meta http-equiv="refresh" content=' in page for page in pages)
    assert 'http-equiv="refresh"' not in written.page.read_text()
