"""A run that asked many models: those with the most answers have rows of their own, the others share one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tensorix_records import Run
from tensorix_reports.load import load_report
from tensorix_reports.load._by_model import MOST_MODELS

MS = 1_000_000
# One more than has rows, and the more answers the higher the number: then the first three share a row.
COUNTS = {f"m{number:02d}": 20 + number for number in range(MOST_MODELS + 2)}
SHARED = ("m00", "m01", "m02")


@pytest.fixture(scope="module")
def latency(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> dict[str, Any]:
    """The latency of a run in which each model takes its own time, and the last writes gaps between chunks too."""
    rng = np.random.default_rng(6)
    asked = rng.permutation([name for name, count in COUNTS.items() for _ in range(count)]).tolist()
    records = [
        request_at(number, number / 10, model_requested=name, end_at_ns=(700 + int(name[1:])) * MS)
        for number, name in enumerate(asked)
    ]
    path = make_run(records, [(0.0, "phase", {"name": "steady"})])
    writer = Run.open(path).writer("w1")
    for name in COUNTS:
        writer.add_gaps(name, records[0].start_unix_ns + np.arange(1, 12) * 10 * MS)
    writer.close()
    report = load_report(path)
    shown = {table.id: table for table in report.tables}
    words = [(row[0].detail, row[1].text) for row in shown["latency"].rows]
    assert ("3 other models", "E2E, ms") in words
    assert "have rows of their own; 3 share one" in (shown["latency"].note or "")
    return dict(report.to_dict()["latency"])


@pytest.mark.parametrize("quantity", ["TTFT", "E2E", "ICL"])
@pytest.mark.parametrize("of", ["figures", "figures_whole_run"])
def test_the_fewest_answers_share_a_row(latency: dict[str, Any], of: str, quantity: str) -> None:
    """There are no more rows than a page can show, the others last; and together they count every answer."""
    rows = {row["request"]: row["count"] for row in latency[of] if row["quantity"] == quantity}
    own = sorted(set(COUNTS) - set(SHARED))
    assert list(rows) == [f"chat, streamed, {name}" for name in [*own, "3 other models"]]
    if quantity == "ICL":
        assert rows["chat, streamed, 3 other models"] == 30
    else:
        assert rows == {f"chat, streamed, {name}": COUNTS[name] for name in own} | {
            "chat, streamed, 3 other models": sum(COUNTS[name] for name in SHARED)
        }


def test_the_shared_row_is_of_their_answers_together(latency: dict[str, Any]) -> None:
    """Its percentiles are NumPy's of all their answers, and its tokens those of all."""
    (row,) = (
        one
        for one in latency["figures"]
        if one["quantity"] == "E2E" and one["request"] == "chat, streamed, 3 other models"
    )
    times = np.repeat([700.0 + int(name[1:]) for name in SHARED], [COUNTS[name] for name in SHARED])
    assert row["p50"]["value"] == pytest.approx(np.percentile(times, 50))
    assert (row["least"], row["most"]) == (700.0, 702.0)
    throughput = {one["request"]: one["requests"] for one in latency["throughput"]}
    assert len(throughput) == MOST_MODELS
    assert throughput["chat, streamed, 3 other models"] == sum(COUNTS[name] for name in SHARED)


def test_as_many_models_as_have_rows_share_none(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """A row for others would be longer than the model that it stands for."""
    records = [request_at(n, n / 10, model_requested=f"m{n % MOST_MODELS:02d}") for n in range(5 * MOST_MODELS)]
    figures = load_report(make_run(records)).to_dict()["latency"]["figures"]
    named = [row["request"] for row in figures if row["quantity"] == "E2E"]
    assert named == [f"chat, streamed, m{number:02d}" for number in range(MOST_MODELS)]
