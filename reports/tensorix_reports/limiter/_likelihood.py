"""How well the variants of one kind explain what was seen, for every limit at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tensorix_reports.limiter._findings import Kind
from tensorix_reports.limiter._states import STATES, Floats
from tensorix_reports.limiter._steps import Step
from tensorix_reports.limiter._variants import Variants

__all__ = ["ERROR", "likelihoods", "limits_to_try", "prior_of", "uses"]

ERROR = 0.005
"""How often a decision is another than the limiter's, whatever the reason."""
_CAP = 3
"""Of the requests of a step so many speak for themselves: what makes one of them differ makes all differ."""
_WAY = (0.2, 0.6, 0.2)
"""How likely a decision is early, in the middle of the way, and late."""
_EXACT, _NEAR, _WRONG = 0.95, 0.04, 0.01
"""How often a header tells exactly what is left, is one off, and says anything else."""
_ANYTHING = 200
_MOST_LIMITS = 1_500
_LARGEST = 1e5
_ENTRIES = 2_000_000

Use = NDArray[np.float64]
"""What counted before a step: late, in the middle and early, a row each, no less the earlier; and first when the answer
was there, by which time its header was written."""


def uses(kind: Kind, variants: Variants, steps: Sequence[Step], zero_unix_s: float) -> list[Use]:
    """What counted before each step, as arrays of four rows: at the answer, late, middle, early."""
    state = STATES[kind](variants.window, variants.phase - zero_unix_s)
    refused = variants.counts_refused.astype(float)
    down = variants.rounds_down

    def used(at_s: float) -> Floats:
        exact = state.used(at_s)
        return np.where(down, np.floor(exact + 1e-6), np.ceil(exact - 1e-6))

    found = []
    for step in steps:
        middle = used(step.at_s)
        late = np.minimum(used(step.late_s), middle)
        early = np.maximum(used(step.early_s), middle)
        said = np.minimum(used(step.said_s), late)
        found.append(np.stack([said, late, middle, early]))
        if step.passed:
            state.charge(step.at_s, float(step.count))
        elif refused.any():
            state.charge(step.at_s, refused * step.count)
    return found


def limits_to_try(steps: Sequence[Step], of_steps: Sequence[Use]) -> Floats:
    """The limits that can be told apart by these; the last stands for every larger one."""
    largest = 1.0
    told: list[Floats] = []
    for step, use in zip(steps, of_steps, strict=True):
        values = use[2] + (step.count if step.passed else 0)
        if not np.isnan(step.remaining):
            values = values + step.remaining
        largest = max(largest, float(values.max()))
        if not step.passed or not np.isnan(step.remaining):
            told.append(np.unique(values))
    largest = min(largest, _LARGEST)
    if largest <= _MOST_LIMITS:
        return np.arange(1.0, largest + 3)
    values, counts = np.unique(np.concatenate(told or [np.ones(1)]), return_counts=True)
    often = values[np.argsort(-counts)[:100]]
    near = (often[:, None] + np.arange(-2.0, 3.0)[None, :]).ravel()
    coarse = np.geomspace(1.0, largest + 2, _MOST_LIMITS).round()
    return np.unique(np.concatenate([near[(near >= 1) & (near <= largest + 2)], coarse]))


def prior_of(limits: Floats) -> Floats:
    """The logarithm of how likely each is beforehand: as its inverse; the last one for all that are larger."""
    edges = np.concatenate([[limits[0] - 0.5], (limits[1:] + limits[:-1]) / 2, [2 * _LARGEST]])
    weights: Floats = np.log(np.log(edges[1:] / edges[:-1]) / np.log(edges[-1] / 0.5))
    return weights


def likelihoods(steps: Sequence[Step], of_steps: Sequence[Use], limits: Floats) -> Floats:
    """The logarithm of the likelihood of what was seen: a row a variant, a column a limit."""
    rows = of_steps[0].shape[1] if of_steps else 1
    sums = _Sums(rows, limits)
    error = np.log(ERROR)
    for step, use in zip(steps, of_steps, strict=True):
        times = min(step.count, _CAP)
        if step.passed:
            most = np.log(np.cumsum(_WAY)[:2])
            for one in range(times):
                sums.levels(use[1:] + (step.count - 1 - one), (error, most[0], most[1], 0.0))
        else:
            most = np.log(np.cumsum(_WAY)[1::-1])
            sums.levels(use[1:], tuple(times * level for level in (0.0, most[0], most[1], error)))
        if not np.isnan(step.remaining):
            left = use + step.remaining + (step.count if step.passed else 0)
            sums.told(left, step.unordered)
    return sums.done()


class _Sums:
    """Adds up what holds for ranges of limits: each range as a step up and a step down."""

    def __init__(self, rows: int, limits: Floats) -> None:
        self._limits, self._columns = limits, len(limits) + 1
        self._base = 0.0
        self._total = np.zeros(rows * self._columns)
        self._rows = np.arange(rows, dtype=np.int64) * self._columns
        self._places: list[NDArray[np.int64]] = []
        self._amounts: list[Floats] = []
        self._entries = 0

    def _add(self, first: NDArray[np.int64], amount: Floats | float) -> None:
        """From a column on, another one in each row."""
        self._places.append(self._rows + first)
        self._amounts.append(np.broadcast_to(amount, len(first)))
        self._entries += len(first)
        if self._entries > _ENTRIES:
            self._flush()

    def _flush(self) -> None:
        if self._places:
            self._total += np.bincount(
                np.concatenate(self._places), np.concatenate(self._amounts), minlength=len(self._total)
            )
            self._places, self._amounts, self._entries = [], [], 0

    def levels(self, use: Use, level: tuple[float, ...]) -> None:
        """What holds for limits up to the first of the three uses, above it, above the second, above the third."""
        self._base += level[0]
        if (use[0] == use[2]).all():
            self._add(np.searchsorted(self._limits, use[0], "right"), level[3] - level[0])
            return
        for one, before, after in zip(use, level[:3], level[1:], strict=True):
            self._add(np.searchsorted(self._limits, one, "right"), after - before)

    def told(self, left: Use, unordered: int) -> None:
        """A header said so: the limit is about there."""
        wrong = np.log(_WRONG / _ANYTHING)
        self._base += wrong
        low, high = left[0] - unordered, left[-1] + unordered
        near, exact = np.log(_NEAR / 2), np.log(_EXACT / (high - low + 1))
        for off, amount in ((1.0, near - wrong), (0.0, exact - near)):
            self._add(np.searchsorted(self._limits, low - off, "left"), amount)
            self._add(np.searchsorted(self._limits, high + off, "right"), -amount)

    def done(self) -> Floats:
        """The sums, a row a variant, a column a limit."""
        self._flush()
        table = self._total.reshape(-1, self._columns)
        summed: Floats = self._base + np.cumsum(table, axis=1)[:, :-1]
        return summed
