"""What the report says of an open loop: the delay in its parts, latency from intended, and what was never sent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tensorix_records import RequestRecord
from tensorix_reports import latency_report
from tensorix_reports.load import write_report
from tensorix_reports.load._schedule import first_of_each

_MS = 1_000_000

RequestAt = Callable[..., RequestRecord]
MakeRun = Callable[..., Path]


@pytest.fixture
def stalled(request_at: RequestAt, make_run: MakeRun) -> Path:
    """1,000 arrivals 10 ms apart: all but 100 at once, these 2 s late for want of a user; 40 more were never sent."""
    records = []
    for number in range(1000):
        late_ms = 2_000 if 500 <= number < 600 else 0
        records.append(
            request_at(
                number,
                number / 100 + late_ms / 1000 + 0.003,
                schedule_index=number,
                intended_at_ns=-(late_ms + 3) * _MS,
                # Free for long, or only 3 ms before the start; then 1 ms at the gate.
                user_ready_at_ns=-(3 if late_ms else 900) * _MS,
                held_ns=_MS,
            )
        )
    # A retry is no arrival, and its delay is the first attempt's doing.
    records.append(request_at(1000, 12.5, schedule_index=7, attempt=2, intended_at_ns=-12_000 * _MS))
    events: list[tuple[float, str, dict[str, Any]]] = [
        (0.0, "phase", {"name": "ramp"}),
        (0.0, "phase", {"name": "steady"}),
        (14.0, "schedule_ended", {"sent": 1000, "not_sent": 40, "at_least": False}),
    ]
    return make_run(records, events)


def test_the_delay_is_in_its_parts(stalled: Path) -> None:
    """Waiting for a user, the gate and the client's own dispatch stand apart, of each arrival once."""
    report = latency_report(stalled).schedule
    assert report is not None
    assert (report.sent, report.not_sent) == (1000, 40)
    found = {part.part: part for part in report.parts}
    assert all(part.count == 1000 for part in report.parts)
    waiting = found["waiting for a user"]
    assert (waiting.figures[50.0].value, waiting.figures[99.0].value, waiting.most) == (0, 2000, 2000)
    assert found["held at the gate"].figures[50.0].value == 1
    assert found["own dispatch"].figures[99.0].value == 2
    assert found["in all"].figures[99.0].value == 2003


def test_what_a_resumed_run_did_not_send_counts_once(request_at: RequestAt, make_run: MakeRun) -> None:
    """Each engine that resumes a run begins with what the one before left: only what the last left was not sent."""
    records = [request_at(number, number / 10, schedule_index=number, intended_at_ns=-_MS) for number in range(10)]
    events: list[tuple[float, str, dict[str, Any]]] = [
        (0.0, "phase", {"name": "steady"}),
        (1.0, "schedule_ended", {"sent": 5, "not_sent": 63, "at_least": False}),
        (5.0, "run_resumed", {}),
        (6.0, "schedule_ended", {"sent": 5, "not_sent": 58, "at_least": True}),
    ]
    report = latency_report(make_run(records, events)).schedule
    assert report is not None
    assert (report.sent, report.not_sent, report.at_least) == (10, 58, True)


def test_latency_from_intended_has_the_wait_and_e2e_has_not(stalled: Path) -> None:
    """E2E says that the service was as quick as ever; from the intended instant the wait is in it."""
    rows = {row.quantity: row for row in latency_report(stalled).rows}
    assert rows["E2E"].figures[95.0].value == pytest.approx(201)
    assert rows["E2E from intended"].figures[50.0].value == pytest.approx(204)
    assert rows["E2E from intended"].figures[95.0].value == pytest.approx(2204)
    assert rows["TTFT from intended"].figures[95.0].value == pytest.approx(2103)


def test_the_page_says_what_was_not_sent(stalled: Path) -> None:
    """The verdict says that the schedule was cut short and that requests waited, and the tables have both."""
    paths = write_report(stalled)
    text = "\n".join(paths.verdict)
    assert "1,000 scheduled requests sent, each once, and 40 not" in text
    assert "1 % of them 2,000 ms or longer" in text
    markdown = paths.markdown.read_text(encoding="utf-8")
    assert "## Kept to the schedule" in markdown
    assert "E2E from intended" in markdown


def test_a_closed_loop_has_no_schedule(request_at: RequestAt, make_run: MakeRun) -> None:
    """Without a schedule nothing is said of one."""
    run = make_run([request_at(number, number / 10) for number in range(20)])
    report = latency_report(run)
    assert report.schedule is None
    assert not [row for row in report.rows if "intended" in row.quantity]
    assert "Kept to the schedule" not in write_report(run).markdown.read_text(encoding="utf-8")


def test_a_saturated_client_is_said_first(request_at: RequestAt, make_run: MakeRun) -> None:
    """What the client said of itself while it ran stands before all that it measured, with what helps."""
    said = {"what": "cpu", "words": "it used 97% of its core for several seconds", "advice": "take more processes"}
    events = [(4.0, "saturated", said), (5.0, "saturated", said | {"process_id": "another"})]
    paths = write_report(make_run([request_at(number, number / 10) for number in range(20)], events))
    assert "saturated client" in paths.verdict[0]
    assert "SATURATED" in paths.verdict[1]
    assert paths.verdict[1].count("97% of its core") == 1
    assert "What helps: take more processes." in paths.verdict[1]


@pytest.mark.parametrize("largest", [40, 10**12])
def test_the_first_attempt_of_each_arrival_is_counted(largest: int) -> None:
    """Whether the numbers lie close together or far apart, the first of each is what NumPy's `unique` finds."""
    numbers = np.random.default_rng(8).integers(0, largest, 60).astype(float)
    numbers = np.concatenate([numbers, numbers[:7], [largest - 1.0, 0.0, 0.0]])
    wanted = np.zeros(len(numbers), dtype=bool)
    wanted[np.unique(numbers, return_index=True)[1]] = True
    assert np.count_nonzero(~wanted) > 7
    assert first_of_each(numbers).tolist() == wanted.tolist()


def test_of_no_arrivals_none_is_the_first() -> None:
    """A schedule of which nothing was sent has no first attempts."""
    assert first_of_each(np.array([])).tolist() == []
