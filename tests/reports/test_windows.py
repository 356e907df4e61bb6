"""The limiter's windows, inferred from requests whose true windows are known."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tensorix_api.limiters import Cost, FixedWindow
from tensorix_reports import rate_limit_report
from tensorix_reports.limiting._episodes import Decisions, episodes_of
from tensorix_reports.limiting._windows import WindowFit, fit_windows


def _simulated(seed: int) -> tuple[float, int, float, np.ndarray]:
    """Users against a real limiter: (window, limit, end, rows of start, headers, end, status, true window's start).

    Requests take up to 20 ms to be decided, refusals up to 30 ms to come back; some users come back all at once at the
    moment that the window turns.
    """
    rnd = random.Random(seed)
    window_s, limit, users = rnd.choice([5, 10, 60]), rnd.choice([5, 20, 60]), rnd.randint(1, 30)
    end_s = window_s * rnd.uniform(1.5, 5)
    on_the_way, answered, patient = rnd.choice([0.0003, 0.002, 0.02]), rnd.choice([0.001, 0.005, 0.03]), rnd.random()
    limiter = FixedWindow("requests", limit, window_s * 10**9)
    opened = -np.inf
    queue = [(rnd.uniform(0, 1), user, "start", 0.0) for user in range(users)]
    heapq.heapify(queue)
    rows = []
    while queue:
        now, user, what, start = heapq.heappop(queue)
        if what == "start":
            if now < end_s:
                heapq.heappush(queue, (now + rnd.uniform(0, on_the_way), user, "decide", now))
            continue
        now_ns = round(now * 1e9)
        if limiter.admit(now_ns, Cost()).admitted:
            opened = now if now >= opened + window_s else opened
            done = now + rnd.lognormvariate(-1.5, 0.6)
            headers = now + rnd.uniform(0, on_the_way) if rnd.random() < 0.7 else done
            rows.append((start, headers, done, 200, opened))
            heapq.heappush(queue, (done + rnd.uniform(0, 0.1), user, "start", 0.0))
            continue
        headers = now + rnd.uniform(0, answered)
        rows.append((start, headers, headers, 429, opened))
        wait = opened + window_s - now + rnd.uniform(0, 0.01) if rnd.random() < patient else rnd.uniform(0.05, 2)
        heapq.heappush(queue, (headers + wait, user, "start", 0.0))
    return float(window_s), limit, end_s, np.array(sorted(rows))


def _seen(rows: np.ndarray) -> Decisions:
    unknown = np.full(len(rows), np.nan)
    passed = rows[:, 3] == 200
    return Decisions(rows[:, 0], rows[:, 1], passed, ~passed, passed, unknown, unknown, unknown, unknown)


def _fit(seed: int, *, told: bool) -> tuple[WindowFit, list[tuple[int, int]]]:
    window_s, limit, end_s, rows = _simulated(seed)
    seen = _seen(rows)
    fit = fit_windows(
        seen,
        episodes_of(seen),
        window_s=window_s if told else None,
        limit=limit,
        token_limit=None,
        end_s=max(end_s, float(rows[:, 2].max())),
    )
    truth = []
    for opened in np.unique(rows[:, 4]):
        mine = rows[rows[:, 4] == opened]
        truth.append((int((mine[:, 3] == 200).sum()), int((mine[:, 3] == 429).sum())))
    return fit, truth


@pytest.mark.parametrize("told", [True, False], ids=["length told", "length inferred"])
def test_counts_of_every_window_are_those_of_the_limiter(told: bool) -> None:
    """In 150 runs against a real fixed window each inferred window has exactly the limiter's own 200s and 429s."""
    wrong, inferred = [], 0
    for seed in range(150):
        fit, truth = _fit(seed, told=told)
        if fit.window_s is None:
            continue
        inferred += 1
        if [(window.passed, window.refused) for window in fit.windows] != truth or fit.fits is False:
            wrong.append(seed)
    assert inferred >= (150 if told else 120)
    assert wrong == []


def test_measured_length_holds_the_true_one() -> None:
    """The bracket measured from spent windows holds the limiter's true length, to the slack of the edge."""
    brackets = 0
    for seed in range(150):
        window_s = _simulated(seed)[0]
        fit, _ = _fit(seed, told=False)
        if fit.bracket_s is not None:
            brackets += 1
            assert fit.bracket_s[0] - 0.06 <= window_s <= fit.bracket_s[1] + 0.06
    assert brackets > 100


def _sliding_log(limit: int, window_s: float, every_s: float, end_s: float) -> np.ndarray:
    """Regular requests against a limiter that looks back one window from each request."""
    passed: list[float] = []
    rows = []
    for at in np.arange(0, end_s, every_s):
        admitted = sum(at - window_s < earlier for earlier in passed) < limit
        passed += [at] if admitted else []
        rows.append((at, at + 0.004, at + 0.004, 200 if admitted else 429, 0.0))
    return np.array(rows)


def test_a_sliding_limiter_is_not_taken_for_a_fixed_window() -> None:
    """Requests that pass one by one while others are refused contradict a fixed window, and the report says so."""
    # A burst at the start, then a burst half a window later: the first comes back while the second still counts.
    early = _sliding_log(10, 10.0, 0.4, 35.0)
    seen = _seen(early)
    fit = fit_windows(seen, episodes_of(seen), window_s=20.0, limit=10, token_limit=None, end_s=35.0)
    assert fit.fits is False
    assert fit.doubts


def _run(make_run: Callable[..., Path], request_at: Callable[..., Any], **manifest: Any) -> dict[str, Any]:
    """Three windows of 10 s: 5 pass and 2 are refused, 5 and 1, then 2 before the run ends at 25 s."""
    plan = [(0, 200), (1, 200), (2, 200), (3, 200), (4, 200), (5, 429), (9.5, 429)]
    plan += [(11, 200), (12, 200), (13, 200), (14, 200), (15, 200), (16, 429), (21.5, 200), (22, 200)]
    records = [request_at(number, at, status=status) for number, (at, status) in enumerate(plan)]
    limits = {"requests": 5, "tokens": 1000, "window_s": 10.0} | manifest
    report = rate_limit_report(make_run(records, ended_s=25.0, limits=limits))
    key: dict[str, Any] = report.to_dict()["keys"][0]
    return key


def test_hand_made_windows(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """A window opens with the first request after the last has run out, and the last one is cut by the run's end."""
    windows = _run(make_run, request_at)["windows"]
    assert [(w["start_s"], w["end_s"], w["passed"], w["refused"], w["complete"]) for w in windows] == [
        (0.0, 10.0, 5, 2, True),
        (11.0, 21.0, 5, 1, True),
        (21.5, 31.5, 2, 0, False),
    ]
    assert windows[2]["why_incomplete"] == "the run ended 6.5 s before it"
    assert [w["bound_by"] for w in windows] == ["requests", "requests", None]
    assert windows[0]["tokens"] == 5 * 31


def test_hand_made_length(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """Without a told length it is a usual one within what was measured: refused after 9.5 s, passed after 10.5 s."""
    key = _run(make_run, request_at, window_s=None)
    assert key["window_measured_between_s"] == [9.5, 10.5]
    assert key["window_s"] == 10.0


def test_no_length_and_no_refusal_gives_no_window(
    make_run: Callable[..., Path], request_at: Callable[..., Any]
) -> None:
    """Where nothing tells a length, no window is made up."""
    run = make_run([request_at(number, number) for number in range(20)], limits={"requests": 60})
    key = rate_limit_report(run).to_dict()["keys"][0]
    assert (key["windows"], key["window_s"], key["windows_fit"]) == ([], None, None)


def test_window_that_was_open_before_the_run(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """Headers that say that others had used the budget make the first window one that was not seen whole."""
    records = [request_at(n, n, limit_requests=5, remaining_requests=3 - 1 - n) for n in range(3)]
    records += [request_at(3, 3, status=429), request_at(4, 6, limit_requests=5, remaining_requests=4)]
    limits = {"requests": 5, "window_s": 10.0}
    windows = rate_limit_report(make_run(records, limits=limits)).to_dict()["keys"][0]["windows"]
    assert [(w["passed"], w["refused"], w["complete"]) for w in windows] == [(3, 1, False), (1, 0, True)]
    assert windows[0]["why_incomplete"] == "open before the run: 2 already counted"


def test_refused_from_the_start(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """A run that is refused from its first request on saw no window whole."""
    run = make_run([request_at(n, n, status=429) for n in range(30)], ended_s=90.0)
    (window,) = rate_limit_report(run).to_dict()["keys"][0]["windows"]
    assert (window["passed"], window["refused"], window["complete"]) == (0, 30, False)


def test_model_lists_that_do_not_count_open_no_window(
    make_run: Callable[..., Path], request_at: Callable[..., Any]
) -> None:
    """Model lists without rate-limit headers are left out of the windows; with them they are counted."""
    models = {"endpoint": "/models", "method": "GET", "stream": None, "first_token_at_ns": None}
    chat = [request_at(n, 4 + n, remaining_requests=50) for n in range(3)]
    for remaining, start, sent in ((None, 4.0, 3), (59, 0.0, 4)):
        run = make_run([request_at(9, 0, **models, remaining_requests=remaining), *chat])
        (window,) = rate_limit_report(run).to_dict()["keys"][0]["windows"]
        assert (window["start_s"], window["sent"]) == (start, sent)


def test_model_lists_that_pass_while_chat_is_refused_do_not_count(
    make_run: Callable[..., Path], request_at: Callable[..., Any]
) -> None:
    """A server that tells what remains on every response, but counts chat only, is seen to do so."""
    models = {"endpoint": "/models", "method": "GET", "stream": None, "first_token_at_ns": None}
    records = [request_at(0, 0, **models, remaining_requests=5)]
    records += [request_at(1 + n, 1 + n, remaining_requests=4 - n) for n in range(5)]
    records += [request_at(10 + n, 6 + n, status=429, remaining_requests=0) for n in range(3)]
    lists = [request_at(20 + n, 6.5 + n, **models, remaining_requests=0) for n in range(2)]
    limits = {"requests": 5, "window_s": 10.0}
    key = rate_limit_report(make_run(records + lists, limits=limits)).to_dict()["keys"][0]
    assert [(w["start_s"], w["passed"], w["refused"]) for w in key["windows"]] == [(1.0, 5, 3)]
    assert (key["models_counted"], key["windows_fit"], len(key["episodes"])) == (False, True, 1)
    whole = rate_limit_report(make_run(records, limits=limits)).to_dict()["keys"][0]
    assert (whole["models_counted"], whole["windows"][0]["start_s"]) == (False, 1.0)
    counted = rate_limit_report(make_run([*records, request_at(30, 7, **models | {"status": 429})], limits=limits))
    assert counted.to_dict()["keys"][0]["models_counted"] is True


def test_keys_have_windows_of_their_own(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """Each key is limited by itself."""
    records = [request_at(n, n, key_alias=f"key-{n % 2}") for n in range(10)]
    keys = rate_limit_report(make_run(records)).to_dict()["keys"]
    assert [(key["key_alias"], key["windows"][0]["start_s"], key["windows"][0]["sent"]) for key in keys] == [
        ("key-0", 0.0, 5),
        ("key-1", 1.0, 5),
    ]
