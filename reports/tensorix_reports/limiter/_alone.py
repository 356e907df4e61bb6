"""One kind of limiter on a key that nobody else uses: its variants, weighed by what was seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tensorix_reports.limiter._findings import Kind
from tensorix_reports.limiter._likelihood import likelihoods, limits_to_try, prior_of, uses
from tensorix_reports.limiter._states import Floats
from tensorix_reports.limiter._steps import Step
from tensorix_reports.limiter._variants import Variants, finer, variants_of

__all__ = ["Setting", "Weighed", "logsumexp", "weigh"]

_ROUNDS = (4, 2, 1)
"""How many variants are looked at more finely, round by round."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What is known besides the steps."""

    zero_unix_s: float
    """The instant from which the steps' times count, by the server's clock."""
    window_s: float | None
    """As documented."""
    span_s: float
    trip_s: float
    clock_s: float
    """How uncertain the server's clock is."""
    about: int
    """What the limit may be."""


@dataclass(frozen=True, slots=True)
class Weighed:
    """The variants of one kind with every limit, and how likely each is."""

    kind: Kind
    variants: Variants
    limits: Floats
    weight: Floats
    """The logarithm of prior times likelihood: a row a variant, a column a limit."""
    likelihood: Floats
    """The best logarithm of the likelihood alone, of each variant."""

    @property
    def evidence(self) -> float:
        """The logarithm of how likely the kind made what was seen."""
        return logsumexp(self.weight)

    @property
    def best(self) -> tuple[int, int]:
        """The most likely variant and limit."""
        row, column = np.unravel_index(int(np.argmax(self.weight)), self.weight.shape)
        return int(row), int(column)


def logsumexp(values: Floats) -> float:
    """The logarithm of the sum of the exponentials."""
    most = float(values.max(initial=-np.inf))
    return most + float(np.log(np.exp(values - most).sum())) if np.isfinite(most) else most


def weigh(kind: Kind, steps: Sequence[Step], setting: Setting) -> Weighed:
    """Weigh the variants of one kind, the likely ones more and more finely."""
    variants = variants_of(
        kind,
        setting.window_s,
        setting.span_s,
        setting.trip_s,
        setting.clock_s,
        setting.about,
        first_unix_s=setting.zero_unix_s + steps[0].at_s if steps else None,
    )
    found = _weighed(kind, variants, steps, setting, None)
    for count in _ROUNDS:
        kept, new = _looked_into(found, count)
        if new is None:
            break
        more = _weighed(kind, new, steps, setting, found.limits)
        found = Weighed(
            kind,
            found.variants.of(kept) + more.variants,
            found.limits,
            np.concatenate([found.weight[kept], more.weight]),
            np.concatenate([found.likelihood[kept], more.likelihood]),
        )
    return found


def _looked_into(found: Weighed, count: int) -> tuple[np.ndarray, Variants | None]:
    """Which variants stay as they are, and finer ones in place of the others."""
    order = np.argsort(-found.weight.max(axis=1))
    best = found.weight.max()
    parts: list[Variants] = []
    gone: list[int] = []
    for place in order[: 4 * count]:
        # Of what explains nothing no finer form is looked for, unless there is nothing better.
        if len(gone) == count or (gone and found.weight[place].max() < best - 25):
            break
        if (more := finer(found.variants, int(place))) is not None:
            parts.append(more)
            gone.append(int(place))
    if not parts:
        return order, None
    new = parts[0]
    for part in parts[1:]:
        new = new + part
    return np.setdiff1d(np.arange(len(found.variants)), gone), new


def _weighed(kind: Kind, variants: Variants, steps: Sequence[Step], setting: Setting, limits: Floats | None) -> Weighed:
    of_steps = uses(kind, variants, steps, setting.zero_unix_s)
    if limits is None:
        limits = limits_to_try(steps, of_steps)
    likely = likelihoods(steps, of_steps, limits)
    weight = likely + variants.log_prior[:, None] + _limit_prior(variants, limits)
    return Weighed(kind, variants, limits, weight, likely.max(axis=1))


def _limit_prior(variants: Variants, limits: Floats) -> Floats:
    """Of each limit in each variant: free, or bound to the window, give or take one that was counted otherwise."""
    free = np.broadcast_to(prior_of(limits), (len(variants), len(limits)))
    bound = ~np.isnan(variants.limit)
    if not bound.any():
        return free
    off = np.abs(limits[None, :] - variants.limit[:, None])
    with np.errstate(divide="ignore"):
        linked = np.log(np.where(off < 0.5, 0.8, np.where(off < 1.5, 0.1, 0.0)))
    return np.where(bound[:, None], linked, free)
