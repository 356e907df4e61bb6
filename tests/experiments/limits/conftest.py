"""Limiters as others made them, told apart from the toolkit's own: how each counts is from its documentation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import pytest


class Passing(Protocol):
    """Whether a request passes, asked in the order of time."""

    def passes(self, now_s: float) -> bool: ...


@dataclass
class LimitReq:
    """nginx's `limit_req` with `nodelay`: an excess over the rate that runs off, and refuses above the burst."""

    rate: float
    burst: int
    excess: float = 0.0
    last_s: float | None = None

    def passes(self, now_s: float) -> bool:
        excess = 0.0
        if self.last_s is not None:
            excess = max(0.0, self.excess - self.rate * (now_s - self.last_s) + 1)
        if excess > self.burst:
            return False
        self.excess, self.last_s = excess, now_s
        return True


@dataclass
class FrequencyCounter:
    """haproxy's rates: periods that begin with the first request after a silence, the last one's count fading.

    What it makes of both is cut to a whole number before it is compared.
    """

    limit: int
    period_s: float
    counts_refused: bool
    begin_s: float | None = None
    this: int = 0
    last: int = 0

    def passes(self, now_s: float) -> bool:
        if self.begin_s is None or now_s - self.begin_s >= 2 * self.period_s:
            self.begin_s, self.this, self.last = now_s, 0, 0
        elif now_s - self.begin_s >= self.period_s:
            self.begin_s, self.this, self.last = self.begin_s + self.period_s, 0, self.this
        rest = 1 - (now_s - self.begin_s) / self.period_s
        passes = int(self.this + self.last * rest) < self.limit
        self.this += passes or self.counts_refused
        return passes


@pytest.fixture(scope="session")
def limit_req() -> Callable[..., LimitReq]:
    """nginx's."""
    return LimitReq


@pytest.fixture(scope="session")
def frequency_counter() -> Callable[..., FrequencyCounter]:
    """haproxy's."""
    return FrequencyCounter
