"""Breakdowns, steps, tokens and cost, waits, delays and gaps of a run, against NumPy on the raw columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tensorix_records import RequestRecord, Run
from tensorix_reports.load import load_report

Rows = list[dict[str, Any]]
SummedUp = Callable[..., tuple[Rows, dict[str, Any]]]
MODELS = ("a/one", "b/two", "c/three")
OUTCOMES = ("success", "throttled", "failed", "cancelled")
BANDS = {0: "0 to 63", 64: "64 to 255", 256: "256 to 1,023", 1024: "1,024 to 4,095"}
PRICES = {"*": {"prompt": 1.0, "completion": 2.0, "cached": 0.5}}
STAGES: list[dict[str, Any]] = [
    {"duration_s": 20.0, "rate": 2.0, "end_rate": 4.0},
    {"duration_s": 15.0, "rate": 8.0, "end_rate": None},
]


def _varied(records: list[RequestRecord], seed: int) -> list[RequestRecord]:
    """The same requests of several models, keys, users, workers and prompts, in two steps, with costs and waits."""
    dice, found = np.random.default_rng(seed), []

    def one_of(*values: Any) -> Any:
        return values[int(dice.integers(len(values)))]

    for record in records:
        lists = record.endpoint.endswith("/models")
        outcome = "cancelled" if record.outcome == "success" and dice.random() < 0.05 else record.outcome
        used = record.token_source is not None
        found.append(
            replace(
                record,
                outcome=outcome,
                model_requested=None if lists else one_of(*MODELS),
                user_class=one_of("Chat", "Long", None),
                key_alias=one_of("key-1", "key-2"),
                process_id=one_of("w1", "w2", None),
                host=one_of("here", "there"),
                step_id=int(record.start_unix_ns % 10**9 < 4 * 10**8),
                prompt_tokens=min(4_095, int(dice.lognormal(5, 1.2))) if used else None,
                prompt_chars=None if lists else min(4_095, int(dice.lognormal(6.5, 1.2))),
                cached_tokens=int(dice.integers(0, 9)) if used and dice.random() < 0.3 else None,
                cost=float(dice.integers(1, 900)) / 1024 if used or dice.random() < 0.2 else None,
                reserved_tokens=None if lists else int(dice.integers(500, 900)),
                held_ns=one_of(None, 0, 400_000, int(dice.integers(10**6, 10**9))),
                attempt=one_of(1, 1, 1, 2, 3),
            )
        )
    return found


def _kind(row: dict[str, Any]) -> str:
    if row["endpoint"].endswith("/models"):
        return "models"
    return "chat, streamed" if row["stream"] else "chat, not streamed"


def _same(told: dict[str, Any] | None, values: list[float], percents: tuple[int, ...] = (50, 95)) -> None:
    """Percentiles of samples; withheld where fewer than five lie beyond, null as a whole where `told` is None."""
    assert told is not None
    for percent in percents:
        figure = told[f"p{percent}"]
        assert figure["count"] == len(values)
        if len(values) * min(percent, 100 - percent) < 500:
            assert figure["value"] is None
            assert figure["withheld"]
        else:
            assert figure["value"] == pytest.approx(np.percentile(values, percent), rel=1e-12)


def _counts(told: dict[str, Any], mine: Rows) -> None:
    assert told["sent"] == len(mine)
    assert {name: told[name] for name in OUTCOMES} == {
        name: sum(row["outcome"] == name for row in mine) for name in OUTCOMES
    }


def _times(mine: Rows) -> tuple[list[float], list[float]]:
    good = [row for row in mine if row["outcome"] == "success"]
    return (
        [row["first_token_at_ns"] / 1e6 for row in good if row["stream"]],
        [row["end_at_ns"] / 1e6 for row in good],
    )


@pytest.fixture(scope="module")
def reported(
    summed_up: SummedUp, mixed: Callable[..., list[RequestRecord]], request_at: Callable[..., RequestRecord]
) -> tuple[Rows, dict[str, Any]]:
    """A run of two steps with everything in it, and the list of models that was asked for before."""
    records = _varied(mixed(900, 11, scheduled=True), 12)
    before = request_at(5_000, -1.0, endpoint="/models", scenario="preflight", stream=None, key_alias="key-1")
    asked = {"arrivals": {"stages": STAGES}, "spending": {"prices": PRICES}, "base_url": "http://127.0.0.1:9/v1"}
    rows, summary = summed_up([before, *records], asked=asked)
    return [row for row in rows if row["scenario"] != "preflight"], summary


def _band(row: dict[str, Any]) -> str | None:
    if row["prompt_chars"] is None:
        return None
    return f"{[words for edge, words in BANDS.items() if edge <= row['prompt_chars']][-1]} characters"


def test_breakdowns(reported: tuple[Rows, dict[str, Any]]) -> None:
    """Each row counts the requests of its kind that share a value, and tells their TTFT and E2E; none is missing."""
    rows, summary = reported
    chat = [row for row in rows if _kind(row) != "models"]
    # A server counts the tokens of what it answered, and by those alone no band would ever fail.
    assert sum(row["prompt_tokens"] is not None for row in chat) < sum(row["prompt_chars"] is not None for row in chat)
    values: dict[str, tuple[Rows, Callable[[dict[str, Any]], str | None]]] = {
        "model": (chat, lambda row: row["model_requested"]),
        "user class": (rows, lambda row: row["user_class"]),
        "key": (rows, lambda row: row["key_alias"]),
        "endpoint": (rows, lambda row: row["endpoint"]),
        "worker": (rows, lambda row: row["process_id"] and f"{row['process_id']} on {row['host']}"),
        "prompt length": (chat, _band),
    }
    assert {one["by"] for one in summary["breakdowns"]} == set(values)
    for one in summary["breakdowns"]:
        of, value = values[one["by"]]
        expected: dict[tuple[str, str], Rows] = {}
        for row in of:
            expected.setdefault((_kind(row), value(row) or "unknown"), []).append(row)
        told = {(row["request"], row["value"]): row for row in one["rows"]}
        assert set(told) == set(expected), one["by"]
        for key, row in told.items():
            first, whole = _times(expected[key])
            assert row["values"] == 1
            _counts(row, expected[key])
            _same(row["e2e_ms"], whole)
            if first:
                _same(row["ttft_ms"], first)
            else:
                assert row["ttft_ms"] is None


def test_steps(reported: tuple[Rows, dict[str, Any]]) -> None:
    """A step has the requests that were due in it, what was offered over its length, and the times of its chat."""
    rows, summary = reported
    assert len(summary["steps"]) == 2
    for number, step in enumerate(summary["steps"]):
        mine = [row for row in rows if row["step_id"] == number]
        due = min(row["start_unix_ns"] + row["intended_at_ns"] for row in mine) - summary["run"]["origin_unix_ns"]
        assert step["start_s"] == pytest.approx(due / 1e9, abs=1e-9)
        assert (step["number"], step["length_s"]) == (number + 1, STAGES[number]["duration_s"])
        assert (step["rate"], step["end_rate"]) == (STAGES[number]["rate"], STAGES[number]["end_rate"])
        assert step["offered_a_second"] == pytest.approx(len(mine) / step["length_s"])
        _counts(step, mine)
        chat = [row for row in mine if _kind(row) != "models"]
        first, whole = _times(chat)
        _same(step["ttft_ms"], first)
        _same(step["e2e_ms"], whole)
        good = [row for row in chat if row["outcome"] == "success"]
        _same(step["e2e_from_intended_ms"], [(row["end_at_ns"] - row["intended_at_ns"]) / 1e6 for row in good])


def _total(rows: Rows, name: str) -> int | None:
    known = [row[name] for row in rows if row[name] is not None]
    return sum(known) if known else None


def test_tokens_and_cost(reported: tuple[Rows, dict[str, Any]]) -> None:
    """Tokens of each model and of each way to count stand apart; costs are sums, and so is what was set aside."""
    rows, summary = reported
    told = {(row["model"], row["token_source"]): row for row in summary["tokens"]["rows"]}
    parts = {(row["model_requested"], row["token_source"]) for row in rows if row["token_source"]}
    assert set(told) == {(model or "model unknown", source) for model, source in parts}
    for model, source in parts:
        mine = [row for row in rows if (row["model_requested"], row["token_source"]) == (model, source)]
        row = told[model or "model unknown", source]
        assert row["requests"] == len(mine)
        for name in ("prompt", "completion", "reasoning", "cached"):
            assert row[name] == _total(mine, f"{name}_tokens"), name
        assert row["cost"] == pytest.approx(_total(mine, "cost"), rel=1e-12)
    cost, priced = summary["tokens"]["cost"], [row for row in rows if row["cost"] is not None]
    good = sum(row["outcome"] == "success" and _kind(row) != "models" for row in rows)
    by_usage = [row for row in priced if row["token_source"] == "usage"]
    assert cost["requests"] == len(priced)
    assert cost["total"] == pytest.approx(_total(priced, "cost"), rel=1e-12)
    assert cost["by_usage"] == pytest.approx(_total(by_usage, "cost"), rel=1e-12)
    assert cost["at_most"] == pytest.approx(cost["total"] - cost["by_usage"], rel=1e-9)
    assert cost["per_success"] == pytest.approx(cost["total"] / good, rel=1e-12)
    kept = [row for row in rows if row["token_source"] == "usage" and row["reserved_tokens"]]
    kept = [row for row in kept if None not in (row["prompt_tokens"], row["completion_tokens"])]
    used = sum(row["prompt_tokens"] + row["completion_tokens"] for row in kept)
    assert summary["tokens"]["reserved"] == {
        "requests": len(kept),
        "reserved_tokens": _total(kept, "reserved_tokens"),
        "used_tokens": used,
        "share": pytest.approx(used / sum(row["reserved_tokens"] for row in kept)),
    }


def test_waits(reported: tuple[Rows, dict[str, Any]]) -> None:
    """What was held for a millisecond or longer was a wait; a later attempt is one sent again."""
    rows, summary = reported
    told = [row["held_ns"] / 1e6 for row in rows if row["held_ns"] is not None]
    held = [ms for ms in told if ms >= 1]
    waits = summary["waits"]
    assert (waits["told"], waits["held"]) == (len(told), len(held))
    assert waits["held_s"] == pytest.approx(sum(held) / 1e3, rel=1e-12)
    assert waits["most_ms"] == pytest.approx(max(held), rel=1e-12)
    assert waits["sent_again"] == sum(row["attempt"] > 1 for row in rows)
    _same(waits["held_ms"], held)


def test_the_parts_of_the_delay(summed_up: SummedUp, request_at: Callable[..., RequestRecord]) -> None:
    """Waiting, holding, connecting and dispatching add up to the whole delay; who was ready early waited for nobody."""
    dice, records, parts = np.random.default_rng(4), [], []
    for number in range(300):
        waiting, held, connecting, own = (int(dice.integers(0, most)) for most in (10**9, 10**8, 10**7, 10**6))
        early = number % 3 == 0
        columns: dict[str, Any] = {"schedule_index": number, "held_ns": held or None}
        if number % 2:
            columns |= {"connect_start_at_ns": -connecting - 5, "tcp_done_at_ns": -3000, "tls_done_at_ns": -5}
        else:
            connecting = 0
        late = held + connecting + own
        columns["user_ready_at_ns"] = -late - (10**9 if early else 0)
        columns["intended_at_ns"] = -late if early else -late - waiting
        parts.append((0 if early else waiting, held, connecting, own))
        records.append(request_at(number, number / 10, **columns))
    told = {row["part"]: row for row in summed_up(records)[1]["latency"]["schedule"]["delay_ms"]}
    truth = np.array(parts) / 1e6
    names = ("waiting for a user", "held at the gate", "opening a connection", "own dispatch")
    for name, values in [*zip(names, truth.T, strict=True), ("in all", truth.sum(axis=1))]:
        assert told[name]["most"] == pytest.approx(values.max(), rel=1e-9)
        _same(told[name], values.tolist(), (50, 90, 95))


def test_gaps_between_chunks(make_run: Callable[..., Path], request_at: Callable[..., RequestRecord]) -> None:
    """ICL counts every gap of a model, its percentiles are within 0.8 % of those of the raw gaps, and in the window
    are those that ended in its whole seconds.
    """
    dice = np.random.default_rng(9)
    records = [request_at(n, n / 10) for n in range(600)]
    path = make_run(records, [(20.0, "phase", {"name": "steady"})])
    origin, raw = records[0].start_unix_ns, []
    for process in ("w1", "w2"):
        writer = Run.open(path).writer(process)
        for model in MODELS[:2]:
            for number in range(300):
                gaps = (dice.lognormal(17, 0.8, 20)).astype(np.int64)
                stamps = origin + number * 200_000_000 + np.cumsum(gaps)
                writer.add_gaps(model, stamps)
                raw += [(model, int(at), int(gap)) for at, gap in zip(stamps[1:], gaps[1:], strict=True)]
        writer.close()
    latency = load_report(path).to_dict()["latency"]
    begin, end = origin + 20 * 10**9, origin + 59_900_000_000
    for rows, inside in (
        (latency["figures_whole_run"], raw),
        (latency["figures"], [one for one in raw if begin <= one[1] and one[1] // 10**9 * 10**9 <= end]),
    ):
        told = {row["request"]: row for row in rows if row["quantity"] == "ICL"}
        assert set(told) == {f"chat, streamed, {model}" for model in MODELS[:2]}
        for model in MODELS[:2]:
            gaps_ms = [gap / 1e6 for of, _, gap in inside if of == model]
            row = told[f"chat, streamed, {model}"]
            assert row["count"] == len(gaps_ms)
            for percent in (50, 90, 95, 99):
                assert row[f"p{percent}"]["value"] == pytest.approx(np.percentile(gaps_ms, percent), rel=0.008)


def test_tokens_in_the_busiest_second(reported: tuple[Rows, dict[str, Any]]) -> None:
    """The most tokens that arrived in one second of the clock, each request's evenly from its first to its last."""
    rows, summary = reported
    assert len(summary["latency"]["throughput"]) > 4
    for told in summary["latency"]["throughput"]:
        seconds: Counter[int] = Counter()
        for row in rows:
            kind = f"{_kind(row)}, {row['model_requested']}" if _kind(row) != "models" else "models"
            wanted = (told["request"], told["token_source"], "success")
            if (kind, row["token_source"], row["outcome"]) != wanted or not row["completion_tokens"]:
                continue
            last = row["end_at_ns"] if row["last_token_at_ns"] is None else row["last_token_at_ns"]
            first = last if row["first_token_at_ns"] is None else row["first_token_at_ns"]
            first, last = row["start_unix_ns"] + first, row["start_unix_ns"] + last
            for second in range(first // 10**9, last // 10**9 + 1):
                within = min(last, (second + 1) * 10**9) - max(first, second * 10**9)
                share = within / (last - first) if last > first else 1.0
                seconds[second] += row["completion_tokens"] * share
        assert told["peak_a_second"] == pytest.approx(max(seconds.values()), rel=1e-6), told["request"]
