"""A shorter limit besides the one that is looked for: so many a second, say."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tensorix_reports.limiter._evidence import Evidence
from tensorix_reports.limiter._findings import Kind
from tensorix_reports.limiter._likelihood import ERROR
from tensorix_reports.limiter._states import STATES, Floats
from tensorix_reports.limiter._steps import round_trip_s

__all__ = ["Second", "seconds_of"]

_SECONDS = (1.0, 10.0)
_KINDS: tuple[Kind, ...] = ("sliding_log", "fixed_window", "clock_window")
_PRIOR = 0.1
"""How often there is one."""
_MOST_CANDIDATES = 2
_LEAST = 2
"""What refuses the second request of two is no limit on a burst."""


@dataclass(frozen=True, slots=True)
class Second:
    """A shorter limit that may be there, and what it leaves unexplained."""

    requests: int
    seconds: float
    log_prior: float
    """The logarithm of how likely it is, and that it let through what it should have refused."""
    rest: Evidence
    """What it does not explain, for the longer limit."""


def seconds_of(evidence: Evidence, window_s: float) -> list[Second]:
    """The shorter limits that would explain refusals, where something passed again soon after one."""
    found = []
    for seconds in _SECONDS:
        if seconds > window_s / 3 or not _recovers(evidence, seconds, window_s):
            continue
        for kind in _KINDS:
            found += _of_kind(evidence, kind, seconds)
    return found


def _recovers(evidence: Evidence, seconds: float, window_s: float) -> bool:
    """Whether something passed so soon after a refusal that a longer window would still have been full."""
    if not evidence.refused.any():
        return False
    refused = np.sort(evidence.sent_s[evidence.refused])
    passed = evidence.sent_s[evidence.passed]
    before = np.searchsorted(refused, passed) - 1
    waited = passed - refused[np.maximum(before, 0)]
    return bool(((before >= 0) & (waited < min(3 * seconds, max(1.3 * seconds, window_s / 4)))).any())


def _of_kind(evidence: Evidence, kind: Kind, seconds: float) -> list[Second]:
    early, late = _used(evidence, kind, seconds)
    counts = early[evidence.refused]
    values, often = np.unique(counts[counts >= _LEAST], return_counts=True)
    found = []
    for limit in values[np.argsort(-often)[:_MOST_CANDIDATES]]:
        explained = evidence.refused & (early >= limit)
        broken = int((evidence.passed & (late >= limit)).sum())
        if broken > 0.02 * int(evidence.passed.sum()) + 1:
            continue
        log_prior = np.log(_PRIOR / len(_KINDS) / len(_SECONDS)) - np.log(limit) + broken * np.log(ERROR)
        # A header tells what the tighter of the two has left.
        told = evidence.remaining + 1
        its_own = (told >= limit - early - 1) & (told <= limit - late + 1)
        # It would have told just one of these, so that to fit among many is no merit.
        log_prior -= float(np.log(early - late + 3)[its_own].sum())
        longer = replace(evidence, remaining=np.where(its_own, np.nan, evidence.remaining))
        rest = longer.of(np.flatnonzero(~explained))
        found.append(Second(int(limit), seconds, float(log_prior), rest))
    return found


def _used(evidence: Evidence, kind: Kind, seconds: float) -> tuple[Floats, Floats]:
    """What such a limiter had counted before each request, decided early and late."""
    trip = round_trip_s(evidence)
    state = STATES[kind](np.array([seconds]), np.array([-evidence.zero_unix_s]))
    at = evidence.sent_s + 0.5 * np.minimum(evidence.seen_s - evidence.sent_s, 1.5 * trip)
    early, late = np.zeros(len(evidence)), np.zeros(len(evidence))
    order = np.lexsort((evidence.refused, np.where(evidence.passed, at - 0.4 * trip, at + 0.4 * trip)))
    for place, now in zip(order.tolist(), at[order].tolist(), strict=True):
        early[place] = state.used(now - 0.25 * trip)[0]
        late[place] = state.used(now + 0.25 * trip)[0]
        if evidence.passed[place]:
            state.charge(now, 1.0)
    return early, late
