"""A limit that changes in the middle of a run, with the fit as it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tensorix_api.limiters import FixedWindow
from tensorix_records import RequestRecord
from tensorix_reports.limits import limits_report
from tensorix_reports.limits._words import verdict_of

_SECOND_NS = 1_000_000_000


def test_a_limit_that_was_raised_is_a_finding(
    make_run: Callable[..., Path], through: Callable[..., list[RequestRecord]]
) -> None:
    """Twelve a second for three seconds, then thirty: both are said, and when it was."""
    before = through(FixedWindow("requests", 12, _SECOND_NS), [0.03 * place for place in range(100)], lambda *_: {})
    after = through(FixedWindow("requests", 30, _SECOND_NS), [3 + 0.03 * place for place in range(100)], lambda *_: {})
    report = limits_report(make_run([*before, *after], limits={}))
    assert report.main is not None
    changed_s = report.main.fit.changed_at_s
    assert changed_s is not None
    # Between the last refusal under the old limit and the first request beyond it under the new one.
    assert 2.3 < changed_s < 3.6
    said = "\n".join(verdict_of(report).lines)
    assert f"The limit changed {changed_s:.1f} s after the run's start" in said
    assert "One limit does not explain what was seen both before and after that." in said or (
        "one limit does not explain what was seen both before and after that." in said
    )
