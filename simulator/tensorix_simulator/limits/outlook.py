"""When a request would pass several limiters, as far as that can be told."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass

from tensorix_api.limiters import Cost, InFlight, Limiter

__all__ = ["Outlook", "Plan", "outlook"]


@dataclass(frozen=True, slots=True)
class Outlook:
    """When `cost` would pass if nothing else came."""

    at_ns: int | None
    """Not before now; None: never, by waiting alone."""
    held_by: Limiter | None
    """The limiter that holds it longest; None where it passes now."""

    @property
    def is_full(self) -> bool:
        """Whether it waits for one of the requests in flight to end."""
        return self.at_ns is None and isinstance(self.held_by, InFlight)


def outlook(limiters: Iterable[Limiter], now_ns: int, cost: Cost) -> Outlook:
    """Of limiters whose room never shrinks by waiting, the last to open decides; one that never does, first of all."""
    at_ns, held_by, full = now_ns, None, None
    for limiter in limiters:
        opens_ns = limiter.earliest(now_ns, cost)
        if opens_ns is None:
            if not isinstance(limiter, InFlight):
                return Outlook(None, limiter)
            full = limiter
        elif opens_ns > at_ns:
            at_ns, held_by = opens_ns, limiter
    return Outlook(at_ns, held_by) if full is None else Outlook(None, full)


class Plan:
    """When requests that wait in line will pass, if nothing but they is charged: copies of the limiters, run ahead.

    Requests in flight are left out: nobody knows when they end.
    """

    __slots__ = ("_copies", "_last_ns", "made_ns")

    def __init__(self, now_ns: int) -> None:
        self.made_ns = now_ns
        self._last_ns = now_ns
        self._copies: dict[Limiter, Limiter] = {}

    def add(self, limiters: Iterable[Limiter], now_ns: int, cost: Cost, by_ns: int) -> Outlook:
        """When one more passes, after those before it; it joins them where that is not later than `by_ns`."""
        windows = [self._copy(limiter) for limiter in limiters if not isinstance(limiter, InFlight)]
        at_ns = max(now_ns, self._last_ns)
        planned = outlook(windows, at_ns, cost)
        if planned.at_ns is not None and planned.at_ns <= by_ns:
            self._last_ns = planned.at_ns
            for window in windows:
                window.charge(planned.at_ns, cost)
        return planned

    def _copy(self, limiter: Limiter) -> Limiter:
        copied = self._copies.get(limiter)
        if copied is None:
            copied = self._copies[limiter] = deepcopy(limiter)
        return copied
