"""Reports of production traces: what they say as of a load test, and what they must not."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tensorix_records import RequestRecord
from tensorix_reports.frames import read_frames
from tensorix_reports.limiting._rate_limit import rate_limits_of
from tensorix_reports.load import write_report
from tensorix_reports.load._latency import latency_of
from tensorix_reports.load._verdict import verdict_of
from tensorix_reports.page._statement import Verdict

Maker = Callable[..., RequestRecord]
RunMaker = Callable[..., Path]
_LOST = ("headers_at_ns", "request_sent_at_ns", "lag_first_token_ns", "lag_max_ns", "chunks_in_first_read", "chunks")


def _verdict(run: Path) -> Verdict:
    frames = read_frames(run)
    return verdict_of(frames, latency_of(frames), rate_limits_of(frames))


@pytest.fixture(scope="module")
def traces(make_run: RunMaker, request_at: Maker) -> Callable[..., Path]:
    """A run of spans of 100 calls: 60 passed, 30 refused, 4 closed early, 3 abandoned, 3 failed; two a second."""

    def make(**manifest: Any) -> Path:
        records = []
        for number in range(100):
            columns: dict[str, Any] = dict.fromkeys(_LOST) | {"source": "trace", "stamp_source": "user"}
            if number < 60:
                columns |= {"remaining_requests": 59 - number, "limit_requests": 60}
            elif number < 90:
                columns |= {"status": 429, "retry_after_ns": 5 * 10**9, "request_id": ""}
            elif number < 97:
                ended = "closed_early" if number < 94 else "abandoned"
                columns |= {"outcome": "cancelled", "stream_outcome": ended, "error_kind": "cancelled"}
                columns |= {"first_token_at_ns": 1, "end_at_ns": 2, "error_phase": "stream"}
            else:
                columns |= {"outcome": "failed", "stream_outcome": "cut", "error_kind": "cut", "error_phase": "stream"}
            records.append(request_at(number, number * 0.5, **columns))
        spans = {"spans": 120, "records": 100, "other_spans": 20, "services": {"assistant": 100}}
        entries = {"kind": "traces", "spans": spans, "files": ["a.jsonl", "b.jsonl"], "asked": None, "limits": None}
        return make_run(records, **(entries | manifest))

    return make


def test_a_share_is_called_one_and_windows_are_not_judged(traces: Callable[..., Path]) -> None:
    """Without a word that all is there, no sentence holds what passed against the limit."""
    verdict = _verdict(traces())
    assert verdict.headline == "Production traces: limit reached, with failures"
    by_topic = {statement.topic: statement for statement in verdict.statements}
    assert list(by_topic) == ["traces", "limit", "failures", "cancelled", "latency", "client", "run"]
    assert by_topic["traces"].word == "a share"
    limit = (
        "30 requests of 100 refused for the rate (429). What a window lets through is not judged: these spans may be a "
    )
    assert (
        by_topic["limit"].text
        == limit + "share of what the key sent. The least that remained by the headers: 0 requests."
    )
    assert by_topic["failures"].text == "3 of 63 requests failed (4.8%): 3 cut."
    ended = "7 requests ended by the service before the answer was whole: 4 closed early, 3 abandoned."
    assert by_topic["cancelled"].text == f"{ended} They are neither successes nor failures, and in no latency."
    assert by_topic["latency"].text == "TTFT (chat, streamed): half within 100 ms, too few for the p95 (60 requests)."
    assert "120 spans in 2 files, from 2026-09-21 14:13:20 to 2026-09-21 14:14:20 UTC" in by_topic["run"].text
    assert "20 of other work passed over." in by_topic["run"].text


def test_with_all_requests_of_the_key_windows_are_judged(traces: Callable[..., Path]) -> None:
    """`complete` in the manifest gives the sentences of a load test."""
    limits = {"requests": 60, "window_s": 45.0, "told": ["requests", "window_s"]}
    verdict = _verdict(traces(complete=True, limits=limits))
    assert verdict.headline == "Production traces: limit reached and kept, with failures"
    by_topic = {statement.topic: statement for statement in verdict.statements}
    assert by_topic["traces"].word == "complete"
    assert by_topic["windows"].word == "as allowed"
    assert by_topic["window"].word == "shortened"


def test_closed_and_abandoned_streams_are_told_apart_and_in_no_latency(traces: Callable[..., Path]) -> None:
    """The table of failures names both; their times are in no percentile."""
    report = latency_of(read_frames(traces()))
    assert {(failure.outcome, failure.kind): failure.count for failure in report.failures} == {
        ("failed", "cut"): 3,
        ("throttled", "rate_limited"): 30,
        ("cancelled", "closed_early"): 4,
        ("cancelled", "abandoned"): 3,
    }
    assert {row.quantity: (row.count, row.least) for row in report.rows if row.quantity == "TTFT"} == {
        "TTFT": (60, 100.0)
    }
    assert report.window.why == "all of the spans: a service in production has no ramp"


def test_the_page_says_that_these_are_traces(traces: Callable[..., Path]) -> None:
    """Title, notes and missing headers are those of spans; nothing is said of a server that spans do not tell."""
    written = write_report(traces())
    text = written.markdown.read_text()
    assert text.startswith("# Chat calls of assistant in production\n")
    assert "These spans may be a share of what the key sent" in text
    assert "Spans do not tell of resets, and of an attempt that another followed only its Retry-After." in text
    assert "not told" in text
    assert "On no response:" not in text
    assert "closed early" in text
    assert "every count, total and rate here is of these spans alone" in written.page.read_text()


def test_what_only_a_client_of_ours_knows_is_not_told_of_spans(traces: Callable[..., Path]) -> None:
    """No count of reads, no end of a run, no users: neither as a figure nor as an empty picture."""
    written = write_report(traces())
    text = written.markdown.read_text()
    (reads,) = [line for line in text.splitlines() if "came in one read with later chunks" in line]
    assert reads.split("|")[2].strip() == "\N{EN DASH}"
    page = written.page.read_text()
    for words in ("came to its own end", "last word of the client", "Users, and requests in flight"):
        assert words not in text + page
    assert "no response said how many tokens remain" in page


def test_settings_hold_the_limits_that_were_told(traces: Callable[..., Path]) -> None:
    """What the limiter is only taken for stands in no table of settings."""
    limits = {"requests": 60, "window_s": 60.0}
    for told, shown in ((["requests"], ["limits.requests"]), ([], [])):
        text = write_report(traces(limits=limits | {"told": told})).markdown.read_text().replace("\\", "")
        assert re.findall(r"^\| (limits\.\w+) ", text, re.M) == shown


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (1, "1 line that is cut or no OTLP left out, 1 compressed file cut."),
        (2, "2 lines that are cut or no OTLP left out, 2 compressed files cut."),
    ],
)
def test_one_and_several_that_are_cut(make_run: RunMaker, request_at: Maker, count: int, said: str) -> None:
    """What was found in the files is counted in words that fit the number."""
    run = make_run([request_at(1, 0.0)], kind="traces", spans={"lines_skipped": count, "files_cut": count})
    (text,) = [item.text for item in _verdict(run).statements if item.topic == "run"]
    assert text.endswith(f"; {said}")


def test_calls_of_which_nobody_said_whether_they_stream(make_run: RunMaker, request_at: Maker) -> None:
    """They are a kind of their own, with the time of the whole and no TTFT."""
    more = (
        "first_chunk_at_ns",
        "first_token_at_ns",
        "first_output_at_ns",
        "last_token_at_ns",
        "stream",
        "stream_outcome",
    )
    lost = (*_LOST, *more)
    records = [request_at(n, n, **dict.fromkeys(lost), source="trace") for n in range(20)]
    report = latency_of(read_frames(make_run(records, kind="traces")))
    assert [(row.request, row.quantity, row.count) for row in report.rows] == [
        ("chat", "E2E", 20),
        ("chat", "tokens/s, a user", 20),
    ]


def test_a_table_that_grows_with_the_traces_is_bounded(make_run: RunMaker, request_at: Maker) -> None:
    """A day of calls, one a minute: the page has the first 300 minutes and windows and names the file with the rest."""
    records = [request_at(n, n * 60.0, **dict.fromkeys(_LOST), source="trace") for n in range(1_440)]
    written = write_report(make_run(records, ended_s=86_400.0, kind="traces", limits={"window_s": 50.0}))
    text = written.markdown.read_text()
    assert "The first 300; 1,140 more are in minutes.csv." in text
    assert "The first 300; 1,140 more are in windows.csv." in text
    assert len((written.folder / "minutes.csv").read_text().splitlines()) == 1_441
    assert written.page.stat().st_size < 4_000_000


def test_first_chunks_stand_in_where_no_token_is_told_of(make_run: RunMaker, request_at: Maker) -> None:
    """Streams of other instrumentations have a row for the first chunk, and none that says TTFT."""
    lost = (*_LOST, "first_token_at_ns", "first_output_at_ns", "last_token_at_ns")
    records = [request_at(n, n, **dict.fromkeys(lost), source="trace") for n in range(20)]
    rows = latency_of(read_frames(make_run(records, kind="traces"))).rows
    assert [(row.quantity, row.least) for row in rows] == [
        ("first chunk", 90.0),
        ("E2E", 201.0),
        ("tokens/s, a user", pytest.approx(11 / 0.201)),
    ]


def test_a_reading_that_was_cut_short_is_told(make_run: RunMaker, request_at: Maker) -> None:
    """A run without an end has a part of its spans only."""
    verdict = _verdict(make_run([request_at(1, 0.0)], ended_s=None, kind="traces"))
    assert [item.word for item in verdict.statements if item.topic == "run"] == ["incomplete"]


def test_traces_without_a_word_in_their_manifest(make_run: RunMaker) -> None:
    """A run of spans that another writer made, and an empty one, are reported with what they have."""
    verdict = _verdict(make_run([], kind="traces", spans="odd", files=7, limits=[]))
    assert verdict.headline == "Production traces: no request was refused"
    assert write_report(make_run([], kind="traces")).page.exists()
