"""The latency report of hand-made runs, by exact numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tensorix_records import Run
from tensorix_reports import latency_report

MS = 1_000_000
UNSTREAMED = {
    **dict.fromkeys(("first_chunk_at_ns", "first_token_at_ns", "first_output_at_ns", "last_token_at_ns", "chunks")),
    "stream": False,
}
MODELS = UNSTREAMED | {"endpoint": "/models", "stream": None, "completion_tokens": None, "token_source": None}


def _rows(run: Path) -> dict[tuple[str, str, str | None], dict[str, Any]]:
    figures = latency_report(run).to_dict()["figures"]
    rows = {(row["request"], row["quantity"], row["token_source"]): row for row in figures}
    assert len(rows) == len(figures)
    return rows


def test_percentiles_are_those_of_numpy(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """Each percentile is NumPy's of the same values, in milliseconds, with its count and an interval around it."""
    values = np.random.default_rng(5).lognormal(5, 0.5, 600)
    records = [
        request_at(
            number,
            number / 10,
            first_token_at_ns=int(ms * MS),
            first_output_at_ns=int(ms * MS) + MS,
            last_token_at_ns=int(ms * MS) + 100 * MS,
            end_at_ns=int(ms * MS) + 105 * MS,
        )
        for number, ms in enumerate(values)
    ]
    rows = _rows(make_run(records))
    for quantity, source, more in (("TTFT", None, 0.0), ("TTFO", None, 1.0), ("E2E", None, 105.0)):
        row = rows["chat, streamed", quantity, source]
        assert row["count"] == 600
        for percent in (50, 90, 95, 99):
            figure = row[f"p{percent}"]
            assert figure["value"] == pytest.approx(np.percentile(np.floor(values * MS) / MS, percent) + more)
            assert figure["low"] <= figure["value"] <= figure["high"]
            assert figure["count"] == 600
    itl = rows["chat, streamed", "ITL", "usage"]
    assert (itl["p50"]["value"], itl["least"], itl["most"]) == (10.0, 10.0, 10.0)
    assert rows["chat, streamed", "tokens/s, a user", "usage"]["p50"]["value"] == pytest.approx(100.0)


