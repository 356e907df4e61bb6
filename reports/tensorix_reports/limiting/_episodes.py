"""When the budget ran out and when it came back, as the responses show it.

A decision of the limiter falls somewhere between a request's start and its response's headers, so two requests in
flight at once have no order. Only what is surely later counts as later: a success that started after the refusal's
headers had arrived.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field, fields

import numpy as np
import pandas as pd

from tensorix_reports.frames import Requests

__all__ = ["Decisions", "Episode", "decisions_of", "episodes_of"]


@dataclass(frozen=True, slots=True)
class Decisions:
    """The requests of one key that may have been counted, in the order of their starts; arrays of one length."""

    at_s: np.ndarray
    seen_s: np.ndarray
    """When the response's headers were there (its end, where there were none)."""
    passed: np.ndarray
    """Status 200."""
    refused: np.ndarray
    """Status 429."""
    admitted: np.ndarray
    """Any other answer: what failed in another way may have been charged all the same."""
    remaining_requests: np.ndarray
    remaining_tokens: np.ndarray
    limit_requests: np.ndarray
    tokens: np.ndarray
    """Prompt and completion, NaN where unknown."""

    slack_s: float = field(init=False)
    """How far two requests may be out of order: twice the slow end of how long a refusal takes, at least 50 ms."""

    def __post_init__(self) -> None:
        slow = float(np.quantile((self.seen_s - self.at_s)[self.refused], 0.95)) if self.refused.any() else 0.0
        object.__setattr__(self, "slack_s", max(0.05, 2 * slow))

    def of(self, places: np.ndarray) -> Decisions:
        """Those at these places."""
        return Decisions(**{one.name: getattr(self, one.name)[places] for one in fields(self) if one.init})


def decisions_of(requests: Requests | pd.DataFrame) -> Decisions:
    """The columns that matter to a limiter."""
    at = requests["at_s"].to_numpy(float)
    # Spans do not tell of the headers: they were there when the first chunk was.
    headers = requests["headers_at_ns"].fillna(requests["first_chunk_at_ns"]).to_numpy(float) / 1e9 + at
    return Decisions(
        at_s=at,
        seen_s=np.where(np.isnan(headers), requests["done_s"].to_numpy(float), headers),
        passed=requests["status"].to_numpy(float) == 200,
        refused=requests["status"].to_numpy(float) == 429,
        admitted=(requests["status"].notna() & (requests["status"] != 429)).to_numpy(bool),
        remaining_requests=requests["remaining_requests"].to_numpy(float),
        remaining_tokens=requests["remaining_tokens"].to_numpy(float),
        limit_requests=requests["limit_requests"].to_numpy(float),
        tokens=(requests["prompt_tokens"] + requests["completion_tokens"]).to_numpy(float),
    )


@dataclass(frozen=True, slots=True)
class Episode:
    """A stretch in which the budget was spent; seconds since the run's start."""

    spent_s: float
    """The start of the first refusal, or the response that said that nothing remains."""
    sign: str
    """Which of the two: `429` or `remaining 0`."""
    last_refused_s: float | None
    """The start of the last refusal before the budget was back: until then it was surely spent."""
    back_s: float | None
    """The start of the first success that surely came after; None where the run ended first."""
    refused: int

    @property
    def length_s(self) -> float | None:
        """From spent to back, in seconds: no shorter than the truth, for nobody asked in between."""
        return None if self.back_s is None else self.back_s - self.spent_s


def episodes_of(seen: Decisions) -> list[Episode]:
    """Every episode, in order. Refusals before any success count too: the budget was spent before the run."""
    found: list[Episode] = []
    zero = (seen.remaining_requests == 0) | (seen.remaining_tokens == 0)
    first: int | None = None
    said_zero_s: float | None = None
    back_s = -np.inf
    answered_s = np.inf
    last_refused, refused = 0.0, 0
    # While there is budget and nobody was told otherwise, one that passed changes nothing.
    telling = np.flatnonzero(seen.refused | (seen.passed & zero)).tolist()
    index = -1
    while (index := index + 1) < len(seen.at_s):
        if first is None and said_zero_s is None:
            next_ = bisect_left(telling, index)
            if next_ == len(telling):
                break
            index = telling[next_]
        at = float(seen.at_s[index])
        if seen.refused[index]:
            if first is None and at < back_s + seen.slack_s:
                continue  # decided, most likely, before the success that ended the episode
            if first is None:
                first, answered_s, refused = index, float(seen.seen_s[index]), 0
            last_refused, refused = at, refused + 1
        elif seen.passed[index]:
            if first is not None and at >= answered_s:
                found.append(_episode(seen, first, said_zero_s, last_refused, at, refused))
                first, said_zero_s, back_s = None, None, at
            if zero[index] and first is None:
                said_zero_s = float(seen.seen_s[index])
            elif first is None and said_zero_s is not None and at > said_zero_s:
                # It said nothing remained, and the next to ask got through: back before anybody was refused.
                found.append(Episode(said_zero_s, "remaining 0", None, at, 0))
                said_zero_s = None
    if first is not None:
        found.append(_episode(seen, first, said_zero_s, last_refused, None, refused))
    elif said_zero_s is not None:
        found.append(Episode(said_zero_s, "remaining 0", None, None, 0))
    return found


def _episode(
    seen: Decisions, first: int, said_zero_s: float | None, last_refused: float, back_s: float | None, refused: int
) -> Episode:
    at = float(seen.at_s[first])
    if said_zero_s is not None and said_zero_s < at:
        return Episode(said_zero_s, "remaining 0", last_refused, back_s, refused)
    return Episode(at, "429", last_refused, back_s, refused)
