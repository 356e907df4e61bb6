"""What responses said, against the limiter that decided."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tensorix_api.limiters import FixedWindow, SlidingLog, TokenBucket
from tensorix_records import RequestRecord
from tensorix_reports.limiter import Fitted
from tensorix_reports.limits import KeyReport, LimitsReport, limits_report
from tensorix_reports.limits._words import verdict_of

WINDOW_NS = 5_000_000_000
TIMES = [0.05 * place for place in range(200)]
"""A request in 50 ms for two windows of five seconds: far beyond ten a window."""

Through = Callable[..., list[RequestRecord]]


@pytest.fixture
def reported(make_run: Callable[..., Path], fits: Callable[..., None]) -> Callable[..., LimitsReport]:
    """The report of some requests of one key, by a limiter that is known."""

    def report(records: list[RequestRecord], known: Fitted) -> LimitsReport:
        fits(known)
        return limits_report(make_run(records, limits={}))

    return report


@pytest.fixture
def audited(reported: Callable[..., LimitsReport]) -> Callable[..., KeyReport]:
    """What that says of the key."""

    def of_key(records: list[RequestRecord], known: Fitted) -> KeyReport:
        main = reported(records, known).main
        assert main is not None
        return main

    return of_key


@pytest.mark.parametrize("kind", ["fixed_window", "sliding_log", "token_bucket"])
def test_a_true_header_is_equal_on_every_response(
    through: Through, audited: Callable[..., KeyReport], fitted: Callable[..., Fitted], kind: Any
) -> None:
    """What an honest limiter says remains is what the same limiter, run again over the requests, has left."""
    makers: dict[str, Any] = {"fixed_window": FixedWindow, "sliding_log": SlidingLog, "token_bucket": TokenBucket}
    limiter = makers[kind]("requests", 10, WINDOW_NS)
    main = audited(through(limiter, TIMES), fitted(kind, burst=10 if kind == "token_bucket" else None))
    assert {(one.status, one.present == one.responses, one.equal == one.compared) for one in main.headers} == {
        (200, True, True),
        (429, True, True),
    }
    assert main.run is not None
    assert (main.run.passes == ~main.key.refused).all()
    assert [(one.resource, one.unexplained, one.used_by_others) for one in main.rises] == [("requests", 0, 0)]
    # What a log or a bucket gives back is taken at once by somebody who was refused before: it is never seen to rise.
    assert main.rises[0].by_refill == main.rises[0].rises == (1 if kind == "fixed_window" else 0)


def test_a_header_that_is_one_response_late_is_told_by_how_much(
    through: Through, reported: Callable[..., LimitsReport], fitted: Callable[..., Fitted]
) -> None:
    """It says one more than the truth, which was true 50 ms before: one request earlier."""
    records = through(
        FixedWindow("requests", 10, WINDOW_NS),
        TIMES,
        lambda place, left, wait_s: {"remaining_requests": min(10, left + 1) if wait_s == 0 or left else left},
    )
    report = reported(records, fitted())
    assert report.main is not None
    passed = next(one for one in report.main.headers if one.status == 200)
    assert passed.off_by == 1
    assert passed.late_s == pytest.approx(0.05)
    assert any(one.word == "wrong" for one in verdict_of(report).statements)


def test_what_somebody_else_uses_is_counted(
    through: Through, audited: Callable[..., KeyReport], fitted: Callable[..., Fitted]
) -> None:
    """A third of the requests are not in the run: as many more went from what remains."""
    records = through(FixedWindow("requests", 10, WINDOW_NS), [0.1 * place for place in range(9)])
    ours = [record for place, record in enumerate(records) if place % 3 != 1]
    refused = through(FixedWindow("requests", 0, WINDOW_NS), [1.0], lambda *_: {})
    main = audited([*ours, *refused], fitted())
    assert sum(one.used_by_others for one in main.rises if one.resource == "requests") == 3


@pytest.mark.parametrize(
    ("said_s", "early", "honest", "late"),
    [("true", 0, 90, 0), (60.0, 0, 0, 90), (0.1, 88, 2, 0)],
)
def test_retry_after_is_held_against_the_wait_that_was_needed(
    through: Through,
    audited: Callable[..., KeyReport],
    fitted: Callable[..., Fitted],
    said_s: Any,
    early: int,
    honest: int,
    late: int,
) -> None:
    """Whole seconds rounded up are honest, a fixed minute is too late, a tenth of a second too early but at the end."""

    def says(place: int, left: int, wait_s: float) -> dict[str, Any]:
        told_s = float(-(-(wait_s) // 1)) if said_s == "true" else said_s
        return {"retry_after_ns": round(told_s * 1e9)} if wait_s else {}

    # The last request that passes of a window's ten says so too, but is no refusal.
    records = through(FixedWindow("requests", 10, WINDOW_NS), TIMES[:100], says)
    retry = audited(records, fitted()).retry
    assert (retry.refusals, retry.compared) == (90, 90)
    assert (retry.too_early, retry.honest, retry.too_late) == (early, honest, late)
    if late:
        assert retry.too_late_by_most_s == pytest.approx(60 - 0.05, abs=0.06)


def test_refusals_that_count_make_the_wait_longer(
    through: Through, audited: Callable[..., KeyReport], fitted: Callable[..., Fitted]
) -> None:
    """By a log that counts refusals, whoever goes on asking is never let in again: the wait is a window each time."""
    records = through(FixedWindow("requests", 10, WINDOW_NS), TIMES[:100], lambda *_: {"retry_after_ns": 10**9})
    retry = audited(records, fitted("sliding_log", counts_refused=True)).retry
    assert retry.needed_median_s is not None
    assert retry.needed_median_s > 2.0
    assert retry.too_early == 90


def test_tokens_that_come_back_were_set_aside(
    through: Through, audited: Callable[..., KeyReport], fitted: Callable[..., Fitted]
) -> None:
    """What remains of the tokens rises by no more than max_tokens: settled; by more, in an open window: unexplained."""
    left = [1000, 600, 990, 580, 5000, 4900]
    records = through(
        FixedWindow("requests", 10, WINDOW_NS),
        [0.1 * place for place in range(6)],
        lambda place, *_: {"remaining_tokens": left[place], "max_tokens": 400, "prompt_chars": 2},
    )
    refused = through(FixedWindow("requests", 0, WINDOW_NS), [1.0], lambda *_: {})
    main = audited([*records, *refused], fitted())
    tokens = next(one for one in main.rises if one.resource == "tokens")
    assert (tokens.rises, tokens.by_settling, tokens.unexplained) == (2, 1, 1)
