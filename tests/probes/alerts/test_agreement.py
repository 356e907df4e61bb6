"""Prometheus and our own evaluation against a plain count, on random traces."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tensorix_probes.alerts.conditions import BURNS, MOST_SHARE, WINDOWS, Burn, longest_interval_s
from tensorix_probes.alerts.evaluate import Evaluator
from tensorix_probes.result import Round, State
from tensorix_probes.settings import Objective, Target

CONCLUSIVE = (State.UP, State.DEGRADED, State.DOWN)
NAMES = "|".join(burn.alert for burn in BURNS)
ASKED_S = 60.0


def _says(scene: Any, burn: Burn, at_s: float, later_s: float, factor: float) -> bool:
    """Whether an alert fires by counting, with windows that reach back `later_s` more, and `factor` of a bound."""
    if scene.interval_s > longest_interval_s(burn):
        return False
    budget = 1 - scene.objective
    bound = min(burn.factor * budget, MOST_SHARE) * factor
    for window, least in ((burn.long, burn.least_long), (burn.short, burn.least_short)):
        begin_s = at_s - WINDOWS[window] - later_s
        failed = scene.counts(begin_s, at_s, State.DOWN)
        if failed < least or failed / max(1, scene.counts(begin_s, at_s, *CONCLUSIVE)) <= bound:
            return False
    failed = scene.counts(at_s - WINDOWS[burn.long] - later_s, at_s, State.DOWN)
    return not burn.whole or failed * scene.interval_s > WINDOWS[burn.long] * bound


def _trace(chance: random.Random, count: int, interval_s: float) -> list[tuple[float, State]]:
    """Healthy, flapping, down, inconclusive by turns."""
    rounds, at = [], 0
    while at < count:
        kind = chance.choice(["healthy", "healthy", "flapping", "down", "odd"])
        failing = {"healthy": 0.01, "flapping": 0.15, "down": 1.0, "odd": 0.05}[kind]
        for number in range(at, min(count, at + chance.randint(1, 8 if kind == "down" else 60))):
            state = State.DOWN if chance.random() < failing else State.UP
            if kind == "odd" and chance.random() < 0.5:
                state = State.INCONCLUSIVE
            rounds.append(((number + 1) * interval_s - 5, state))
        at = len(rounds)
    return rounds


def _own(scene: Any) -> dict[float, set[str]]:
    """What our own evaluation says at each asked time."""
    target = Target(name="here", interval_s=scene.interval_s, objective=Objective(availability=scene.objective))
    evaluator, rest, found = Evaluator(), list(scene.rounds), {}
    for number in range(1, int(scene.until_s / ASKED_S) + 1):
        at_s = number * ASKED_S
        while rest and rest[0][0] <= at_s:
            done_s, state = rest.pop(0)
            muted = "window" if scene.mutes(done_s) else None
            evaluator.see(
                done_s,
                Round(round_id="r", target="here", state=state, started_unix_ns=int(done_s * 1e9), maintenance=muted),
                target,
            )
        evaluator.tick(at_s, at_s)
        found[at_s] = {alert.name for alert in evaluator.firing() if alert.name in NAMES}
    return found


@pytest.mark.system("promtool")
def test_both_agree_with_counting(fires: Callable[..., None], scene: Any) -> None:
    """Wherever counting leaves no doubt (a scrape more or less, 3 % of a bound more or less), Prometheus and our own
    evaluation fire just what it says; that is nearly everywhere, and all four alerts are among it.
    """
    chance = random.Random(20)
    cases, asked, sure, fired = [], 0, 0, set()
    for objective, interval_s, scrape_s in (
        (0.995, 60.0, 60.0),
        (0.999, 60.0, 15.0),
        (0.99, 30.0, 30.0),
        (0.995, 300.0, 60.0),
        (0.95, 60.0, 60.0),
    ):
        until_s = 4 * 3600.0
        one = scene(
            rounds=_trace(chance, int(until_s / interval_s), interval_s),
            until_s=until_s,
            objective=objective,
            interval_s=interval_s,
            scrape_s=scrape_s,
            maintenance=(3600.0, 4500.0),
        )
        own, expected = _own(one), {}
        for number in range(10, int(until_s / ASKED_S)):
            at_s = number * ASKED_S
            asked += 1
            verdicts = {
                burn.alert: {
                    _says(one, burn, at_s, later_s, factor) for later_s in (0.0, 75.0) for factor in (0.94, 1.06)
                }
                for burn in BURNS
            }
            if any(len(verdict) > 1 for verdict in verdicts.values()):
                continue
            sure += 1
            names = {name for name, verdict in verdicts.items() if verdict == {True}}
            expected[at_s] = names
            fired |= names
            assert own[at_s] == names, (objective, interval_s, at_s)
        cases.append((one, expected, None))
    fires(cases, only=NAMES)
    assert sure > 0.8 * asked, (sure, asked)
    assert fired == {burn.alert for burn in BURNS}


def test_a_trace_is_a_trace(scene: Any) -> None:
    """The traces hold all that tells the alerts apart: failures alone, in rows, and rounds that say nothing."""
    rounds = _trace(random.Random(20), 240, 60.0)
    states = [state for _, state in rounds]
    assert {State.UP, State.DOWN, State.INCONCLUSIVE} <= set(states)
    assert scene(rounds=rounds, until_s=1.0).counts(0, 1e9, State.DOWN) > 10
    assert replace(scene(rounds=rounds, until_s=1.0), maintenance=(0, 1e9)).counts(0, 1e9, State.DOWN) == 0
