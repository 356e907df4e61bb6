"""The engine under caps, with several keys, refused and resumed, against the simulator's truth."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tensorix_api.errors import RunFolderError, SettingsError
from tensorix_api.secret import Secret
from tensorix_loadtests.spending import JOURNAL_NAME, plan_of_run, read_journal
from tensorix_records import Run
from tensorix_simulator import Simulator

if TYPE_CHECKING:
    from tests.loadtests.conftest import Engine

Start = Callable[..., "Engine"]
WaitUntil = Callable[..., None]

PRICES = {"*": {"prompt": 1.0, "completion": 10.0}}


def _rows(out: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = Run.open(out).records().to_pylist()
    return [row for row in rows if row["scenario"] != "preflight"]


def _journal(out: Path) -> str:
    path = out / JOURNAL_NAME
    return path.read_text() if path.exists() else ""


def test_a_killed_run_goes_on_under_its_cap(start_engine: Start, wait_until: WaitUntil, tmp_path: Path) -> None:
    """Killed and resumed, a run spends at most its cap by what the server made, nine tenths of it at least, and sends
    each arrival of its schedule once.
    """
    with Simulator(rpm=None, tpm=None, ttft="20ms", between_tokens="1ms") as simulator:
        cap = 0.05
        spending = {"most_money": cap, "prices": PRICES}
        arrivals = {"stages": [{"duration_s": 60.0, "rate": 100.0}], "gaps": "constant"}
        first = start_engine(
            simulator.base_url,
            max_tokens=20,
            spending=spending,
            arrivals=arrivals,
            duration_s=60.0,
            headers={"x-a": "b"},
        )
        wait_until(lambda: _journal(first.out).count("settled") > 40)
        # Held where it is, so that it is still there when the other has started.
        first.signal(signal.SIGSTOP)
        second = start_engine(simulator.base_url, out=first.out, resume=True, max_tokens=20)
        assert second.end() == 2
        assert "another engine is running" in second.said[-1]
        first.signal(signal.SIGKILL)
        first.end()
        with pytest.raises(SettingsError, match="x-a"):
            plan_of_run(first.out)
        plan = plan_of_run(first.out, headers={"X-A": "b"}).to_dict()
        third = start_engine(out=first.out, resume=True, **plan)
        assert third.end() == 0
        assert third.said == []
        truth = simulator.truth()
    run = Run.open(first.out)
    manifest = run.manifest
    assert manifest["end_reason"] == "budget"
    assert [resumed["end_reason"] for resumed in manifest["resumed"]] == [None]
    stop = next(event for event in run.events() if event["kind"] == "stop")
    assert stop["words"].startswith("the cap of money is reached")
    made = {line["request_id"]: line for line in truth if line["event"] == "end"}
    money = {name: (line["prompt_tokens"] + 10 * line["completion_tokens"]) / 1e6 for name, line in made.items()}
    assert 0.9 * cap < sum(money.values()) <= cap
    rows = _rows(first.out)
    assert all(row["cost"] == pytest.approx(money[row["request_id"]], abs=2e-9) for row in rows)
    assert {row["run_id"] for row in rows} == {manifest["run_id"]}
    # The records of the first engine's last half second are lost, its journal is not.
    past = read_journal(first.out)
    # All but the last, of which some waited for room when the run ended.
    assert set(range(len(past.indexes) - 10)) <= past.indexes
    assert past.sent == len(past.indexes) >= sum(line["prompt_tokens"] > 0 for line in made.values()) >= len(rows)
    assert {row["schedule_index"] for row in rows} <= past.indexes
    with pytest.raises(RunFolderError):
        plan_of_run(tmp_path)


def test_a_resumed_run_sends_what_is_left_of_its_requests(start_engine: Start, wait_until: WaitUntil) -> None:
    """The number of requests and a cap of requests hold over the kill; where nothing is left it does not begin."""
    with Simulator(rpm=None, tpm=None, ttft="20ms", between_tokens="1ms") as simulator:
        first = start_engine(simulator.base_url, users=3, requests=60)
        wait_until(lambda: _journal(first.out).count("settled") > 10)
        first.signal(signal.SIGKILL)
        first.end()
        plan = plan_of_run(first.out).to_dict()
        assert start_engine(out=first.out, resume=True, **plan).end() == 0
        chats = [line for line in simulator.truth("arrival") if line["method"] == "POST"]
        # The journal counts one that was set aside and had not gone out yet.
        assert 57 <= len(chats) <= 60
        again = start_engine(out=first.out, resume=True, **plan)
        assert again.end() == 2
        assert "nothing is left" in again.said[-1]
        capped = plan | {"requests": 100, "spending": {"most_requests": 70}}
        assert start_engine(out=first.out, resume=True, **capped).end() == 0
        assert 67 <= len(simulator.truth("arrival")) <= 70
    assert Run.open(first.out).manifest["end_reason"] == "budget"
    assert len(Run.open(first.out).manifest["resumed"]) == 2


def test_a_key_without_credit_is_left_out(start_engine: Start) -> None:
    """Of two keys the one that got a 402 is used no more and it is said; with none left the run ends."""
    both = {"FIRST_KEY": "sk-no-credit", "SECOND_KEY": "sk-with-credit"}
    aliases = [Secret(key).alias for key in both.values()]
    with Simulator(rpm=None, tpm=None, ttft="5ms", between_tokens="1ms") as simulator:
        spending = {"key_variables": list(both), "keys": "pinned"}
        engine = start_engine(simulator.base_url, key=None, environment=both, users=4, requests=40, spending=spending)
        assert engine.end() == 0
        assert any(line.startswith(f"warning: {aliases[0]} is used no more") for line in engine.said), engine.said
        seen = Counter(line["key_alias"] for line in simulator.truth("arrival") if line["method"] == "POST")
        assert set(seen) == set(aliases)
        # Those that were under way with it at the first refusal.
        assert seen[aliases[0]] <= 2
        rows = _rows(engine.out)
        assert Counter(row["key_alias"] for row in rows) == seen
        run = Run.open(engine.out)
        assert [event["key_alias"] for event in run.events() if event["kind"] == "key_out"] == [aliases[0]]
        assert run.manifest["end_reason"] == "requests"
        assert not any(key in path.read_text("latin-1") for key in both.values() for path in engine.out.iterdir())

        simulator.change(faults=["out of credit"])
        out = engine.out.with_name("none")
        none = start_engine(simulator.base_url, key=None, environment=both, out=out, users=4, spending=spending)
        assert none.end() == 0
        assert Run.open(out).manifest["end_reason"] == "payment"


def test_a_429_is_tried_again_where_asked(start_engine: Start) -> None:
    """Each attempt has a record of its own under one logical id and with the intended time of the first."""
    with Simulator(rpm=4, window_s=1, retry_after="honest", ttft="1ms", between_tokens="1ms") as simulator:
        arrivals = {"stages": [{"duration_s": 0.5, "rate": 20.0}], "gaps": "constant", "most_users": 20}
        engine = start_engine(
            simulator.base_url,
            arrivals=arrivals,
            duration_s=60.0,
            limits={"requests": 4, "window_s": 1.0},
            spending={"most_retries": 8},
        )
        assert engine.end() == 0
    rows = _rows(engine.out)
    assert any(row["attempt"] > 1 for row in rows)
    by_id: dict[str, list[dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: row["start_unix_ns"]):
        by_id.setdefault(row["logical_id"], []).append(row)
    assert len(by_id) == 10
    for attempts in by_id.values():
        assert [row["attempt"] for row in attempts] == list(range(1, len(attempts) + 1))
        assert [row["outcome"] for row in attempts[:-1]] == ["throttled"] * (len(attempts) - 1)
        assert attempts[-1]["outcome"] == "success"
        assert len({row["schedule_index"] for row in attempts}) == 1
        intended = [row["start_unix_ns"] + row["intended_at_ns"] for row in attempts]
        assert max(intended) - min(intended) < 1_000_000
