"""What the alerts of `serve` know after a restart: all that the history knows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest

from tensorix_api import Secret
from tensorix_probes.alerts.alerting import Alerting
from tensorix_probes.alerts.webhook import Told, Webhook
from tensorix_probes.keeping import Keeper
from tensorix_probes.memory import Clock
from tensorix_probes.result import ProbeResult, Round, State
from tensorix_probes.serve.recalling import recall_board
from tensorix_probes.serve.service import Service
from tensorix_probes.serve.status import Board
from tensorix_probes.settings import Alerts, Configuration, HistorySettings, Target

S = 1_000_000_000
HERE = Target(name="here")
NUMBERS = count()
UP, DOWN = State.UP, State.DOWN
FAILING, FAST, BURNS = "TensorixProbeFailing", "TensorixBudgetBurnsFast", "TensorixBudgetBurns"
Probe = Callable[..., None]


@dataclass
class Prober:
    """One that is started and ended, at times of its own, with a history in between."""

    file: Path
    now_s: float = 1_800_000_000.0
    told: list[tuple[str, bool, int]] = field(default_factory=list)
    """What the webhook was told: which alert, whether it fires, since when."""

    @contextmanager
    def running(self, *, recalls_after: int = 0, with_history: bool = True) -> Iterator[Probe]:
        """From a start to an end; gives what makes a round a minute, of these states.

        The history is read after so many rounds.
        """
        started_s = self.now_s
        clock = Clock(lambda: round(self.now_s * S), lambda: round((self.now_s - started_s + 10) * S))
        keeper = Keeper(HistorySettings(url=str(self.file)), clock=clock)
        keeper.start()
        alerting = Alerting(
            Configuration(targets=(HERE,), location="lab", alerts=Alerts(webhook=Secret("http://127.0.0.1:9/"))),
            clock,
            keep=keeper.remember if with_history else None,
        )
        rounds = 0

        def recall() -> None:
            recall_board(
                keeper,
                Board(),
                [HERE],
                "lab",
                before_unix_ns=round(started_s * S),
                before_s=10.0,
                go_on=lambda: True,
                alerting=alerting,
            )
            alerting.begin()
            alerting.tick()

        def probe(*states: State, results: tuple[ProbeResult, ...] = ()) -> None:
            nonlocal rounds
            for state in states:
                if rounds == recalls_after and with_history:
                    recall()
                rounds += 1
                self.now_s += 60
                made = Round(
                    round_id=f"r{next(NUMBERS)}",
                    target="here",
                    location="lab",
                    state=state,
                    started_unix_ns=round(self.now_s * S),
                    results=results,
                )
                keeper.keep(made)
                alerting.see(made, HERE)
                alerting.tick()

        yield probe
        alerting.close()
        keeper.close(10.0)
        assert keeper.standing().lost == 0

    def fired(self) -> list[tuple[str, bool]]:
        """Which alerts began (True) and ended, as the webhook was told."""
        return [(name, firing) for name, firing, _ in self.told]


@pytest.fixture
def prober(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Prober:
    """A new one, whose webhook only takes notes."""
    one = Prober(tmp_path / "history.sqlite")

    def tell(_: Webhook, news: list[Told]) -> None:
        one.told += [(told.labels["alertname"], told.ended_unix_ns is None, told.started_unix_ns) for told in news]

    monkeypatch.setattr(Webhook, "tell", tell)
    return one


def test_failures_from_before_a_restart_count(prober: Prober) -> None:
    """Two failures before it and one after are three in an hour; without a history it begins anew."""
    with prober.running() as probe:
        probe(*[UP] * 60, DOWN, DOWN)
    with prober.running() as probe:
        probe(DOWN)
    assert prober.fired() == [(FAILING, True)]


def test_without_a_history_it_begins_anew(prober: Prober) -> None:
    """What failed before a restart is not known after it, where nothing keeps it."""
    with prober.running(with_history=False) as probe:
        probe(*[UP] * 60, DOWN, DOWN)
    with prober.running(with_history=False) as probe:
        probe(DOWN)
    assert prober.fired() == []


def test_restarts_change_no_verdict(prober: Prober, tmp_path: Path) -> None:
    """Two failures an hour for two days, and an outage: with a restart each five hours the same alerts come and go."""
    states = [DOWN if minute % 60 in (5, 35) else UP for minute in range(48 * 60)] + [DOWN] * 20 + [UP] * 60
    alone = Prober(tmp_path / "alone.sqlite", told=prober.told)
    with alone.running() as probe:
        probe(*states)
    expected = alone.fired()
    assert {FAILING, FAST, BURNS, "TensorixBudgetBurnsSlowly"} <= {name for name, _ in expected}
    prober.told.clear()
    for start in range(0, len(states), 300):
        with prober.running() as probe:
            probe(*states[start : start + 300])
    assert prober.fired() == expected


def test_what_fired_before_a_restart_is_told_as_ended(prober: Prober) -> None:
    """It goes on without being told anew, and ends with the beginning that it had."""
    with prober.running() as probe:
        probe(*[UP] * 60, *[DOWN] * 12)
    before = list(prober.told)
    assert {name for name, firing, _ in before if firing} == {FAILING, FAST, BURNS}
    with prober.running() as probe:
        probe(DOWN)
        assert prober.told == before
        probe(*[UP] * 40)
    assert sorted(prober.told[len(before) :]) == sorted((name, False, since) for name, _, since in before)
    with prober.running() as probe:
        probe(UP)
    assert len(prober.told) == 2 * len(before)


def test_nothing_is_judged_before_the_past_is_known(prober: Prober) -> None:
    """While the history is still being read, rounds end no alert of before; they count afterwards."""
    with prober.running() as probe:
        probe(*[UP] * 60, *[DOWN] * 10)
    before = len(prober.told)
    with prober.running(recalls_after=3) as probe:
        probe(UP, UP, UP)
        assert len(prober.told) == before
        probe(UP, UP, UP, UP)
        assert (FAST, False) in prober.fired()


def test_what_goes_on_is_told_again_in_its_time(prober: Prober) -> None:
    """Four hours after it was told first, whatever restarts there were."""
    with prober.running() as probe:
        probe(*[UP] * 60, *[DOWN] * 180)
    assert prober.fired().count((FAILING, True)) == 1
    with prober.running() as probe:
        probe(*[DOWN] * 57)
        assert prober.fired().count((FAILING, True)) == 1
        probe(*[DOWN] * 10)
        assert prober.fired().count((FAILING, True)) == 2


def test_a_certificate_that_runs_out_does_so_after_a_restart(prober: Prober) -> None:
    """Its alert is not told as ended because the new process has not yet seen the certificate."""
    tls = ProbeResult(
        check="tls",
        target="here",
        state=UP,
        started_unix_ns=0,
        figures={"certificate_not_after_unix_s": prober.now_s + 10 * 86_400},
    )
    with prober.running() as probe:
        probe(UP, results=(tls,))
    with prober.running() as probe:
        probe(UP)
    assert prober.fired() == [("TensorixCertificateExpiresSoon", True)]


def test_a_service_goes_on_with_what_fired(tmp_path: Path) -> None:
    """`serve` that is started again holds that the same alert fires, since when it began in the one before it."""
    target = Target(
        name="gone", base_url="http://127.0.0.1:1/v1", model="m", interval_s=1.0, offset_s=0.0, checks=("models",)
    )
    configuration = Configuration(targets=(target,), history=HistorySettings(url=str(tmp_path / "history.sqlite")))

    def first_told() -> Told:
        service = Service(configuration, lambda _: None)
        service.start()
        try:
            limit = time.monotonic() + 30
            while not (firing := [one for one in service.alerting.firing() if one.labels["alertname"] == FAILING]):
                assert time.monotonic() < limit
                time.sleep(0.02)
        finally:
            service.stop(grace_s=1.0)
        return firing[0]

    assert first_told() == first_told()
