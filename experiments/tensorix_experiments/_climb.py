"""Which load to try next: up by doubling, then bisection between the highest that was met and the lowest broken one."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Climb"]

_DEEPEST = 64


@dataclass
class Climb:
    """Told what became of each load, says the next; None once the knee is known as finely as was asked for.

    Loads are requests a second, or (`whole`) numbers of users. The first may be too high: then it goes down by halves,
    to a 64th of it and no further.
    """

    first: float
    most: float
    resolution: float
    """The knee is known once the lowest broken load is no more than this share above the highest met one."""
    whole: bool = False
    best: float | None = None
    """The highest load that met the objectives, below any that broke them."""
    broken: float | None = None
    """The lowest load that broke them."""
    _tried: int = field(default=0, init=False)

    def told(self, load: float, met: bool) -> None:
        """What became of a load. One broken below another that was met wins: chance may have met the higher one."""
        self._tried += 1
        if met:
            self.best = load if self.best is None else max(self.best, load)
        else:
            self.broken = load if self.broken is None else min(self.broken, load)
            if self.best is not None and self.best >= self.broken:
                self.best = None

    def next(self) -> float | None:
        """The load to try now."""
        # Rounded as the loads are that are compared with it: nothing between the two can be tried.
        most = self._rounded(self.most)
        if self.best is None and self.broken is None:
            return min(self._rounded(self.first), most)
        if self.broken is None:
            assert self.best is not None
            return None if self.best >= most else min(self._rounded(2 * self.best), most)
        if self.best is None:
            least = 1.0 if self.whole else self._rounded(self.first / _DEEPEST)
            return None if self.broken <= least else max(self._rounded(self.broken / 2), least)
        if self.broken - self.best <= max(self.resolution * self.best, 1.0 if self.whole else 0.0):
            return None
        middle = self._rounded((self.best + self.broken) / 2)
        return middle if self.best < middle < self.broken else None

    @property
    def doubling(self) -> bool:
        """Whether no load was broken yet."""
        return self.broken is None

    def _rounded(self, load: float) -> float:
        """Whole numbers of users; of rates four digits, which is finer than any resolution."""
        return float(round(load)) if self.whole else float(f"{load:.4g}")
