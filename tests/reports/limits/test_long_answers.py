"""What a header says of answers that take longer than a window: true is what was left at any instant of the answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tensorix_api.limiters import Cost, FixedWindow, SlidingLog, TokenBucket
from tensorix_records import RequestRecord
from tensorix_reports.limiter import Fitted
from tensorix_reports.limits import KeyReport, LimitsReport, limits_report
from tensorix_reports.limits._words import verdict_of

_WINDOW_NS = 5_000_000_000
_TRIP_S = 0.02
_LENGTHS = [*[_TRIP_S] * 6, 9.0, *[_TRIP_S] * 6, 7.0, *[_TRIP_S] * 8, 1.0, *[_TRIP_S] * 6]
"""Of answers one after the other: some of them longer than a window, one that ends within it."""

Audit = Callable[..., LimitsReport]


@pytest.fixture
def audit(
    make_run: Callable[..., Path],
    request_at: Callable[..., RequestRecord],
    fits: Callable[..., None],
    fitted: Callable[..., Fitted],
) -> Audit:
    """Answers of these lengths by a limiter of ten in five seconds; `lie` is added to what the long ones say."""

    def report(kind: Any, told: str, lie: int = 0) -> LimitsReport:
        makers: dict[str, Any] = {"fixed_window": FixedWindow, "sliding_log": SlidingLog, "token_bucket": TokenBucket}
        limiter = makers[kind]("requests", 10, _WINDOW_NS)
        origin_ns = request_at(0, 0.0).start_unix_ns
        records, at_s = [], 0.0
        for place, length_s in enumerate(_LENGTHS):
            decided_ns = origin_ns + round((at_s + _TRIP_S / 2) * 1e9)
            decision = limiter.admit(decided_ns, Cost(1, 0))
            passed = decision.admitted
            length_s = length_s if passed else _TRIP_S
            said_ns = decided_ns if told == "when it is decided" else origin_ns + round((at_s + length_s) * 1e9)
            left = limiter.remaining(said_ns)["requests"] + (lie if length_s > 1 else 0)
            end_ns = round(length_s * 1e9)
            columns = {"status": 200 if passed else 429, "stream": False, "remaining_requests": left}
            records.append(request_at(place, at_s, headers_at_ns=end_ns, end_at_ns=end_ns, **columns))
            at_s += length_s + 0.01
        fits(fitted(kind, burst=10 if kind == "token_bucket" else None), verdict="named", ranked=[fitted(kind)])
        return limits_report(make_run(records, limits={}))

    return report


def _main(report: LimitsReport) -> KeyReport:
    assert report.main is not None
    return report.main


@pytest.mark.parametrize("told", ["when it is decided", "when it is answered"])
@pytest.mark.parametrize("kind", ["fixed_window", "sliding_log", "token_bucket"])
def test_a_header_of_a_long_answer_is_true_by_the_decision_and_by_the_answer(
    audit: Audit, kind: str, told: str
) -> None:
    """Of an honest limiter nothing is called untrue, nothing rises without a reason, and nobody else is suspected."""
    report = audit(kind, told)
    main = _main(report)
    assert {(one.compared, one.equal) for one in main.headers} == {
        (one.responses, one.responses) for one in main.headers
    }
    assert [(one.unexplained, one.used_by_others) for one in main.rises] == [(0, 0)]
    assert not [one.word for one in verdict_of(report).statements if one.word in ("wrong", "rises", "others")]


@pytest.mark.parametrize("told", ["when it is decided", "when it is answered"])
def test_a_lie_on_long_answers_is_still_told(audit: Audit, told: str) -> None:
    """Three less than at any instant of the answer: as many comparisons as there are long answers are not equal."""
    (passed,) = (one for one in _main(audit("fixed_window", told, lie=-3)).headers if one.status == 200)
    assert passed.compared - passed.equal == 2
    assert passed.off_by == -3
