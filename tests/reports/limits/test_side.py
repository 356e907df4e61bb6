"""What the questions beside an experiment found, from made-up answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tensorix_records import RequestRecord
from tensorix_reports.limits import limits_report

Asked = Callable[..., dict[str, tuple[str, str]]]


@pytest.fixture
def asked(
    make_run: Callable[..., Path], request_at: Callable[..., RequestRecord], fits: Callable[..., None], fitted: Any
) -> Asked:
    """Answers by question, of rows of scenario, status, remaining requests and further columns."""

    def make(*rows: tuple[str, int, int | None, dict[str, Any]]) -> dict[str, tuple[str, str]]:
        fits(fitted())
        records = [request_at(0, 0.0, scenario="limit", status=429, stream=False)]
        for place, (scenario, status, left, more) in enumerate(rows, 1):
            outcome = {200: "success", 429: "throttled"}.get(status, "failed")
            columns = {"stream": False, "outcome": outcome, "remaining_requests": left} | more
            records.append(request_at(place, 0.1 * place, scenario=scenario, status=status, **columns))
        found = limits_report(make_run(records, kind="experiment")).beside
        return {one.question: (one.answer, one.evidence) for one in found}

    return make


@pytest.mark.parametrize(("left", "answer"), [(7, "no"), (5, "yes"), (6, "unclear"), (9, "unclear")])
def test_what_remains_tells_what_counts(asked: Asked, left: int, answer: str) -> None:
    """Two lists of models between two chat requests take two of what remains, or none."""
    rows = [("whole: chat", 200, 8), ("whole: models", 200, None), ("whole: models", 200, None)]
    found = asked(*((*row, {}) for row in [*rows, ("whole: chat", 200, left)]))
    assert found["does the list of models count?"][0] == answer


@pytest.mark.parametrize(
    ("before", "status", "after", "answer"),
    [(429, 200, 429, "no"), (429, 429, 429, "yes"), (429, 200, 200, "unclear"), (200, 200, 429, "unclear")],
)
def test_a_spent_budget_tells_what_is_held_to_it(
    asked: Asked, before: int, status: int, after: int, answer: str
) -> None:
    """Without a header: what passes between two refusals is not held to the limit."""
    rows = [("spent: chat", before), ("spent: models", status), ("spent: chat", after)]
    found = asked(*((*row, None, {}) for row in rows))
    assert found["does the list of models count?"][0] == answer


@pytest.mark.parametrize(("status", "answer"), [(200, "yes"), (429, "no"), (500, "unclear")])
def test_a_second_key_has_a_budget_of_its_own_or_not(asked: Asked, status: int, answer: str) -> None:
    """It passes while the first is refused before and after, or it does not."""
    rows: list[tuple[str, int, dict[str, Any]]] = [
        ("spent: chat", 429, {}),
        ("spent: second key", status, {"key_alias": "key-2"}),
        ("spent: chat", 429, {}),
    ]
    found = asked(*((scenario, code, None, more) for scenario, code, more in rows))
    assert found["has a second key a budget of its own?"][0] == answer


def test_a_wrong_key_that_is_taken_tells_nothing(asked: Asked) -> None:
    """A server that asks for no key cannot say whether a 401 counts."""
    rows = [("whole: chat", 200, 8), ("whole: wrong key", 200, None), ("whole: chat", 200, 7)]
    found = asked(*((*row, {}) for row in rows))
    assert found["does a request with a wrong key (401) count?"] == ("unclear", "it was answered 200")


def _tokens(left: list[int]) -> list[tuple[str, int, int | None, dict[str, Any]]]:
    """Small, asking for 400, small, answering 60, small: prompts of 50."""
    shapes = [
        ("small", 1, 1),
        ("asking", 400, 2),
        ("small again", 1, 1),
        ("answering", 60, 60),
        ("small at last", 1, 1),
    ]
    return [
        (
            f"tokens: {name}",
            200,
            None,
            {"remaining_tokens": rest, "max_tokens": most, "prompt_tokens": 50, "completion_tokens": used},
        )
        for (name, most, used), rest in zip(shapes, left, strict=True)
    ]


@pytest.mark.parametrize(
    ("left", "answer"),
    [
        ([949, 499, 846, 736, 685], "prompt and max_tokens, settled to what was used"),
        ([949, 499, 448, 338, 287], "prompt and max_tokens, and never given back"),
        ([949, 897, 846, 736, 685], "what was used, at once"),
        ([1000, 949, 897, 846, 736], "what was used, afterwards"),
        ([950, 900, 850, 800, 750], "the prompt only"),
        ([950, 950, 950, 950, 950], "not at all"),
        ([950, 300, 100, 90, 80], "unclear"),
    ],
)
def test_what_remains_of_the_tokens_tells_how_they_are_charged(asked: Asked, left: list[int], answer: str) -> None:
    """Of 1,000 tokens, each way of charging leaves numbers that no other does."""
    assert asked(*_tokens(left))["how are tokens charged?"][0] == answer


def test_a_gateway_that_guesses_the_prompt_is_understood(asked: Asked) -> None:
    """It sets aside a quarter more than the prompt has, and settles to what was used."""
    answer, evidence = asked(*_tokens([937, 487, 834, 724, 673]))["how are tokens charged?"]
    assert answer == "prompt and max_tokens, settled to what was used"
    assert "-450, +347" in evidence


@pytest.mark.parametrize(
    ("left", "why"),
    [
        ([900, 1000, 948, 838, 787], "more came back than was set aside, so the window ended while it was asked"),
        ([950, 300, 100, 90, 80], "none of the ways that are known charges so"),
    ],
)
def test_an_unclear_charging_says_why(asked: Asked, left: list[int], why: str) -> None:
    """A window that ends meanwhile is named as the reason; so is what no known way of charging explains."""
    answer, evidence = asked(*_tokens(left))["how are tokens charged?"]
    assert answer == "unclear"
    assert evidence.endswith(why)


def test_a_charging_that_was_refused_says_so(asked: Asked) -> None:
    """Where two of the five requests that ask for it are refused, nothing is concluded from the rest."""
    rows = _tokens([949, 499, 846, 736, 685])
    rows[1:3] = [(scenario, 429, left, {}) for scenario, _, left, _ in rows[1:3]]
    answer, evidence = asked(*rows)["how are tokens charged?"]
    assert (answer, evidence) == ("unclear", "only 3 of 5 requests that ask for it tell: 2 of them were refused")
