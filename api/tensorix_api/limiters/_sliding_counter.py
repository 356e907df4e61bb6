"""A sliding window guessed from two counts."""

from __future__ import annotations

from collections.abc import Mapping

from tensorix_api.limiters._limiter import Cost, Decision, Grant, Resource, Standing, check_window, decide, needed

__all__ = ["SlidingCounter"]


class SlidingCounter:
    """So many requests, or tokens, in about any window: this fixed window's count and a share of the last one's.

    Windows begin at `phase_ns` + k * `window_ns` for every whole k. At e ns into a window there count
    ``last * (window_ns - e) / window_ns + this``: as if the last window's charges had come evenly. Exact in integers;
    what is left is rounded down to whole units. At an edge the share has come to 0 and this count, now the last one's,
    counts whole as before: what counts never jumps up.

    A settlement changes the count of the reservation's window while that is this one or the last one, and nothing
    afterwards. Where `window_ns` or `phase_ns` is changed, the counts stay with the window that holds the last call.
    """

    __slots__ = ("_at_ns", "_last", "_number", "_this", "limit", "name", "phase_ns", "resource", "window_ns")

    def __init__(
        self, resource: Resource, limit: int, window_ns: int, *, phase_ns: int = 0, name: str | None = None
    ) -> None:
        check_window(limit, window_ns)
        self.resource: Resource = resource
        self.limit = limit
        self.window_ns = window_ns
        self.phase_ns = phase_ns
        self.name = name or resource
        self._at_ns = phase_ns  # a time in this window
        self._number = 0  # of this window, to know whose count a settlement changes
        self._this = 0
        self._last = 0

    def _roll(self, now_ns: int) -> int:
        """Move on to the window that holds `now_ns`; how far into it that is, in ns."""
        into_ns = (now_ns - self.phase_ns) % self.window_ns
        start_ns = now_ns - into_ns
        if self._at_ns < start_ns:
            self._last = self._this if self._at_ns >= start_ns - self.window_ns else 0
            # A window that was skipped puts every earlier one out of reach of settlements.
            self._number += 1 if self._at_ns >= start_ns - self.window_ns else 2
            self._this = 0
        self._at_ns = now_ns
        return into_ns

    def _left(self, now_ns: int) -> int:
        rest_ns = self.window_ns - self._roll(now_ns)
        return self.limit - self._this - -(-self._last * rest_ns // self.window_ns)

    def admit(self, now_ns: int, cost: Cost) -> Decision:
        """Reserve `cost` if it fits; charge nothing if not."""
        return decide(self, now_ns, cost)

    def charge(self, now_ns: int, cost: Cost) -> Grant:
        """Take `cost` whether it fits or not."""
        self._roll(now_ns)
        self._this += cost.of(self.resource)
        return Grant(cost, mark=self._number)

    def settle(self, now_ns: int, grant: Grant, actual: Cost) -> None:
        """Put `actual` in place of the reservation, in its own window, if that still counts."""
        self._roll(now_ns)
        more = actual.of(self.resource) - grant.cost.of(self.resource)
        if grant.mark == self._number:
            self._this += more
        elif grant.mark == self._number - 1:
            self._last += more

    def release(self, now_ns: int, grant: Grant) -> None:
        """Give the reservation back, if its window still counts."""
        self.settle(now_ns, grant, Cost(0, 0))

    def earliest(self, now_ns: int, cost: Cost) -> int | None:
        """Now, or when the share of what was counted is small enough; None where `cost` is more than the limit."""
        need = needed(cost.of(self.resource))
        if need <= self._left(now_ns):
            return now_ns
        if need > self.limit:
            return None
        start_ns = now_ns - self._roll(now_ns)
        if self._this + need <= self.limit:
            return start_ns + self._fades_ns(self._last, self.limit - need - self._this)
        return start_ns + self.window_ns + self._fades_ns(self._this, self.limit - need)

    def _fades_ns(self, count: int, room: int) -> int:
        """How far into a window the last one's `count` still takes more than `room`: count * (w - e) / w <= room."""
        return max(0, self.window_ns - room * self.window_ns // count)

    def remaining(self, now_ns: int) -> Mapping[Resource, int]:
        """What is left by both counts."""
        return {self.resource: max(0, self._left(now_ns))}

    def standing(self, now_ns: int) -> Mapping[Resource, Standing]:
        """Limit and what is left of it; whole when no window that was charged counts any more."""
        left = self._left(now_ns)
        start_ns = now_ns - self._roll(now_ns)
        windows = 2 if self._this else 1
        whole_at_ns = start_ns + windows * self.window_ns if left < self.limit else now_ns
        return {self.resource: Standing(self.name, self.limit, left, whole_at_ns)}
