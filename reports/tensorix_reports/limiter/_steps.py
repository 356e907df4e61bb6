"""What was seen as a short list of steps: requests close together that fared alike are one, and long gaps are parted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tensorix_reports.limiter._evidence import Evidence

__all__ = ["Step", "round_trip_s", "steps_of"]

_LUMP = 0.01
"""Of a window: what is closer together is one step, and what somebody else sent in a gap is put down this finely."""
_GAP = 0.05


@dataclass(frozen=True, slots=True)
class Step:
    """Requests that were decided at about one time; `count` 0 where only time passes."""

    at_s: float
    count: int
    passed: bool
    remaining: float
    """What the last one's response said was left; NaN where it said nothing."""


def round_trip_s(evidence: Evidence) -> float:
    """How long the way there and back takes: a refusal is answered at once, a reply that is generated is not."""
    took = evidence.seen_s - evidence.sent_s
    if evidence.refused.any():
        return float(np.median(took[evidence.refused]))
    return float(took.min(initial=np.inf)) if len(took) else 0.0


def steps_of(evidence: Evidence, window_s: float, place: float = 0.5) -> list[Step]:
    """The steps in the order of the decisions, each put at `place` between a request and its answer.

    Of requests that were under way together those that passed were decided first: the limiter lets pass until it is
    full. `window_s` is about the shortest window that is looked for.
    """
    trip = round_trip_s(evidence)
    way = np.minimum(evidence.seen_s - evidence.sent_s, 1.5 * trip)
    at = evidence.sent_s + way * np.where(evidence.passed, 0.7 * place, 0.3 + 0.7 * place)
    order = np.lexsort((evidence.refused, at))
    at, passed, remaining = at[order], evidence.passed[order], evidence.remaining[order]
    steps: list[Step] = []
    begin = 0
    while begin < len(at):
        end = begin + 1
        most = at[begin] + (_LUMP * window_s if passed[begin] else 0.0)
        while end < len(at) and passed[end] == passed[begin] and at[end] <= most and np.isnan(remaining[end - 1]):
            end += 1
        when = float(at[end - 1])
        if steps:
            pieces = int((when - steps[-1].at_s) / (_GAP * window_s))
            steps += [
                Step(float(mid), 0, True, np.nan) for mid in np.linspace(steps[-1].at_s, when, pieces + 1)[1:-1]
            ]
        steps.append(Step(when, end - begin, bool(passed[begin]), float(remaining[end - 1])))
        begin = end
    return steps
