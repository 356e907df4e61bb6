"""What was seen as a short list of steps: requests close together that fared alike are one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tensorix_reports.limiter._evidence import Evidence

__all__ = ["Step", "round_trip_s", "steps_of"]

_LUMP, _FINE_LUMP = 0.002, 0.0001
"""Of a window: what is closer together is one step. The finer, the better a limiter is seen that gives back far faster
than the documented window would, as long as that makes few steps."""
_FEW_STEPS = 200
_MOST_STEPS = 1_500


@dataclass(frozen=True, slots=True)
class Step:
    """Requests that fared alike and were decided at about one time."""

    early_s: float
    at_s: float
    late_s: float
    """When they were decided: about `at_s`, and hardly before the first or after the last of the three."""
    said_s: float
    """When the last one's answer was there: what its header says may be of any instant since the decision."""
    count: int
    passed: bool
    remaining: float
    """What the last one's response said was left; NaN where it said nothing."""
    unordered: int
    """How many others were under way with the last one: they may have been counted before it or after it."""


def round_trip_s(evidence: Evidence) -> float:
    """How long the way there and back takes: a refusal is answered at once, a reply that is generated is not."""
    took = evidence.seen_s - evidence.sent_s
    if evidence.refused.any():
        return float(np.median(took[evidence.refused]))
    return float(took.min(initial=np.inf)) if len(took) else 0.0


def steps_of(evidence: Evidence, window_s: float) -> list[Step]:
    """The steps in the order of the decisions, each put in the middle between a request and its answer.

    Of requests that were under way together those that passed were decided first: the limiter lets pass until it is
    full. `window_s` is about the window that is looked for.
    """
    trip = round_trip_s(evidence)
    way = np.minimum(evidence.seen_s - evidence.sent_s, 1.5 * trip)
    early, at, late = (evidence.sent_s + share * way for share in (0.3, 0.5, 0.7))
    order = _passed_first(evidence, at, way)
    lump, coarse = (max(share * window_s, 0.25 * trip) for share in (_FINE_LUMP, _LUMP))

    def lumped(lump: float, *, each: bool = True) -> list[Step]:
        return _lumped(evidence, (early, at, late), order, lump, way, each=each)

    steps = lumped(lump)
    while len(steps) > _FEW_STEPS and lump < coarse:
        lump = min(2 * lump, coarse)
        steps = lumped(lump)
    while len(steps) > _MOST_STEPS:
        lump *= 1.5
        steps = lumped(lump, each=False)
    return steps


def _passed_first(evidence: Evidence, at: np.ndarray, way: np.ndarray) -> np.ndarray:
    """Order by decision; one that passed goes before one that was refused where it may have been decided before it."""
    key = np.where(evidence.passed, at - 0.4 * way, at + 0.4 * way)
    return np.lexsort((evidence.refused, key))


def _lumped(
    evidence: Evidence,
    times: tuple[np.ndarray, np.ndarray, np.ndarray],
    order: np.ndarray,
    lump: float,
    way: np.ndarray,
    *,
    each: bool,
) -> list[Step]:
    """With `each`, an answer that tells what is left is a step of its own, if nothing was under way with it."""
    early, at, late = (one[order] for one in times)
    seen = evidence.seen_s[order]
    passed, remaining = evidence.passed[order], evidence.remaining[order]
    # Under way together with one: those that began before its end, without those that ended before its beginning.
    begun = np.searchsorted(np.sort(evidence.sent_s), evidence.sent_s[order] + way[order])
    ended = np.searchsorted(np.sort(evidence.sent_s + way), evidence.sent_s[order], "right")
    unordered = np.maximum(begun - ended - 1, 0)
    alone = ~np.isnan(remaining) & (unordered == 0) & each
    steps: list[Step] = []
    begin, last = 0, -np.inf
    while begin < len(at):
        end = begin + 1
        until = at[begin] + lump
        while end < len(at) and passed[end] == passed[begin] and at[end] <= until and not alone[end - 1]:
            end += 1
        # What is charged never goes back in time, though those that passed were put before those that did not.
        middle = max(last, float(at[begin:end].mean()))
        spread = float(at[begin:end].max() - at[begin:end].min()) / 2
        steps.append(
            Step(
                early_s=middle - spread - float(at[begin] - early[begin]),
                at_s=middle,
                late_s=middle + spread + float(late[end - 1] - at[end - 1]),
                said_s=max(middle, float(seen[end - 1])),
                count=end - begin,
                passed=bool(passed[begin]),
                remaining=float(remaining[end - 1]),
                unordered=max(int(unordered[end - 1]), end - begin - 1),
            )
        )
        last, begin = middle, end
    return steps
