"""What the answers so far say of the limiter: the fit, while the experiment is under way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from tensorix_reports.limiter import Evidence, LimiterFit, fit

__all__ = ["Answer", "Assess", "assessing", "evidence_of"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one request: times on the caller's clock; `passed` None where it failed in another way."""

    sent_s: float
    seen_s: float
    passed: bool | None
    remaining: float | None = None


Assess: TypeAlias = Callable[[Sequence[Answer]], LimiterFit]
"""What all the answers so far say."""


def evidence_of(answers: Sequence[Answer], ahead_s: float) -> Evidence:
    """What the fit looks at. `ahead_s` is the server's Unix time without the caller's clock."""
    told = sorted((answer for answer in answers if answer.passed is not None), key=lambda answer: answer.sent_s)
    zero_s = told[0].sent_s if told else 0.0
    return Evidence(
        sent_s=np.array([answer.sent_s - zero_s for answer in told]),
        seen_s=np.array([answer.seen_s - zero_s for answer in told]),
        passed=np.array([bool(answer.passed) for answer in told], dtype=bool),
        remaining=np.array([np.nan if answer.remaining is None else answer.remaining for answer in told], dtype=float),
        zero_unix_s=zero_s + ahead_s,
    )


def assessing(ahead_s: float, window_s: float) -> Assess:
    """The fit of all answers; `window_s` as documented."""
    return lambda answers: fit(evidence_of(answers, ahead_s), window_s=window_s)
