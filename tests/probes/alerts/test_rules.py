"""The rules over their real hours and days, by promtool: what fires, what does not, and what ends."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from tensorix_probes.result import State

pytestmark = pytest.mark.system("promtool")

Fires = Callable[..., None]
HOUR = 3600.0
FAILING, FAST, BURNS, SLOWLY, SPENT = (
    "TensorixProbeFailing",
    "TensorixBudgetBurnsFast",
    "TensorixBudgetBurns",
    "TensorixBudgetBurnsSlowly",
    "TensorixBudgetSpent",
)


def test_a_single_failure_alarms_nobody(fires: Fires, scene: Any, every: Any) -> None:
    """One failed probe of a minute fires nothing, whatever the objective and however often it is scraped."""
    fires(
        [
            (scene(rounds=every(90, down=[60]), until_s=1.5 * HOUR, objective=objective, scrape_s=scrape_s), {}, set())
            for objective in (0.9, 0.9999)
            for scrape_s in (15.0, 60.0)
        ]
    )


@pytest.mark.parametrize(("interval_s", "down"), [(60.0, [40, 66, 70]), (60.0, [10, 65, 68]), (30.0, [80, 140, 149])])
def test_two_in_five_minutes_and_three_in_an_hour_alarm(
    fires: Fires, scene: Any, every: Any, interval_s: float, down: list[int]
) -> None:
    """At the default objective the third of three failures in an hour, the last two within five minutes, fires."""
    rounds = every(int(1.5 * HOUR / interval_s), interval_s, down=down)
    third_s = rounds[down[2]][0] + 5
    expected = {third_s - 60: set(), third_s: {FAILING}, third_s + 7 * 60: set()}
    fires(
        [
            (scene(rounds=rounds, until_s=1.5 * HOUR, scrape_s=scrape_s, interval_s=interval_s), expected, {FAILING})
            for scrape_s in (15.0, 60.0)
        ]
    )


def test_it_matters_little_when_prometheus_asks(fires: Fires, scene: Any, every: Any) -> None:
    """Between two scrapes, too, both of two failures four minutes apart are seen."""
    fires(
        scene(rounds=every(75, down=[40, 66, 70]), until_s=75 * 60),
        {71 * 60 - 30: set(), 71 * 60 + 15: {FAILING}},
        ever={FAILING},
        step_s=45.0,
    )


def test_fewer_or_farther_apart_alarm_nobody(fires: Fires, scene: Any, every: Any) -> None:
    """Two in five minutes without a third in the hour, and three in an hour ten minutes apart, fire nothing."""
    fires(
        [
            (scene(rounds=every(100, down=down), until_s=100 * 60, scrape_s=scrape_s), {}, set())
            for down in ([60, 62], [50, 60, 70], [10, 75, 78])
            for scrape_s in (15.0, 60.0)
        ]
    )


def test_an_outage_pages_and_the_page_ends(fires: Fires, scene: Any, every: Any) -> None:
    """At 99.5 % an outage is told at its third probe, pages within six minutes, and ends six after it is over."""
    rounds = every(180, down=range(100, 120))
    fires(
        scene(rounds=rounds, until_s=3 * HOUR),
        {
            100 * 60: set(),
            103 * 60: {FAILING},
            105 * 60: {FAILING, FAST},
            119 * 60: {FAILING, FAST, BURNS},
            127 * 60: {BURNS},
            151 * 60: set(),
        },
        ever={FAILING, FAST, BURNS},
    )


def test_a_strict_objective_pages_at_the_third_failure(fires: Fires, scene: Any, every: Any) -> None:
    """At 99.9 % three failures are more than 14.4 times the budget of an hour; two are, too, but are too few."""
    rounds = every(120, down=[100, 101, 102])
    fires(
        scene(rounds=rounds, until_s=2 * HOUR, objective=0.999),
        {102 * 60: set(), 103 * 60: {FAILING, FAST, BURNS}, 110 * 60: {BURNS}},
    )


def test_a_lenient_objective_is_paged_for_too(fires: Fires, scene: Any, every: Any) -> None:
    """At 90 %, where 14.4 times the budget is more than all of an hour, an outage pages within it."""
    fires(
        scene(rounds=every(200, down=range(100, 200)), until_s=200 * 60, objective=0.9),
        {150 * 60: {FAILING}, 160 * 60: {FAILING, FAST}},
    )


def test_a_slow_burn_makes_a_ticket(fires: Fires, scene: Any, every: Any) -> None:
    """Two failures in a hundred, never two near another, for a day: a ticket, and no page; it ends six hours after they
    do.
    """
    rounds = every(35 * 60, down=range(2 * 60, 26 * 60, 50))
    fires(
        scene(rounds=rounds, until_s=35 * HOUR),
        {2 * HOUR: set(), 25 * HOUR: {SLOWLY}, 26 * HOUR: {SLOWLY}, 33 * HOUR: set()},
        ever={SLOWLY},
        step_s=240,
    )


def test_a_budget_that_is_used_up_makes_a_ticket(fires: Fires, scene: Any, every: Any) -> None:
    """216 minutes of 30 days are the budget of 99.5 %: 200 failures leave some, 220 do not, long after they ended."""
    fires(
        [
            (
                scene(rounds=every(720, down=range(300, 300 + failed)), until_s=12 * HOUR),
                {11 * HOUR: expected},
                None,
            )
            for failed, expected in ((200, set()), (220, {SPENT}))
        ],
        step_s=240,
        only=SPENT,
    )


def test_maintenance_mutes(fires: Fires, scene: Any, every: Any) -> None:
    """An outage within a maintenance window fires nothing, one that outlasts it does."""
    rounds = every(160, down=range(70, 100))
    fires(
        [
            (scene(rounds=rounds, until_s=160 * 60, maintenance=(70 * 60, 101 * 60)), {}, set()),
            (
                scene(rounds=rounds, until_s=160 * 60, maintenance=(70 * 60, 90 * 60)),
                {90 * 60: set(), 94 * 60: {FAILING, FAST}},
                None,
            ),
        ]
    )


def test_a_restart_is_no_failure(fires: Fires, scene: Any, every: Any) -> None:
    """Counters that begin anew long after 30 failures fire nothing; failures around a restart are all counted."""
    fires(
        [
            (
                scene(rounds=every(200, down=range(5, 35)), until_s=200 * 60, restarts=(150 * 60, 155 * 60)),
                {150 * 60: set(), 152 * 60: set(), 160 * 60: set(), 199 * 60: set()},
                None,
            ),
            (
                scene(rounds=every(100, down=[70, 71, 73]), until_s=100 * 60, restarts=(72.5 * 60,)),
                {73 * 60: set(), 74 * 60: {FAILING}},
                {FAILING},
            ),
        ],
        only="TensorixProbeFailing|TensorixBudgetBurnsFast",
    )


def test_a_probe_each_five_minutes_pages_at_its_third_failure_by_the_longer_windows(
    fires: Fires, scene: Any, every: Any
) -> None:
    """Five minutes hold one probe: what pages is 6 h and 30 min, at the third failure; a single one fires nothing."""
    fires(
        [
            (
                scene(rounds=every(60, 300.0, down=range(40, 50)), until_s=5 * HOUR, interval_s=300.0),
                {42 * 300: set(), 43 * 300: {BURNS}, 57 * 300: {SLOWLY}},
                {BURNS, SLOWLY},
            ),
            (scene(rounds=every(60, 300.0, down=[40]), until_s=5 * HOUR, interval_s=300.0), {}, set()),
        ],
        step_s=150,
    )


def test_the_other_states_have_tickets_of_their_own(fires: Fires, scene: Any, every: Any) -> None:
    """Payment, inconclusive and degraded rounds fire their own alerts, and never a burn rate."""
    cases = {
        State.PAYMENT: "TensorixCreditUsedUp",
        State.INCONCLUSIVE: "TensorixProbeInconclusive",
        State.DEGRADED: "TensorixDegraded",
    }
    fires(
        [
            (
                scene(rounds=every(150, other=dict.fromkeys(range(60, 150), state)), until_s=150 * 60),
                {60 * 60: set(), 100 * 60: {name}},
                {name},
            )
            for state, name in cases.items()
        ]
    )


def test_silence_is_noticed(fires: Fires, scene: Any, every: Any) -> None:
    """A prober that hangs is stale after three intervals; one that is gone is silent after ten minutes."""
    fires(
        [
            (scene(rounds=every(60), until_s=90 * 60), {65 * 60: set(), 68 * 60: {"TensorixProbeStale"}}, None),
            (
                scene(rounds=every(60), until_s=90 * 60, silent_from_s=60 * 60),
                {65 * 60: set(), 72 * 60: {"TensorixProbeSilent", "TensorixProbeLocationSilent"}},
                None,
            ),
            (scene(rounds=[], until_s=40 * 60), {14 * 60: set(), 17 * 60: {"TensorixProbeStale"}}, None),
        ]
    )


def test_what_gauges_tell(fires: Fires, scene: Any, every: Any) -> None:
    """Certificates, keys, promises, missed slots and the probes' own budget: each fires its alert, after its time."""

    def failed(check: str, assertion: str, from_s: float = 0.0) -> dict[str, Callable[[float], float]]:
        name = f'tensorix_probe_assertion_failed{{target="here",location="",check="{check}",assertion="{assertion}"}}'
        return {name: lambda at_s: float(at_s >= from_s)}

    def runs(check: str) -> dict[str, Callable[[float], float]]:
        """Of a check that is skipped but for each second hour."""
        name = f'tensorix_probe_results_total{{target="here",location="",check="{check}",state="up"}}'
        return {name: lambda at_s: at_s // (2 * HOUR)}

    def certificate(days: float) -> dict[str, Callable[[float], float]]:
        where = '{target="here",location=""}'
        return {f"tensorix_probe_certificate_expiry_timestamp_seconds{where}": lambda _: days * 86_400}

    missed = {'tensorix_probe_missed_total{target="here",location="",reason="overlap"}': lambda at_s: at_s // 300}
    healthy, refused = every(240), every(240, down=range(60, 240))

    def case(until_h: float, gauges: Any, expected: dict[float, set[str]], rounds: Any = healthy) -> Any:
        return scene(rounds=rounds, until_s=until_h * HOUR, gauges=gauges), expected, None

    fires(
        [
            case(1, certificate(20), {3000: set()}),
            case(1, certificate(10), {3000: {"TensorixCertificateExpiresSoon"}}),
            case(1, certificate(2), {3000: {"TensorixCertificateExpires", "TensorixCertificateExpiresSoon"}}),
            case(
                4,
                failed("chat", "usage_adds_up", 600),
                {3 * HOUR: set(), 3.5 * HOUR: {"TensorixPromiseBroken"}},
            ),
            case(2, failed("auth", "refusal_is_401"), {HOUR: set(), 1.5 * HOUR: {"TensorixAuthBroken"}}),
            case(1, failed("auth", "key_is_accepted"), {3000: set()}),
            case(3, failed("auth", "budget_allows"), {3 * HOUR: set()}),
            case(4, failed("auth", "budget_allows"), {3.75 * HOUR: {"TensorixProbeBudgetSpent"}}),
            case(4, failed("errors", "budget_allows") | runs("errors"), {3.75 * HOUR: set()}),
            case(1, failed("chat", "budget_allows"), {1500: set(), 2400: {"TensorixProbeBudgetSpent"}}),
            case(2, missed, {HOUR: {"TensorixProbeSlotsMissed"}}),
        ],
        step_s=120,
    )
    fires(
        [
            (
                scene(rounds=refused, until_s=1.5 * HOUR, gauges=failed(check, "key_is_accepted", 3600)),
                {61 * 60: set(), 65 * 60: expected},
                None,
            )
            # An outage of another kind, and what a check of each hour saw before it, are no key that is refused.
            for check, expected in (("models", {"TensorixKeyRefused"}), ("errors", set[str]()), ("auth", set[str]()))
        ],
        only="TensorixKeyRefused",
    )


def test_a_prober_that_dies_beside_another_is_noticed(fires: Fires, scene: Any, every: Any) -> None:
    """Of two targets of one location, each with a prober of its own, one falls silent: that is told of it alone."""
    other = {
        'tensorix_probe_interval_seconds{target="there",location=""}': lambda _: 60.0,
        'probe_last_run_timestamp_seconds{target="there",location=""}': lambda at_s: at_s,
    }
    silent = "TensorixProbeLocationSilent"
    fires(
        scene(rounds=every(30), until_s=13 * HOUR, silent_from_s=30 * 60, beside=other),
        {35 * 60: set(), 45 * 60: {silent}, 12 * HOUR: {silent}, 12.75 * HOUR: set()},
        ever={silent},
        step_s=120,
    )


@pytest.mark.slow
def test_a_healthy_month_is_silent(fires: Fires, scene: Any, every: Any) -> None:
    """A probe a minute for 30 days, 2 % of them slow: nothing fires, asked each half hour. (promtool loads 10,000
    samples of a series at most, so the month is scraped each five minutes only.)
    """
    chance = random.Random(1)
    slow = {number: State.DEGRADED for number in range(43_200) if chance.random() < 0.02}
    fires(scene(rounds=every(43_200, other=slow), until_s=30 * 86_400, scrape_s=300.0), {}, ever=set(), step_s=1800)
