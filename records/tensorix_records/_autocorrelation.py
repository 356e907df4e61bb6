"""The autocorrelations of a series, each worked out once however often it is asked for.

Sums of products are no matrix products here: the threads of a linear algebra library wait for each other by spinning,
and where two reports or two threads share the processors that takes many times as long as the sums do.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Series"]

_Floats: TypeAlias = NDArray[np.float64]


class Series:
    """Values in the order in which they were seen: numbers, or for each one whether it is so (which takes less)."""

    def __init__(self, values: NDArray[Any]) -> None:
        self.values = values
        self._found: dict[int, float] = {}

    def __len__(self) -> int:
        return int(self.values.size)

    @cached_property
    def mean(self) -> float:
        """The mean."""
        if self.values.dtype == np.bool_:
            return int(np.count_nonzero(self.values)) / len(self)
        return float(self.values.mean())

    @cached_property
    def squares(self) -> float:
        """The sum of the squares of what differs from the mean."""
        if self.values.dtype == np.bool_:
            return len(self) * self.mean * (1 - self.mean)
        return _product(self._centred, self._centred)

    def correlation(self, lag: int) -> float:
        """The autocorrelation at a lag from 1 to less than the length, of a series that is not constant."""
        if lag not in self._found:
            self._found[lag] = self._products(lag) / self.squares
        return self._found[lag]

    def sums(self, begins: NDArray[np.int64]) -> _Floats:
        """The sums of what differs from the mean over stretches that begin at these places."""
        if self.values.dtype == np.bool_:
            counts = np.add.reduceat(self.values, begins, dtype=np.int64)
            return np.asarray(counts - np.diff(np.append(begins, len(self))) * self.mean)
        return np.asarray(np.add.reduceat(self._centred, begins))

    @cached_property
    def _centred(self) -> _Floats:
        return np.asarray(self.values - self.mean)

    def _products(self, lag: int) -> float:
        if self.values.dtype != np.bool_:
            return _product(self._centred[lag:], self._centred[:-lag])
        later, sooner = self.values[lag:], self.values[:-lag]
        both = int(np.count_nonzero(later & sooner))
        # Those at either end have a neighbour on one side only.
        whole = int(np.count_nonzero(self.values))
        singles = 2 * whole - int(np.count_nonzero(self.values[:lag])) - int(np.count_nonzero(self.values[-lag:]))
        return both - self.mean * singles + (len(self) - lag) * self.mean**2


def _product(one: _Floats, other: _Floats) -> float:
    return float(np.einsum("i,i->", one, other))
