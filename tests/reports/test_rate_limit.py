"""The rate-limit report of hand-made runs, by exact numbers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tensorix_reports import rate_limit_report
from tensorix_reports.frames import read_frames
from tensorix_reports.limiting._episodes import decisions_of, episodes_of
from tensorix_reports.limiting._rate_limit import _retry_after

MODELS = {"endpoint": "/models", "method": "GET", "stream": None, "first_token_at_ns": None}


def test_seconds(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """Requests are counted in the second in which they were sent; the four outcomes add up to what was sent."""
    records = [request_at(0, 0.1), request_at(1, 0.9), request_at(2, 1.0, status=429)]
    records += [request_at(3, 3.99, outcome="failed", status=500), request_at(4, 3.0, outcome="cancelled", status=None)]
    seconds = rate_limit_report(make_run(records, ended_s=5.5)).seconds
    assert seconds["sent"].tolist() == [2, 1, 0, 2, 0, 0]
    assert seconds["success"].tolist() == [2, 0, 0, 0, 0, 0]
    assert seconds["throttled"].tolist() == [0, 1, 0, 0, 0, 0]
    assert seconds["failed"].tolist() == [0, 0, 0, 1, 0, 0]
    assert seconds["cancelled"].tolist() == [0, 0, 0, 1, 0, 0]
    assert seconds["offered"].isna().all()


def test_offered_is_what_the_schedule_wanted(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """In an open loop a request counts as offered in the second in which it was intended, not in which it was sent."""
    records = [request_at(0, 1.5, intended_at_ns=-1_000_000_000), request_at(1, 1.6, intended_at_ns=0)]
    seconds = rate_limit_report(make_run(records, ended_s=2.5)).seconds
    assert seconds["offered"].tolist() == [1, 1, 0]
    assert seconds["sent"].tolist() == [0, 2, 0]


def test_minutes_of_the_clock(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """Statuses are counted by UTC minute; the run starts 20 s into one."""
    records = [request_at(0, 39.9), request_at(1, 40.0), request_at(2, 41.0, status=429)]
    minutes = rate_limit_report(make_run(records)).to_dict()["clock_minutes"]
    assert minutes == [
        {"minute": "2026-09-21 14:13", "sent": 1, "status_200": 1, "status_429": 0, "other": 0},
        {"minute": "2026-09-21 14:14", "sent": 2, "status_200": 1, "status_429": 1, "other": 0},
    ]


def test_headers_by_kind_of_response(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """A gateway that leaves its headers out on streams, errors and model lists is shown to do so."""
    records = [
        request_at(0, 0),
        request_at(1, 1),
        request_at(2, 2, stream=False, remaining_requests=58, remaining_tokens=99, limit_requests=60),
        request_at(3, 3, stream=False, remaining_requests=57),
        request_at(4, 4, **MODELS),
        request_at(5, 5, status=429, retry_after_ns=60_000_000_000),
        request_at(6, 6, status=400, outcome="failed", error_kind="bad_request"),
        request_at(7, 7, status=None, outcome="failed", error_kind="connection_refused"),
    ]
    rows = rate_limit_report(make_run(records)).to_dict()["headers"]
    seen = [
        (row["kind"], row["status"], row["responses"], row["remaining_requests"], row["remaining_tokens"])
        for row in rows
    ]
    assert seen == [
        ("chat, streamed", 200, 2, 0, 0),
        ("chat, streamed", 400, 1, 0, 0),
        ("chat, streamed", 429, 1, 0, 0),
        ("chat, not streamed", 200, 2, 2, 1),
        ("models", 200, 1, 0, 0),
    ]
    assert [row["retry_after_ns"] for row in rows] == [0, 0, 1, 0, 0]
    assert [row["limit_requests"] for row in rows] == [0, 0, 0, 1, 0]


def test_episode_from_remaining_zero_to_the_first_success(
    make_run: Callable[..., Path], request_at: Callable[..., Any]
) -> None:
    """The budget is spent when a response says that nothing remains, and back when a request passes again."""
    records = [request_at(0, 0, remaining_requests=1), request_at(1, 1, remaining_requests=0)]
    records += [request_at(2, 2, status=429), request_at(3, 8, status=429), request_at(4, 10.5, remaining_requests=1)]
    (episode,) = rate_limit_report(make_run(records)).to_dict()["keys"][0]["episodes"]
    assert episode == {
        "spent_s": 1.02,
        "sign": "remaining 0",
        "last_refused_s": 8.0,
        "back_s": 10.5,
        "refused": 2,
        "length_s": 9.48,
    }


def test_episode_without_headers(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """Without headers an episode begins with the first 429; one that the run does not outlast has no end."""
    records = [request_at(0, 0), request_at(1, 2, status=429), request_at(2, 9), request_at(3, 12, status=429)]
    first, second = rate_limit_report(make_run(records)).to_dict()["keys"][0]["episodes"]
    assert (first["spent_s"], first["sign"], first["back_s"], first["length_s"]) == (2.0, "429", 9.0, 7.0)
    assert (second["spent_s"], second["back_s"], second["length_s"]) == (12.0, None, None)


def test_requests_in_flight_together_make_no_episodes(
    make_run: Callable[..., Path], request_at: Callable[..., Any]
) -> None:
    """A success that started before the refusal was known says nothing about the budget having come back."""
    records = [request_at(0, 1.000), request_at(1, 1.001, status=429), request_at(2, 1.004), request_at(3, 5.0)]
    (episode,) = rate_limit_report(make_run(records)).to_dict()["keys"][0]["episodes"]
    assert (episode["spent_s"], episode["back_s"]) == (1.001, 5.0)


def test_retry_after_said_and_true(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """A server that always says 60 s and lets through after 20 s overstates by 40 s."""
    wait = 60_000_000_000
    records = [request_at(0, 0), request_at(1, 10, status=429, retry_after_ns=wait)]
    records += [request_at(2, 29.995, status=429), request_at(3, 30.005)]
    retry = rate_limit_report(make_run(records)).to_dict()["retry_after"]
    assert (retry["refusals"], retry["said"], retry["compared"], retry["overstated"]) == (2, 1, 1, 1)
    assert retry["said_median_s"] == 60.0
    assert round(retry["true_at_most_median_s"], 6) == 20.0
    assert round(retry["overstated_by_most_s"], 6) == 40.0
    assert retry["understated"] == 0


def test_retry_after_rounded_up_is_no_overstatement(
    make_run: Callable[..., Path], request_at: Callable[..., Any]
) -> None:
    """Whole seconds, rounded up, are as honest as the header can be."""
    records = [request_at(0, 0), request_at(1, 5.8, status=429, retry_after_ns=5 * 10**9), request_at(2, 10.0)]
    retry = rate_limit_report(make_run(records)).to_dict()["retry_after"]
    assert (retry["compared"], retry["overstated"], retry["overstated_by_most_s"]) == (1, 0, None)


def test_retry_after_that_is_too_short(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """A request that waited as told and was refused again was told too little."""
    records = [request_at(0, 0), request_at(1, 1, status=429, retry_after_ns=10**9), request_at(2, 4, status=429)]
    retry = rate_limit_report(make_run(records)).to_dict()["retry_after"]
    assert (retry["understated"], retry["compared"], retry["overstated"]) == (1, 0, 0)


def test_limits_told_and_stated(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """What the run was told goes first; without it the one limit that headers state is taken."""
    records = [request_at(0, 0, limit_requests=30, limit_tokens=7000), request_at(1, 1, limit_requests=30)]
    told = rate_limit_report(make_run(records, limits={"requests": 60, "window_s": 60})).to_dict()["limit"]
    assert (told["requests"], told["tokens"]) == (60, 7000)
    assert told["stated_by_headers"] == {"requests": [30], "tokens": [7000]}
    untold = rate_limit_report(make_run(records, limits=None)).to_dict()["limit"]
    assert (untold["requests"], untold["window_s"]) == (30, None)


def test_empty_run(make_run: Callable[..., Path]) -> None:
    """A run without a request gives a report without rows, and valid JSON."""
    report = rate_limit_report(make_run([], ended_s=None))
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["totals"]["sent"] == 0
    assert not report.reached


def test_time_grows_with_the_refusals_not_with_their_square(
    make_run: Callable[..., Path], request_at: Callable[..., Any]
) -> None:
    """A run whose budget comes back after every other request is read in a time that is in proportion to its length."""
    rows = 20_000
    records = [request_at(0, 0), request_at(1, 0.1, status=429, retry_after_ns=10**9)]
    frames = read_frames(make_run(records, ended_s=None))
    columns = ["headers_at_ns", "first_chunk_at_ns", "status", "remaining_requests", "remaining_tokens"]
    columns += ["limit_requests", "prompt_tokens", "completion_tokens", "retry_after_ns"]

    def seconds_for(count: int) -> float:
        requests = pd.concat([frames.requests[columns]] * (count // 2), ignore_index=True)
        requests["at_s"] = np.arange(count, dtype=float)
        requests["done_s"] = requests["at_s"] + 0.01
        seen = decisions_of(requests)
        start = time.process_time()
        episodes = episodes_of(seen)
        said = requests["retry_after_ns"].to_numpy(float) / 1e9
        assert _retry_after([(seen, said, episodes)]).compared == len(episodes) - 1 == count // 2 - 1
        return time.process_time() - start

    seconds_for(100)
    assert seconds_for(rows) < 40 * max(seconds_for(rows // 10), 0.005)
