"""The open loop in the engine: each arrival once and on time, a server that stands still, and runs that end early."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tensorix_loadtests.plan import Arrivals, LoadPlan, Stage
from tensorix_loadtests.schedules import arrivals
from tensorix_records import Run
from tensorix_simulator import Simulator

if TYPE_CHECKING:
    from tests.loadtests.conftest import Engine

Start = Callable[..., "Engine"]
WaitUntil = Callable[..., None]


@pytest.fixture(scope="module")
def quick() -> Iterator[Simulator]:
    """A simulator without limits that answers at once."""
    with Simulator(rpm=None, tpm=None, ttft="2ms", between_tokens="1ms") as simulator:
        yield simulator


def _asked(rate: float, duration_s: float, **fields: Any) -> dict[str, Any]:
    return {"stages": [{"duration_s": duration_s, "rate": rate}], **fields}


def _rows(out: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = Run.open(out).records().to_pylist()
    return [row for row in rows if row["scenario"] != "preflight"]


def _event(out: Path, kind: str) -> dict[str, Any]:
    (event,) = [event for event in Run.open(out).events() if event["kind"] == kind]
    return event


def test_each_arrival_is_sent_once_and_on_time(quick: Simulator, start_engine: Start) -> None:
    """The records are the schedule's arrivals, of its kinds, when they were due, and the server saw each once."""
    mix = {"chat-streamed": 2.0, "chat-unstreamed": 1.0, "models": 1.0}
    engine = start_engine(quick.base_url, requests=None, mix=mix, arrivals=_asked(60, 2, seed=3))
    assert engine.end() == 0
    assert engine.said == []
    rows = sorted(_rows(engine.out), key=lambda row: row["schedule_index"])
    plan = LoadPlan(base_url=quick.base_url, mix=mix, arrivals=Arrivals(stages=(Stage(duration_s=2, rate=60),), seed=3))
    due = list(arrivals(plan))
    assert [row["schedule_index"] for row in rows] == [arrival.index for arrival in due]
    assert {row["outcome"] for row in rows} == {"success"}
    kinds = {None: "models", True: "chat-streamed", False: "chat-unstreamed"}
    assert [kinds[row["stream"]] for row in rows] == [arrival.kind for arrival in due]
    seen = [line["request_id"] for line in quick.truth() if line["event"] == "arrival"]
    assert all(seen.count(row["request_id"]) == 1 for row in rows)
    start = _event(engine.out, "schedule")["start_unix_ns"]
    offsets = [row["start_unix_ns"] + row["intended_at_ns"] - start for row in rows]
    # The real-time clock is measured anew each second; that moves it by microseconds.
    assert offsets == pytest.approx([arrival.offset_ns for arrival in due], abs=2_000_000)
    assert all(row["intended_at_ns"] <= 0 for row in rows)
    assert all(row["held_ns"] is not None and row["step_id"] == 0 for row in rows)
    ended = _event(engine.out, "schedule_ended")
    assert (ended["sent"], ended["not_sent"]) == (len(due), 0)
    assert Run.open(engine.out).manifest["end_reason"] == "schedule"


def test_a_server_that_stands_still_is_seen_from_the_intended_instant(
    start_engine: Start, wait_until: WaitUntil
) -> None:
    """Arrivals go out while the server is stopped for a second, by users added for them, and all wait as they must."""
    with Simulator(rpm=None, tpm=None, ttft="2ms", between_tokens="1ms") as simulator:
        engine = start_engine(simulator.base_url, requests=None, arrivals=_asked(80, 3, gaps="constant"))
        wait_until(lambda: any(line["event"] == "end" for line in simulator.truth()[4:]))
        stopped_ns = time.time_ns()
        os.kill(simulator.pid, signal.SIGSTOP)
        time.sleep(1.0)
        os.kill(simulator.pid, signal.SIGCONT)
        resumed_ns = time.time_ns()
        assert engine.end() == 0
    rows = _rows(engine.out)
    assert sorted(row["schedule_index"] for row in rows) == list(range(240))
    assert {row["outcome"] for row in rows} == {"success"}
    caught = [row for row in rows if stopped_ns < row["start_unix_ns"] + row["intended_at_ns"] < resumed_ns]
    assert len(caught) > 40
    # Whoever was due while it stood still has an answer only after that, and is charged from when it was due.
    for row in caught:
        due_ns = row["start_unix_ns"] + row["intended_at_ns"]
        assert row["end_at_ns"] - row["intended_at_ns"] >= resumed_ns - due_ns - 5_000_000
    assert max(row["end_at_ns"] - row["intended_at_ns"] for row in rows) > 950_000_000
    # Sent meanwhile, and not held back until it went on.
    assert sum(row["start_unix_ns"] < resumed_ns for row in caught) > 0.9 * len(caught)


