"""When to send what, so that few requests tell the kinds of limiter apart. Knows no network: it asks for actions.

    actions = experiment(window_s=60.0)
    seen = next(actions)             # an action
    action = actions.send(answers)   # what came of it: the next action; StopIteration when it is done

All times are seconds on the caller's clock, which the caller passes with each answer.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

__all__ = ["Answer", "Send", "experiment"]


@dataclass(frozen=True, slots=True)
class Send:
    """Send up to `count` requests from `at_s` on, at most `in_flight` at a time, the next as soon as one is answered.

    It ends early when `until_refused` refusals were seen (those in flight are waited for). `at_s` is absolute, on the
    caller's clock; an instant that has passed means at once.
    """

    at_s: float
    count: int
    in_flight: int = 1
    until_refused: int = 1
    why: str = ""
    """What it is for, in plain words: shown while it runs."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one request: times on the caller's clock; `passed` None where it failed in another way."""

    sent_s: float
    seen_s: float
    passed: bool | None
    remaining: float | None = None


def experiment(*, now_s: float, unix_s: float, window_s: float) -> Generator[Send, list[Answer], None]:
    """The experiment on one key. `unix_s` is the server's clock at `now_s`; `window_s` as documented."""
    raise NotImplementedError
    yield
