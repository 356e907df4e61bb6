"""What an experiment has shown to count is counted, where its limiter is held against what was seen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tensorix_records import RequestRecord
from tensorix_reports.limiter import fit as real_fit
from tensorix_reports.limits import Wished, _report, limits_report

LIST: dict[str, Any] = {"endpoint": "/models", "method": "GET", "stream": None}


@pytest.fixture
def records(request_at: Callable[..., RequestRecord]) -> Callable[..., list[RequestRecord]]:
    """The look, two chat requests, and between two more of them two that are answered 400; `left` is what remains."""

    def make(*left: int) -> list[RequestRecord]:
        rows: list[tuple[str, int, int | None, dict[str, Any]]] = [
            ("preflight", 200, None, LIST),
            ("limit", 200, left[0], {}),
            ("limit", 200, left[1], {}),
            ("limit", 429, None, {}),
            ("whole: chat", 200, left[2], {}),
            ("whole: bad request", 400, None, {}),
            ("whole: bad request", 400, None, {}),
            ("whole: chat", 200, left[3], {}),
        ]
        plain: dict[str, Any] = {"stream": False}
        return [
            request_at(
                place, 0.1 * place, scenario=scenario, status=status, remaining_requests=remaining, **(plain | more)
            )
            for place, (scenario, status, remaining, more) in enumerate(rows)
        ]

    return make


@pytest.mark.parametrize(("left", "counted"), [((9, 8, 7, 4), 2), ((9, 8, 7, 6), 0)])
def test_a_400_that_took_of_what_remained_is_counted(
    make_run: Callable[..., Path], fits: Any, fitted: Any, records: Any, left: tuple[int, ...], counted: int
) -> None:
    """Two of them that lowered what remains by two are charged to the limiter; two that did not are not."""
    fits(fitted())
    main = limits_report(make_run(records(*left), kind="experiment")).main
    assert main is not None
    assert int(main.key.counted[main.key.requests.array("status") == 400].sum()) == counted
    assert next(one for one in main.headers if one.present).equal == 4


def test_a_list_of_models_that_counts_is_where_it_begins(
    make_run: Callable[..., Path], fits: Any, fitted: Any, request_at: Callable[..., RequestRecord]
) -> None:
    """Where a list of models was refused later, the look before the experiment has opened the window."""

    def evidence(last: int) -> list[float]:
        made = [
            request_at(0, 0.0, scenario="preflight", status=200, **LIST),
            request_at(1, 1.0, scenario="limit", status=200, stream=False),
            request_at(2, 1.1, scenario="limit", status=429, stream=False),
            request_at(3, 1.2, scenario="spent: models", status=last, **LIST),
        ]
        fits(fitted())
        main = limits_report(make_run(made, kind="experiment")).main
        assert main is not None
        return [round(float(at_s), 3) for at_s in main.key.evidence.sent_s]

    assert evidence(429) == [0.0, 1.0, 1.1]
    assert evidence(200) == [1.0, 1.1]


def test_the_window_that_an_experiment_was_told_is_the_one_of_its_report(
    make_run: Callable[..., Path], records: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the report weighs it as the experiment did when it stopped."""
    told: list[float | None] = []

    def fit(evidence: Any, *, window_s: float | None = None) -> Any:
        told.append(window_s)
        return real_fit(evidence, window_s=window_s)

    monkeypatch.setattr(_report, "fit", fit)
    run = make_run(
        records(9, 8, 7, 4), kind="experiment", asked={"window_s": 7.0}, limits={"window_s": 7.0, "told": []}
    )
    limits_report(run)
    limits_report(run, Wished(window_s=3.0))
    assert told == [7.0, 3.0]
