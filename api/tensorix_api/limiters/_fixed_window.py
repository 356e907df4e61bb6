"""So much in each window, and all of it again in the next."""

from __future__ import annotations

from collections.abc import Mapping

from tensorix_api.limiters._limiter import Cost, Decision, Grant, Resource, Standing, check_window, decide, needed

__all__ = ["FixedWindow"]


class FixedWindow:
    """So many requests, or tokens, in a window that a key's first request opens, or that a clock opens.

    The window holds [start, start + window_ns). With `phase_ns` None the first charge at or after its end opens the
    next one there; a refused request opens nothing. Otherwise windows begin at `phase_ns` + k * `window_ns` for every
    whole k, whether anything comes or not: whoever calls knows how far its clock is from the minute. Two windows back
    to back let about twice the limit pass in a short time.

    A settlement changes the window of the reservation while that is open and nothing afterwards, so a long reply
    neither frees nor burdens a later window. Where `window_ns` or `phase_ns` is changed, what was used stays until the
    window ends that the new values give: from the same first charge, or on the clock the one that holds the last.
    """

    __slots__ = ("_first_ns", "_last_ns", "_number", "_used", "limit", "name", "phase_ns", "resource", "window_ns")

    def __init__(
        self,
        resource: Resource,
        limit: int,
        window_ns: int,
        *,
        phase_ns: int | None = None,
        name: str | None = None,
    ) -> None:
        check_window(limit, window_ns)
        self.resource: Resource = resource
        self.limit = limit
        self.window_ns = window_ns
        self.phase_ns = phase_ns
        self.name = name or resource
        self._number = 0  # of the last window that was charged; 0 before the first
        self._first_ns = 0
        self._last_ns = 0
        self._used = 0

    def _end_ns(self) -> int:
        """When the window ends, or ended, that was charged last."""
        if self.phase_ns is None:
            return self._first_ns + self.window_ns
        return self._last_ns + self.window_ns - (self._last_ns - self.phase_ns) % self.window_ns

    def _is_open(self, now_ns: int) -> bool:
        return self._number > 0 and now_ns < self._end_ns()

    def _left(self, now_ns: int) -> int:
        return self.limit - self._used if self._is_open(now_ns) else self.limit

    def admit(self, now_ns: int, cost: Cost) -> Decision:
        """Reserve `cost` if it fits; charge nothing if not."""
        return decide(self, now_ns, cost)

    def charge(self, now_ns: int, cost: Cost) -> Grant:
        """Take `cost` whether it fits or not; opens a window where none is open."""
        if not self._is_open(now_ns):
            self._number, self._first_ns, self._used = self._number + 1, now_ns, 0
        self._last_ns = now_ns
        self._used += cost.of(self.resource)
        return Grant(cost, mark=self._number)

    def settle(self, now_ns: int, grant: Grant, actual: Cost) -> None:
        """Put `actual` in place of the reservation, if its window is still open."""
        if grant.mark == self._number and self._is_open(now_ns):
            self._used += actual.of(self.resource) - grant.cost.of(self.resource)

    def release(self, now_ns: int, grant: Grant) -> None:
        """Give the reservation back, if its window is still open; the window stays where it is."""
        self.settle(now_ns, grant, Cost(0, 0))

    def earliest(self, now_ns: int, cost: Cost) -> int | None:
        """Now, or when the open window ends; None where `cost` is more than a whole window's limit."""
        need = needed(cost.of(self.resource))
        if need <= self._left(now_ns):
            return now_ns
        return self._end_ns() if need <= self.limit else None

    def remaining(self, now_ns: int) -> Mapping[Resource, int]:
        """What is left in the window that is open, or would open now."""
        return {self.resource: max(0, self._left(now_ns))}

    def standing(self, now_ns: int) -> Mapping[Resource, Standing]:
        """Limit and what is left of it; whole when the open window ends."""
        left = self._left(now_ns)
        whole_at_ns = self._end_ns() if left < self.limit else now_ns
        return {self.resource: Standing(self.name, self.limit, left, whole_at_ns)}
