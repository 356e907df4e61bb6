"""What of a run tells of the limit on requests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tensorix_records import RequestRecord
from tensorix_reports.limits import limits_report
from tensorix_reports.limits._refusals import spoken_of
from tensorix_reports.limits._words import verdict_of


@pytest.mark.parametrize(
    ("remaining_requests", "remaining_tokens", "said", "spoken"),
    [
        (0, 5, "", "requests"),
        (5, 0, "", "tokens"),
        (0, 0, "", None),
        (None, None, "Too many requests", None),
        (None, None, "Too many requests: tokens per minute", "tokens"),
        (None, None, "Limit type: requests. Current limit: 60", "requests"),
        (None, None, "tokens and requests", None),
        (7, 5, "TPM exceeded", "tokens"),
    ],
)
def test_a_refusal_says_which_limit_it_was(
    remaining_requests: float | None, remaining_tokens: float | None, said: str, spoken: str | None
) -> None:
    """By what remains first, then by words that name one of the two."""
    assert spoken_of(remaining_requests, remaining_tokens, said) == spoken


def _chat(request_at: Callable[..., RequestRecord], place: int, status: int | None, **more: Any) -> RequestRecord:
    outcome = {200: "success", 429: "throttled"}.get(status or 0, "failed")
    return request_at(place, place * 0.1, **({"stream": False, "status": status, "outcome": outcome} | more))


def test_each_kind_of_request_stands_where_it_belongs(
    make_run: Callable[..., Path], request_at: Callable[..., RequestRecord], fits: Callable[..., None], fitted: Any
) -> None:
    """A 500 was let through; a 400, a list of models, a refusal for tokens and one without an answer tell nothing."""
    fits(fitted())
    records = [
        _chat(request_at, 0, 200),
        _chat(request_at, 1, 500),
        _chat(request_at, 2, 400),
        _chat(request_at, 3, 429),
        _chat(request_at, 4, 429, error_message="tokens per minute exceeded"),
        _chat(request_at, 5, None, headers_at_ns=None),
        _chat(request_at, 6, 200, endpoint="/models", stream=None, method="GET"),
    ]
    main = limits_report(make_run(records)).main
    assert main is not None
    assert main.key.evidence.passed.tolist() == [True, True, False]
    assert main.key.evidence.sent_s.tolist() == pytest.approx([0.0, 0.1, 0.3])
    assert main.refused_for_tokens == 1
    said = " ".join(verdict_of(limits_report(make_run(records))).lines)
    assert "1 refusal spoke of tokens" in said
    assert "got a 5xx" in said


def test_an_experiment_is_judged_by_its_own_requests(
    make_run: Callable[..., Path], request_at: Callable[..., RequestRecord], fits: Callable[..., None], fitted: Any
) -> None:
    """The look before and the questions after are no evidence; nor is a key that was only tried besides."""
    fits(fitted())
    records = [
        _chat(request_at, 0, 200, endpoint="/models", stream=None, scenario="preflight"),
        _chat(request_at, 1, 200, scenario="limit"),
        _chat(request_at, 2, 429, scenario="limit"),
        _chat(request_at, 3, 429, scenario="spent: chat"),
        _chat(request_at, 4, 200, scenario="spent: second key", key_alias="key-2"),
    ]
    clock = {"offset_s": 2.5, "uncertainty_s": 0.1, "readings": 3}
    report = limits_report(make_run(records, kind="experiment", server_clock=clock))
    assert [key.key.key_alias for key in report.keys] == ["key-1"]
    evidence = report.keys[0].key.evidence
    assert evidence.passed.tolist() == [True, False]
    assert evidence.zero_unix_s == pytest.approx(report.frames.origin_unix_ns / 1e9 + 2.5, abs=1e-6)


def test_keys_are_told_apart(
    make_run: Callable[..., Path], request_at: Callable[..., RequestRecord], fits: Callable[..., None], fitted: Any
) -> None:
    """Each key has a fit of its own, and the one that sent the most comes first."""
    fits(fitted())
    records = [_chat(request_at, place, 200, key_alias="key-2" if place % 3 else "key-1") for place in range(9)]
    report = limits_report(make_run(records))
    assert [(key.key.key_alias, key.fit.requests) for key in report.keys] == [("key-2", 6), ("key-1", 3)]


@pytest.mark.parametrize("records", [0, 3])
def test_a_run_without_a_refusal_says_how_far_it_got(
    make_run: Callable[..., Path],
    request_at: Callable[..., RequestRecord],
    fits: Callable[..., None],
    fitted: Any,
    records: int,
) -> None:
    """Nothing is known of a limit that was never met; an empty run says even less, and neither fails."""
    fits(fitted())
    run = make_run([_chat(request_at, place, 200) for place in range(records)])
    lines = verdict_of(limits_report(run)).lines
    assert lines[0] == ("No limit was reached by 3 requests" if records else "No request tells of a limit")
    if records:
        assert "3 requests passed and none was refused, all within 0.2 s." in lines[1]


@pytest.mark.parametrize(("left", "met"), [([9, 8, 7, 6], False), ([9, 8, 8, 7], True), ([2, 1, 9, 8], True)])
def test_a_header_alone_names_no_kind_before_something_came_back(
    make_run: Callable[..., Path], request_at: Callable[..., RequestRecord], left: list[int], met: bool
) -> None:
    """What remains falls with each request: how many there are is told, but neither a window nor a kind."""
    records = [_chat(request_at, place, 200, remaining_requests=rest) for place, rest in enumerate(left)]
    verdict = verdict_of(limits_report(make_run(records)))
    assert (verdict.headline == "No limit was reached by 4 requests") is not met
    why = "by its headers 9 requests were left at first and 6 at the end: none came back meanwhile"
    assert any(why in line for line in verdict.lines) is not met
