"""The experiment and the fit together, in simulated time, on limiters as nginx and haproxy count.

`benchmarks/real_limiters.py` asks the real ones.
"""

from __future__ import annotations

from typing import Any

import pytest

from tensorix_experiments.limits._assessing import Answer, evidence_of
from tensorix_experiments.limits._design import experiment
from tensorix_reports.limiter import LimiterFit, fit

_UNIX_S = 1_790_000_003.7
_TRIP_S = 0.008


def _found_out(limiter: Any, window_s: float) -> tuple[LimiterFit, int]:
    """One request after the other, each decided halfway."""
    actions = experiment(now_s=0.0, unix_s=_UNIX_S, window_s=window_s)
    answers: list[Answer] = []
    now_s, action = 0.0, next(actions)
    while True:
        now_s = max(now_s, action.at_s)
        new: list[Answer] = []
        while len(new) < action.count and sum(not one.passed for one in new) < action.until_refused:
            new.append(Answer(now_s, now_s + _TRIP_S, limiter.passes(now_s + _TRIP_S / 2)))
            now_s += _TRIP_S
        answers += new
        try:
            action = actions.send(new)
        except StopIteration:
            return fit(evidence_of(answers, _UNIX_S), window_s=window_s), len(answers)


@pytest.mark.parametrize("counts_refused", [False, True])
def test_a_counter_whose_periods_begin_with_the_first_request_is_named(
    frequency_counter: Any, counts_refused: bool
) -> None:
    """With fractions cut off, and with refused requests counted or not."""
    found, _ = _found_out(frequency_counter(20, 10.0, counts_refused), 10.0)
    best = found.ranked[0]
    assert (found.verdict, best.kind, best.counts_refused) == ("named", "sliding_counter", counts_refused)
    assert best.limit.value == pytest.approx(20, abs=0.5)
    assert best.window_s.value == pytest.approx(10, rel=0.01)


@pytest.mark.parametrize(
    ("rate", "burst", "most"),
    [
        pytest.param(1.0, 9, 75, id="whose looks all pass, so that it has to be emptied once more"),
        pytest.param(10.0, 19, 600, id="that gives back a hundred times as fast as requests are lumped together"),
    ],
)
def test_a_bucket_that_holds_far_less_than_a_window_gives_back_is_named(
    limit_req: Any, rate: float, burst: int, most: int
) -> None:
    """Of a minute: a bucket of the burst and the one that is served, and the drip."""
    found, requests = _found_out(limit_req(rate, burst), 60.0)
    best = found.ranked[0]
    assert (found.verdict, best.kind) == ("named", "token_bucket")
    assert best.probability > 0.99
    assert best.burst is not None
    assert best.burst.value == pytest.approx(burst + 1, rel=0.02)
    assert best.window_s.value / best.limit.value == pytest.approx(1 / rate, rel=0.02)
    assert requests <= most
