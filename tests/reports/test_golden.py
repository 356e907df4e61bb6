"""A run with everything in it, whose every figure is checked in: what changes one by accident is seen here.

Where a figure is to be another one, look at what `git diff` then shows, and say why:

    RENEW_GOLDEN=1 .venv/bin/python -m pytest tests/reports/test_golden.py
"""

from __future__ import annotations

import json
import math
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tensorix_records import RequestRecord, Run
from tensorix_reports.load import write_report

_GOLDEN = Path(__file__).parent / "golden" / "summary.json"
_MS = 1_000_000
_STEPS, _STEP_S, _WINDOW_S, _LIMIT = ((2.0, 0), (4.0, 40), (8.0, 120)), 20, 15, 40
_FAILURES = ("reset", "first_token_timeout", "server_error", "cut")

RequestAt = Callable[..., RequestRecord]
MakeRun = Callable[..., Path]


def _chat(
    request_at: RequestAt, dice: random.Random, number: int, due_s: float, windows: dict[str, tuple[float, int]]
) -> RequestRecord:
    """One arrival: refused where its key has nothing left, else it fails, is cancelled, or succeeds."""
    # Whole numbers from `random()`, the one generator whose numbers are promised to stay.
    late, key, other = int(dice.random() ** 4 * 40) * _MS, f"key-{number % 2 + 1}", dice.random() < 0.3
    columns: dict[str, Any] = {
        "key_alias": key,
        "schedule_index": number,
        "step_id": next(n for n in (2, 1, 0) if number >= _STEPS[n][1]),
        "intended_at_ns": -late - _MS,
        "user_ready_at_ns": -_MS,
        "held_ns": int(dice.random() * 3) * _MS,
        "model_requested": "qwen/qwen3-32b" if other else "deepseek/deepseek-chat-v3.1",
        "user_class": "LongChatUser" if number % 5 == 0 else "ChatUser",
        "process_id": f"p{number % 3}",
    }
    at_s = due_s + (late + _MS) / 1e9
    began_s, used = windows.get(key, (at_s, 0))
    if at_s >= began_s + _WINDOW_S:
        began_s, used = at_s, 0
    windows[key] = began_s, used + 1
    if used >= _LIMIT:
        wait_ns = round((began_s + _WINDOW_S - at_s) * 1e9)
        return request_at(number, at_s, status=429, retry_after_ns=wait_ns, **columns)
    columns |= {"limit_requests": _LIMIT, "remaining_requests": _LIMIT - used - 1, "remaining_tokens": 90_000 - used}
    columns |= {"prompt_tokens": 20 + number * 37 % 900}
    fate = dice.random()
    if fate < 0.05:
        kind = _FAILURES[number % 4]
        columns |= {"outcome": "failed", "error_kind": kind, "error_phase": "body", "error_message": f"it was {kind}"}
        return request_at(number, at_s, **columns, status=503 if kind == "server_error" else 200)
    if fate < 0.07:
        return request_at(number, at_s, **columns, outcome="cancelled", stream_outcome="closed_early")
    first, tokens = (60 + int(dice.random() ** 3 * 400)) * _MS, 5 + int(dice.random() * 20)
    last = first + tokens * int(5 + dice.random() * 20) * _MS
    columns |= {"completion_tokens": tokens, "chunks": tokens, "end_at_ns": last + _MS, "cost": tokens / 64}
    columns |= {"reserved_tokens": 60}
    if number % 4 == 3:
        gone = "first_chunk_at_ns first_token_at_ns first_output_at_ns last_token_at_ns chunks done_seen stream_outcome"
        return request_at(number, at_s, **(columns | dict.fromkeys(gone.split()) | {"stream": False}))
    if number % 7 == 0:
        columns |= {"token_source": "chunks", "prompt_tokens": None}
    return request_at(number, at_s, **columns, first_token_at_ns=first, first_output_at_ns=first, last_token_at_ns=last)


