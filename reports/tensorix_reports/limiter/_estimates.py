"""The parameters of one kind with their bounds: of all variants, by their weights."""

from __future__ import annotations

import numpy as np

from tensorix_reports.limiter._findings import Fitted, Interval, Kind
from tensorix_reports.limiter._kinds import Weights
from tensorix_reports.limiter._likelihood import uses
from tensorix_reports.limiter._states import Floats

__all__ = ["fitted_of"]

_NEGLIGIBLE = 14.0
"""What is so much less likely, in logarithms, than the best says nothing of a bound."""
_SAMPLES = 20_000


def fitted_of(kind: Kind, probability: float, chance: tuple[float, float], weights: Weights) -> Fitted:
    """The kind as it would be; `chance` is how likely it is alone, and with somebody else on the key."""
    one = weights.alone[kind]
    row, column = one.best
    weight = np.exp(one.weight - one.weight[row, column])
    rows, columns = np.nonzero(weight > np.exp(-_NEGLIGIBLE))
    share = weight[rows, columns]
    window, phase, limit = one.variants.window[rows], one.variants.phase[rows], one.limits[columns]
    best = (float(one.variants.window[row]), float(one.variants.phase[row]), float(one.limits[column]))
    counts = float(share @ one.variants.counts_refused[rows]) > 0.5 * share.sum()
    if chance[1] > 0:
        other = weights.shared[kind]
        known = ~np.isnan(other.limit)
        share = share / share.sum() * chance[0]
        if known.any() and sum(chance) > 0:
            share = np.concatenate([share, np.full(int(known.sum()), chance[1] / known.sum())])
            window = np.concatenate([window, other.window[known]])
            phase = np.concatenate([phase, other.phase[known]])
            limit = np.concatenate([limit, other.limit[known]])
            if chance[1] > chance[0]:
                parts = (other.window[known], other.phase[known], other.limit[known])
                best = (_quantile(parts[0], None, 0.5), _quantile(parts[1], None, 0.5), _quantile(parts[2], None, 0.5))
                counts = False
    window_s = weights.setting.window_s or 60.0
    bucket = kind == "token_bucket"
    in_window = _interval(window_s / window if bucket else limit, share, window_s / best[0] if bucket else best[2])
    return Fitted(
        kind=kind,
        probability=probability,
        explained=_explained(kind, row, column, weights),
        limit=in_window,
        window_s=Interval(window_s, window_s, window_s) if bucket else _interval(window, share, best[0]),
        phase_s=_phase(phase, window, share, best) if kind in ("clock_window", "sliding_counter") else None,
        burst=_interval(limit, share, best[2]) if bucket else None,
        counts_refused=bool(counts),
    )


def _phase(phase: Floats, window: Floats, share: Floats, best: tuple[float, ...]) -> Interval:
    """Around the best, since a phase goes round."""
    off = (phase - best[1] + window / 2) % window - window / 2
    around = _interval(off, share, 0.0)
    value = best[1] % best[0]
    return Interval(value, value + around.low, value + around.high)


def _interval(values: Floats, share: Floats, best: float) -> Interval:
    low, high = (_quantile(values, share, level) for level in (0.025, 0.975))
    return Interval(best, min(low, best), max(high, best))


def _quantile(values: Floats, share: Floats | None, level: float) -> float:
    order = np.argsort(values)
    if share is None:
        share = np.ones(len(values))
    summed = np.cumsum(share[order])
    return float(values[order][min(int(np.searchsorted(summed, level * summed[-1])), len(values) - 1)])


def _explained(kind: Kind, row: int, column: int, weights: Weights) -> float:
    """The share of the requests that the best variant decides as was seen."""
    one = weights.alone[kind]
    limit = one.limits[column]
    right = 0.0
    of_steps = uses(kind, one.variants.of(np.array([row])), weights.steps, weights.setting.zero_unix_s)
    for step, use in zip(weights.steps, of_steps, strict=True):
        late, early = float(use[1, 0]), float(use[3, 0])
        right += min(step.count, max(0.0, limit - late)) if step.passed else step.count * (early >= limit)
    return right / max(1, sum(step.count for step in weights.steps))
