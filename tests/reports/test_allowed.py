"""What the key is allowed, by whom that is known, and what is judged where nobody says it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tensorix_api.limiters import Cost, FixedWindow, TokenBucket
from tensorix_reports import rate_limit_report
from tensorix_reports.load import write_report

MODELS = {"endpoint": "/models", "method": "GET", "stream": None, "first_token_at_ns": None}
UNTOLD: dict[str, Any] = {"requests": None, "tokens": None, "window_s": 60.0, "told": []}


def _traffic(
    request_at: Callable[..., Any],
    limit: int,
    *,
    every_s: float,
    end_s: float,
    models_counted: bool = False,
    columns: Callable[[int, int, int], dict[str, Any]],
) -> tuple[list[Any], list[tuple[int, int]]]:
    """A preflight, then requests at a steady pace against windows of 60 s; and the limiter's own counts a window.

    `columns` gives a request's columns by its number, its status and what remains.
    """
    limiter, opened, passed = FixedWindow("requests", limit, 60 * 10**9), -np.inf, 0
    truth: list[list[int]] = []
    records = []
    for number, at in enumerate([0.0, *np.arange(0.2, end_s, every_s)]):
        preflight = number == 0
        if not preflight or models_counted:
            admitted = limiter.admit(round(at * 1e9), Cost()).admitted
            if admitted and at >= opened + 60:
                opened, passed = at, 0
                truth.append([0, 0])
            passed += admitted
            truth[-1][0 if admitted else 1] += 1
        status = 200 if preflight or admitted else 429
        told = columns(number, status, limit - passed)
        more = {**MODELS, "scenario": "preflight"} if preflight else {}
        records.append(request_at(number, float(at), **({"status": status} | told | more)))
    return records, [(good, bad) for good, bad in truth]


def _counts(run: Path) -> list[tuple[int, int]]:
    (key,) = rate_limit_report(run).to_dict()["keys"]
    return [(window["passed"], window["refused"]) for window in key["windows"]]


def test_limit_that_only_headers_state(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """A limit that nobody told is taken from the headers, before the documented one, and the verdict says so."""
    records, truth = _traffic(
        request_at,
        100,
        every_s=0.4,
        end_s=150,
        columns=lambda _, status, left: {"limit_requests": 100, "remaining_requests": left},
    )
    for documented in (None, 60):
        run = make_run(records, ended_s=150.0, limits=UNTOLD | {"requests": documented})
        paths = write_report(run)
        assert any("exactly the limit of 100 that headers state" in line for line in paths.verdict)
        assert _counts(run) == truth
        assert "stated by the server's headers" in paths.markdown.read_text()


@pytest.mark.parametrize("models_counted", [False, True])
def test_limit_that_nobody_says(
    make_run: Callable[..., Path], request_at: Callable[..., Any], models_counted: bool
) -> None:
    """From what remains alone no limit is made up, but whether a model list counts is told apart from it."""
    records, truth = _traffic(
        request_at,
        30,
        every_s=1.0,
        end_s=200,
        models_counted=models_counted,
        columns=lambda _, status, left: {"remaining_requests": left},
    )
    run = make_run(records, ended_s=200.0, limits=UNTOLD)
    report = rate_limit_report(run).to_dict()
    (key,) = report["keys"]
    assert (report["limit"]["requests"], report["limit"]["sources"]["requests"]) == (None, "unknown")
    assert key["models_counted"] is models_counted
    assert key["windows"][0]["start_s"] == (0.0 if models_counted else 0.2)
    assert _counts(run) == truth
    headline, *lines = write_report(run).verdict
    assert headline == "Limit reached"
    assert any("what the limit is nobody said" in line for line in lines)
    assert not any(word in line for line in lines for word in ("exactly", "more than the limit", "below the limit"))


def test_headers_on_some_responses_only(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """Streams without headers between replies that state a limit of 60: each window is counted exactly."""
    for every_s in (0.3, 0.7, 0.95):
        records, truth = _traffic(
            request_at,
            60,
            every_s=every_s,
            end_s=290,
            columns=lambda number, status, left: (
                {"stream": False, "limit_requests": 60, "remaining_requests": left}
                if number % 5 == 0 and number and status == 200
                else {}
            ),
        )
        run = make_run(records, ended_s=290.0, limits=UNTOLD)
        report = rate_limit_report(run).to_dict()
        assert report["limit"]["sources"] == {"requests": "headers", "tokens": "unknown", "window": "assumed"}
        assert _counts(run) == truth


def test_model_list_alone_shows_whether_it_counts(
    make_run: Callable[..., Path], request_at: Callable[..., Any]
) -> None:
    """A model list with nobody else around lowers what remains, or does not."""
    for lowers in (False, True):
        left, records = 40, []
        for number in range(12):
            lists = number % 3 == 2
            left -= lowers or not lists
            records.append(request_at(number, number, **(MODELS if lists else {}), remaining_requests=left))
        key = rate_limit_report(make_run(records, limits=UNTOLD)).to_dict()["keys"][0]
        assert key["models_counted"] is lowers


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"requests": 60, "tokens": 9, "window_s": 60.0, "told": ["requests"]}, ("told", "documented", "assumed")),
        ({"requests": 60, "window_s": 20.0, "told": ["window_s"]}, ("documented", "unknown", "told")),
        ({"requests": 60, "tokens": 9, "window_s": 60.0, "source": "documented"}, ("documented",) * 2 + ("assumed",)),
        ({"requests": 60, "tokens": 9, "window_s": 60.0, "source": "told"}, ("told", "told", "told")),
        (None, ("unknown", "unknown", "unknown")),
    ],
)
def test_sources(
    make_run: Callable[..., Path], request_at: Callable[..., Any], limits: Any, expected: tuple[str, ...]
) -> None:
    """Each limit says where it is from, in manifests with and without the names of what was told."""
    report = rate_limit_report(make_run([request_at(0, 0)], limits=limits)).to_dict()
    assert tuple(report["limit"]["sources"].values()) == expected


def test_assumed_length_gives_way_to_a_measured_one(
    make_run: Callable[..., Path], request_at: Callable[..., Any]
) -> None:
    """A budget that is back after 10 s shows windows of 10 s, unless the user told another length."""
    records = []
    for start in (0.0, 10.4, 20.8):
        records += [request_at(1, start + n / 10) for n in range(5)]
        records += [request_at(2, start + 1 + n * 0.9, status=429) for n in range(10)]
    measured = rate_limit_report(make_run(records, limits=UNTOLD)).to_dict()
    assert (measured["limit"]["window_s"], measured["limit"]["sources"]["window"]) == (10.0, "measured")
    assert _counts(make_run(records, limits=UNTOLD)) == [(5, 10)] * 3


def test_a_bucket_has_no_window_length(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """Where refusals agree with no fixed windows, no length of one is claimed, and no minute called shortened."""
    bucket, records = TokenBucket("requests", 60, 60 * 10**9), []
    for number, at in enumerate(np.sort(np.random.default_rng(7).uniform(0, 75, 250))):
        admitted = bucket.admit(round(at * 1e9), Cost()).admitted
        records.append(request_at(number, float(at), status=200 if admitted else 429))
    run = make_run(records, ended_s=75.0, limits=UNTOLD)
    report = rate_limit_report(run)
    assert [key.fit.fits for key in report.keys] == [False]
    assert report.keys[0].fit.source == "measured"
    assert (report.window_s, report.sources["window"]) == (None, "unknown")
    page = write_report(run).page.read_text()
    assert "do not agree with fixed windows" in page
    assert "shortened" not in page
    assert "not in the documented minute" not in page


def test_a_window_that_opened_unseen_makes_none_longer(
    make_run: Callable[..., Path], request_at: Callable[..., Any]
) -> None:
    """A first window that was not spent is not added to the length of the next, also where the limit is not known."""
    slow = [request_at(n, n * 6) for n in range(10)]
    fast = [request_at(20 + n, 60 + n, status=200 if n < 30 else 429) for n in range(60)]
    run = make_run([*slow, *fast, *(request_at(90 + n, 120 + n) for n in range(20))], ended_s=140.0, limits=UNTOLD)
    report = rate_limit_report(run).to_dict()
    assert (report["limit"]["window_s"], report["limit"]["sources"]["window"]) == (60.0, "assumed")
    assert _counts(run) == [(10, 0), (30, 30), (20, 0)]