@pytest.fixture(scope="module")
def summary(make_run: MakeRun, request_at: RequestAt) -> Any:
    """The summary of a stepped open loop: 280 arrivals of two keys and models in a minute, windows of 15 s."""
    dice, windows = random.Random(7), dict[str, tuple[float, int]]()
    due = [step * _STEP_S + n / rate for step, (rate, _) in enumerate(_STEPS) for n in range(int(rate * _STEP_S))]
    records = [_chat(request_at, dice, number, due_s, windows) for number, due_s in enumerate(due)]
    models = {"endpoint": "/models", "stream": None, "key_alias": "key-2", "scenario": "models", "method": "GET"}
    records += [request_at(1000 + n, 5.0 * n, **models, model_requested=None) for n in range(12)]
    health = {"loop_lag_max_ns": 2 * _MS, "cpu_share": 0.25, "rss_bytes": 80_000_000, "open_files": 30}
    events: list[tuple[float, str, dict[str, Any]]] = [(0.0, "phase", {"name": "steady"})]
    events += [(float(s), "second", {"users": 20, "in_flight": s % 6, **health}) for s in range(1, 61)]
    events += [(60.0, "schedule_ended", {"sent": len(due), "not_sent": 3, "at_least": False})]
    asked = {
        "base_url": "http://127.0.0.1:9/v1",
        "model": "deepseek/deepseek-chat-v3.1",
        "arrivals": {"stages": [{"duration_s": _STEP_S, "rate": rate, "end_rate": None} for rate, _ in _STEPS]},
        "goals": {"objectives": ["ttft_p95 < 400ms", "error_rate < 1%"], "good": ["ttft < 300ms"]},
        "spending": {"prices": {"*": {"prompt": 1, "completion": 3, "cached": None}}},
    }
    limits = {"requests": _LIMIT, "tokens": 90_000, "window_s": float(_WINDOW_S), "told": ["requests", "window"]}
    path = make_run(records, events, ended_s=62.0, asked=asked, limits=limits, label="golden")
    writer = Run.open(path).writer("p2")
    origin = records[0].start_unix_ns
    for second in range(60):
        writer.add_gaps("qwen/qwen3-32b", [origin + (second * 1000 + n * (10 + second % 7)) * _MS for n in range(40)])
    writer.close()
    return json.loads(write_report(path, formats=("json",)).summary.read_text("utf-8"))


def _differences(new: Any, old: Any, where: str = "$") -> Iterator[str]:
    """Where two summaries differ; figures are the same within 1e-9 of them, and sentences whatever they say."""
    if isinstance(new, dict) and isinstance(old, dict):
        for key in sorted(new.keys() | old.keys()):
            if key in new and key in old:
                yield from _differences(new[key], old[key], f"{where}.{key}")
            else:
                yield f"{where}.{key}: {'new' if key in new else 'gone'}"
    elif isinstance(new, list) and isinstance(old, list):
        if len(new) != len(old):
            yield f"{where}: {len(new)} entries, and not {len(old)}"
        for at, (one, other) in enumerate(zip(new, old, strict=False)):
            yield from _differences(one, other, f"{where}[{at}]")
    elif isinstance(new, float) and isinstance(old, float):
        if not math.isclose(new, old, rel_tol=1e-9, abs_tol=1e-12):
            yield f"{where}: {new!r}, and not {old!r}"
    elif isinstance(new, str) and isinstance(old, str) and new.endswith(".") and old.endswith("."):
        return
    elif type(new) is not type(old) or new != old:
        yield f"{where}: {new!r}, and not {old!r}"


def test_the_run_has_everything_in_it(summary: Any) -> None:
    """No part of the summary is empty, so that no figure of the report is without a guard."""
    assert len(summary["steps"]) == 3
    assert len(summary["rate_limit"]["keys"]) == 2
    assert all(key["windows"] and key["episodes"] for key in summary["rate_limit"]["keys"])
    assert {row["by"] for row in summary["breakdowns"]} == {
        *("model", "endpoint", "prompt length", "user class", "key", "worker")
    }
    assert {row["kind"] for row in summary["latency"]["failures"]} >= {"rate_limited", *_FAILURES}
    assert all(summary["rate_limit"]["totals"].values())
    quantities = {row["quantity"] for row in summary["latency"]["figures"]}
    assert {"TTFT", "TTFO", "ITL", "ICL", "E2E"} < quantities
    assert {row["token_source"] for row in summary["tokens"]["rows"]} == {"usage", "chunks"}
    assert summary["goals"]["goodput"] is not None
    assert summary["tokens"]["cost"] is not None
    assert summary["tokens"]["reserved"] is not None
    assert summary["waits"]["held"] > 0
    assert summary["latency"]["schedule"]["not_sent"] == 3


def test_every_figure_is_the_one_that_is_checked_in(summary: Any) -> None:
    """`summary.json` has the keys, rows and figures that it had, none of which differs by a part in 10^9."""
    if os.environ.get("RENEW_GOLDEN") == "1":
        _GOLDEN.write_text(json.dumps(summary, indent=1, ensure_ascii=False) + "\n", "utf-8")
        pytest.skip(f"{_GOLDEN.name} was written anew: look at what git diff says of it")
    found = list(_differences(summary, json.loads(_GOLDEN.read_text("utf-8"))))
    assert not found, "\n".join([*found[:40], f"in all {len(found)}: see the head of this file"])
