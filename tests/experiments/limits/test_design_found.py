"""The experiment and the fit together, in simulated time: known limiters are named, and cheaply.

A dozen of the trials of `benchmarks/limits_blind.py`, which has thousands.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
KINDS = ("fixed_window", "clock_window", "sliding_log", "sliding_counter", "token_bucket")


@pytest.fixture
def trial(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Plays one trial of the benchmark, of a window of a minute and a round trip of 50 ms."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    simulated, blind = importlib.import_module("limits_blind_world"), importlib.import_module("limits_blind")

    def run(**how: Any) -> Any:
        cell = simulated.Cell(**{"window_s": 60.0, "documented_window_s": 60.0, "trip_s": 0.05, **how})
        return blind.run(cell)

    return run


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_named_without_a_header(trial: Any, kind: str) -> None:
    """A limit of 14 a minute is stated as what it is, and costs at most 3 N requests."""
    result = trial(kind=kind, limit=14, seed=1)
    assert (result.named, result.sure, result.limit) == (kind, True, pytest.approx(14, rel=0.1))
    assert result.requests <= 3 * 14
    assert not result.claims_foreign
    assert result.second is None


@pytest.mark.parametrize(
    "kind",
    [
        "clock_window",
        "sliding_counter",
        *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("fixed_window", "sliding_log", "token_bucket")),
    ],
)
def test_each_kind_is_named_with_a_header_for_25_requests(trial: Any, kind: str) -> None:
    """A limit of 90 a minute whose answers say what remains is found out without being met."""
    result = trial(kind=kind, limit=90, header=True, seed=1)
    assert (result.named, result.limit) == (kind, pytest.approx(90, rel=0.05))
    assert result.requests <= 25


def test_a_limit_a_second_is_recognised_and_the_longer_one_found_under_it(trial: Any) -> None:
    """Of 5 a second and 40 in a sliding minute both are found."""
    result = trial(kind="sliding_log", limit=40, second=5, seed=1)
    assert result.second == (5, 1.0)
    assert (result.named, result.limit) == ("sliding_log", 40)


def test_somebody_else_on_the_key_is_no_reason_to_be_sure_of_the_wrong_kind(trial: Any) -> None:
    """With a fifth of the limit used by somebody else, a bucket is still named, or nothing is."""
    result = trial(kind="token_bucket", limit=60, foreign=0.2, seed=1)
    assert result.named == "token_bucket" or not result.sure


def test_answers_that_come_out_of_order_under_a_small_limit_end_in_a_finding(trial: Any) -> None:
    """What a header says of several under way can only be had of a limit below one, in some orders: none of these."""
    result = trial(kind="fixed_window", limit=10, second=2, trip_s=0.15, header=True, seed=0)
    assert result.named == "fixed_window"
