"""The limiters as arrays: many of one kind at once, with different parameters and different pasts.

Each follows `tensorix_api.limiters`, whose twins they are in the tests, but charges whatever is said to have passed: so
what was seen corrects what was wrong, and one error does not make the next. What counts never rests on the limit, so
one past does for all limits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from tensorix_reports.limiter._findings import Kind

__all__ = ["STATES", "Floats", "State"]

Floats = NDArray[np.float64]


class State(ABC):
    """One kind of limiter in several variants. `window` is in seconds, of a bucket the seconds between two drips."""

    ROWS: tuple[str, ...] = ()

    def __init__(self, window: Floats, phase: Floats) -> None:
        self.window, self.phase = window, phase

    @abstractmethod
    def used(self, now: float) -> Floats:
        """What counts at an instant, by what was charged so far."""

    @abstractmethod
    def charge(self, now: float, amount: Floats | float, first: Floats | None = None) -> None:
        """Count more from an instant on, which never goes back. `first` is when the first of it came, if before."""

    def since(self, begin: float, now: float) -> Floats:
        """From when on after `begin` that counts together at an instant which comes until then."""
        return np.full(len(self.window), begin)

    @abstractmethod
    def before(self, now: float, rate: Floats, most: float, rng: np.random.Generator) -> None:
        """Draw what somebody else, who sends `rate` a second where `most` may pass, has used when all begins."""

    def take(self, places: NDArray[np.intp]) -> None:
        """Go on with these variants only, each as often as it is named."""
        for name in ("window", "phase", *self.ROWS):
            setattr(self, name, getattr(self, name)[places])


class FixedWindow(State):
    """Opened by the first that passes."""

    ROWS = ("start", "count")

    def __init__(self, window: Floats, phase: Floats) -> None:
        super().__init__(window, phase)
        self.start = np.full(len(window), -np.inf)
        self.count = np.zeros(len(window))

    def used(self, now: float) -> Floats:
        return np.where(now < self.start + self.window, self.count, 0.0)

    def charge(self, now: float, amount: Floats | float, first: Floats | None = None) -> None:
        over = now >= self.start + self.window
        opens = over & (np.broadcast_to(amount, self.count.shape) > 0)
        self.count = np.where(over, 0.0, self.count) + amount
        self.start = np.where(opens, now if first is None else first, self.start)

    def since(self, begin: float, now: float) -> Floats:
        end = self.start + self.window
        return np.where(end <= now, np.maximum(begin, end), begin)

    def before(self, now: float, rate: Floats, most: float, rng: np.random.Generator) -> None:
        # Windows follow each other with a gap until the next request: open with this chance, at any age.
        is_open = rng.random(len(rate)) < self.window * rate / (1 + self.window * rate)
        age = rng.random(len(rate)) * self.window
        self.start = np.where(is_open, now - age, -np.inf)
        self.count = np.where(is_open, np.minimum(1.0 + rng.poisson(rate * age), most), 0.0)


class ClockWindow(State):
    """On a clock: windows begin at `phase` + k * `window`."""

    ROWS: tuple[str, ...] = ("number", "count")

    def __init__(self, window: Floats, phase: Floats) -> None:
        super().__init__(window, phase)
        self.number = np.full(len(window), -np.inf)
        self.count = np.zeros(len(window))

    def place(self, now: float) -> Floats:
        """The instant in windows."""
        place: Floats = (now - self.phase) / self.window
        return place

    def since(self, begin: float, now: float) -> Floats:
        return np.maximum(begin, now - (self.place(now) % 1.0) * self.window)

    def used(self, now: float) -> Floats:
        return np.where(np.floor(self.place(now)) <= self.number, self.count, 0.0)

    def charge(self, now: float, amount: Floats | float, first: Floats | None = None) -> None:
        number = np.floor(self.place(now))
        self.count = np.where(number > self.number, 0.0, self.count) + amount
        self.number = np.maximum(number, self.number)

    def before(self, now: float, rate: Floats, most: float, rng: np.random.Generator) -> None:
        place = self.place(now)
        self.number = np.floor(place)
        self.count = np.minimum(rng.poisson(rate * self.window * (place - self.number)), most).astype(float)


class SlidingCounter(ClockWindow):
    """This window, and of the last one the share that is still to come: no whole number, and whoever asks rounds it."""

    ROWS = ("number", "count", "last")

    def since(self, begin: float, now: float) -> Floats:
        # What came before the edge counts too, if ever less.
        return np.full(len(self.window), begin)

    def __init__(self, window: Floats, phase: Floats) -> None:
        super().__init__(window, phase)
        self.last = np.zeros(len(window))

    def used(self, now: float) -> Floats:
        place = self.place(now)
        ahead = np.maximum(np.floor(place) - self.number, 0.0)
        rest = np.where(ahead > 0, np.floor(place) + 1 - place, np.minimum(self.number + 1 - place, 1.0))
        this = np.where(ahead == 0, self.count, 0.0)
        last = np.where(ahead == 0, self.last, np.where(ahead == 1, self.count, 0.0))
        used: Floats = this + last * rest
        return used

    def charge(self, now: float, amount: Floats | float, first: Floats | None = None) -> None:
        ahead = np.floor(self.place(now)) - self.number
        self.last = np.where(ahead <= 0, self.last, np.where(ahead == 1, self.count, 0.0))
        super().charge(now, amount)

    def before(self, now: float, rate: Floats, most: float, rng: np.random.Generator) -> None:
        super().before(now, rate, most, rng)
        self.last = np.minimum(rng.poisson(rate * self.window), most).astype(float)


class SlidingLog(State):
    """Each charge counts for a window from its own time."""

    ROWS = ("total",)

    def __init__(self, window: Floats, phase: Floats) -> None:
        super().__init__(window, phase)
        self.times = np.full(64, np.inf)
        self.total = np.zeros((len(window), len(self.times) + 1))
        """What was charged up to each of the times."""
        self.made = 0

    def used(self, now: float) -> Floats:
        gone = np.searchsorted(self.times[: self.made], now - self.window, "right")
        used: Floats = self.total[:, self.made] - self.total[np.arange(len(self.window)), gone]
        return used

    def charge(self, now: float, amount: Floats | float, first: Floats | None = None) -> None:
        if self.made == len(self.times):
            self.times = np.concatenate([self.times, np.full(self.made, np.inf)])
            self.total = np.concatenate([self.total, np.zeros((len(self.total), self.made))], axis=1)
        self.times[self.made] = now
        self.total[:, self.made + 1] = self.total[:, self.made] + amount
        self.made += 1

    def before(self, now: float, rate: Floats, most: float, rng: np.random.Generator) -> None:
        pieces = 100
        longest = float(self.window.max())
        for piece in range(pieces):
            self.charge(
                now - longest * (1 - piece / pieces),
                rng.poisson(rate * longest / pieces).astype(float),
            )


class TokenBucket(State):
    """What lacks flows back all the time, one in each `window` seconds."""

    ROWS = ("lack",)

    def __init__(self, window: Floats, phase: Floats) -> None:
        super().__init__(window, phase)
        self.lack = np.zeros(len(window))
        self.now = -np.inf

    def used(self, now: float) -> Floats:
        if self.now == -np.inf:
            return self.lack
        return np.maximum(0.0, self.lack - max(0.0, now - self.now) / self.window)

    def charge(self, now: float, amount: Floats | float, first: Floats | None = None) -> None:
        self.lack = self.used(now) + amount
        self.now = now

    def before(self, now: float, rate: Floats, most: float, rng: np.random.Generator) -> None:
        self.lack = rng.poisson(np.minimum(1.0, rate * self.window)).astype(float)
        self.now = now


STATES: dict[Kind, type[State]] = {
    "fixed_window": FixedWindow,
    "clock_window": ClockWindow,
    "sliding_log": SlidingLog,
    "sliding_counter": SlidingCounter,
    "token_bucket": TokenBucket,
}
