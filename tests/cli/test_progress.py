"""What the view knows of a run, from the rows and events that a follower brings."""

from __future__ import annotations

import dataclasses
import io
from typing import Any

import pyarrow as pa
import pytest
from rich.console import Console

from tensorix_cli._progress import Progress
from tensorix_cli._view import LiveView, PlainView, _progress_words

S = 1_000_000_000
START = 1_700_000_000 * S


def rows(*changes: dict[str, Any]) -> pa.Table:
    """Records with the columns that the view reads, one second apart."""
    plain: dict[str, Any] = {
        "user_class": "ChatUser",
        "outcome": "success",
        "start_unix_ns": START,
        "end_at_ns": S // 2,
        "first_token_at_ns": S // 4,
        "last_token_at_ns": S // 2,
        "completion_tokens": 10,
        "intended_at_ns": None,
        "cost": None,
        "remaining_requests": None,
        "remaining_tokens": None,
    }
    return pa.Table.from_pylist([plain | change for change in changes])


def started(**changes: Any) -> Progress:
    """A run that has started at START."""
    progress = Progress(requests=None, duration_s=None)
    progress.feed(None, [{"kind": "run_started", "t_unix_ns": START}], START)
    for name, value in changes.items():
        setattr(progress, name, value)
    return progress


def test_outcomes_are_counted_apart() -> None:
    """Throttled and cancelled requests are neither successes nor failures."""
    progress = started()
    outcomes = ["success", "success", "throttled", "failed", "cancelled"]
    progress.feed(rows(*({"outcome": outcome} for outcome in outcomes)), [], START + S)
    assert (progress.succeeded, progress.throttled, progress.failed, progress.cancelled) == (2, 1, 1, 1)
    assert progress.finished == 5


def test_the_engine_s_own_question_is_no_request_of_the_load() -> None:
    """What is asked before the first user has no user class: only its headers count."""
    progress = started()
    progress.feed(rows({"user_class": None, "remaining_requests": 60}), [], START + S)
    assert (progress.finished, progress.succeeded, progress.remaining_requests) == (0, 0, 60)


def test_figures_are_those_of_the_last_seconds() -> None:
    """What ended more than ten seconds ago is in the counts and not in the rates."""
    progress = started()
    progress.feed(rows({}, {"start_unix_ns": START + 15 * S, "first_token_at_ns": S}), [], START + 20 * S)
    assert progress.finished == 2
    assert progress.requests_a_second(START + 20 * S) == pytest.approx(0.1)
    assert progress.tokens_a_second(START + 20 * S) == pytest.approx(1.0)
    assert progress.ttft_s() == pytest.approx(1.0)


def test_ttft_is_of_successes_only() -> None:
    """A failed stream's first token is no figure of the view, and without a stream there is none."""
    progress = started()
    progress.feed(rows({"outcome": "failed"}, {"first_token_at_ns": None}), [], START + S)
    assert progress.ttft_s() is None


def test_the_remaining_budget_is_that_of_the_latest_response() -> None:
    """Records come in batches out of order; the header that was read last counts."""
    progress = started()
    late = {"start_unix_ns": START + 2 * S, "remaining_requests": 3, "remaining_tokens": 500}
    early = {"start_unix_ns": START + S, "remaining_requests": 4, "remaining_tokens": 600}
    progress.feed(rows(late, early, {}), [], START + 3 * S)
    assert (progress.remaining_requests, progress.remaining_tokens) == (3, 500)


def test_events_say_how_many_users_and_requests_there_are() -> None:
    """Users come from their own event, requests in flight from that of each second; unknown events are passed over."""
    progress = started()
    second = {"kind": "second", "in_flight": 4, "users": 6}
    progress.feed(None, [{"kind": "users", "count": 5}, second, {"kind": "new"}, {}], START + S)
    assert (progress.users, progress.in_flight) == (6, 4)


def test_time_left_is_known_for_a_duration_and_guessed_for_a_number() -> None:
    """A duration runs off the clock; a number of requests goes by the pace of the last seconds."""
    timed = started(duration_s=30.0)
    assert timed.left_s(START + 10 * S) == pytest.approx(20.0)
    assert timed.share_done(START + 10 * S) == pytest.approx(1 / 3)
    counted = started(requests=20)
    counted.feed(rows(*[{"end_at_ns": 9 * S}] * 10), [], START + 10 * S)
    assert counted.left_s(START + 10 * S) == pytest.approx(10.0)
    assert counted.share_done(START + 10 * S) == pytest.approx(0.5)


