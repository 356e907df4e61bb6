"""`probe once` where a round itself goes wrong: the others are probed, shown and written all the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import pytest

from tensorix_api import Secret
from tensorix_cli._probe_once import Wanted, run_once
from tensorix_probes.result import Round, State
from tensorix_probes.round import run_round
from tensorix_probes.settings import Budget, Configuration, Headers, HistorySettings, Target
from tensorix_records.history import History
from tensorix_simulator import Simulator

ODD, GOOD = "sk-odd-0123456789", "sk-good-0123456789"


@pytest.mark.parametrize("form", ["table", "json", "nagios"])
def test_a_round_that_raises_costs_the_others_nothing(
    simulator: Simulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    form: Literal["table", "json", "nagios"],
) -> None:
    """The target is inconclusive with the reason, without the key; every output and the history have both."""

    def run(target: Target, **more: Any) -> Round:
        if target.name == "odd":
            raise OverflowError(f"too large for {ODD}")
        return run_round(target, **more)

    monkeypatch.setattr("tensorix_probes._once.run_round", run)
    targets = tuple(
        Target(
            name=name,
            base_url=simulator.base_url,
            api_key=Secret(key),
            checks=("models", "chat"),
            headers=Headers(requests=6_000),
            budget=Budget(share=1.0),
        )
        for name, key in (("odd", ODD), ("good", GOOD))
    )
    configuration = Configuration(targets=targets, history=HistorySettings(url=str(tmp_path / "history.db")))
    wanted = Wanted(
        targets=(),
        checks=(),
        location=None,
        form=form,
        junit=tmp_path / "junit.xml",
        textfile=tmp_path / "probe.prom",
        pushgateway=None,
    )
    assert run_once(wanted, lambda: configuration) == 3
    shown = capsys.readouterr()
    assert shown.err == ""
    written = (tmp_path / "junit.xml").read_text() + (tmp_path / "probe.prom").read_text()
    assert 'probe_success{location="",target="good"} 1.0' in written
    for text in (shown.out, written):
        assert "odd" in text
        assert "OverflowError: too large for" in text
        assert ODD not in text
    if form == "json":
        rounds = {one["target"]: one for one in json.loads(shown.out)["rounds"]}
        assert {name: one["state"] for name, one in rounds.items()} == {"odd": "inconclusive", "good": "up"}
    with History.open(str(tmp_path / "history.db")) as history:
        assert {row.target: State(row.state) for row in history.rounds()} == {
            "odd": State.INCONCLUSIVE,
            "good": State.UP,
        }
