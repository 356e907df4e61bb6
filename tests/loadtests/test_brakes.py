"""Brakes: what ends a run before its time, in made-up seconds and in a real run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tensorix_loadtests._brakes import Brakes
from tensorix_records import RequestRecord, Run
from tensorix_records.objectives import read_goals
from tensorix_simulator import Simulator

MS = 1_000_000


def _record(outcome: str = "success", ttft_ms: float = 100) -> RequestRecord:
    return RequestRecord(
        run_id="r",
        record_id="r",
        request_id="q",
        endpoint="/chat/completions",
        stream=True,
        start_unix_ns=1,
        first_token_at_ns=round(ttft_ms * MS),
        end_at_ns=round(ttft_ms * MS) + 1,
        outcome=outcome,  # type: ignore[arg-type]
    )


@dataclass
class Seconds:
    """Brakes on a clock of their own."""

    brakes: tuple[str, ...]
    objectives: tuple[str, ...] = ()
    good: tuple[str, ...] = ()
    now: float = 0.0
    words: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        goals = read_goals(self.objectives, self.good, self.brakes)
        self.watching = Brakes(goals, self.words.append, clock=lambda: self.now)

    def pass_by(self, seconds: int, *records: RequestRecord) -> float | None:
        """So many seconds with these records in each; when the brake was put on, in seconds."""
        for _ in range(seconds):
            for record in records:
                self.watching.on_record(record)
            self.now += 1
            self.watching.on_second({})
            if self.words:
                return self.now
        return None


def test_a_figure_beyond_its_bound_for_so_long_ends_the_run() -> None:
    """Half of two requests a second fail from the 30th on: five failures and a quarter after five, ten more end it."""
    run = Seconds(("error_rate > 20% for 10s",))
    assert run.pass_by(30, _record(), _record()) is None
    assert run.pass_by(60, _record(), _record("failed")) == 45
    assert "error_rate > 20% for 10s: 10 of 20 requests (50 %) in the last 10 s" in run.words[0]


def test_a_short_trouble_does_not_end_it() -> None:
    """Three seconds in which all fails are over before it has been so for ten."""
    run = Seconds(("error_rate > 50% for 10s",))
    for _ in range(5):
        assert run.pass_by(30, _record(), _record()) is None
        assert run.pass_by(3, _record("failed"), _record("failed")) is None
    assert run.pass_by(30, _record(), _record()) is None


def test_a_few_requests_end_nothing() -> None:
    """Fewer than five failures within the window are too few to tell, and refusals are no failures."""
    run = Seconds(("error_rate > 20% for 10s",))
    for _ in range(20):
        assert run.pass_by(1, _record("failed")) is None
        assert run.pass_by(2, _record("throttled")) is None


def test_a_percentile_ends_it_by_the_requests_beyond_the_bound() -> None:
    """p95 is above 1 s where more than one in twenty is; one in forty is not enough."""
    run = Seconds(("ttft_p95 > 1s for 5s over 20s",))
    quick, slow = _record(), _record(ttft_ms=1500)
    assert run.pass_by(60, *([quick] * 39 + [slow])) is None
    assert run.pass_by(60, *([quick] * 9 + [slow])) is not None


def test_an_objective_that_stays_broken_ends_it() -> None:
    """`slo` is any of the objectives, and the words say which."""
    run = Seconds(("slo for 5s",), ("ttft_p50 < 1s", "goodput > 0.5/s"), ("ttft < 2s",))
    assert run.pass_by(20, _record()) is None
    assert run.pass_by(20, _record(ttft_ms=2500)) is not None
    assert "is broken" in run.words[0]


def test_a_rate_needs_a_whole_window() -> None:
    """At the start too few have succeeded in any case; from the tenth second on it is looked at."""
    assert Seconds(("successful < 0.5/s for 5s",)).pass_by(60, _record()) is None
    assert Seconds(("successful < 1.5/s for 5s",)).pass_by(60, _record()) == 15


def test_a_real_run_is_ended_in_order(start_engine: Callable[..., Any]) -> None:
    """A server that fails half of its requests ends the run within seconds, and the folder says which brake did."""
    with Simulator(rpm=None, tpm=None, ttft="5ms", between_tokens="1ms", error_rate=0.5) as simulator:
        brakes = {"brakes": ["error_rate > 20% for 1s over 2s"]}
        engine = start_engine(simulator.base_url, duration_s=60, users=2, goals=brakes)
        assert engine.end() == 0
    run = Run.open(engine.out)
    assert run.manifest["end_reason"] == "brake"
    stop = next(event for event in run.events() if event["kind"] == "stop")
    assert stop["words"].startswith("the brake error_rate > 20% for 1s over 2s: ")
    assert any(line.startswith("error: the brake") for line in engine.said)
