"""The verdicts without Prometheus: the same rules, in virtual time, in bounded memory."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tensorix_probes.alerts.conditions import BURNS
from tensorix_probes.alerts.evaluate import Alert, Evaluator
from tensorix_probes.result import ProbeResult, Round, State
from tensorix_probes.settings import Objective, Target

FAILING, FAST, BURNS_6, SLOWLY, SPENT = (*(burn.alert for burn in BURNS), "TensorixBudgetSpent")
HERE = Target(name="here")


def _round(at_s: float, state: State, maintenance: str | None = None, **more: Any) -> Round:
    return Round(
        round_id="r",
        target="here",
        state=state,
        started_unix_ns=int(at_s * 1e9),
        maintenance=maintenance,
        **more,
    )


def _fired(
    rounds: list[tuple[float, State]],
    target: Target = HERE,
    muted: Callable[[float], bool] = lambda _: False,
    scale: float = 1.0,
) -> list[tuple[float, str, bool]]:
    """When which alert began (True) or ended, asked at each round and every 15 s after the last."""
    evaluator, found = Evaluator(scale), []
    for at_s, state in rounds:
        verdicts = evaluator.see(at_s, _round(at_s, state, "window" if muted(at_s) else None), target)
        found += [(at_s, verdict.alert.name, verdict.firing) for verdict in verdicts]
    return found


@pytest.mark.parametrize("objective", [0.9, 0.995, 0.9999])
def test_a_single_failure_alarms_nobody(every: Any, objective: float) -> None:
    """One failed probe in a day fires nothing, whatever the objective."""
    target = replace(HERE, objective=Objective(availability=objective))
    assert _fired(every(1440, down=[700]), target) == []


@pytest.mark.parametrize("interval_s", [10.0, 30.0, 60.0])
def test_two_in_five_minutes_and_three_in_an_hour_alarm(every: Any, interval_s: float) -> None:
    """The third failure in the hour fires if the second was less than five minutes before it, and else does not."""
    a_minute = int(60 / interval_s)
    target = replace(HERE, interval_s=interval_s)
    near = every(300 * a_minute, interval_s, down=[100 * a_minute, 140 * a_minute, 144 * a_minute])
    assert [(name, firing) for _, name, firing in _fired(near, target)] == [(FAILING, True), (FAILING, False)]
    assert _fired(near, target)[0][0] == near[144 * a_minute][0]
    apart = every(300 * a_minute, interval_s, down=[100 * a_minute, 120 * a_minute, 144 * a_minute])
    assert _fired(apart, target) == []


def test_one_success_does_not_reset_the_count(every: Any) -> None:
    """Failures that alternate with successes fire as the share that they are."""
    began = [(at_s, name) for at_s, name, firing in _fired(every(240, down=range(120, 180, 2))) if firing]
    assert (began[0][1], began[1][1]) == (FAILING, FAST)
    assert began[0][0] == 125 * 60 - 5


def test_an_outage_begins_and_ends(every: Any) -> None:
    """Each alert that an outage fires ends, the fast ones five to six minutes after its last failure but one."""
    changes = _fired(every(3000, down=range(200, 220)))
    assert {name for _, name, firing in changes if firing} == {FAILING, FAST, BURNS_6}
    ends = {name: at_s for at_s, name, firing in changes if not firing}
    assert set(ends) == {FAILING, FAST, BURNS_6}
    last_but_one = 219 * 60 - 5
    assert 300 <= ends[FAST] - last_but_one <= 360
    assert 1800 <= ends[BURNS_6] - last_but_one <= 1920


def test_what_is_muted_counts_nowhere(every: Any) -> None:
    """Failures within a maintenance window fire nothing and use no budget."""
    rounds = every(600, down=range(100, 400))
    assert _fired(rounds, muted=lambda at_s: at_s < 400 * 60) == []


@pytest.mark.parametrize(
    ("state", "name"),
    [
        (State.PAYMENT, "TensorixCreditUsedUp"),
        (State.INCONCLUSIVE, "TensorixProbeInconclusive"),
        (State.DEGRADED, "TensorixDegraded"),
    ],
)
def test_other_states_are_told_as_what_they_are(every: Any, state: State, name: str) -> None:
    """An hour without any conclusive or quick round fires its own alert, and no burn rate."""
    changes = _fired(every(300, other=dict.fromkeys(range(100, 160), state)))
    assert [(name, firing) for _, name, firing in changes] == [(name, True), (name, False)]


def test_silence_and_certificates_come_with_time(every: Any) -> None:
    """`tick` finds a target that is not probed any more, or never was, and a certificate that runs out."""
    evaluator, day_s = Evaluator(), 86_400.0
    evaluator.watch(0.0, HERE)
    assert evaluator.tick(299.0, 299.0) == []
    assert [verdict.alert.name for verdict in evaluator.tick(301.0, 301.0)] == ["TensorixProbeStale"]
    result = ProbeResult(
        check="tls",
        target="here",
        state=State.UP,
        figures={"certificate_not_after_unix_s": 20 * day_s},
        started_unix_ns=0,
    )
    ended = evaluator.see(310.0, _round(310.0, State.UP, results=(result,)), HERE)
    assert [(verdict.alert.name, verdict.firing) for verdict in ended] == [("TensorixProbeStale", False)]
    assert evaluator.tick(311.0, 5 * day_s) == []
    assert [verdict.alert.name for verdict in evaluator.tick(312.0, 7 * day_s)] == ["TensorixCertificateExpiresSoon"]
    assert [verdict.alert.name for verdict in evaluator.tick(313.0, 18 * day_s)] == ["TensorixCertificateExpires"]
    assert {alert.name for alert in evaluator.firing()} == {
        "TensorixCertificateExpires",
        "TensorixCertificateExpiresSoon",
    }
    assert all(not verdict.firing for verdict in evaluator.forget("here"))
    assert evaluator.firing() == []


def test_targets_and_locations_are_told_apart(every: Any) -> None:
    """The failures of one target at one place fire for it alone."""
    evaluator = Evaluator()
    for at_s, state in every(100, down=range(50, 70)):
        evaluator.see(at_s, replace(_round(at_s, state), location="a"), HERE)
        evaluator.see(at_s, replace(_round(at_s, State.UP), location="b"), HERE)
        if at_s > 60 * 60:
            assert Alert(FAST, "here", "a") in evaluator.firing()
            assert all(alert.location == "a" for alert in evaluator.firing())
            break


def test_a_healthy_month_is_silent_in_little_memory(every: Any) -> None:
    """43,200 probes, 2 % of them slow: nothing fires, and what is remembered of a target stays under 40 kB."""
    chance = random.Random(2)
    slow = {number: State.DEGRADED for number in range(43_200) if chance.random() < 0.02}
    evaluator, largest = Evaluator(), 0
    for number, (at_s, state) in enumerate(every(43_200, other=slow)):
        assert evaluator.see(at_s, _round(at_s, state), HERE) == []
        assert evaluator.tick(at_s + 30, at_s + 30) == []
        if number % 4_000 == 0:
            largest = max(largest, len(pickle.dumps(evaluator)))
    assert len(slow) > 800
    assert largest < 40_000


def test_a_budget_is_used_up_by_a_months_worth_of_failures(every: Any) -> None:
    """216 failures are all that 99.5 % of 43,200 allows: the 217th of scattered ones fires, after a slow burn."""
    changes = _fired(every(30_000, down=range(3_000, 30_000, 110)), HERE)
    assert [(name, firing) for _, name, firing in changes] == [(SLOWLY, True), (SPENT, True)]
    assert changes[1][0] == every(30_000)[3_000 + 216 * 110][0]


def test_scaled_windows_are_scaled(every: Any) -> None:
    """At a sixtieth, seconds do what minutes do: the same rounds sixty times as fast give the same verdicts."""
    rounds = every(300, down=range(100, 120))
    fast = [(at_s / 60, state) for at_s, state in rounds]
    slow = [(name, firing) for _, name, firing in _fired(rounds)]
    assert [(name, firing) for _, name, firing in _fired(fast, replace(HERE, interval_s=1.0), scale=1 / 60)] == slow
