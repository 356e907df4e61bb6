"""What a fitted limiter says of what was seen: it is run over the requests, and knows what really became of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tensorix_api.limiters import AllOf, Cost, FixedWindow, Limiter, Resource, SlidingCounter, SlidingLog, TokenBucket
from tensorix_reports.limiter import Fitted

__all__ = ["Predicted", "limiter_of", "predicted"]

_ONE = Cost(1, 0)


@dataclass(frozen=True, slots=True)
class Predicted:
    """Of each request, in the order in which they were given."""

    at_s: NDArray[np.float64]
    """When it is taken to have been decided."""
    passes: NDArray[np.bool_]
    """Whether the limiter would have let it pass."""
    remaining: NDArray[np.float64]
    """What is left after it."""
    at_answer: NDArray[np.float64]
    """What is left when its answer is there, whatever was counted or came back meanwhile."""
    wait_s: NDArray[np.float64]
    """How long after the decision one would pass, if nothing else came; NaN: never."""


def limiter_of(
    fitted: Fitted,
    *,
    resource: Resource = "requests",
    limit: int | None = None,
    second: tuple[int, float] | None = None,
) -> Limiter:
    """The limiter that was fitted, with times in Unix ns; of tokens with a `limit` of their own.

    `second` is a shorter limit besides: requests, and the seconds in which they may come.
    """
    amount = max(1, round(fitted.limit.value)) if limit is None else limit
    window_ns = max(1, round(fitted.window_s.value * 1e9))
    phase_ns = 0 if fitted.phase_s is None else round(fitted.phase_s.value * 1e9)
    made: Limiter
    match fitted.kind:
        case "fixed_window":
            made = FixedWindow(resource, amount, window_ns)
        case "clock_window":
            made = FixedWindow(resource, amount, window_ns, phase_ns=phase_ns)
        case "sliding_log":
            made = SlidingLog(resource, amount, window_ns)
        case "sliding_counter":
            made = SlidingCounter(resource, amount, window_ns, phase_ns=phase_ns)
        case "token_bucket":
            share = 1.0 if fitted.burst is None else fitted.burst.value / max(fitted.limit.value, 1e-9)
            # The limit may be no whole number: a bucket's rate is exact in the length of its window.
            window_ns = window_ns if limit is not None else round(window_ns * amount / fitted.limit.value)
            made = TokenBucket(resource, amount, window_ns, burst=max(1, round(share * amount)))
    if second is None or resource != "requests":
        return made
    return AllOf([made, SlidingLog("requests", second[0], max(1, round(second[1] * 1e9)), name="second limit")])


def predicted(
    fitted: Fitted,
    sent_s: NDArray[np.float64],
    seen_s: NDArray[np.float64],
    counted: NDArray[np.bool_],
    refused: NDArray[np.bool_],
    zero_unix_s: float,
    *,
    second: tuple[int, float] | None = None,
    placed: float = 0.5,
    most_s: float = np.inf,
) -> Predicted:
    """Run the limiter over requests: each is decided at `placed` of the way from its sending to its response, and
    charged if it was counted in truth, whatever the limiter would have done: one error does not bring the next.

    `most_s` is how long the way there and back can take: an answer that took longer was being generated.
    """
    at_s = sent_s + placed * np.clip(seen_s - sent_s, 0.0, most_s)
    limiter = limiter_of(fitted, second=second)
    size = len(at_s)
    passes, remaining, wait_s = np.zeros(size, np.bool_), np.zeros(size), np.full(size, np.nan)
    at_answer = np.zeros(size)
    # A header may be written when the request is decided, or when its answer begins or ends: both are looked at.
    moments_s = np.concatenate([at_s, np.maximum(at_s, seen_s)])
    moments_ns: list[int] = np.round((zero_unix_s + moments_s) * 1e9).astype(np.int64).tolist()
    for moment in np.argsort(moments_s, kind="stable").tolist():
        now_ns, place = moments_ns[moment], moment % size
        if moment >= size:
            at_answer[place] = limiter.remaining(now_ns)["requests"]
            continue
        earliest_ns = limiter.earliest(now_ns, _ONE)
        passes[place] = earliest_ns == now_ns
        if counted[place] or (refused[place] and fitted.counts_refused):
            limiter.charge(now_ns, _ONE)
        remaining[place] = limiter.remaining(now_ns)["requests"]
        if refused[place] and fitted.counts_refused:
            earliest_ns = limiter.earliest(now_ns, _ONE)
        if earliest_ns is not None:
            wait_s[place] = (earliest_ns - now_ns) / 1e9
    return Predicted(at_s, passes, remaining, at_answer, wait_s)
