"""What a fit says: the kinds of limiter in the order of how well they explain what was seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["Fitted", "Interval", "Kind", "LimiterFit", "Verdict"]

Kind: TypeAlias = Literal["fixed_window", "clock_window", "sliding_log", "sliding_counter", "token_bucket"]
Verdict: TypeAlias = Literal["named", "cannot tell", "no model fits", "no limit reached"]


@dataclass(frozen=True, slots=True)
class Interval:
    """The most probable value, and the bounds within which it lies with a probability of 95 %."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Fitted:
    """One kind, with the parameters that explain the most; times in seconds."""

    kind: Kind
    probability: float
    """Of this kind among all that were tried, after what was seen; calibrated."""
    explained: float
    """The share of the decisions that it predicts, each from what had been seen before it."""
    limit: Interval
    """Requests a window; of a bucket those that flow back in a window."""
    window_s: Interval
    phase_s: Interval | None
    """Of windows on a clock: how long after whole multiples of the window, in Unix time, they begin."""
    burst: Interval | None
    """Of a bucket: the requests that may come at once."""
    counts_refused: bool
    """Whether a refused request is counted like one that passes."""


@dataclass(frozen=True, slots=True)
class LimiterFit:
    """What the evidence of one key says about its limiter."""

    verdict: Verdict
    ranked: list[Fitted]
    """Every kind, the most probable first; empty where no limit was reached."""
    set_of_95: list[Kind]
    """The fewest kinds that hold 95 % of the probability: more than one is "cannot tell"."""
    would_tell: str | None
    """The pattern of requests that would tell apart what cannot be told."""
    foreign_per_s: float | None
    """How much somebody else seems to send on the key, requests a second; None where nothing speaks for it."""
    second_limit: tuple[int, float] | None
    """A shorter limit besides: requests, and the seconds in which they may come."""
    changed_at_s: float | None
    """Where the limit changed in the middle, by the times of the evidence."""
    requests: int
    refused: int
    why: list[str]
    """Reasons in plain words, one a line."""
