"""Objectives and goodput, against NumPy on the raw columns of the same requests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tensorix_records import RequestRecord

Rows = list[dict[str, Any]]
SummedUp = Callable[..., tuple[Rows, dict[str, Any]]]
Mixed = Callable[..., list[RequestRecord]]
STEADY_S = 10
GOOD = ("ttft < 120ms", "e2e <= 900ms", "itl < 20ms")
TIMES = ("ttft", "ttfo", "itl", "e2e", "from_intended", "schedule_delay", "dispatch_delay")
STATISTICS = ("p50", "p90", "p95", "p99", "mean", "max")
SHARES = ("error_rate", "throttled_rate", "good_share")
RATES = ("offered", "sent", "successful", "throttled", "failed", "goodput", "output_tokens")


def _chat(rows: Rows) -> Rows:
    return [row for row in rows if row["outcome"] == "success" and row["endpoint"] == "/chat/completions"]


def _of(row: dict[str, Any], name: str) -> float:
    """A quantity of one request in ns, NaN where it has none."""
    if name in ("ttft", "ttfo"):
        value = row["first_token_at_ns" if name == "ttft" else "first_output_at_ns"] if row["stream"] else None
    elif name == "e2e":
        value = row["end_at_ns"]
    elif name == "itl":
        tokens, hidden = row["completion_tokens"], (row["reasoning_tokens"] or 0) > 0
        hidden = hidden and row["stream"] and row["first_output_at_ns"] <= row["first_token_at_ns"]
        if not row["stream"] or tokens < 2 or (row["n"] or 1) > 1 or hidden:
            return float("nan")
        return float((row["last_token_at_ns"] - row["first_token_at_ns"]) / (tokens - 1))
    elif row["intended_at_ns"] is None:
        value = None
    elif name == "from_intended":
        value = row["end_at_ns"] - row["intended_at_ns"]
    else:
        late = (
            row["intended_at_ns"] if name == "schedule_delay" else max(row["user_ready_at_ns"], row["intended_at_ns"])
        )
        value = -late
    return float("nan") if value is None else float(value)


def _mostly_counted(rows: Rows) -> Rows:
    """Those whose tokens are counted as most are: no figure pools two ways."""
    ways = [row["token_source"] for row in rows if row["token_source"]]
    return [row for row in rows if row["token_source"] == max(set(ways), key=ways.count)]


def _arrived(row: dict[str, Any], begin: int, end: int) -> float:
    last = row["end_at_ns"] if row["last_token_at_ns"] is None else row["last_token_at_ns"]
    first = last if row["first_token_at_ns"] is None else row["first_token_at_ns"]
    first, last = row["start_unix_ns"] + first, row["start_unix_ns"] + last
    if last <= first:
        return float(row["completion_tokens"] * (begin <= first <= end))
    return float(row["completion_tokens"] * max(0, min(last, end) - max(first, begin)) / (last - first))


def _good(rows: Rows) -> tuple[int, int]:
    """How many met every criterion, and of how many one has no meaning."""
    bounds = {"ttft": 120e6, "e2e": 900e6, "itl": 20e6}
    values = [{name: _of(row, name) for name in bounds} for row in rows]
    met = sum(not any(one[name] > bound for name, bound in bounds.items()) for one in values)
    return met, sum(any(np.isnan(value) for value in one.values()) for one in values)


@pytest.mark.parametrize("scheduled", [True, False])
def test_every_objective(summed_up: SummedUp, mixed: Mixed, scheduled: bool) -> None:
    """Each objective's figure is that of the steady state's raw columns, its count is what it rests on, and it stands
    by its figure; goodput is what met every criterion.
    """
    objectives = [f"{name}_{statistic} < 300ms" for name in TIMES for statistic in STATISTICS]
    objectives += [*(f"{name} <= 10%" for name in SHARES), *(f"{name} > 4/s" for name in RATES)]
    asked = {"goals": {"objectives": objectives, "good": list(GOOD)}}
    events = [(float(STEADY_S), "phase", {"name": "steady"})]
    rows, summary = summed_up(mixed(1_200, 21, scheduled=scheduled), events, asked=asked)
    begin, end = summary["run"]["started_unix_ns"] + STEADY_S * 10**9, rows[-1]["start_unix_ns"]
    seconds = (end - begin) / 1e9
    inside = [row for row in rows if begin <= row["start_unix_ns"] <= end]
    assert 0 < len(inside) < len(rows)
    counts = {name: sum(row["outcome"] == name for row in inside) for name in ("success", "failed", "throttled")}
    chat = _chat(inside)
    good, not_asked = _good(chat)
    ended = counts["success"] + counts["failed"]
    counted = [row for row in _mostly_counted(rows) if row["completion_tokens"]]
    due = [row["start_unix_ns"] + row["intended_at_ns"] for row in rows if row["intended_at_ns"] is not None]
    truth: dict[str, tuple[float, int | None] | None] = {
        "error_rate": (counts["failed"] / ended, ended),
        "throttled_rate": (counts["throttled"] / (ended + counts["throttled"]), ended + counts["throttled"]),
        "good_share": (good / len(chat), len(chat)),
        "offered": (sum(begin <= at <= end for at in due) / seconds, None) if due else None,
        "sent": (len(inside) / seconds, len(inside)),
        "successful": (counts["success"] / seconds, counts["success"]),
        "throttled": (counts["throttled"] / seconds, counts["throttled"]),
        "failed": (counts["failed"] / seconds, counts["failed"]),
        "goodput": (good / seconds, good),
        "output_tokens": (sum(_arrived(row, begin, end) for row in counted) / seconds, len(counted)),
    }
    for name in TIMES:
        values = np.array([_of(row, name) for row in (_mostly_counted(chat) if name == "itl" else chat)])
        values = values[~np.isnan(values)]
        for statistic in STATISTICS:
            if not values.size or (statistic[0] == "p" and values.size * (100 - int(statistic[1:])) < 500):
                truth[f"{name}_{statistic}"] = None
            elif statistic in ("mean", "max"):
                truth[f"{name}_{statistic}"] = float(getattr(values, statistic)()), values.size
            else:
                truth[f"{name}_{statistic}"] = float(np.percentile(values, int(statistic[1:]))), values.size
    told = {one["text"].split()[0]: one for one in summary["goals"]["objectives"]}
    assert set(told) == set(truth)
    for name, one in told.items():
        expected, figure = truth[name], one["figure"]
        if expected is None:
            assert (figure["value"], one["standing"]) == (None, "unknown"), name
            continue
        assert figure["value"] == pytest.approx(expected[0], rel=1e-9), name
        assert expected[1] in (None, figure["count"]), name
        low = not one["text"].split()[1].startswith(">")
        assert one["standing"] == ("met" if (figure["value"] <= one["bound"]) is low else "broken"), name
        if figure["low"] is not None:
            assert figure["low"] <= figure["value"] <= figure["high"], name
            assert one["interval_holds_the_bound"] == (figure["low"] <= one["bound"] <= figure["high"]), name
    goodput = summary["goals"]["goodput"]
    assert goodput["a_second"]["value"] == pytest.approx(good / seconds, rel=1e-9)
    assert goodput["share"]["value"] == pytest.approx(good / len(chat), rel=1e-12)
    assert (goodput["not_asked"], goodput["criteria"]) == (not_asked, list(GOOD))
    assert summary["goals"]["standing"] == "broken"


def test_no_success_meets_nothing(summed_up: SummedUp, request_at: Callable[..., RequestRecord]) -> None:
    """Where all failed a latency is unknown and an error rate is 100 %; where nothing was sent both are unknown."""
    asked = {"goals": {"objectives": ["ttft_p95 < 1s", "error_rate < 1%", "goodput > 1/s"], "good": ["ttft < 1s"]}}
    records = [request_at(n, n, outcome="failed", status=500) for n in range(30)]
    standings = [
        [one["standing"] for one in summed_up(some, asked=asked)[1]["goals"]["objectives"]] for some in (records, [])
    ]
    assert standings == [["unknown", "broken", "broken"], ["unknown", "unknown", "unknown"]]