def test_too_few_samples_are_withheld(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """A percentile with fewer than five samples beyond it has no value, and says what it lacks."""
    row = _rows(make_run([request_at(number, number) for number in range(60)]))["chat, streamed", "TTFT", None]
    assert (row["p50"]["value"], row["p90"]["value"]) == (100.0, 100.0)
    assert (row["p95"]["value"], row["p99"]["value"]) == (None, None)
    assert row["p99"]["withheld"] == "not enough data: p99 needs 500 samples, there are 60"


def test_unlike_requests_are_kept_apart(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """Streamed chat, chat that is not and model lists have rows of their own; only streams have a TTFT."""
    records = [request_at(number, number) for number in range(10)]
    records += [request_at(20 + n, 20 + n, **UNSTREAMED, end_at_ns=2_000 * MS) for n in range(10)]
    records += [request_at(40 + n, 40 + n, **MODELS, end_at_ns=7 * MS) for n in range(10)]
    rows = _rows(make_run(records))
    assert [key[:2] for key in rows] == [
        ("chat, streamed", "TTFT"),
        ("chat, streamed", "TTFO"),
        ("chat, streamed", "E2E"),
        ("chat, streamed", "ITL"),
        ("chat, streamed", "tokens/s, a user"),
        ("chat, not streamed", "E2E"),
        ("chat, not streamed", "tokens/s, a user"),
        ("models", "E2E"),
    ]
    assert [rows[kind, "E2E", None]["p50"]["value"] for kind in ("chat, streamed", "chat, not streamed", "models")] == [
        201.0,
        2000.0,
        7.0,
    ]
    assert rows["chat, not streamed", "tokens/s, a user", "usage"]["p50"]["value"] == 5.5


def test_tokens_by_usage_and_by_chunks_are_never_pooled(
    make_run: Callable[..., Path], request_at: Callable[..., Any]
) -> None:
    """What rests on tokens has a row for each way of counting them; what does not has one row."""
    records = [request_at(n, n, completion_tokens=11) for n in range(10)]
    records += [request_at(20 + n, 20 + n, completion_tokens=6, token_source="chunks") for n in range(10)]
    run = make_run(records)
    rows = _rows(run)
    assert rows["chat, streamed", "TTFT", None]["count"] == 20
    assert rows["chat, streamed", "ITL", "usage"]["p50"]["value"] == 10.0
    assert rows["chat, streamed", "ITL", "chunks"]["p50"]["value"] == 20.0
    throughput = {row.token_source: row for row in latency_report(run).throughput}
    assert (throughput["usage"].tokens, throughput["chunks"].tokens) == (110, 60)


def test_models_are_kept_apart_where_several_were_asked(
    make_run: Callable[..., Path], request_at: Callable[..., Any]
) -> None:
    """Two models in one run have rows of their own."""
    records = [request_at(n, n, model_requested=f"model-{n % 2}") for n in range(20)]
    assert {key[0] for key in _rows(make_run(records))} == {"chat, streamed, model-0", "chat, streamed, model-1"}


def test_only_successes_enter_the_latencies(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """What was throttled, failed or cancelled has counts of its own and no part in a percentile."""
    records = [request_at(n, n) for n in range(10)]
    records += [request_at(20 + n, 20 + n, status=429) for n in range(3)]
    bad = {"outcome": "failed", "error_kind": "cut", "error_phase": "stream", "stream_outcome": "cut"}
    records += [request_at(30 + n, 30 + n, **bad, end_at_ns=9_000 * MS, error_message="cut off") for n in range(2)]
    records += [request_at(40, 40, outcome="cancelled", error_kind="cancelled", status=None)]
    report = latency_report(make_run(records)).to_dict()
    assert {row["quantity"]: row["count"] for row in report["figures"]}["E2E"] == 10
    assert report["outcomes"] == [
        {"request": "chat, streamed", "sent": 16, "success": 10, "throttled": 3, "failed": 2, "cancelled": 1}
    ]
    assert [(f["outcome"], f["kind"], f["phase"], f["status"], f["count"]) for f in report["failures"]] == [
        ("failed", "cut", "stream", 200, 2),
        ("throttled", "rate_limited", "headers", 429, 3),
        ("cancelled", "cancelled", None, None, 1),
    ]
    assert report["failures"][0]["sample"] == "cut off"
    assert (report["failures"][0]["first_s"], report["failures"][0]["last_s"]) == (30.0, 31.0)


def test_samples_are_redacted_once_more(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """A credential that slipped into a record does not reach the report."""
    message = "bad key sk-abcdefghijklmnop in Bearer abcdefghijklmnop"
    record = request_at(0, 0, outcome="failed", status=401, error_kind="authentication", error_message=message)
    (failure,) = latency_report(make_run([record])).failures
    assert failure.sample is not None
    assert "abcdefgh" not in failure.sample


def test_the_preflight_is_no_part_of_the_load(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """The model list asked for before the run is counted, but is in no latency and not among the started."""
    preflight = request_at(0, 0, **MODELS, scenario="preflight", end_at_ns=900 * MS)
    records = [preflight, *(request_at(1 + n, 1 + n) for n in range(10))]
    seconds = [(12.0, "second", {"started": 13, "in_flight": 3})]
    report = latency_report(make_run(records, seconds, ended_s=None)).to_dict()
    assert {row["request"] for row in report["figures"]} == {"chat, streamed"}
    assert (report["window"]["start_s"], report["window"]["requests_outside"]) == (1.0, 0)
    assert [(row["request"], row["sent"]) for row in report["outcomes"]] == [
        ("chat, streamed", 10),
        ("models, preflight", 1),
    ]
    assert report["trust"]["unfinished"] == 3


def test_the_ramp_stands_apart(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """Figures rest on what started once all users had; the whole run is kept beside it."""
    records = [request_at(n, n, first_token_at_ns=50 * MS) for n in range(10)]
    records += [request_at(10 + n, 10 + n, first_token_at_ns=150 * MS) for n in range(30)]
    report = latency_report(make_run(records, [(10.0, "phase", {"name": "steady"})])).to_dict()
    assert report["window"]["start_s"] == 10.0
    assert report["window"]["end_s"] == 39.0
    assert (report["window"]["requests_inside"], report["window"]["requests_outside"]) == (30, 10)
    assert [report[name][0]["count"] for name in ("figures", "figures_whole_run")] == [30, 40]
    assert report["figures"][0]["least"] == 150.0
    assert report["figures_whole_run"][0]["least"] == 50.0


def test_a_run_that_is_nearly_all_ramp_is_taken_whole(
    make_run: Callable[..., Path], request_at: Callable[..., Any]
) -> None:
    """A steady state with next to no request is no ground for figures."""
    records = [request_at(n, n) for n in range(40)]
    report = latency_report(make_run(records, [(38.5, "phase", {"name": "steady"})]))
    assert (report.inside, report.outside) == (40, 0)
    assert "nearly all requests started before" in report.window.why


def test_output_tokens_are_counted_when_they_arrived(
    make_run: Callable[..., Path], request_at: Callable[..., Any]
) -> None:
    """Two streams of 100 tokens over 10 s each, one of them half beyond the window: 150 tokens in 10 s."""
    stream = {"first_token_at_ns": 0, "last_token_at_ns": 10**10, "end_at_ns": 10**10, "completion_tokens": 100}
    records = [request_at(0, 0, **stream), request_at(1, 5, **stream), request_at(2, 10, status=429)]
    (row,) = latency_report(make_run(records)).throughput
    assert row.tokens == 200
    assert row.a_second == pytest.approx(15.0)
    assert row.peak_a_second == pytest.approx(20.0)


def test_gaps_between_chunks(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """ICL comes from the counted gaps, to within 0.8 %, and from those within the window only."""
    path = make_run([request_at(n, n) for n in range(20)], [(10.0, "phase", {"name": "steady"})])
    run = Run.open(path)
    writer = run.writer("p2")
    start = int(run.manifest["started_unix_ns"])
    writer.add_gaps("m", np.arange(start, start + 2 * 10**9, 100 * MS, dtype=np.int64))
    writer.add_gaps("m", np.arange(start + 12 * 10**9, start + 14 * 10**9, 20 * MS, dtype=np.int64))
    writer.flush()
    writer.close()
    rows = _rows(path)
    icl = rows["chat, streamed", "ICL", None]
    assert icl["count"] == 99
    assert icl["p50"]["value"] == pytest.approx(20.0, rel=0.008)
    assert icl["p99"]["value"] is None


def test_gaps_of_the_second_in_which_the_window_begins(
    make_run: Callable[..., Path], request_at: Callable[..., Any]
) -> None:
    """A second that is part ramp is left out of the ICL: its gaps are not told apart."""
    path = make_run([request_at(n, n) for n in range(20)], [(10.5, "phase", {"name": "steady"})])
    run = Run.open(path)
    writer = run.writer("p2")
    start = int(run.manifest["started_unix_ns"])
    writer.add_gaps("m", np.arange(start + 10 * 10**9, start + 10_450 * MS, 10 * MS, dtype=np.int64))
    writer.add_gaps("m", np.arange(start + 11 * 10**9, start + 13 * 10**9, 20 * MS, dtype=np.int64))
    writer.flush()
    writer.close()
    assert _rows(path)["chat, streamed", "ICL", None]["count"] == 99


def test_trust(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """The client's own lag, merged reads and loop are reported as recorded."""
    records = [request_at(n, n / 2, lag_first_token_ns=(n + 1) * 1000, lag_max_ns=7 * MS) for n in range(101)]
    records += [request_at(200 + n, n, chunks_in_first_read=3) for n in range(2)]
    second = {"loop_lag_max_ns": 3 * MS, "cpu_share": 0.25, "rss_bytes": 10**8, "started": 103, "in_flight": 0}
    trust = latency_report(make_run(records, [(59.0, "second", second)])).trust
    assert trust.stamps == {"kernel": 103}
    assert (trust.lag_count, trust.lag_p50_ns, trust.lag_max_ns) == (103, 50_000.0, 7e6)
    assert (trust.merged_first_reads, trust.first_tokens) == (2, 103)
    assert (trust.loop_lag_max_ns, trust.cpu_share_max, trust.rss_max_bytes) == (3e6, 0.25, 10**8)
    assert (trust.unfinished, trust.ended, trust.level, trust.reasons) == (0, True, "good", [])


def test_reads_that_nobody_tells_of(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """Where no record says what came with a first token, none is counted as alone."""
    trust = latency_report(make_run([request_at(n, n, chunks_in_first_read=None) for n in range(9)])).trust
    assert (trust.merged_first_reads, trust.first_tokens) == (None, 9)


@pytest.mark.parametrize(
    ("columns", "second", "reason"),
    [
        ({"stamp_source": "user"}, {}, "the program's own"),
        ({"lag_first_token_ns": 60 * MS}, {}, "60.0 ms late"),
        ({"chunks_in_first_read": 2}, {}, "in one read with later chunks"),
        ({}, {"loop_lag_max_ns": 250 * MS}, "stood still for 250 ms"),
        ({}, {"cpu_share": 0.97}, "97% of a core"),
    ],
)
def test_reasons_for_care(
    make_run: Callable[..., Path],
    request_at: Callable[..., Any],
    columns: dict[str, Any],
    second: dict[str, Any],
    reason: str,
) -> None:
    """Each thing that makes figures doubtful is said in words."""
    trust = latency_report(make_run([request_at(n, n, **columns) for n in range(20)], [(20, "second", second)])).trust
    assert trust.level == "care"
    assert any(reason in text for text in trust.reasons)


def test_requests_in_flight_when_a_run_was_killed(
    make_run: Callable[..., Path], request_at: Callable[..., Any]
) -> None:
    """Of 25 that had started when it was last heard of, 20 have a record: 5 were in flight."""
    seconds = [(float(n), "second", {"in_flight": 5, "started": 15 + n, "users": 5}) for n in range(1, 11)]
    records = [request_at(n, n / 2) for n in range(20)]
    trust = latency_report(make_run(records, seconds, ended_s=None)).trust
    assert (trust.ended, trust.unfinished, trust.in_flight_last, trust.heard_until_s) == (False, 5, 5, 10.0)


def test_requests_in_flight_over_processes(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """The last word of each process counts, not only the last of all."""
    path = make_run(
        [request_at(n, n / 2) for n in range(4)], [(9.0, "second", {"in_flight": 2, "started": 4})], ended_s=None
    )
    start = int(Run.open(path).manifest["started_unix_ns"])
    writer = Run.open(path).writer("p2", now_unix_ns=lambda: start + 9_500_000_000)
    writer.event("second", in_flight=3, started=5)
    writer.close()
    trust = latency_report(path).trust
    assert (trust.unfinished, trust.in_flight_last) == (5, 5)


def test_empty_run(make_run: Callable[..., Path]) -> None:
    """A run without a request gives a report without rows, and valid JSON."""
    report = latency_report(make_run([], ended_s=None)).to_dict()
    assert json.loads(json.dumps(report, allow_nan=False))["figures"] == []
    assert report["trust"]["level"] == "unknown"
