"""The same requests by model, length, class, key and worker: exact numbers of hand-made runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tensorix_reports.load import load_report, write_report

MS = 1_000_000
UNSTREAMED = {
    **dict.fromkeys(("first_chunk_at_ns", "first_token_at_ns", "first_output_at_ns", "last_token_at_ns", "chunks")),
    "stream": False,
}
MODELS = UNSTREAMED | {"endpoint": "/models", "stream": None, "completion_tokens": None, "token_source": None}


def _by(run: Path) -> dict[str, dict[tuple[str, str], dict[str, Any]]]:
    found = load_report(run).to_dict()["breakdowns"]
    return {one["by"]: {(row["request"], row["value"]): row for row in one["rows"]} for one in found}


def test_figures_of_each_model(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """Each model has its counts and outcomes, and percentiles that are NumPy's of its own successes."""
    values = np.random.default_rng(3).integers(50, 900, 400)
    records = [
        request_at(n, n / 10, model_requested=f"m{n % 2}", first_token_at_ns=int(ms) * MS, end_at_ns=int(ms + 10) * MS)
        for n, ms in enumerate(values)
    ]
    records += [request_at(500 + n, 10 + n, model_requested="m1", status=429) for n in range(3)]
    bad = {"outcome": "failed", "status": 500, "first_token_at_ns": 1}
    records += [request_at(600, 12, model_requested="m0", **bad)]
    rows = _by(make_run(records))["model"]
    assert list(rows) == [("chat, streamed", "m1"), ("chat, streamed", "m0")]
    row = rows["chat, streamed", "m0"]
    assert [row[name] for name in ("sent", "success", "throttled", "failed", "cancelled")] == [201, 200, 0, 1, 0]
    for percent in (50, 95):
        assert row["ttft_ms"][f"p{percent}"]["value"] == np.percentile(values[::2], percent)
        figure = row["e2e_ms"][f"p{percent}"]
        assert figure["value"] == np.percentile(values[::2] + 10, percent)
        assert figure["low"] <= figure["value"] <= figure["high"]
        assert figure["count"] == 200
    assert rows["chat, streamed", "m1"]["throttled"] == 3


def test_only_what_has_several_values(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """Nothing is parted by what is the same everywhere, and an empty run is parted by nothing."""
    assert _by(make_run([request_at(n, n) for n in range(10)])) == {}
    assert _by(make_run([])) == {}
    half = [request_at(n, n, key_alias=f"key-{n % 2}", user_class="A" if n < 5 else "B") for n in range(10)]
    found = _by(make_run(half))
    assert {by: [row["sent"] for row in rows.values()] for by, rows in found.items()} == {
        "user class": [5, 5],
        "key": [5, 5],
    }


def test_unlike_requests_are_not_pooled(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """What is streamed, what is not and model lists have rows of their own for each value; a list has no model."""
    records = [request_at(n, n, model_requested=f"m{n % 2}") for n in range(20)]
    records += [request_at(30 + n, n, model_requested=f"m{n % 2}", **UNSTREAMED) for n in range(10)]
    records += [request_at(50 + n, n, model_requested=None, **MODELS) for n in range(4)]
    found = _by(make_run(records))
    assert {key: row["sent"] for key, row in found["model"].items()} == {
        ("chat, streamed", "m0"): 10,
        ("chat, streamed", "m1"): 10,
        ("chat, not streamed", "m0"): 5,
        ("chat, not streamed", "m1"): 5,
    }
    assert found["model"]["chat, not streamed", "m0"]["ttft_ms"] is None
    assert {value: row["sent"] for (_, value), row in found["endpoint"].items()} == {
        "/chat/completions": 10,
        "/models": 4,
    }


def test_bands_of_prompts(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """Prompts stand in bands in the order of their length: by tokens where all are known, else by characters."""
    tokens = [63, 64, 255, 256, 1024, 300_000]
    found = _by(make_run([request_at(n, n, prompt_tokens=count) for n, count in enumerate(tokens)]))
    assert [(value, row["sent"]) for (_, value), row in found["prompt length"].items()] == [
        ("0 to 63 tokens", 1),
        ("64 to 255 tokens", 2),
        ("256 to 1,023 tokens", 1),
        ("1,024 to 4,095 tokens", 1),
        ("262,144 tokens or more", 1),
    ]
    refused = [request_at(n, n, prompt_chars=100 if n < 6 else 1000, status=429 if n % 2 else 200) for n in range(10)]
    found = _by(make_run(refused))
    rows = {value: (row["success"], row["throttled"]) for (_, value), row in found["prompt length"].items()}
    assert rows == {"64 to 255 characters": (3, 3), "256 to 1,023 characters": (2, 2)}


def test_workers(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """Processes are told apart by their hosts too, where there are several."""
    places = [("p1", "a"), ("p1", "a"), ("p1", "b"), ("p2", "b"), (None, None)]
    records = [request_at(n, n, process_id=process, host=host) for n, (process, host) in enumerate(places)]
    rows = _by(make_run(records))["worker"]
    assert {value: row["sent"] for (_, value), row in rows.items()} == {
        "p1 on a": 2,
        "p1 on b": 1,
        "p2 on b": 1,
        "unknown": 1,
    }


def test_many_values_end_in_others(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """Of many values the most frequent have rows, and one row has all the others: no request is missing."""
    records = [request_at(n, n / 10, key_alias=f"key-{min(n % 50, 40)}") for n in range(500)]
    rows = _by(make_run(records))["key"]
    assert len(rows) == 20
    assert sum(row["sent"] for row in rows.values()) == 500
    (others,) = [row for row in rows.values() if row["values"] > 1]
    assert (others["value"], others["values"], others["sent"]) == ("22 others", 22, 220)
    assert next(iter(rows))[1] == "key-40"


def test_shown_folded_and_in_markdown(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """The page has each breakdown closed, and the Markdown has its rows."""
    paths = write_report(make_run([request_at(n, n, key_alias=f"key-{n % 2}") for n in range(40)]))
    assert '<details id="by-key">' in paths.page.read_text()
    assert "| key-0 | 20 | 20 | 0 | 0 | 0 | 100 |" in paths.markdown.read_text()
    assert json.loads(paths.summary.read_text())["breakdowns"][0]["by"] == "key"
