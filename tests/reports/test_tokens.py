"""Tokens and cost of hand-made runs, by exact numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tensorix_reports.load import load_report


def test_tokens_and_cost(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """Tokens are summed by model and by who counted them; a bound on a cost is kept apart from what usage says."""
    told = {"prompt_tokens": 20, "completion_tokens": 11, "cost": 0.5, "reserved_tokens": 100}
    records = [request_at(n, n, **told, cached_tokens=4) for n in range(4)]
    guessed = {"token_source": "chunks", "prompt_tokens": None, "completion_tokens": 7, "reserved_tokens": 100}
    records += [request_at(10 + n, n, **guessed, cost=2.0) for n in range(2)]
    records += [request_at(20, 9, status=429, cost=0.0)]
    records += [request_at(30, 9, **told, reasoning_tokens=5, model_requested="other")]
    prices = {"asked": {"spending": {"prices": {"*": {"prompt": 1, "completion": 3, "cached": None}}}}}
    report = load_report(make_run(records, **prices))
    found = report.to_dict()["tokens"]
    assert [
        [row[name] for name in ("requests", "prompt", "completion", "reasoning", "cached", "cost")]
        for row in found["rows"]
    ] == [[4, 80, 44, None, 16, 2.0], [1, 20, 11, 5, None, 0.5], [2, None, 14, None, None, 4.0]]
    assert [row["token_source"] for row in found["rows"]] == ["usage", "usage", "chunks"]
    assert found["cost"] == {"requests": 8, "total": 6.5, "by_usage": 2.5, "at_most": 4.0, "per_success": 6.5 / 7}
    assert found["reserved"] == {"requests": 5, "reserved_tokens": 500, "used_tokens": 155, "share": 0.31}
    (table,) = [table for table in report.tables if table.id == "tokens"]
    assert table.columns[-1] == "cost"
    assert "In all 6.5, in the money of the prices: 2.5 by the server's count" in str(table.note)
    assert "any model prompt 1, completion 3" in str(table.note)


def test_no_prices_and_no_tokens(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """Without prices there is no cost; without tokens, and in an empty run, there is no table."""
    report = load_report(make_run([request_at(0, 0)]))
    assert report.to_dict()["tokens"] == {
        "rows": [
            {
                "model": "deepseek/deepseek-chat-v3.1",
                "token_source": "usage",
                "requests": 1,
                "prompt": 20,
                "completion": 11,
                "reasoning": None,
                "cached": None,
                "cost": None,
            }
        ],
        "more_rows": 0,
        "cost": None,
        "reserved": None,
    }
    for records in ([], [request_at(0, 0, status=429)]):
        empty = load_report(make_run(records))
        assert empty.tokens.rows == []
        assert not [table for table in empty.tables if table.id == "tokens"]
