"""The fit of a limiter to what was seen."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tensorix_reports.limiter._change import Change, change_of
from tensorix_reports.limiter._estimates import fitted_of
from tensorix_reports.limiter._evidence import Evidence
from tensorix_reports.limiter._findings import Fitted, Kind, LimiterFit, Verdict
from tensorix_reports.limiter._kinds import Weights, weights_of
from tensorix_reports.limiter._likelihood import ERROR
from tensorix_reports.limiter._second import Second, seconds_of
from tensorix_reports.limiter._telling import would_tell

__all__ = ["fit"]

_NAMED = 0.95
_CLAIMED = 0.97
"""How sure it is before somebody else is said to be on the key, or a second limit there, or a change."""
_TOO_MANY = 0.06
"""Of the steps: when a limiter says otherwise than so many of them, it is not that one."""
_CROWDED = 5.0
"""Where the limit's pace lets more pass in a round trip, and somebody else sends too, no kind is named."""
_FEW = 3.0
"""So many surprises may always be."""


def fit(evidence: Evidence, *, window_s: float | None = None) -> LimiterFit:
    """Rank the kinds of limiter by how well they explain the evidence; `window_s` as documented, where it is.

    Every kind is tried with many windows, phases and drips and with every limit; each follows the requests with what
    was let through charged, and is weighed by how likely it is to decide as was seen. Beside it stand the thoughts that
    somebody else uses the key, that a shorter limit is there too, and that the limit changed.
    """
    if not evidence.refused.any() and np.isnan(evidence.remaining).all():
        return _nothing(evidence)
    weights = weights_of(evidence, window_s)
    second, weights = _second(evidence, window_s, weights)
    if second is not None and not second.rest.refused.any() and np.isnan(second.rest.remaining).all():
        return replace(
            _nothing(evidence),
            second_limit=(second.requests, second.seconds),
            why=[f"every refusal is one of {second.requests:,} requests in {second.seconds:g} s"],
        )
    return _said(evidence, weights, second)


def _nothing(evidence: Evidence) -> LimiterFit:
    return LimiterFit(
        verdict="no limit reached",
        ranked=[],
        set_of_95=[],
        would_tell=None,
        foreign_per_s=None,
        second_limit=None,
        changed_at_s=None,
        requests=len(evidence),
        refused=int(evidence.refused.sum()),
        why=[],
    )


def _second(evidence: Evidence, window_s: float | None, weights: Weights) -> tuple[Second | None, Weights]:
    """The shorter limit besides, if it explains far more, and the weights without what it explains."""
    candidates = seconds_of(evidence, window_s or 60.0)
    tried = [(one, weights_of(one.rest, window_s, shared=False)) for one in candidates]
    if not tried:
        return None, weights
    logs = np.array([one.log_prior + rest.evidence for one, rest in tried])
    best = int(np.argmax(logs))
    # Of several kinds of shorter limit that say about the same, all speak for there being one.
    with_one = float(np.logaddexp.reduce(logs))
    if with_one - np.logaddexp(with_one, weights.evidence) < np.log(_CLAIMED):
        return None, weights
    return tried[best][0], weights_of(tried[best][0].rest, window_s)


@dataclass(frozen=True, slots=True)
class _Surprises:
    """How badly the best limiter explains what was seen, in decisions that it would have made otherwise."""

    count: float
    steps: int

    @property
    def too_many(self) -> bool:
        return self.count > max(_FEW, _TOO_MANY * self.steps)


def _surprises(weights: Weights) -> _Surprises:
    alone = -max(float(one.likelihood.max()) for one in weights.alone.values())
    told = sum(not np.isnan(step.remaining) for step in weights.steps)
    if weights.shared:
        # What the other sent is never foreseen, so each answer that tells it is a small surprise even where all is
        # right, and where it is full again a smaller one; what it takes to hit upon the limit and the rest, a few more.
        full = sum(not step.passed for step in weights.steps)
        shared = -max(one.evidence for one in weights.shared.values()) - 12.0 - 3.0 * told - 1.5 * full
        alone = min(alone, max(shared, 0.0))
    return _Surprises(alone / -np.log(ERROR), len(weights.steps))


def _said(evidence: Evidence, weights: Weights, second: Second | None) -> LimiterFit:
    chances = weights.chances()
    ranked = sorted(
        (fitted_of(kind, sum(chance), chance, weights) for kind, chance in chances.items()),
        key=lambda one: -one.probability,
    )
    kinds: list[Kind] = [one.kind for one in ranked]
    surprises, why = _surprises(weights), list[str]()
    change = _changed(weights) if surprises.count > 1.0 else None
    foreign = sum(chance[1] for chance in chances.values())
    verdict, likely = _verdict(ranked)
    if change is not None:
        verdict = "cannot tell" if verdict != "named" else verdict
        # How high it was before and after is not said: a part of a run may not reach its limit, and tells no number.
        why.append("one limit does not explain what was seen both before and after that")
    elif surprises.too_many:
        verdict = "no model fits"
        why.append(
            f"the nearest kind would have decided about {surprises.count:.0f} of {surprises.steps} steps otherwise"
        )
    in_a_trip = ranked[0].limit.value / ranked[0].window_s.value * weights.setting.trip_s
    if verdict == "named" and foreign > 0.5 and in_a_trip > _CROWDED:
        verdict = "cannot tell"
        likely = kinds[:2]
        why.append(
            f"about {in_a_trip:.0f} requests may pass in a round trip: their order is lost, and with it what somebody "
            "else took between them"
        )
    if second is not None:
        why.append(f"a limit of {second.requests:,} in {second.seconds:g} s explains the refusals of bursts")
    best = kinds[0]
    return LimiterFit(
        verdict=verdict,
        ranked=ranked,
        set_of_95=likely,
        would_tell=would_tell(likely) if verdict == "cannot tell" else None,
        foreign_per_s=float(np.median(weights.shared[best].rate)) if foreign > _CLAIMED and change is None else None,
        second_limit=(second.requests, second.seconds) if second else None,
        changed_at_s=change.at_s if change else None,
        requests=len(evidence),
        refused=int(evidence.refused.sum()),
        why=why,
    )


def _changed(weights: Weights) -> Change | None:
    change = change_of(weights.alone, weights.steps, weights.setting.zero_unix_s)
    if change is None or change.before == change.after:
        return None
    # It has to explain all far better than somebody else on the key and every other thought.
    return change if change.evidence - np.logaddexp(change.evidence, weights.evidence) > np.log(_CLAIMED) else None


def _verdict(ranked: list[Fitted]) -> tuple[Verdict, list[Kind]]:
    likely: list[Kind] = []
    held = 0.0
    for one in ranked:
        likely.append(one.kind)
        held += one.probability
        if held >= _NAMED:
            break
    return ("named" if len(likely) == 1 else "cannot tell"), likely
