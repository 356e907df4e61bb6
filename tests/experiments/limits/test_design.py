"""The experiment on a limiter, played in simulated time against limiters that are known."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tensorix_experiments.limits._assessing import Answer
from tensorix_experiments.limits._design import MOST_REQUESTS, Send, experiment, most
from tensorix_reports.limiter import Fitted, Interval, Kind, LimiterFit, Verdict

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
KINDS: tuple[Kind, ...] = ("fixed_window", "clock_window", "sliding_log", "sliding_counter", "token_bucket")


def _found(probability: float, answers: Sequence[Answer]) -> LimiterFit:
    value = Interval(60.0, 60.0, 60.0)
    ranked = [Fitted("sliding_log", probability, 1.0, value, value, None, None, False)]
    verdict: Verdict = "named" if probability > 0.95 else "cannot tell"
    return LimiterFit(verdict, ranked, ["sliding_log"], None, None, None, None, len(answers), 0, [])


def _never(answers: Sequence[Answer]) -> LimiterFit:
    return _found(0.5, answers)


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The player of the benchmark."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("limits_blind_world")


def _cell(simulated: Any, **how: Any) -> Any:
    plain = {"kind": "sliding_log", "limit": 60, "window_s": 60.0, "trip_s": 0.05, "seed": 3}
    wished = plain | how
    return simulated.Cell(documented_window_s=wished["window_s"], **wished)


def _played(simulated: Any, cell: Any, *, most_requests: int = MOST_REQUESTS, assess: Any = _never) -> Any:
    world = simulated.World(cell)
    actions = experiment(
        now_s=world.now_s,
        unix_s=world.told_unix_s,
        window_s=cell.documented_window_s,
        most_requests=most_requests,
        assess=assess,
    )
    return simulated.play(actions, world, most_requests=most_requests)


@pytest.mark.parametrize("header", [False, True])
@pytest.mark.parametrize("limit", [1, 10, 600])
@pytest.mark.parametrize("kind", KINDS)
def test_each_action_can_be_done_in_its_order_and_within_the_announced_bounds(
    simulated: Any, kind: Kind, limit: int, header: bool
) -> None:
    """Whatever the limiter, actions follow each other in time, ask for something, and end within what was announced."""
    played = _played(simulated, _cell(simulated, kind=kind, limit=limit, header=header, foreign=0.2))
    requests, seconds = most(60.0)
    assert len(played.answers) <= requests
    assert played.ended_s - played.asked_s <= seconds
    last_s = played.asked_s
    for action, sent in played.actions:
        assert isinstance(action, Send)
        assert action.at_s >= last_s
        last_s = action.at_s
        assert 1 <= action.in_flight <= action.count
        assert action.until_refused >= 1
        assert action.why
        assert sent <= action.count


@pytest.mark.parametrize("most_requests", [1, 4, 17, 61, 100])
def test_no_action_asks_for_more_than_the_bound_leaves(simulated: Any, most_requests: int) -> None:
    """The player refuses an action that could go over the bound, and none does; all of the bound may be used."""
    for kind in KINDS:
        played = _played(simulated, _cell(simulated, kind=kind), most_requests=most_requests)
        assert len(played.answers) <= most_requests


def test_a_limit_that_is_never_met_costs_the_bound_and_no_more(simulated: Any) -> None:
    """Where everything passes all of the bound is sent, and then it ends."""
    played = _played(simulated, _cell(simulated, limit=10_000), most_requests=300)
    assert [answer.passed for answer in played.answers] == [True] * 300


def test_it_begins_well_before_an_edge_of_the_servers_clock(simulated: Any) -> None:
    """The first request is sent 0.43 windows before a window ends on the server's clock, within a window from now."""
    for seed in range(20):
        world = simulated.World(_cell(simulated, seed=seed))
        now_s, unix_s = world.now_s, world.told_unix_s
        first = next(experiment(now_s=now_s, unix_s=unix_s, window_s=60.0, assess=_never))
        assert 0 <= first.at_s - now_s < 60
        assert (unix_s + first.at_s - now_s) % 60 == pytest.approx(0.57 * 60)


def test_it_ends_as_soon_as_the_fit_is_sure(simulated: Any) -> None:
    """A fit that is sure ends it once the clock's edge was seen; one that is not lets it go on for two windows."""
    soon = _played(simulated, _cell(simulated), assess=lambda answers: _found(0.995, answers))
    late = _played(simulated, _cell(simulated), assess=_never)
    assert soon.ended_s - soon.began_s < 0.6 * 60
    assert late.ended_s - late.began_s > 2 * 60


@pytest.mark.parametrize("failing", [0, 1])
def test_requests_that_fail_otherwise_do_not_keep_it_going(failing: int) -> None:
    """A server that answers neither 200 nor 429, from the beginning or after the opener, ends in a few requests."""
    actions = experiment(now_s=0.0, unix_s=0.0, window_s=60.0, assess=_never)
    sent = 0
    with suppress(StopIteration):
        action = next(actions)
        for number in range(1_000):
            sent += action.count
            passed = None if number >= failing else True
            answer = Answer(action.at_s, action.at_s + 0.01, passed)
            action = actions.send([answer] * action.count)
    assert sent < 30


def test_a_header_makes_it_cheap(simulated: Any) -> None:
    """Where answers say what remains, 25 requests do at any limit, and none is refused."""
    for kind in KINDS:
        played = _played(simulated, _cell(simulated, kind=kind, limit=600, header=True))
        assert len(played.answers) <= 25
        assert all(answer.passed for answer in played.answers)
