"""The steps of a schedule: exact numbers of hand-made runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tensorix_reports.load import load_report

MS = 1_000_000


def _asked(rates: list[float], length_s: float) -> dict[str, Any]:
    stages = [{"duration_s": length_s, "rate": rate, "end_rate": None} for rate in rates]
    goals = {"objectives": ["ttft_p95 < 200ms", "error_rate < 1%"], "good": []}
    return {"asked": {"arrivals": {"stages": stages}, "goals": goals}}


def test_figures_of_each_step(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """A request counts in the step in which it was due, whenever it was sent; figures and objectives are its own."""
    quick = np.arange(100, 200)
    records = [
        request_at(n, n / 10 + 0.05, step_id=0, intended_at_ns=-50 * MS, first_token_at_ns=int(ms) * MS)
        for n, ms in enumerate(quick)
    ]
    # Twice as many, of which the last are sent a second late, after the step has ended.
    records += [
        request_at(
            200 + n,
            10 + n / 20 + (1.0 if n >= 190 else 0.05),
            step_id=1,
            intended_at_ns=-1000 * MS if n >= 190 else -50 * MS,
            first_token_at_ns=(300 + n) * MS,
            **({"status": 429} if n < 4 else {}),
        )
        for n in range(200)
    ]
    report = load_report(make_run(records, **_asked([10, 20], 10.0)))
    first, second = report.to_dict()["steps"]
    assert [first[name] for name in ("number", "rate", "end_rate", "length_s", "sent")] == [1, 10.0, None, 10.0, 100]
    assert (first["offered_a_second"], second["offered_a_second"]) == (10.0, 20.0)
    assert (first["start_s"], second["start_s"]) == (0.0, 10.0)
    assert [second[name] for name in ("sent", "success", "throttled", "failed", "cancelled")] == [200, 196, 4, 0, 0]
    assert first["ttft_ms"]["p95"]["value"] == np.percentile(quick, 95)
    assert second["ttft_ms"]["p50"]["value"] == np.percentile(np.arange(304, 500), 50)
    assert first["e2e_from_intended_ms"]["p50"]["value"] == 251.0
    assert (first["standing"], second["standing"]) == ("met", "broken")
    assert [one["standing"] for one in second["objectives"]] == ["broken", "met"]
    (table,) = [table for table in report.tables if table.id == "steps"]
    assert len(table.rows) == 2
    assert "Step 2 is the first that broke an objective." in str(table.note)


def test_no_steps(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """A run of one rate, one in a closed loop, and an empty one have no steps and no table of them."""
    for records in ([request_at(n, n, step_id=0) for n in range(9)], [request_at(n, n) for n in range(9)], []):
        report = load_report(make_run(records))
        assert report.steps == []
        assert not [table for table in report.tables if table.id == "steps"]


def test_steps_of_which_nothing_is_known(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """Where the manifest does not say what was asked, a step lasts until the next is due; odd entries do no harm."""
    records = [request_at(n, n, step_id=n // 5) for n in range(15)]
    for asked in ({}, {"arrivals": {"stages": [None, {"duration_s": "x", "rate": True}]}}):
        steps = load_report(make_run(records, asked=asked)).steps
        assert [(step.rate, step.length_s, step.sent) for step in steps] == [
            (None, 5.0, 5),
            (None, 5.0, 5),
            (None, 4.0, 5),
        ]
        assert {step.standing for step in steps} == {None}
