"""One limit of one resource, kept by an even pace and by a sum over its window."""

from __future__ import annotations

import math
from collections.abc import Callable

from tensorix_loadtests._pacing._cadence import Cadence
from tensorix_loadtests._pacing._tally import Sent, Tally, requests_of

__all__ = ["Flow"]

# What arrives in so short a time arrives at once: no client and no network keeps finer intervals.
_GRAIN_NS = 20_000_000
# What comes late may be made up for, up to this part of a window.
_CREDIT = 0.01
# Requests on their way do not all take the same time, so that a window of the server's is not quite one of ours.
_GUARD = 0.002
_FEW = 20
# How many late ones may be made up for, and how near two may then be, in parts of the limit's own pace.
_LATE = 2.5
_NEAREST = 0.4
# Of tokens less: what goes near to another takes what a server holds for both.
_LATE_TOKENS = 2.5
_NEAREST_TOKENS = 0.7


class Flow:
    """At most `most` of a `limit` in any window, and evenly.

    The pace is `most` a window, kept on the average: the few that went late are made up for, nearer to one another.
    """

    __slots__ = (
        "_amount",
        "_late",
        "_nearest",
        "_rate",
        "_spacing",
        "cap",
        "limit",
        "most",
        "strict",
        "tally",
        "window_ns",
    )

    def __init__(self, limit: float, most: float, window_ns: int, amount: Callable[[Sent], float]) -> None:
        self._amount = amount
        of_requests = amount is requests_of
        self._late, self._nearest = (_LATE, _NEAREST) if of_requests else (_LATE_TOKENS, _NEAREST_TOKENS)
        self.window_ns = window_ns
        self.tally = Tally(round(window_ns * (1 + _GUARD)), amount)
        self._rate = Cadence(1.0, 0.0)
        self._spacing = Cadence(1.0, 0.0)
        self.strict = False
        self.set(limit, most)

    def set(self, limit: float, most: float) -> None:
        """From now on another limit; what was sent stays."""
        self.limit, self.most = limit, most
        # An even pace of 4.75 has five in some windows; of large limits the part of a unit does not matter.
        self.cap = math.ceil(most) if most < _FEW else most
        window_ns = self.window_ns
        rate, spacing = self._rate, self._spacing
        rate.unit_ns = window_ns / most
        spacing.unit_ns = rate.unit_ns if self.strict else self._nearest * window_ns / max(limit, most)
        rate.late_ns = max(_GRAIN_NS, window_ns * _CREDIT)
        if self.strict:
            spacing.late_ns = 0.0

    def be_strict(self) -> None:
        """From now on no two are nearer than the pace: lost time stays lost."""
        self.strict = True
        self.set(self.limit, self.most)

    def wait_ns(self, now_ns: int, units: float) -> int:
        """How long until so much may go."""
        rate, spacing = self._rate, self._spacing
        if not self.strict:
            spacing.late_ns = max(0.0, _GRAIN_NS - units * spacing.unit_ns / 2)
            rate.late_ns = max(rate.late_ns, self._late * units * rate.unit_ns)
        fits_at_ns = self.tally.fits_at_ns(now_ns, units, self.cap)
        return max(fits_at_ns - now_ns, rate.wait_ns(now_ns), spacing.wait_ns(now_ns))

    def take(self, now_ns: int, one: Sent) -> None:
        """One goes."""
        amount = self._amount(one)
        self.tally.add(one)
        self._rate.take(now_ns, amount)
        self._spacing.take(now_ns, amount)

    def correct(self, one: Sent, more: float) -> None:
        """One has cost so much more than it was thought to, below 0 less."""
        self.tally.correct(one, more)
        self._rate.correct(more)
        self._spacing.correct(more)

    def left(self, now_ns: int) -> int:
        """What is left of `most` in the window that ends now."""
        return max(0, int(self.most - self.tally.at(now_ns)))
