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
# A bucket that holds one request lets the next pass an interval of the limit later. As long as hardly anything is late
# two are kept as far apart, and by so much more: a part of it, or what stamps and networks are off.
_CLEAR = 0.025
_CLEAR_NS = 3_000_000
# One that has not really gone yet is looked at again so soon.
_AGAIN_NS = 2_000_000


class Flow:
    """At most `most` of a `limit` in any window, and evenly.

    The pace is `most` a window, kept on the average: the few that went late are made up for, nearer to one another. Of
    requests no two are nearer than the limit's own pace unless more than one is late, counted from when they really
    went; and never, once `be_strict` was called.
    """

    __slots__ = (
        "_amount",
        "_apart_ns",
        "_going",
        "_last_ns",
        "_late",
        "_lead_ns",
        "_nearest",
        "_rate",
        "_spacing",
        "_wide",
        "cap",
        "limit",
        "most",
        "strict",
        "tally",
        "window_ns",
    )

    def __init__(
        self, limit: float, most: float, window_ns: int, amount: Callable[[Sent], float], *, lead_ns: int = 0
    ) -> None:
        """The first waits for `lead_ns`."""
        self._amount = amount
        self._lead_ns = lead_ns
        self._last_ns: int | None = None
        self._going = self._wide = False
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
        limit_ns = window_ns / max(limit, most)
        spacing.unit_ns = self._nearest * limit_ns
        rate.late_ns = max(_GRAIN_NS, window_ns * _CREDIT)
        self._apart_ns = 0.0
        if self._amount is requests_of and (self.strict or limit_ns >= _GRAIN_NS):
            clear_ns = limit_ns + max(_CLEAR_NS, limit_ns * _CLEAR)
            self._apart_ns = rate.unit_ns if self._wide else min(rate.unit_ns, clear_ns)

    @property
    def unit_ns(self) -> float:
        """The pace: how long one takes to be earned."""
        return self._rate.unit_ns

    def be_strict(self, *, wide: bool = False) -> None:
        """From now on no two are nearer than the limit's own pace; `wide`: than ours, and lost time stays lost."""
        self.strict = True
        self._wide = self._wide or wide
        self.set(self.limit, self.most)

    def wait_ns(self, now_ns: int, units: float) -> int:
        """How long until so much may go."""
        rate, spacing = self._rate, self._spacing
        if self._lead_ns:
            rate.begin(now_ns + self._lead_ns)
            self._lead_ns = 0
        spacing.late_ns = max(0.0, _GRAIN_NS - units * spacing.unit_ns / 2)
        rate.late_ns = max(rate.late_ns, self._late * units * rate.unit_ns)
        fits_at_ns = self.tally.fits_at_ns(now_ns, units, self.cap)
        wait_ns = max(fits_at_ns - now_ns, rate.wait_ns(now_ns), spacing.wait_ns(now_ns))
        if self._last_ns is not None and self._apart_ns and (self.strict or rate.behind_ns(now_ns) < rate.unit_ns):
            wait_ns = max(wait_ns, round(self._last_ns + self._apart_ns) - now_ns)
            if self._going and now_ns < self._last_ns + 2 * self._apart_ns:
                wait_ns = max(wait_ns, _AGAIN_NS)
        return wait_ns

    def take(self, now_ns: int, one: Sent, *, going: bool = False) -> None:
        """One goes; `going`: when it really does will be told."""
        amount = self._amount(one)
        self._last_ns, self._going = now_ns, going
        self.tally.add(one)
        self._rate.take(now_ns, amount)
        self._spacing.take(now_ns, amount)

    def started(self, at_ns: int) -> None:
        """The last really went."""
        self._last_ns, self._going = at_ns, False

    def correct(self, one: Sent, more: float) -> None:
        """One has cost so much more than it was thought to, below 0 less."""
        self.tally.correct(one, more)
        self._rate.correct(more)
        self._spacing.correct(more)

    def left(self, now_ns: int) -> int:
        """What is left of `most` in the window that ends now."""
        return max(0, int(self.most - self.tally.at(now_ns)))
