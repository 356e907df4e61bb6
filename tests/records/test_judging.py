"""Runs held against objectives, with figures worked out by hand."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from tensorix_records import RequestRecord, Run
from tensorix_records.judging import COLUMNS, Judged, Verdict, verdict, verdict_of
from tensorix_records.objectives import read_goals

S, MS = 1_000_000_000, 1_000_000
ORIGIN_NS = 1_800_000_000 * S
Judge = Callable[..., Verdict]


@pytest.fixture
def judged(run: Run, make_record: Callable[..., RequestRecord]) -> Judge:
    """Write a run with these rows (`at_s` and columns), ask for these goals, and judge it."""

    def judge(
        rows: Iterable[dict[str, Any]], *objectives: str, good: tuple[str, ...] = (), steady_s: float | None = None
    ) -> Verdict:
        run.update_manifest(asked={"goals": {"objectives": list(objectives), "good": list(good)}})
        writer = run.writer("p1", now_unix_ns=lambda: ORIGIN_NS + round((steady_s or 0) * S))
        for number, row in enumerate(rows):
            columns = {"stream": True, "end_at_ns": 400 * MS} | row
            at_s = columns.pop("at_s")
            writer.add(make_record(number, start_unix_ns=ORIGIN_NS + round(at_s * S), **columns))
        if steady_s is not None:
            writer.event("phase", name="steady")
        writer.close()
        return verdict(run)

    return judge


def _streams(number: int, **columns: Any) -> list[dict[str, Any]]:
    """One a tenth of a second, their first tokens after 1, 2, 3… ms in no order."""
    first = random.Random(1).sample(range(1, number + 1), number)
    return [{"at_s": k / 10, "first_token_at_ns": first[k] * MS, **columns} for k in range(number)]


def _of(found: Verdict) -> list[tuple[str, str]]:
    return [(one.objective.text, one.standing) for one in found.judged]


def test_a_percentile_decides_and_its_interval_is_told(judged: Judge) -> None:
    """p50 of 1 to 201 ms is 101 ms: met below 150 ms, broken below 60 ms; at 103 ms chance may have decided."""
    found = judged(_streams(201), "ttft_p50 < 150ms", "ttft_p50 < 60ms", "ttft_p50 < 103ms", "ttft_max < 202ms")
    assert [one.standing for one in found.judged] == ["met", "broken", "met", "met"]
    assert found.judged[0].figure.value == 101 * MS
    assert [one.straddles for one in found.judged] == [False, False, True, False]
    assert "chance may have decided" in found.judged[2].reason
    assert found.standing == "broken"


def test_a_percentile_on_too_few_is_not_enough_data(judged: Judge) -> None:
    """p95 takes 100 requests; with 99 it is neither met nor broken, and says how many it needs."""
    found = judged(_streams(99), "ttft_p95 < 1ms", "error_rate < 1%")
    assert _of(found) == [("ttft_p95 < 1ms", "unknown"), ("error_rate < 1%", "met")]
    assert "p95 needs 100 samples, there are 99" in found.judged[0].reason
    assert found.standing == "unknown"


def test_failures_and_refusals_stay_out_of_latencies_and_apart(judged: Judge) -> None:
    """10 failed of 100 that succeeded or failed is 10 %, however many were refused; none of them has a latency."""
    rows = _streams(90) + [{"at_s": 5.0, "outcome": "failed", "first_token_at_ns": 9 * S}] * 10
    rows += [{"at_s": 5.0, "outcome": "throttled", "status": 429}] * 25
    found = judged(rows, "error_rate <= 10%", "throttled_rate < 20%", "ttft_max <= 90ms", "error_rate < 9%")
    assert [one.standing for one in found.judged] == ["met", "broken", "met", "broken"]
    assert found.judged[1].figure.value == 25 / 125


def test_goodput_counts_what_met_every_criterion(judged: Judge) -> None:
    """Of 101 in 10 s: 50 are within 50 ms to the first token, and of those half end in time."""
    rows = _streams(101)
    for row in rows:
        row["end_at_ns"] = (900 if row["first_token_at_ns"] // MS % 2 else 400) * MS
    found = judged(rows, "goodput > 2.4/s", "goodput > 2.6/s", good=("ttft <= 50ms", "e2e < 500ms"))
    assert [one.standing for one in found.judged] == ["met", "broken"]
    assert found.goodput is not None
    assert (found.goodput.a_second.value, found.goodput.share.count) == (2.5, 101)


def test_a_criterion_without_meaning_is_held_against_nobody(judged: Judge) -> None:
    """A reply that is not streamed has no TTFT: counted as good, and said; if all are such, nothing is known."""
    rows = [{"at_s": k / 10, "stream": False} for k in range(50)]
    found = judged(rows, "goodput > 1/s", good=("ttft < 1ms",))
    assert _of(found) == [("goodput > 1/s", "unknown")]
    assert found.goodput is not None
    assert found.goodput.not_asked == 50


def test_the_ramp_and_the_preflight_are_left_out(judged: Judge) -> None:
    """Figures rest on what started after the ramp; the list of models before the run counts nowhere."""
    rows = [{"at_s": 0.0, "outcome": "failed", "scenario": "preflight", "endpoint": "/models"}]
    rows += [{"at_s": k / 10, "first_token_at_ns": (1000 if k < 50 else 10) * MS} for k in range(101)]
    found = judged(rows, "ttft_max < 11ms", "error_rate <= 0%", "sent <= 10.3/s", steady_s=4.95)
    assert [one.standing for one in found.judged] == ["met", "met", "met"]
    assert found.window.seconds == pytest.approx(5.05)


def test_models_lists_are_no_chat(judged: Judge) -> None:
    """What a list of models took is no E2E of a chat."""
    rows = [{"at_s": k / 10} for k in range(20)] + [{"at_s": 1.0, "endpoint": "/v1/models", "end_at_ns": 5 * S}]
    assert _of(judged(rows, "e2e_max < 1s")) == [("e2e_max < 1s", "met")]


def test_an_empty_run_knows_nothing(judged: Judge) -> None:
    """Without a request no objective is met."""
    found = judged([], "ttft_p95 < 1s", "error_rate < 1%", "successful > 1/s", "goodput > 1/s", good=("ttft < 1s",))
    assert {one.standing for one in found.judged} == {"unknown"}


def test_latency_from_intended_and_its_delay_are_of_the_open_loop(judged: Judge) -> None:
    """A request sent 1 s late that took 0.4 s took 1.4 s from when it was intended; a closed loop has no such thing."""
    rows = [{"at_s": k / 10, "intended_at_ns": -S, "user_ready_at_ns": -S // 4} for k in range(20)]
    texts = ("from_intended_mean < 1.3s", "schedule_delay_max <= 1s", "dispatch_delay_max < 251ms", "offered > 1/s")
    assert [one.standing for one in judged(rows, *texts).judged] == ["broken", "met", "met", "met"]


def test_tokens_counted_in_two_ways_are_not_pooled(judged: Judge) -> None:
    """ITL rests on the way in which most were counted, and says what that left out."""
    row = {"first_token_at_ns": 0, "last_token_at_ns": 100 * MS, "completion_tokens": 11, "token_source": "usage"}
    rows = [{"at_s": k / 10, **row} for k in range(20)]
    rows += [{"at_s": 2.0, **row, "last_token_at_ns": 9 * S, "token_source": "chunks"}] * 3
    found: list[Judged] = list(judged(rows, "itl_max < 11ms").judged)
    assert found[0].standing == "met"
    assert "3 requests with tokens counted otherwise left out" in found[0].reason


def test_the_pause_of_a_resumed_run_counts_in_no_rate(run: Run, make_record: Callable[..., RequestRecord]) -> None:
    """One a second for 10 s, a pause of 80 s, again 10 s: a rate of one a second; of a killed engine the pause begins
    with its last sign of life.
    """
    with_stop = {"kind": "stop", "t_unix_ns": ORIGIN_NS + 10 * S}
    second = {"kind": "second", "t_unix_ns": ORIGIN_NS + 9 * S}
    writer = run.writer("p1")
    for number, at_s in enumerate([*range(11), *range(90, 101)]):
        writer.add(make_record(number, start_unix_ns=ORIGIN_NS + at_s * S, stream=True, end_at_ns=400 * MS))
    writer.close()
    table = run.records(COLUMNS).sort_by("start_unix_ns")
    goals = read_goals(["successful > 1/s", "sent < 1.2/s", "goodput > 1/s"], ["e2e < 1s"])
    for last in (with_stop, second):
        events = [last, {"kind": "run_resumed", "t_unix_ns": ORIGIN_NS + 90 * S}]
        found = verdict_of(table, events, goals)
        assert [one.standing for one in found.judged] == ["met"] * 3
        assert found.judged[0].figure.value == pytest.approx(22 / 20)
    assert verdict_of(table, [], goals).judged[0].figure.value == pytest.approx(22 / 100)
