"""A 503 that is a limiter's refusal, and one that is not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tensorix_api.limiters import FixedWindow
from tensorix_records import RequestRecord
from tensorix_reports.limits import KeyReport, limits_report
from tensorix_reports.limits._words import verdict_of
from tensorix_reports.page._statement import Standing

TIMES = [0.1 * place for place in range(200)]
"""Ten a second over four windows of five seconds, in each of which ten pass."""


def _with_503(records: Sequence[RequestRecord]) -> list[RequestRecord]:
    return [replace(one, status=503, outcome="failed") if one.status == 429 else one for one in records]


@pytest.fixture
def reported(make_run: Callable[..., Path], fits: Callable[..., None], fitted: Any) -> Any:
    """The key of a run and its statements about the status of refusals, where the fit says ten in five seconds."""

    def report(records: Sequence[RequestRecord], **manifest: Any) -> tuple[KeyReport, list[tuple[Standing, str]]]:
        fits(fitted())
        found = limits_report(make_run(records, **manifest))
        assert found.main is not None
        said: list[tuple[Standing, str]] = [
            (one.standing, one.text) for one in verdict_of(found).statements if one.word == "status"
        ]
        return found.main, said

    return report


def test_what_comes_beyond_a_limit_and_nowhere_else_is_a_refusal(reported: Any, through: Any) -> None:
    """503s where the limit is met, again and again, are taken as 429s are, and it is said that they are odd."""
    main, said = reported(_with_503(through(FixedWindow("requests", 10, 5_000_000_000), TIMES)))
    assert main.key.refused_with == 503
    assert main.fit.refused == sum(not passed for passed in main.run.passes)
    assert main.to_dict()["refused_with"] == 503
    [(standing, text)] = said
    assert standing == "problem"
    assert "503, not 429" in text


def test_what_comes_without_a_limit_is_none(reported: Any, request_at: Any) -> None:
    """503s that the limiter which explains the most does not explain are the server's trouble, as is said."""
    every_seventh = [
        request_at(place, at_s, stream=False, status=503 if place % 7 == 6 else 200)
        for place, at_s in enumerate(TIMES[:70])
    ]
    main, said = reported(every_seventh)
    assert main.key.refused_with == 429
    assert main.fit.verdict == "no limit reached"
    assert [standing for standing, _ in said] == ["unknown"]
    assert "10 requests got a 503" in said[0][1]


@pytest.mark.parametrize(("kind", "status"), [("load", 429), ("experiment", 503)])
def test_one_stretch_of_503_is_an_outage_unless_an_experiment_has_just_met_the_limit(
    reported: Any, through: Any, kind: str, status: int
) -> None:
    """Of a load test nothing tells it from an outage; an experiment sends what meets a limit."""
    once = through(FixedWindow("requests", 10, 5_000_000_000), TIMES[:60], scenario="limit")
    main, _ = reported(_with_503(once), kind=kind)
    assert main.key.refused_with == status


def test_a_server_that_refuses_with_429_says_something_else_with_503(reported: Any, through: Any) -> None:
    """Where one refusal is a 429 the 503s are none."""
    records = _with_503(through(FixedWindow("requests", 10, 5_000_000_000), TIMES))
    last = max(place for place, one in enumerate(records) if one.status == 503)
    records[last] = replace(records[last], status=429, outcome="throttled")
    main, said = reported(records)
    assert (main.key.refused_with, main.fit.refused, said) == (429, 1, [])


def test_a_server_that_never_recovers_is_down(reported: Any, request_at: Any) -> None:
    """Nothing but 503 to the end tells of no limit, in an experiment either."""
    records = [
        request_at(place, at_s, stream=False, scenario="limit", status=200 if place < 10 else 503)
        for place, at_s in enumerate(TIMES[:60])
    ]
    main, said = reported(records, kind="experiment")
    assert main.key.refused_with == 429
    assert [standing for standing, _ in said] == ["unknown"]
