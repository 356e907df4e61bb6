"""The limiters as arrays: many of one kind at once, with different parameters and different pasts.

Each follows `tensorix_api.limiters`, whose twins they are in the tests, but charges whatever is said to have passed: so
what was seen corrects what was wrong, and one error does not make the next.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["STATES", "Floats", "State"]

Floats = NDArray[np.float64]


class State(ABC):
    """One kind of limiter, in `rows` variants. `window` is in seconds, of a bucket the seconds between two drips."""

    ROWS: tuple[str, ...] = ("window", "phase")

    def __init__(self, window: Floats, phase: Floats, steps: int) -> None:
        self.window, self.phase = window, phase
        self.now = -np.inf

    @abstractmethod
    def used(self, now: float) -> Floats:
        """What counts at `now`, which never goes back."""

    @abstractmethod
    def charge(self, amount: Floats | float) -> None:
        """Count more, at the time of the last `used`."""

    @abstractmethod
    def before(self, now: float, rate: Floats, rng: np.random.Generator) -> None:
        """Draw what somebody else, who sends at `rate`, had used before `now`."""

    def take(self, places: NDArray[np.intp]) -> None:
        """Go on with these rows only, each as often as it is named."""
        for name in self.ROWS:
            setattr(self, name, getattr(self, name)[places])


class FixedWindow(State):
    """Opened by the first that passes."""

    ROWS = ("window", "phase", "start", "count")

    def __init__(self, window: Floats, phase: Floats, steps: int) -> None:
        super().__init__(window, phase, steps)
        self.start = np.full(len(window), -np.inf)
        self.count = np.zeros(len(window))

    def used(self, now: float) -> Floats:
        self.now = now
        over = now >= self.start + self.window
        self.count[over] = 0.0
        self.start[over] = np.inf
        return self.count

    def charge(self, amount: Floats | float) -> None:
        opens = (self.start == np.inf) & (np.broadcast_to(amount, self.count.shape) > 0)
        self.start[opens] = self.now
        self.count += amount

    def before(self, now: float, rate: Floats, rng: np.random.Generator) -> None:
        self.used(now)
        # Windows follow each other with a gap until the next request: open with this chance, at any age.
        is_open = rng.random(len(rate)) < self.window * rate / (1 + self.window * rate)
        age = rng.random(len(rate)) * self.window
        self.start = np.where(is_open, now - age, np.inf)
        self.count = np.where(is_open, 1.0 + rng.poisson(rate * age), 0.0)


class ClockWindow(State):
    """On a clock: windows begin at `phase` + k * `window`."""

    ROWS = ("window", "phase", "number", "count")

    def __init__(self, window: Floats, phase: Floats, steps: int) -> None:
        super().__init__(window, phase, steps)
        self.number = np.full(len(window), -np.inf)
        self.count = np.zeros(len(window))

    def _into(self, now: float) -> Floats:
        place: Floats = (now - self.phase) / self.window
        number = np.floor(place)
        self._next(number)
        return place - number

    def _next(self, number: Floats) -> None:
        self.count[number != self.number] = 0.0
        self.number = number

    def used(self, now: float) -> Floats:
        self._into(now)
        return self.count

    def charge(self, amount: Floats | float) -> None:
        self.count += amount

    def before(self, now: float, rate: Floats, rng: np.random.Generator) -> None:
        self.count = self.count + rng.poisson(rate * self.window * self._into(now))


class SlidingCounter(ClockWindow):
    """This window, and of the last one the share that is still to come."""

    ROWS = ("window", "phase", "number", "count", "last")

    def __init__(self, window: Floats, phase: Floats, steps: int) -> None:
        super().__init__(window, phase, steps)
        self.last = np.zeros(len(window))

    def _next(self, number: Floats) -> None:
        self.last = np.where(number == self.number, self.last, np.where(number == self.number + 1, self.count, 0.0))
        super()._next(number)

    def used(self, now: float) -> Floats:
        into = self._into(now)
        return self.count + np.ceil(self.last * (1 - into) - 1e-9)

    def before(self, now: float, rate: Floats, rng: np.random.Generator) -> None:
        super().before(now, rate, rng)
        self.last = rng.poisson(rate * self.window).astype(float)


class SlidingLog(State):
    """Each charge counts for a window from its own time."""

    ROWS = ("window", "phase", "total")

    def __init__(self, window: Floats, phase: Floats, steps: int) -> None:
        super().__init__(window, phase, steps)
        self.times = np.full(steps, np.inf)
        self.total = np.zeros((len(window), steps + 1))
        """What was charged up to each of the times."""
        self.made = 0

    def used(self, now: float) -> Floats:
        self.now = now
        gone = np.searchsorted(self.times[: self.made], now - self.window, "right")
        used: Floats = self.total[:, self.made] - self.total[np.arange(len(self.window)), gone]
        return used

    def charge(self, amount: Floats | float) -> None:
        self._add(self.now, amount)

    def _add(self, at: float, amount: Floats | float) -> None:
        if self.made == len(self.times):
            self.times = np.concatenate([self.times, np.full(64, np.inf)])
            self.total = np.concatenate([self.total, np.zeros((len(self.total), 64))], axis=1)
        self.times[self.made] = at
        self.total[:, self.made + 1] = self.total[:, self.made] + amount
        self.made += 1

    def before(self, now: float, rate: Floats, rng: np.random.Generator) -> None:
        pieces = 20
        longest = float(self.window.max())
        for piece in range(pieces):
            self._add(now - longest * (1 - piece / pieces), rng.poisson(rate * longest / pieces).astype(float))


class TokenBucket(State):
    """What lacks flows back all the time, one in each `window` seconds."""

    ROWS = ("window", "phase", "lack")

    def __init__(self, window: Floats, phase: Floats, steps: int) -> None:
        super().__init__(window, phase, steps)
        self.lack = np.zeros(len(window))

    def used(self, now: float) -> Floats:
        if self.now > -np.inf:
            self.lack = np.maximum(0.0, self.lack - (now - self.now) / self.window)
        self.now = now
        return self.lack

    def charge(self, amount: Floats | float) -> None:
        self.lack = self.lack + amount

    def before(self, now: float, rate: Floats, rng: np.random.Generator) -> None:
        self.used(now)
        self.lack = rng.poisson(np.minimum(1.0, rate * self.window)).astype(float)


STATES: dict[str, Any] = {
    "fixed_window": FixedWindow,
    "clock_window": ClockWindow,
    "sliding_log": SlidingLog,
    "sliding_counter": SlidingCounter,
    "token_bucket": TokenBucket,
}
