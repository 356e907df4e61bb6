"""The experiment on a server of flesh: whatever that does, the bounds are kept and the finding is in clear words."""

from __future__ import annotations

import json
from typing import Any

from tensorix_reports.limits import LimitsReport, limits_json
from tensorix_reports.limits._words import verdict_of


def _said(report: LimitsReport) -> str:
    """The words, which the JSON holds as well."""
    verdict = verdict_of(report)
    kept = json.loads(limits_json(report))["verdict"]
    assert kept["headline"] == verdict.headline
    assert [one["text"] for one in kept["statements"]] == [one.text for one in verdict.statements]
    return "\n".join(verdict.lines)


def _verdict(report: LimitsReport) -> Any:
    return json.loads(limits_json(report))["keys"][0]["fit"]["verdict"]


def test_a_server_that_answers_500_now_and_then(limited: Any, experiment: Any) -> None:
    """What fails behind the limiter was counted: the limit is found all the same, and the failures are told."""
    limited.fails = lambda number: number % 5 == 0
    ended, report = experiment()
    said = _said(report)
    assert ended.reason == "completed"
    assert "12 requests in 1 s" in said
    assert "fixed_window" in report.main.fit.set_of_95
    failed = int((report.frames.requests.array("status") == 500).sum())
    assert failed > 1
    assert f"{failed} requests got a 5xx; they are taken to have been counted." in said
    assert "wrong" not in [one.word for one in verdict_of(report).statements]


def test_a_server_without_a_header(limited: Any, experiment: Any) -> None:
    """The limit is filled instead, and it is said that no response tells what remains."""
    limited.told = lambda left: []
    ended, report = experiment()
    said = _said(report)
    assert ended.reason == "completed"
    assert "12 requests in 1 s" in said
    assert "No response said how many requests remain" in said


def test_headers_that_are_no_numbers(limited: Any, experiment: Any) -> None:
    """Garbage is no number: it is told as such, and the limit is found as if there were no header."""
    name = "x-ratelimit-api_key-remaining-requests"
    garbage = ["", "NaN", "-", "1e99999", "twelve", "ünlesbar".encode().decode("latin-1"), "0x0C"]
    limited.told = lambda left: [(name, garbage[left % len(garbage)])]
    _, report = experiment()
    said = _said(report)
    assert "12 requests in 1 s" in said
    assert "said what no client can rely on: " in said


def test_connections_that_are_reset(limited: Any, experiment: Any) -> None:
    """A request without an answer tells nothing; how many there were is said, and the limit is found by the others."""
    limited.resets = lambda number: number % 6 == 0
    _, report = experiment()
    said = _said(report)
    assert "12 requests in 1 s" in said
    lost = int((~(report.frames.requests.array("status") > 0)).sum())
    assert lost > 1
    assert f"{lost} requests were left without an answer" in said


def test_a_server_that_is_gone_ends_it(limited: Any, experiment: Any) -> None:
    """Five failures in a row, and nothing more is sent; the reason is in the manifest and in the words."""
    limited.fails = lambda number: number > 3
    ended, report = experiment()
    assert (ended.reason, ended.wrong) == ("stopped", False)
    assert ended.requests < 20
    assert "ended early: 5 requests in a row failed, the last with server_error (500): no." in _said(report)


def test_a_limit_that_changes_in_the_middle(limited: Any, experiment: Any) -> None:
    """Two windows are few to tell a change from others on the key: one of them is told, or that it cannot be told."""
    limited.changes = {16: 30}
    ended, report = experiment()
    said, fit = _said(report), report.main.fit
    assert ended.reason == "completed"
    told = {"The limit changed": fit.changed_at_s is not None, "Somebody else": fit.foreign_per_s is not None}
    assert {words: words in said for words in told} == told
    assert any(told.values()) or fit.verdict in ("cannot tell", "no model fits")


def test_a_limit_on_tokens_that_is_met_first(limited: Any, experiment: Any) -> None:
    """Refusals for tokens say nothing of the limit on requests: few are made, and that is what is said."""
    limited.limit, limited.token_limit, limited.told = None, 60, lambda left: []
    ended, report = experiment()
    said = _said(report)
    assert ended.reason == "stopped"
    assert limited.chats < 60
    assert said.startswith("A limit on tokens refused ")
    assert "none on requests was reached by 30" in said
    assert _verdict(report) == "no limit reached"


def test_a_server_that_never_limits(limited: Any, experiment: Any) -> None:
    """All that it may send is sent, and no limit is claimed: it is said how far it got, and what ended it."""
    limited.limit, limited.told = None, lambda left: []
    ended, report = experiment(requests=80)
    said = _said(report)
    assert (ended.reason, limited.asked) == ("bound", 80)
    assert said.startswith("No limit was reached by 79 requests")
    assert "79 requests passed and none was refused, all within" in said
    assert "ended early: all of the 80 requests that it might send are sent" in said


def test_a_large_limit_that_only_the_header_knows(limited: Any, experiment: Any) -> None:
    """Nothing came back within the experiment: what remains is told, and no kind is claimed."""
    limited.limit, limited.told = (
        None,
        lambda left: [("x-ratelimit-api_key-remaining-requests", str(5000 - limited.chats))],
    )
    _, report = experiment()
    said = _said(report)
    assert said.startswith("No limit was reached")
    assert "none came back meanwhile" in said


def test_it_is_over_when_its_time_is(limited: Any, experiment: Any) -> None:
    """A server that does not answer keeps nobody beyond the time that was announced."""
    limited.stalls = lambda number: number > 5
    ended, _ = experiment(seconds=2.0)
    assert ended.seconds < 2.5
    assert ended.reason == "bound"
    assert ended.why == "the 2 s that it might take are over"


def test_longer_templates_than_thought_are_paid_from_the_bound(limited: Any, experiment: Any) -> None:
    """Each answer uses 400 tokens where 50 were thought to be the most: what was announced is kept."""
    limited.used, limited.told = 400, lambda left: []
    ended, _ = experiment(tokens=5_000)
    assert limited.chats * 400 <= 5_000
    assert (ended.reason, ended.why) == ("bound", "the 5,000 tokens that it might use may be used")
