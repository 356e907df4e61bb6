"""Every charge counts for exactly a window."""

from __future__ import annotations

from collections.abc import Mapping

from tensorix_api.limiters._limiter import Cost, Decision, Grant, Resource, Standing, check_window, decide, needed

__all__ = ["SlidingLog"]

_MANY = 256


class SlidingLog:
    """So many requests, or tokens, in any window: no interval of `window_ns` ever sees more admitted than the limit.

    A charge at t counts in [t, t + window_ns). A settlement changes the charge where it stands, at its old time, as
    long as it counts; afterwards it changes nothing. Where `window_ns` is made longer, charges come back that no call
    has seen run out yet; the others are forgotten.

    It keeps each charge of the last window. A decision takes constant time over many, but for the time to come back:
    that walks over as many of the oldest charges as have to run out.
    """

    __slots__ = ("_amounts", "_gone", "_head", "_times_ns", "_used", "limit", "name", "resource", "window_ns")

    def __init__(self, resource: Resource, limit: int, window_ns: int, *, name: str | None = None) -> None:
        check_window(limit, window_ns)
        self.resource: Resource = resource
        self.limit = limit
        self.window_ns = window_ns
        self.name = name or resource
        # Lists with a dead head rather than deques: a settlement finds its charge by number at once.
        self._times_ns: list[int] = []
        self._amounts: list[int] = []
        self._head = 0  # index of the oldest charge that counts
        self._gone = 0  # charges that were cut off the lists
        self._used = 0

    def _left(self, now_ns: int) -> int:
        """What is left, once the charges that ran out are forgotten."""
        times_ns, over_ns, head = self._times_ns, now_ns - self.window_ns, self._head
        while head < len(times_ns) and times_ns[head] <= over_ns:
            self._used -= self._amounts[head]
            head += 1
        if head > _MANY and 2 * head > len(times_ns):
            del times_ns[:head], self._amounts[:head]
            self._gone += head
            head = 0
        self._head = head
        return self.limit - self._used

    def admit(self, now_ns: int, cost: Cost) -> Decision:
        """Reserve `cost` if it fits; charge nothing if not."""
        return decide(self, now_ns, cost)

    def charge(self, now_ns: int, cost: Cost) -> Grant:
        """Take `cost` whether it fits or not."""
        self._left(now_ns)
        self._times_ns.append(now_ns)
        self._amounts.append(cost.of(self.resource))
        self._used += cost.of(self.resource)
        return Grant(cost, mark=self._gone + len(self._times_ns) - 1)

    def settle(self, now_ns: int, grant: Grant, actual: Cost) -> None:
        """Put `actual` in place of the reservation, at the reservation's time, if it still counts."""
        self._left(now_ns)
        index = grant.mark - self._gone
        if index >= self._head:
            self._used += actual.of(self.resource) - self._amounts[index]
            self._amounts[index] = actual.of(self.resource)

    def release(self, now_ns: int, grant: Grant) -> None:
        """Give the reservation back, if it still counts."""
        self.settle(now_ns, grant, Cost(0, 0))

    def earliest(self, now_ns: int, cost: Cost) -> int | None:
        """Now, or when enough of the oldest charges run out; None where `cost` is more than the limit."""
        need = needed(cost.of(self.resource))
        missing = need - self._left(now_ns)
        if missing <= 0:
            return now_ns
        if need > self.limit:
            return None
        index = self._head
        while (missing := missing - self._amounts[index]) > 0:
            index += 1
        return self._times_ns[index] + self.window_ns

    def remaining(self, now_ns: int) -> Mapping[Resource, int]:
        """What is left in the window that ends now."""
        return {self.resource: max(0, self._left(now_ns))}

    def standing(self, now_ns: int) -> Mapping[Resource, Standing]:
        """Limit and what is left of it; whole when the newest charge of more than 0 runs out."""
        left, whole_at_ns = self._left(now_ns), now_ns
        if left < self.limit:
            index = len(self._amounts) - 1
            while not self._amounts[index]:
                index -= 1
            whole_at_ns = self._times_ns[index] + self.window_ns
        return {self.resource: Standing(self.name, self.limit, left, whole_at_ns)}
