"""Every figure of `summary.json` against an independent computation: NumPy on the raw columns, by the definitions.

Nothing of the report's code is used here: a request is a dictionary of raw columns, missing ones None.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tensorix_records import Run
from tensorix_records._schema import COLUMNS, row_of_record
from tensorix_reports import compare, latency_report, rate_limit_report
from tensorix_reports.load import write_report

ORIGIN_NS = 1_790_000_000_000_000_000
PERCENTS = (50, 90, 95, 99)
Rows = list[dict[str, Any]]


def _kind(row: dict[str, Any]) -> str:
    if row["scenario"] == "preflight":
        return "models, preflight"
    if row["endpoint"].endswith("/models"):
        return "models"
    return "chat, streamed" if row["stream"] else "chat, not streamed"


def _ms(values: list[float]) -> np.ndarray:
    return np.array(values, dtype=float) / 1e6


def _itl(row: dict[str, Any]) -> float | None:
    tokens = row["completion_tokens"]
    if not row["stream"] or tokens is None or tokens < 2 or (row["n"] or 1) > 1:
        return None
    if (row["reasoning_tokens"] or 0) > 0 and row["first_output_at_ns"] <= row["first_token_at_ns"]:
        return None
    return float((row["last_token_at_ns"] - row["first_token_at_ns"]) / (tokens - 1))


def _quantities(rows: Rows) -> dict[tuple[str, str, str | None], np.ndarray]:
    """The samples, ms or tokens a second, of each kind, quantity and source of tokens; successes only."""
    found: dict[tuple[str, str, str | None], list[float]] = {}

    def add(row: dict[str, Any], name: str, value: float | None, source: str | None = None) -> None:
        if value is not None:
            found.setdefault((_kind(row), name, source), []).append(value)

    for row in rows:
        if row["outcome"] != "success" or _kind(row) == "models, preflight":
            continue
        intended, first = row["intended_at_ns"], row["first_token_at_ns"] if row["stream"] else None
        add(row, "E2E", row["end_at_ns"] / 1e6)
        add(row, "TTFT", None if first is None else first / 1e6)
        add(row, "TTFO", None if first is None else row["first_output_at_ns"] / 1e6)
        if intended is not None:
            add(row, "E2E from intended", (row["end_at_ns"] - intended) / 1e6)
            add(row, "TTFT from intended", None if first is None else (first - intended) / 1e6)
        itl, tokens, source = _itl(row), row["completion_tokens"], row["token_source"]
        if source is not None:
            add(row, "ITL", None if itl is None else itl / 1e6, source)
            if row["stream"]:
                add(row, "tokens/s, a user", None if not itl else 1e9 / itl, source)
            elif tokens is not None:
                add(row, "tokens/s, a user", tokens / (row["end_at_ns"] / 1e9), source)
    return {key: np.array(values) for key, values in found.items()}


def _tokens_between(row: dict[str, Any], begin_ns: int, end_ns: int) -> float:
    """The tokens of one request that arrived within, evenly between its first and its last."""
    last = row["last_token_at_ns"] if row["last_token_at_ns"] is not None else row["end_at_ns"]
    first = row["first_token_at_ns"] if row["first_token_at_ns"] is not None else last
    first, last = first + row["start_unix_ns"], last + row["start_unix_ns"]
    if last <= first:
        return float(row["completion_tokens"]) if begin_ns <= first <= end_ns else 0.0
    return float(row["completion_tokens"] * max(0, min(last, end_ns) - max(first, begin_ns)) / (last - first))


def _check(summary: dict[str, Any], rows: Rows, *, steady_s: float | None = None) -> None:
    """Hold a summary against rows; `steady_s` is when the ramp ended, None where nobody says."""
    rows = sorted(rows, key=lambda row: int(row["start_unix_ns"]))
    load = [row for row in rows if _kind(row) != "models, preflight"]
    assert summary["run"]["requests"] == len(rows)
    origin = summary["run"]["origin_unix_ns"]
    assert origin == min([ORIGIN_NS, *(row["start_unix_ns"] for row in rows)])
    starts = [row["start_unix_ns"] for row in load]
    begin = 0 if not starts else min(starts) if steady_s is None else ORIGIN_NS + round(steady_s * 1e9)
    end = max(starts, default=0)
    inside = [row for row in load if begin <= row["start_unix_ns"] <= end]
    window = summary["latency"]["window"]
    assert (window["requests_inside"], window["requests_outside"]) == (len(inside), len(load) - len(inside))
    if load:
        assert window["start_s"] == pytest.approx((begin - origin) / 1e9, abs=1e-9)
        assert window["end_s"] == pytest.approx((end - origin) / 1e9, abs=1e-9)
    _check_figures(summary["latency"]["figures"], _quantities(inside))
    _check_figures(summary["latency"]["figures_whole_run"], _quantities(load))
    _check_counts(summary, rows, load)
    _check_rates(summary, load, begin, end)
    _check_throughput(summary["latency"]["throughput"], load, begin, end)
    _check_trust(summary["latency"]["trust"], rows)
    _check_schedule(summary["latency"]["schedule"], inside, load)


def _check_figures(figures: list[dict[str, Any]], expected: dict[tuple[str, str, str | None], np.ndarray]) -> None:
    told = {(row["request"], row["quantity"], row["token_source"]): row for row in figures if row["count"]}
    assert set(told) == set(expected)
    for key, row in told.items():
        values = expected[key]
        assert row["count"] == len(values)
        measured = (row["mean"], row["least"], row["most"])
        assert measured == pytest.approx((values.mean(), values.min(), values.max()), rel=1e-12), key
        for percent in PERCENTS:
            figure = row[f"p{percent}"]
            if len(values) * min(percent, 100 - percent) < 500:
                assert figure["value"] is None, (key, percent)
            else:
                assert figure["value"] == pytest.approx(np.percentile(values, percent), rel=1e-12), (key, percent)
                assert figure["low"] is None or figure["low"] <= figure["value"] <= figure["high"]


def _check_counts(summary: dict[str, Any], rows: Rows, load: Rows) -> None:
    outcomes = {row["request"]: row for row in summary["latency"]["outcomes"]}
    assert {kind: row["sent"] for kind, row in outcomes.items()} == Counter(map(_kind, rows))
    for outcome in ("success", "throttled", "failed", "cancelled"):
        counts = Counter(_kind(row) for row in rows if row["outcome"] == outcome)
        assert {kind: row[outcome] for kind, row in outcomes.items() if row[outcome]} == counts
        assert summary["rate_limit"]["totals"][outcome] == sum(row["outcome"] == outcome for row in load)
    assert summary["rate_limit"]["totals"]["sent"] == len(load)
    failures = {
        (one["outcome"], one["request"], one["kind"], one["status"]): one["count"]
        for one in summary["latency"]["failures"]
    }
    bad = [row for row in rows if row["outcome"] != "success"]
    assert failures == Counter(
        (row["outcome"], _kind(row), row["error_kind"] or "unknown", row["status"]) for row in bad
    )
    answered = Counter(
        (_kind(row).removesuffix(", preflight"), row["status"]) for row in rows if row["status"] is not None
    )
    assert {(row["kind"], row["status"]): row["responses"] for row in summary["rate_limit"]["headers"]} == answered
    minutes = summary["rate_limit"]["clock_minutes"]
    assert [row["sent"] for row in minutes] == [
        count for _, count in sorted(Counter(row["start_unix_ns"] // 60_000_000_000 for row in rows).items())
    ]
    for name, status in (("status_200", 200), ("status_429", 429)):
        assert sum(row[name] for row in minutes) == sum(row["status"] == status for row in rows)


def _check_rates(summary: dict[str, Any], load: Rows, begin: int, end: int) -> None:
    origin, seconds = summary["run"]["origin_unix_ns"], (end - begin) / 1e9
    instants = {
        "offered": [row["start_unix_ns"] + row["intended_at_ns"] for row in load if row["intended_at_ns"] is not None],
        "sent": [row["start_unix_ns"] for row in load],
        "successful": [row["start_unix_ns"] for row in load if row["outcome"] == "success"],
        "throttled": [row["start_unix_ns"] for row in load if row["outcome"] == "throttled"],
    }
    for name, at in instants.items():
        told = summary["rates"][name]
        if not load or (name == "offered" and not at):
            assert told["a_second"] is None
            continue
        if seconds > 0:
            assert told["a_second"] == pytest.approx(sum(begin <= one <= end for one in at) / seconds, rel=1e-9), name
        else:
            assert told["a_second"] is None
        peak = Counter(max(0, (one - origin) // 10**9) for one in at)
        assert told["peak_a_second"] == max(peak.values(), default=0), name


def _check_throughput(told: list[dict[str, Any]], load: Rows, begin: int, end: int) -> None:
    good = [row for row in load if row["outcome"] == "success" and row["completion_tokens"] and row["token_source"]]
    parts = {(_kind(row), row["token_source"]) for row in good}
    assert {(row["request"], row["token_source"]) for row in told} == parts
    for row in told:
        mine = [one for one in good if (_kind(one), one["token_source"]) == (row["request"], row["token_source"])]
        within = [one for one in mine if begin <= one["start_unix_ns"] <= end]
        assert (row["requests"], row["tokens"]) == (len(within), sum(one["completion_tokens"] for one in within))
        if end > begin:
            arrived = sum(_tokens_between(one, begin, end) for one in mine)
            assert row["a_second"] == pytest.approx(arrived / ((end - begin) / 1e9), rel=1e-9)


def _check_trust(told: dict[str, Any], rows: Rows) -> None:
    answered = [row for row in rows if (row["headers_at_ns"], row["first_chunk_at_ns"]) != (None, None)]
    assert told["stamps"] == Counter(row["stamp_source"] or "none" for row in answered)
    lags = [row["lag_first_token_ns"] for row in rows if row["lag_first_token_ns"] is not None]
    assert told["lag_count"] == len(lags)
    if lags:
        assert told["lag_p50_ns"] == pytest.approx(np.percentile(lags, 50))
        assert told["lag_p99_ns"] == pytest.approx(np.percentile(lags, 99))
    assert told["first_tokens"] == sum(row["first_token_at_ns"] is not None for row in rows)


def _check_schedule(told: dict[str, Any] | None, inside: Rows, load: Rows) -> None:
    due = [row for row in load if row["schedule_index"] is not None]
    if not due:
        assert told is None
        return
    assert told is not None
    assert told["sent"] == len({row["schedule_index"] for row in due})
    parts = {part["part"]: part for part in told["delay_ms"]}
    late = _ms([-row["intended_at_ns"] for row in inside])
    waited = _ms([max(0, row["user_ready_at_ns"] - row["intended_at_ns"]) for row in inside])
    for name, values in (("in all", late), ("waiting for a user", waited)):
        assert parts[name]["count"] == len(values)
        assert parts[name]["most"] == pytest.approx(values.max(), rel=1e-12)
        if len(values) >= 10:
            assert parts[name]["p50"]["value"] == pytest.approx(np.percentile(values, 50), rel=1e-12)


def _summary(path: Path) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads(write_report(path).summary.read_text())
    return summary


def _rows(records: list[Any]) -> Rows:
    return [dict(zip(COLUMNS, row_of_record(record), strict=True)) for record in records]


@pytest.mark.parametrize(("count", "scheduled"), [(1, False), (7, True), (700, False), (700, True)])
def test_every_figure_of_a_mixed_run(
    make_run: Callable[..., Path], mixed: Callable[..., list[Any]], count: int, scheduled: bool
) -> None:
    """Counts, rates, percentiles, tokens, lags and delays of a run of everything are those of the raw columns."""
    records = mixed(count, count, scheduled=scheduled)
    _check(_summary(make_run(records)), _rows(records))


def test_streams_that_cross_the_edges_of_the_window(
    make_run: Callable[..., Path], mixed: Callable[..., list[Any]]
) -> None:
    """After a ramp, what began before it ended is in no latency of the window, and its tokens count as they arrived."""
    records = mixed(400, 3)
    summary = _summary(make_run(records, [(20.0, "phase", {"name": "steady"})]))
    _check(summary, _rows(records), steady_s=20.0)
    assert 0 < summary["latency"]["window"]["requests_inside"] < 400


def test_an_empty_run_and_one_that_only_failed(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """Without a success there is no latency, and nothing is divided by it."""
    _check(_summary(make_run([])), [])
    silent = dict.fromkeys(("first_token_at_ns", "first_output_at_ns", "last_token_at_ns", "status", "headers_at_ns"))
    records = [request_at(n, n / 3, outcome="failed", error_kind="reset", **silent) for n in range(40)]
    _check(_summary(make_run(records)), _rows(records))


def _parts(path: Path, parts: list[list[Any]]) -> None:
    run = Run.open(path)
    for number, records in enumerate(parts):
        writer = run.writer(f"w{number}")
        for record in records:
            writer.add(record)
        writer.close()


@pytest.mark.parametrize("compacted", [False, True])
def test_records_of_several_machines(
    make_run: Callable[..., Path], mixed: Callable[..., list[Any]], compacted: bool
) -> None:
    """Records in files of several processes are one run, whatever the order of the files; one that is in two of them
    counts once, and the report says so.
    """
    records = mixed(600, 5)
    path = make_run([])
    _parts(path, [records[:250], records[200:450], records[450:]])
    if compacted:
        Run.open(path).compact()
    summary = _summary(path)
    _check(summary, _rows(records))
    assert any(text.startswith("50 records are there more than once") for text in summary["run"]["findings"])
    assert summary["verdict"]["statements"][-1]["word"] == "damaged"


def test_a_file_that_is_missing_is_said(make_run: Callable[..., Path], mixed: Callable[..., list[Any]]) -> None:
    """Of a process that the run names and whose file is gone, the report says so and how many requests it had ended."""
    records = mixed(60, 6)
    events = [(n, "second", {"process_id": p, "finished": 10 * n}) for p in ("w0", "w1") for n in range(1, 4)]
    path = make_run([], events)
    _parts(path, [records])
    summary = _summary(path)
    _check(summary, _rows(records))
    said = [text for text in summary["run"]["findings"] if "records-w1" in text]
    assert said == ["records-w1.arrows is missing: nothing of process w1 is counted, which had ended 30 requests"]


def test_a_clock_that_was_set_is_said(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """Where the clock of a process went back during the run, every figure is that of the columns, and the report says
    that instants and rates are off.
    """
    records = [request_at(n, n / 10 - (20.0 if n >= 300 else 0.0)) for n in range(600)]
    events = [(n - (20.0 if n >= 30 else 0.0), "second", {"in_flight": 0}) for n in range(60)]
    summary = _summary(make_run(records, events))
    _check(summary, _rows(records))
    (said,) = [text for text in summary["latency"]["trust"]["reasons"] if "clock" in text]
    assert said.startswith("the clock of process p1 was set back by about 20 s at 29.0 s")


def test_latency_is_no_rounded_bucket(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """1,000 latencies of 1 to 1,000 ms: the percentiles are those of the whole numbers, to the last digit."""
    records = [request_at(n, n / 20, first_token_at_ns=(n * 7_919 % 1_000 + 1) * 1_000_000) for n in range(1_000)]
    (ttft,) = [row for row in _summary(make_run(records))["latency"]["figures"] if row["quantity"] == "TTFT"]
    values = [ttft[f"p{percent}"]["value"] for percent in PERCENTS]
    assert all(math.isclose(value, exact) for value, exact in zip(values, (500.5, 900.1, 950.05, 990.01), strict=True))


def _damage(file: Path, group: int, name: str) -> None:
    """Change a byte of one column."""
    told = pq.read_metadata(file).row_group(group)
    at = next(told.column(n) for n in range(told.num_columns) if told.column(n).path_in_schema == name)
    data = bytearray(file.read_bytes())
    data[(at.dictionary_page_offset or at.data_page_offset) + at.total_compressed_size // 2] ^= 0xFF
    file.write_bytes(data)


def test_a_damaged_part_is_left_out_and_counted(make_run: Callable[..., Path], mixed: Callable[..., list[Any]]) -> None:
    """Of compacted records of which a part is damaged, the others are reported, and the page says how many are not."""
    records = mixed(90, 8)
    path = make_run([])
    run = Run.open(path)
    for name, part in (("w0", records[:60]), ("w1", records[60:])):
        writer = run.writer(name)
        for record in part:
            writer.add(record)
        writer.close()
        run.compact()
    _damage(path / "records.parquet", 1, "end_at_ns")
    paths = write_report(path)
    _check(json.loads(paths.summary.read_text()), _rows(records[:60]))
    said = "records.parquet is damaged: 1 part with 30 records could not be read, and were left out"
    assert said in paths.page.read_text()
    assert said in paths.markdown.read_text()
    latency = latency_report(path)
    assert (latency.inside + latency.outside, said in latency.findings) == (60, True)
    # It does not ask for the ends of requests.
    _damage(path / "records.parquet", 1, "start_unix_ns")
    limits = rate_limit_report(path)
    assert (limits.totals["sent"], said in limits.findings) == (60, True)
    comparison = compare([path, path])
    assert {f"{said} (in the baseline)", f"{said} (here)"} <= set(comparison.warnings[0])
    assert max(row.count for row in comparison.rows[0]) <= 60
