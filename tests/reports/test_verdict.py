"""What the verdict says, and what it does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tensorix_records import Run
from tensorix_reports.load import write_report


def _verdict(run: Path) -> tuple[str, dict[str, str]]:
    """The headline, and the sentence of each status word."""
    headline, *lines = write_report(run).verdict
    return headline, {line.split("  ")[1]: line for line in lines}


def _spent(request_at: Callable[..., Any], passed: int, window_s: float = 10.0) -> list[Any]:
    """Three windows in which `passed` requests pass, 0.1 s apart, and two are refused."""
    records = []
    for window in range(3):
        start = window * (window_s + 0.5)
        records += [request_at(100 * window + n, start + n / 10) for n in range(passed)]
        records += [request_at(100 * window + 90 + n, start + window_s - 2 + n, status=429) for n in range(2)]
    return records


def test_limit_reached_and_kept(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """A run whose every whole window lets exactly the limit through says so, and how many windows that is."""
    limits = {"requests": 20, "tokens": 10**6, "window_s": 10.0}
    headline, lines = _verdict(make_run(_spent(request_at, 20), limits=limits, ended_s=40.0))
    assert headline == "Limit reached and kept"
    assert "the request limit: 6 requests refused with 429" in lines["REACHED"]
    assert (
        "20 requests passed per window of 10 s (3 spent windows seen whole), exactly the limit" in lines["AS ALLOWED"]
    )
    assert "windows of 10 s in this run, not in the documented minute" in lines["SHORTENED"]


def test_more_than_the_limit(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """A server that lets more through than it was said to is not called in order."""
    limits = {"requests": 19, "tokens": 10**6, "window_s": 10.0}
    headline, lines = _verdict(make_run(_spent(request_at, 20), limits=limits, ended_s=40.0))
    assert headline == "More passed than the limit allows"
    assert "more than the limit of 19" in lines["OVER"]


def test_below_the_limit(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """Windows that refuse before the limit of requests was reached are not claimed to be bound by it."""
    limits = {"requests": 40, "tokens": 10**6, "window_s": 10.0}
    _, lines = _verdict(make_run(_spent(request_at, 20), limits=limits, ended_s=40.0))
    assert "a limit (which one is not clear)" in lines["REACHED"]
    assert "below the limit of 40" in lines["BELOW"]


def test_bound_by_tokens(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """Windows that refuse once most of the tokens are used are named as bound by tokens."""
    limits = {"requests": 40, "tokens": 700, "window_s": 10.0}
    _, lines = _verdict(make_run(_spent(request_at, 20), limits=limits, ended_s=40.0))
    assert "the token limit" in lines["REACHED"]
    assert "bound by tokens" in lines["BY TOKENS"]


def test_limit_not_reached(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """Without a 429 nothing is claimed about the limit but that it was not reached."""
    headline, lines = _verdict(make_run([request_at(n, n) for n in range(30)]))
    assert headline == "Limit not reached"
    assert "the most that passed in one window is 30 of 60" in lines["NOT REACHED"]
    assert "SHORTENED" not in lines


def test_windows_too_few_to_judge(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """A single window that the run did not outlast is no ground to say what a window lets through."""
    records = [request_at(n, n / 10) for n in range(60)] + [request_at(99, 10, status=429)]
    headline, lines = _verdict(make_run(records, ended_s=30.0))
    assert headline == "Limit reached"
    assert "is not known" in lines["TOO SHORT"]


def test_failures_are_named(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """Failures stand in the headline and in a sentence with their kinds; 429s are not among them."""
    records = [request_at(n, n) for n in range(18)] + [request_at(30, 30, status=429)]
    records += [request_at(40 + n, 40 + n, outcome="failed", status=500, error_kind="server_error") for n in range(2)]
    headline, lines = _verdict(make_run(records))
    assert headline.endswith("with failures")
    assert "2 of 20 requests failed (10.0%): 2 server error" in lines["FAILURES"]


def test_killed_run(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """A run without an end is said to be incomplete, with the requests that were in flight."""
    records = [request_at(n, n) for n in range(20)]
    run = make_run(records, [(20.0, "second", {"started": 27, "in_flight": 7})], ended_s=None)
    headline, lines = _verdict(run)
    assert headline.endswith("(incomplete run)")
    assert "7 requests were in flight when it was last heard of, at 20.0 s" in lines["INCOMPLETE"]


def test_refused_key(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """A run that was stopped by a 401 begins with that."""
    path = make_run([request_at(0, 0, outcome="failed", status=401, error_kind="authentication")])
    Run.open(path).update_manifest(end_reason="unauthorised")
    headline, lines = _verdict(path)
    assert headline == "The run was stopped: the key was refused"
    assert "STOPPED" in lines


def test_a_run_that_its_cap_ended(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """It did what was asked: the line says which cap it was, and that the run was resumed."""
    words = "the cap of money is reached: 0.49 of 0.5 used"
    path = make_run([request_at(0, 0)], [(1.0, "stop", {"reason": "budget", "words": words})])
    Run.open(path).update_manifest(end_reason="budget", resumed=[{"end_reason": None}])
    assert f"{words}. It was resumed once" in _verdict(path)[1]["COMPLETE"]


def test_empty_run(make_run: Callable[..., Path]) -> None:
    """Nothing is claimed about a run that sent nothing."""
    headline, lines = _verdict(make_run([]))
    assert headline == "Nothing was measured: no request was sent"
    assert "NOT REACHED" not in lines


def test_a_servers_words_command_no_terminal(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """Control characters from a server do not reach the lines that are printed."""
    record = request_at(0, 0, endpoint="/\x1b[31mred\r\n", outcome="failed", status=500, error_kind="\x1b]0;x\x07")
    verdict = write_report(make_run([record])).verdict
    assert all(line.isprintable() for line in verdict)


def test_orderly_run_leaves_nothing_unfinished(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """A run that ended in order takes its own count of what finished; what started late is no loss."""
    records = [request_at(n, n + 0.6, user_ready_at_ns=-500_000_000) for n in range(20)]
    events = [(19.2, "second", {"started": 20, "finished": 19, "in_flight": 1})]
    last = {"started": 20, "finished": 20, "in_flight": 0}
    ends: list[list[tuple[float, str, dict[str, Any]]]]
    ends = [[(20.9, "second", last), (21.0, "run_ended", last)], [(21.0, "run_ended", {})]]
    for more in ends:
        _, lines = _verdict(make_run(records, [*events, *more], ended_s=21.0))
        assert "left no record" not in lines["COMPLETE"]
    _, lines = _verdict(make_run(records, [*events, (21.0, "run_ended", last | {"finished": 18})], ended_s=21.0))
    assert "2 requests started and left no record" in lines["COMPLETE"]


def test_killed_run_counts_by_when_a_request_was_begun(
    make_run: Callable[..., Path], request_at: Callable[..., Any]
) -> None:
    """A request that was connecting when last heard of had begun by then, so its record takes it off the count."""
    records = [request_at(n, n + 0.6, user_ready_at_ns=-500_000_000) for n in range(20)]
    run = make_run(records, [(19.2, "second", {"started": 23, "in_flight": 4})], ended_s=None)
    assert json.loads(write_report(run).summary.read_text())["latency"]["trust"]["unfinished"] == 3


def test_failures_are_summed_by_kind(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """The sentence about failures names each kind once, whatever statuses and requests it came with."""
    bad = {"outcome": "failed", "error_kind": "server_error"}
    records = [request_at(n, n) for n in range(10)]
    records += [request_at(20 + n, 20 + n, **bad, status=500 + 2 * (n % 2), stream=n > 3) for n in range(7)]
    records += [request_at(40, 40, **bad | {"error_kind": "cut"})]
    _, lines = _verdict(make_run(records))
    assert "8 of 18 requests failed (44.4%): 7 server error, 1 cut." in lines["FAILURES"]


def test_preflight_is_no_part_of_the_load(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """The model list asked for before a run of 20 requests is shown, in a row of its own, and not as a 21st."""
    models: dict[str, Any] = {"endpoint": "/models", "method": "GET", "stream": None, "scenario": "preflight"}
    models |= {"first_token_at_ns": None, "outcome": "failed", "status": 500, "error_kind": "server_error"}
    paths = write_report(make_run([request_at(99, 0, **models), *(request_at(n, 1 + n) for n in range(20))]))
    summary = json.loads(paths.summary.read_text())
    assert summary["rate_limit"]["totals"] == {"sent": 20, "success": 20, "throttled": 0, "failed": 0, "cancelled": 0}
    assert [(row["request"], row["sent"]) for row in summary["latency"]["outcomes"]] == [
        ("chat, streamed", 20),
        ("models, preflight", 1),
    ]
    assert any("None of 20 requests failed" in line for line in paths.verdict)
    assert "20 requests" in paths.markdown.read_text()
    assert "21 requests" not in paths.markdown.read_text() + paths.page.read_text()
    seconds = (paths.folder / "seconds.csv").read_text().splitlines()
    assert [line.split(",")[2] for line in seconds[1:4]] == ["0", "1", "1"]


def test_cancelled_requests_are_named(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """Requests that were cancelled from this end have a line of their own, beside those that failed."""
    records = [request_at(index, index / 10) for index in range(10)]
    records += [request_at(10 + index, 1.0, outcome="cancelled", status=None) for index in range(5)]
    _, lines = _verdict(make_run(records))
    assert "5 requests cancelled from this end" in lines["CANCELLED"]
    assert "None of 10 requests failed" in lines["NO FAILURES"]