def test_before_the_start_nothing_is_claimed() -> None:
    """While the engine still asks the server there is no time, no pace and no guess."""
    progress = Progress(requests=10, duration_s=5.0)
    assert progress.left_s(START) is None
    assert progress.share_done(START) == 0.0
    assert _progress_words(progress, START) == "asking the server …"


def test_the_end_is_told_from_the_drain() -> None:
    """After the stop it says how many are still in flight; after the last one that the run has ended."""
    progress = started(duration_s=30.0)
    stop = {"kind": "stop", "reason": "interrupted"}
    progress.feed(None, [{"kind": "second", "in_flight": 4, "users": 6}, stop], START + S)
    assert _progress_words(progress, START + S) == "0 requests, 0:01 of 0:30, ending: 4 in flight"
    progress.feed(None, [{"kind": "run_ended", "in_flight": 0}], START + 2 * S)
    assert _progress_words(progress, START + 2 * S) == "0 requests, 0:02 of 0:30, ended"
    assert progress.in_flight == 0


def test_what_is_to_be_said_once_is_taken_from_the_events() -> None:
    """A client that is a bottleneck, a key that went out and why a run ends are notes, each once."""
    progress = started()
    saturated = {"kind": "saturated", "words": "its loop is late", "advice": "take more processes"}
    out = {"kind": "key_out", "words": "key-1 was refused"}
    stop = {"kind": "stop", "reason": "budget", "words": "the cap is used up"}
    progress.feed(None, [saturated, out, stop], START + S)
    assert progress.notes == [
        "warning: the client is saturated: its loop is late; take more processes",
        "key-1 was refused",
        "ending (budget): the cap is used up",
    ]


def test_a_resumed_run_goes_on_where_it_was() -> None:
    """The time between the last word of a killed run and its resumption does not count, nor do its processes."""
    progress = started(duration_s=30.0)
    second = {"kind": "second", "users": 4, "in_flight": 3, "process_id": "p1", "t_unix_ns": START + 5 * S}
    progress.feed(None, [second, {"kind": "run_resumed", "t_unix_ns": START + 100 * S}], START + 100 * S)
    assert _progress_words(progress, START + 102 * S) == "0 requests, 0:07 of 0:30, about 0:23 left"
    assert (progress.users, progress.processes) == (0, 0)


def test_the_block_fits_eighty_columns() -> None:
    """With large numbers in every place no line of the live view is cut on a usual terminal."""
    progress = started(duration_s=3600.0, remaining_requests=60, remaining_tokens=2_000_000)
    second = {"kind": "second", "users": 500, "in_flight": 500, "cpu_share": 0.99, "loop_lag_max_ns": 20 * S}
    many = [{"completion_tokens": 1000, "intended_at_ns": -90 * S, "cost": 123.4}] * 5000
    progress.feed(rows(*many), [second | {"process_id": name} for name in ("p1w1", "p1w2")], START + S)
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    with LiveView(console) as live:
        live.draw(progress, START + S)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    for text in (
        "users 1000",
        "in flight 1000",
        "tokens/s 5,000,000",
        "succeeded 5000",
        "60 requests, 2,000,000 tokens",
        "client CPU 99% of 2 processes   loop lag 20000.0 ms   sent late p95 90000.0 ms",
    ):
        assert text in shown
    assert "…" not in shown


def test_a_line_is_printed_every_two_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    """The plain view does not flood a file: one line in two seconds, however often it is told to draw."""
    progress = started(duration_s=30.0)
    plain = PlainView()
    for quarter in range(17):
        plain.draw(progress, START + quarter * S // 4)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("0 requests, 0:00 of 0:30")
    assert lines[2].startswith("0 requests, 0:04 of 0:30")


def test_progress_is_a_value_of_known_fields() -> None:
    """A misspelt field is an error, not a new one."""
    assert dataclasses.is_dataclass(Progress)
    with pytest.raises(AttributeError):
        started().finnished = 1  # type: ignore[attr-defined]


def test_what_was_said_before_a_run_was_resumed_is_not_said_again() -> None:
    """Warnings of a run that ended are no news of the one that resumes it; those that follow are."""
    progress = started(duration_s=30.0)
    old = {"kind": "saturated", "t_unix_ns": START, "words": "old", "advice": "more"}
    progress.feed(None, [old, {"kind": "run_resumed", "t_unix_ns": START + S}, old | {"words": "new"}], START + S)
    assert progress.notes == ["warning: the client is saturated: new; more"]
