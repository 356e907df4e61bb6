"""The kinds side by side: alone on the key and with somebody else, and what share of the whole each has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tensorix_reports.limiter._alone import Setting, Weighed, logsumexp, weigh
from tensorix_reports.limiter._evidence import Evidence
from tensorix_reports.limiter._findings import Kind
from tensorix_reports.limiter._shared import Particles, follow, together
from tensorix_reports.limiter._states import STATES
from tensorix_reports.limiter._steps import Step, round_trip_s, steps_of
from tensorix_reports.limiter._variants import Variants, variants_of

__all__ = ["SHARED", "Weights", "alone", "setting_of", "weights_of"]

SHARED = 0.2
"""How often somebody else is on a key, before anything is seen."""
_LEAST_PARTICLES, _MOST_PARTICLES, _MOVES = 2_000, 10_000, 300_000
"""Of each part of the variants: the more, the fewer the steps, which tell the more of each."""
_SEED = 20_240_611
_CLOCK_S = 0.1
"""How far the server's clock may be from what its `Date` headers made of it."""


@dataclass(frozen=True, slots=True)
class Weights:
    """What was seen, weighed by each kind."""

    steps: list[Step]
    setting: Setting
    alone: dict[Kind, Weighed]
    shared: dict[Kind, Particles]
    """Empty where nobody else was thought of."""

    def logs(self) -> dict[Kind, tuple[float, float]]:
        """Of each kind the logarithms of prior times evidence: alone, and with somebody else."""
        prior = -np.log(len(self.alone))
        share = SHARED if self.shared else 0.0
        return {
            kind: (
                float(prior + np.log1p(-share) + one.evidence),
                float(prior + np.log(share) + self.shared[kind].evidence) if self.shared else -np.inf,
            )
            for kind, one in self.alone.items()
        }

    @property
    def evidence(self) -> float:
        """The logarithm of how likely all of them together made what was seen."""
        return logsumexp(np.array([value for pair in self.logs().values() for value in pair]))

    def chances(self) -> dict[Kind, tuple[float, float]]:
        """The logarithms as probabilities, that add up to one."""
        whole = self.evidence
        return {kind: (float(np.exp(a - whole)), float(np.exp(b - whole))) for kind, (a, b) in self.logs().items()}


def setting_of(evidence: Evidence, window_s: float | None) -> Setting:
    """What is known besides the steps."""
    refused = np.flatnonzero(evidence.refused)
    before = evidence.passed[: refused[0]] if len(refused) else evidence.passed
    told = evidence.remaining[~np.isnan(evidence.remaining)]
    about = max(int(before.sum()), int(told.max()) + 1 if len(told) else 0, 1)
    span_s = float(evidence.seen_s.max() - evidence.sent_s.min())
    return Setting(evidence.zero_unix_s, window_s, span_s, round_trip_s(evidence), _CLOCK_S, about)


def alone(steps: Sequence[Step], setting: Setting) -> dict[Kind, Weighed]:
    """The kinds on a key that nobody else uses."""
    return {kind: weigh(kind, steps, setting) for kind in STATES}


def _shared(steps: Sequence[Step], setting: Setting) -> dict[Kind, Particles]:
    rng = np.random.default_rng(_SEED)
    found: dict[Kind, Particles] = {}
    count = min(_MOST_PARTICLES, max(_LEAST_PARTICLES, _MOVES // len(steps)))
    for kind in STATES:
        # The other has used a part of the limit, so that it may be larger than what passed.
        variants = variants_of(
            kind, setting.window_s, setting.span_s, setting.trip_s, setting.clock_s, round(1.4 * setting.about)
        )
        variants = variants.of(np.flatnonzero(~variants.counts_refused & ~variants.rounds_down))
        chance = np.exp(variants.log_prior)
        # What is left out of the variants beforehand was not likely: the rest bears all of the weight.
        chance /= chance.sum()
        parts: list[tuple[float, Particles]] = []
        for places in _strata(kind, variants, setting.window_s):
            share = float(chance[places].sum())
            drawn = places[_evenly(chance[places] / share, count, rng)]
            parts.append((float(np.log(share)), follow(kind, steps, setting, variants.of(drawn), rng)))
        found[kind] = together(parts, rng)
    return found


def _strata(kind: Kind, variants: Variants, window_s: float | None) -> list[NDArray[np.intp]]:
    """Variants that are followed apart, so that none dies out by chance before what tells them apart is seen: of the
    documented window, on the clock or not, and all others.
    """
    window = variants.window * variants.limit if kind == "token_bucket" else variants.window
    known = np.zeros(len(variants), bool)
    if window_s:
        known = (np.abs(window - window_s) <= 0.06 * window_s) & (variants.spacing == 0)
    fixed = variants.phase_spacing == 0
    return [places for one in (known & fixed, known & ~fixed, ~known) if len(places := np.flatnonzero(one))]


def _evenly(chance: np.ndarray, count: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """So many places drawn by their chances, each as near to its share as whole numbers allow."""
    places = np.searchsorted(np.cumsum(chance), (np.arange(count) + rng.random()) / count)
    return np.minimum(places, len(chance) - 1)


def weights_of(evidence: Evidence, window_s: float | None, *, shared: bool = True) -> Weights:
    """Weigh what was seen; `shared` with the thought that somebody else may be on the key."""
    setting = setting_of(evidence, window_s)
    steps = steps_of(evidence, window_s or 60.0)
    return Weights(steps, setting, alone(steps, setting), _shared(steps, setting) if shared else {})
