"""The most that a run can use: computed, said and agreed to."""

from __future__ import annotations

import pytest

from tensorix_api.settings import Settings
from tensorix_cli._cost import agree, bounded, most_of
from tensorix_loadtests.plan import Arrivals, Limits, LoadPlan, Price, Spending, Stage

FAR = Settings(base_url="https://far.example/v1")
NEAR = Settings(base_url="http://127.0.0.1:8000/v1")


def test_a_duration_is_bounded_by_twice_what_the_limit_lets_pass() -> None:
    """90 s touch two windows of 60 s, so 2 x 2 x 50 requests are the most."""
    plan = LoadPlan(base_url=FAR.base_url, duration_s=90.0, limits=Limits(requests=50, window_s=60.0))
    assert bounded(plan, FAR).requests == 200


def test_a_number_of_requests_is_left_as_it_is() -> None:
    """Who gives a number has bounded the run."""
    plan = LoadPlan(base_url=FAR.base_url, duration_s=90.0, requests=7)
    assert bounded(plan, FAR) == plan


def test_nothing_is_bounded_on_this_machine() -> None:
    """A server on loopback costs nothing: a duration alone runs free."""
    plan = LoadPlan(base_url=NEAR.base_url, duration_s=90.0)
    assert bounded(plan, NEAR).requests is None


def test_an_unknown_limit_is_taken_as_the_documented_one() -> None:
    """Where no limit of the key is known, 60 requests a minute are assumed for the bound: 2 x 2 x 60 of them."""
    plan = LoadPlan(base_url=FAR.base_url, duration_s=90.0, limits=Limits(requests=None))
    assert bounded(plan, FAR).requests == 240


def test_nobody_is_asked_on_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    """A run against loopback begins without a word."""
    assert agree(LoadPlan(base_url=NEAR.base_url, requests=1), NEAR, assumed=False)
    assert capsys.readouterr().out == ""


def test_the_most_is_said_before_it_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    """The numbers that are printed are those of the plan, with the answer's tokens in them."""
    plan = LoadPlan(base_url=FAR.base_url, requests=99, max_tokens=1000, prompts=("x" * 25,))
    assert agree(plan, FAR, assumed=True)
    said = capsys.readouterr().out
    requests, tokens = plan.most_requests(), plan.most_tokens_a_request()
    assert requests is not None
    assert tokens is not None
    assert requests >= 99
    assert tokens >= 1010
    assert "far.example" in said
    assert f"{requests} requests" in said
    assert f"{requests * tokens:,} tokens" in said


def test_a_schedule_bounds_its_run() -> None:
    """An open loop has as many requests as its schedule, and each may be tried again as often as was asked."""
    arrivals = Arrivals(stages=(Stage(duration_s=10.0, rate=5.0),), gaps="constant")
    plan = LoadPlan(base_url=FAR.base_url, arrivals=arrivals, spending=Spending(most_retries=2))
    assert bounded(plan, FAR) is plan
    assert most_of(plan).requests == 50 * 3 + 1


def test_caps_bound_what_a_run_can_use(capsys: pytest.CaptureFixture[str]) -> None:
    """The smallest of what is asked for and of the caps is said, money by the prices."""
    prices = {"*": Price(prompt=1.0, completion=4.0)}
    spending = Spending(most_requests=20, most_tokens=1000, most_money=0.003, prices=prices)
    plan = LoadPlan(base_url=FAR.base_url, requests=99, spending=spending)
    assert agree(plan, FAR, assumed=True)
    said = capsys.readouterr().out
    assert "at most 20 requests and 1,000 tokens, and costs at most 0.003 by the prices given" in said
