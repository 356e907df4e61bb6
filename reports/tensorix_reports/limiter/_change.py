"""A limit that changes in the middle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from tensorix_reports.limiter._alone import Weighed, logsumexp
from tensorix_reports.limiter._findings import Kind
from tensorix_reports.limiter._likelihood import likelihoods, prior_of, uses
from tensorix_reports.limiter._states import Floats
from tensorix_reports.limiter._steps import Step

__all__ = ["Change", "change_of"]

_PRIOR = 0.02
_PLACES = 24
_MOST_VARIANTS = 200


@dataclass(frozen=True, slots=True)
class Change:
    """One limit before an instant, another one after it; kind, window and phase stay."""

    at_s: float
    evidence: float
    """The logarithm of how likely that made what was seen, prior included."""
    before: int
    after: int
    kind: Kind


def change_of(weighed: dict[Kind, Weighed], steps: Sequence[Step], zero_unix_s: float) -> Change | None:
    """The likeliest change, of those between two steps; None where there are too few."""
    places = np.unique(np.linspace(2, len(steps) - 2, _PLACES).astype(int)) if len(steps) > 5 else np.array([], int)
    found = [
        change for kind, one in weighed.items() for change in _of_kind(kind, one, steps, places.tolist(), zero_unix_s)
    ]
    return max(found, key=lambda change: change.evidence, default=None)


def _of_kind(kind: Kind, one: Weighed, steps: Sequence[Step], places: list[int], zero_unix_s: float) -> list[Change]:
    free = np.flatnonzero(np.isnan(one.variants.limit))
    # What fits neither before nor after it fits badly on the whole too: the best of the whole are good enough to begin.
    kept = free[np.argsort(-(one.likelihood + one.variants.log_prior)[free])[:_MOST_VARIANTS]]
    variants, limits = one.variants.of(kept), one.limits
    of_steps = uses(kind, variants, steps, zero_unix_s)
    prior = prior_of(limits)
    parts: list[Floats] = []
    edges = [0, *places, len(steps)]
    for begin, end in pairwise(edges):
        parts.append(likelihoods(steps[begin:end], of_steps[begin:end], limits))
    summed = np.cumsum(parts, axis=0)
    found = []
    for place, before in zip(places, summed, strict=False):
        first, second = before + prior, summed[-1] - before + prior
        both = _logsumexp_rows(first) + _logsumexp_rows(second) + variants.log_prior
        row = int(np.argmax(both))
        log_prior = np.log(_PRIOR / len(places) / 5)
        found.append(
            Change(
                at_s=(steps[place - 1].at_s + steps[place].at_s) / 2,
                evidence=float(log_prior + logsumexp(both)),
                before=round(limits[int(np.argmax(first[row]))]),
                after=round(limits[int(np.argmax(second[row]))]),
                kind=kind,
            )
        )
    return found


def _logsumexp_rows(values: Floats) -> Floats:
    most = values.max(axis=1)
    summed: Floats = most + np.log(np.exp(values - most[:, None]).sum(axis=1))
    return summed