def test_the_wait_for_a_user_is_apart(start_engine: Start) -> None:
    """With two users at most requests wait for one, which records and run say, and all are sent all the same."""
    with Simulator(rpm=None, tpm=None, ttft="100ms", between_tokens="1ms") as simulator:
        engine = start_engine(simulator.base_url, requests=None, arrivals=_asked(60, 1, gaps="constant", most_users=2))
        assert engine.end() == 0
    rows = sorted(_rows(engine.out), key=lambda row: row["schedule_index"])
    assert [row["schedule_index"] for row in rows] == list(range(60))
    assert len({row["user_id"] for row in rows}) == 2
    waited = [max(0, row["user_ready_at_ns"] - row["intended_at_ns"]) for row in rows]
    # Twenty a second is what two users manage: the last, due after a second, has waited for some two.
    assert waited[0] < waited[30] < waited[-1]
    assert waited[-1] > 1_500_000_000
    (said,) = [one for one in Run.open(engine.out).manifest["saturated"] if one["what"] == "users"]
    assert "--max-users" in said["advice"]


@pytest.mark.parametrize(("ended", "status"), [("duration", 0), ("requests", 0), ("interrupted", 0)])
def test_what_was_not_sent_is_counted(start_engine: Start, wait_until: WaitUntil, ended: str, status: int) -> None:
    """A run that ends before its schedule says how many arrivals it sent, and how many it did not."""
    with Simulator(rpm=None, tpm=None, ttft="300ms", between_tokens="1ms") as simulator:
        cut: dict[str, dict[str, Any]] = {
            "duration": {"duration_s": 1.0, "requests": None},
            "requests": {"requests": 7},
        }
        engine = start_engine(
            simulator.base_url,
            **cut.get(ended, {"requests": None}),
            arrivals=_asked(40, 3, gaps="constant", most_users=4),
        )
        if ended == "interrupted":
            wait_until(lambda: len(simulator.truth()) > 12)
            engine.signal(signal.SIGINT)
        assert engine.end() == status
    run = Run.open(engine.out)
    assert run.manifest["end_reason"] == ended
    said = _event(engine.out, "schedule_ended")
    assert said["sent"] == len(_rows(engine.out))
    whole = {"duration": 40, "requests": 7, "interrupted": 120}[ended]
    assert said["sent"] + said["not_sent"] == whole
    assert (said["not_sent"] > 0) == (ended != "requests")


def test_a_trace_that_cannot_be_read_begins_no_run(quick: Simulator, start_engine: Start, tmp_path: Path) -> None:
    """It is said in one line, and no folder is made."""
    engine = start_engine(quick.base_url, requests=None, arrivals={"replay": {"path": str(tmp_path / "nothing.jsonl")}})
    assert engine.end() == 2
    (line,) = engine.said
    assert "nothing.jsonl" in line
    assert not engine.out.exists()


def test_think_time(quick: Simulator, start_engine: Start) -> None:
    """In a closed loop a user pauses between an answer and its next question, and is not ready before."""
    engine = start_engine(quick.base_url, requests=5, think_time={"mean_s": 0.2})
    assert engine.end() == 0
    rows = sorted(_rows(engine.out), key=lambda row: row["start_unix_ns"])
    ends = [row["start_unix_ns"] + row["end_at_ns"] for row in rows]
    starts = [row["start_unix_ns"] for row in rows]
    assert all(start - end >= 199_000_000 for end, start in zip(ends, starts[1:], strict=False))
    assert all(-150_000_000 < row["user_ready_at_ns"] <= 0 for row in rows)


def test_retries_are_none_of_the_number_of_requests(start_engine: Start) -> None:
    """Of twelve requests at twice the limit each arrival is sent, and tried until it is through: with more attempts."""
    with Simulator(rpm=6, tpm=None, window_s=0.5, retry_after="honest", ttft="1ms", between_tokens="1ms") as limited:
        plan = {"limits": {"requests": 6, "window_s": 0.5}, "spending": {"most_retries": 20}}
        engine = start_engine(limited.base_url, requests=12, arrivals=_asked(24, 5, seed=1), **plan)
        assert engine.end() == 0
    run = Run.open(engine.out)
    rows = run.records(["schedule_index", "outcome", "scenario"]).to_pylist()
    chats = [row for row in rows if row["scenario"] != "preflight"]
    through = [row["schedule_index"] for row in chats if row["outcome"] == "success"]
    assert sorted(through) == list(range(12))
    assert len(chats) > 12
    assert run.manifest["end_reason"] in ("requests", "schedule")
