"""How many somebody else has sent: Poisson's law on arrays."""

from __future__ import annotations

import numpy as np

from tensorix_reports.limiter._states import Floats

__all__ = ["at_least", "at_most", "exactly"]

_LOG_FACTORIAL = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1.0, 20_001.0)))])


def exactly(count: Floats, mean: Floats) -> Floats:
    """The chance of so many; 0 of fewer than none."""
    count = np.nan_to_num(count, nan=-1.0)
    whole = np.clip(count, 0, len(_LOG_FACTORIAL) - 1).astype(np.intp)
    log = whole * np.log(np.maximum(mean, 1e-300)) - mean - _LOG_FACTORIAL[whole]
    return np.where(count < 0, 0.0, np.exp(log))


def at_most(count: Floats, mean: Floats) -> Floats:
    """The chance of so many or fewer."""
    largest = float(mean.max(initial=0.0))
    terms = int(min(largest + 8 * np.sqrt(largest) + 6, count.max(initial=0.0))) + 1
    term = np.exp(-mean)
    summed = np.where(count >= 0, term, 0.0)
    for one in range(1, max(terms, 1)):
        term = term * mean / one
        summed = summed + np.where(count >= one, term, 0.0)
    return np.minimum(summed, 1.0)


def at_least(count: Floats, mean: Floats) -> Floats:
    """The chance of so many or more."""
    # Of what is unlikely the first term is most of it, and a difference of two nearly equal numbers nothing.
    return np.maximum(1.0 - at_most(count - 1, mean), exactly(count, mean))
