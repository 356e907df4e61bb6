"""Where an experiment on a limiter stands: what was sent, what came of it, and what may still be sent."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from statistics import median
from typing import TypeAlias

from tensorix_experiments.limits._assessing import Answer, Assess
from tensorix_reports.limiter import Kind

__all__ = ["Actions", "Burst", "Plan", "Send"]

_SURE = 0.99
_SHARED_UNTIL = 1.2
"""In windows: where somebody else uses the key, nothing is sure before a whole window has been seen."""


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


Actions: TypeAlias = Generator[Send, list[Answer], None]
Burst: TypeAlias = Generator[Send, list[Answer], list[Answer]]


@dataclass(slots=True)
class Plan:
    """An experiment under way. Instants `at` are in documented windows since its first request."""

    window_s: float
    left: int
    """Requests that may still be sent."""
    assess: Assess
    zero_s: float
    """When the first request is sent, on the caller's clock."""
    answers: list[Answer] = field(default_factory=list)
    found_window: float = 1.0
    """What the fit made of the window when it was asked last, in documented ones."""
    found_kind: Kind | None = None
    """Which kind was the likeliest then."""

    @property
    def at(self) -> float:
        """The instant of the last answer."""
        last_s = max((answer.seen_s for answer in self.answers), default=self.zero_s)
        return (last_s - self.zero_s) / self.window_s

    @property
    def trip(self) -> float:
        """How long an answer takes, in windows."""
        return median([answer.seen_s - answer.sent_s for answer in self.answers] or [0.0]) / self.window_s

    @property
    def passed(self) -> int:
        """How many were let through."""
        return sum(answer.passed is True for answer in self.answers)

    @property
    def left_told(self) -> float | None:
        """What remained by the last answer that said so; None where none does."""
        return next((one.remaining for one in reversed(self.answers) if one.remaining is not None), None)

    def send(self, at: float, count: float, why: str, *, in_flight: int = 1, until_refused: int = 1) -> Burst:
        """Send so many at an instant, as far as the bound allows."""
        number = min(int(count), self.left)
        if number <= 0:
            return []
        at_s = self.zero_s + at * self.window_s
        answers = yield Send(at_s, number, max(1, min(in_flight, number)), until_refused, why)
        self.left -= len(answers)
        self.answers += answers
        return answers

    def is_sure(self) -> bool:
        """Whether what was seen names one kind."""
        found = self.assess(self.answers)
        if found.ranked:
            self.found_window = found.ranked[0].window_s.value / self.window_s
            self.found_kind = found.ranked[0].kind
        if found.foreign_per_s is not None and self.at < _SHARED_UNTIL:
            return False
        return found.verdict == "named" and found.ranked[0].probability >= _SURE
