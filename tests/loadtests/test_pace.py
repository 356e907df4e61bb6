"""Keeping within a share of a key's limits, against the limiters themselves in virtual time."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tensorix_api.budget import Spend
from tensorix_api.limiters import Cost, TokenBucket
from tensorix_loadtests._pacing import KeyPace
from tensorix_loadtests.plan import Limits
from tensorix_records import RequestRecord

SECOND = 10**9


@pytest.fixture(scope="module")
def model() -> Iterator[Any]:
    """The benchmark's model of keys and servers in virtual time."""
    path = Path(__file__).parents[2] / "benchmarks" / "pace_model.py"
    spec = importlib.util.spec_from_file_location("pace_model", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["pace_model"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["pace_model"]


def record(**fields: Any) -> RequestRecord:
    """A record with little in it."""
    fixed: dict[str, Any] = {"run_id": "r", "record_id": "1", "request_id": "1", "start_unix_ns": 0}
    return RequestRecord(**(fixed | {"endpoint": "/chat/completions", "outcome": "success", "status": 200} | fields))


@pytest.mark.parametrize("kind", ["fixed", "clock", "log", "counter", "bucket", "burst 1", "burst 5", "gateway"])
@pytest.mark.parametrize("headers", ["none", "documented", "openai", "litellm", "late", "negative", "stuck"])
def test_nine_tenths_of_the_requests_pass_and_none_twice_too_many(model: Any, kind: str, headers: str) -> None:
    """On every kind of limiter, whatever the headers say: five windows use 90 % of it and meet one refusal at most."""
    out = model.play(model.Case(kind=kind, headers=headers, stream=kind in ("fixed", "log", "burst 1")))
    assert out.used >= 0.9
    assert out.refused <= 1


@pytest.mark.parametrize("kind", ["fixed", "clock", "log", "counter", "bucket", "burst 5", "gateway"])
@pytest.mark.parametrize("charging", ["actual", "reserve", "kept"])
def test_nine_tenths_of_the_tokens_are_used(model: Any, kind: str, charging: str) -> None:
    """Bound by tokens, charged in any of these ways, headers silent: the same."""
    case = model.Case(kind=kind, charging=charging, rpm=1000, tpm=12_000, users=16)
    out = model.play(case)
    assert out.used >= 0.9
    assert out.refused <= 1


@pytest.mark.parametrize("kind", ["fixed", "clock", "log", "gateway"])
def test_prompts_alone_are_charged_where_the_headers_show_it(model: Any, kind: str) -> None:
    """Where what is left falls by the prompts alone, what is generated is free, and the limit is used for prompts."""
    case = model.Case(kind=kind, charging="prompt", headers="documented", rpm=1000, tpm=12_000, users=16)
    out = model.play(case)
    assert out.used >= 0.9
    assert out.refused == 0
    assert any("prompts only" in words for words in out.words)


def test_what_others_use_of_the_key_is_left_to_them(model: Any) -> None:
    """Of a key that somebody used before, and that others use all along, little is refused where the headers tell."""
    before = model.play(model.Case(headers="documented", used_before=40))
    others = model.play(model.Case(headers="documented", foreign=20.0))
    blind = model.play(model.Case(headers="none", foreign=20.0))
    assert before.refused <= 1
    assert others.refused < blind.refused


def test_a_limit_that_is_stated_by_a_refusal_is_kept_to(model: Any) -> None:
    """One refusal by a second's limit, or by one of requests in flight, is enough."""
    for more in ("6 requests/1s", "4 in flight"):
        out = model.play(model.Case(more=(more,), users=16, latency_s=0.6))
        assert out.refused == 1, more
        assert out.used > 0.6, more


def test_a_limit_that_nobody_told_is_read_off_the_headers(model: Any) -> None:
    """Headers that name the limit, or only what is left of a fresh key, are enough to go by."""
    for headers in ("documented", "openai"):
        out = model.play(replace(model.Case(headers=headers, told=False), kind="log"))
        assert out.used >= 0.9
        assert out.refused == 0


def test_it_goes_evenly_and_never_more_in_a_window() -> None:
    """With somebody always waiting, gaps are even, and no window holds more than the share, settled or not."""
    pace = KeyPace(Limits(requests=100, window_s=10.0, told=("requests",)), 0.95)
    now = 5 * SECOND
    sent: list[int] = []
    while len(sent) < 400:
        wait = pace.wait_ns(now, Spend(1, 100))
        if wait:
            now += wait
            continue
        pace.sent(now, Spend(1, 100))
        sent.append(now)
    gaps = [after - before for before, after in pairwise(sent)]
    assert max(gaps) < 1.2 * 10 * SECOND / 95
    assert all(sent[n + 95] - sent[n] >= 10 * SECOND for n in range(len(sent) - 95))


def test_several_processes_have_a_part_each() -> None:
    """Four processes with a key together keep within the share that one would."""
    limits = Limits(requests=80, tokens=8000, window_s=10.0)
    paces = [KeyPace(limits, 0.9, part=part, parts=4) for part in range(4)]
    assert sum(pace.remaining(0)[0] or 0 for pace in paces) == 72
    assert sum(pace.remaining(0)[1] or 0 for pace in paces) == 7200


def test_parts_that_do_not_come_out_even_add_nothing() -> None:
    """Seven processes of which each has 8.1 requests of 57 send 57 in any window between them, not nine each."""
    paces = [KeyPace(Limits(requests=60, window_s=10.0), 0.95, part=part, parts=7) for part in range(7)]
    sent: list[int] = []
    for now in range(0, 30 * SECOND, SECOND // 50):
        for pace in paces:
            if not pace.wait_ns(now, Spend(1)):
                pace.sent(now, Spend(1))
                sent.append(now)
    assert len(sent) >= 3 * 57
    assert all(sent[n + 57] - sent[n] >= 10 * SECOND for n in range(len(sent) - 57))


def test_fewer_units_than_processes_are_taken_in_turns() -> None:
    """Of three requests a window four processes together send three in any window, each of them its own."""
    paces = [KeyPace(Limits(requests=4, window_s=12.0), 0.75, part=part, parts=4) for part in range(4)]
    sent: list[tuple[int, int]] = []
    for now in range(0, 96 * SECOND, SECOND // 50):
        for number, pace in enumerate(paces):
            if not pace.wait_ns(now, Spend(1)):
                pace.sent(now, Spend(1))
                sent.append((now, number))
    assert {number for _, number in sent} == {0, 1, 2, 3}
    assert len(sent) >= 3 * 8 - 1
    assert all(sent[n + 3][0] - sent[n][0] >= 12 * SECOND for n in range(len(sent) - 3))


def test_none_is_nearer_to_another_than_the_limit_allows_by_when_they_really_went() -> None:
    """Where a connection takes its time, gaps count from the real start: a bucket of one refuses nothing."""
    pace = KeyPace(Limits(requests=60, window_s=6.0, told=("requests",)), 0.95)
    now, went = SECOND, [0]
    while len(went) < 200:
        if wait := pace.wait_ns(now, Spend(1)):
            now += min(wait, SECOND // 1000)
            continue
        token = pace.sent(now, Spend(1))
        started = now + (20 if len(went) % 15 == 0 else 0) * SECOND // 1000
        pace.started(started, token)
        now = max(now, started)
        went.append(started)
    assert min(after - before for before, after in pairwise(went)) >= SECOND // 10


def test_one_refusal_of_two_near_requests_costs_nothing_of_the_pace(model: Any) -> None:
    """A bucket of one that meets two near requests once is kept to from then on, at the whole share."""
    pace = KeyPace(Limits(requests=60, window_s=6.0, told=("requests",)), 0.95)
    now, bucket = SECOND, TokenBucket("requests", 60, 6 * SECOND, burst=1)
    refused = 0
    for number in range(250):
        # Whoever asks was away for a while at first: what was lost then is made up for.
        now += SECOND if number == 5 else 0
        while wait := pace.wait_ns(now, Spend(1)):
            now += wait
        token = pace.sent(now, Spend(1))
        pace.started(now, token)
        passed = bucket.admit(now, Cost(1)).admitted
        refused += not passed
        status = {"outcome": "success"} if passed else {"outcome": "throttled", "status": 429}
        pace.settle(now + SECOND // 1000, token, None, record(end_at_ns=SECOND // 1000, **status))
    assert refused == 1
    assert now - SECOND <= 6 * SECOND * 250 / 60 / 0.93 + SECOND


def test_what_was_never_sent_leaves_no_trace() -> None:
    """A request that was released is not counted."""
    pace = KeyPace(Limits(requests=10, tokens=1000), 1.0)
    token = pace.sent(SECOND, Spend(1, 300))
    assert pace.remaining(SECOND) == (9, 850)
    pace.release(SECOND, token)
    assert pace.remaining(SECOND) == (10, 1000)


def test_a_request_without_usage_counts_its_chunks_and_its_bytes() -> None:
    """Where a stream brings no usage, what was counted stands for it."""
    pace = KeyPace(Limits(tokens=1000), 1.0)
    token = pace.sent(SECOND, Spend(1, 300 + 50))
    pace.settle(SECOND, token, None, record(max_tokens=50, completion_tokens=20, token_source="chunks"))
    assert pace.remaining(SECOND) == (None, 1000 - 101 - 20)


def test_without_any_limit_nothing_can_be_kept_to() -> None:
    """Nothing told and nothing said: it knows of no limit, until a header names one."""
    pace = KeyPace(Limits(), 0.95)
    assert not pace.knows_a_limit
    pace.seen(SECOND, record(endpoint="/models", remaining_requests=-5))
    assert not pace.knows_a_limit
    pace.seen(SECOND, record(endpoint="/models", limit_requests=60, remaining_requests=60))
    assert pace.knows_a_limit
    assert pace.remaining(SECOND)[0] == 57
