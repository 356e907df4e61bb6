"""A bucket that refills all the time."""

from __future__ import annotations

from collections.abc import Mapping

from tensorix_api.limiters._limiter import Cost, Decision, Grant, Resource, Standing, check_window, decide, needed

__all__ = ["TokenBucket"]


class TokenBucket:
    """At most `burst` requests, or tokens, at once; `limit` of them flow back in each `window_ns`, all the time.

    A `burst` of None is the limit's. This is GCRA (ITU-T I.371): with an emission interval T = window_ns / limit, what
    the bucket lacks at t is (TAT - t) / T, where TAT is the theoretical arrival time and t where that has passed. n
    units pass at t if max(TAT, t) + n * T <= t + burst * T, and then TAT = max(TAT, t) + n * T; the tolerance of a
    single one is tau = (burst - 1) * T. Exact in integers: what it lacks is kept in units * ns of the window.

    A settlement gives back or takes at its own time, whenever that is; what is given back above the burst is lost.
    Where `limit` or `window_ns` is changed, the new rate holds from the last call on; `burst` says how much more may be
    taken, and what was taken stays so.
    """

    __slots__ = ("_at_ns", "_lack", "_scale_ns", "burst", "limit", "name", "resource", "window_ns")

    def __init__(
        self,
        resource: Resource,
        limit: int,
        window_ns: int,
        *,
        burst: int | None = None,
        name: str | None = None,
    ) -> None:
        check_window(limit, window_ns)
        if burst is not None and burst < 0:
            raise ValueError("a burst is at least 0")
        self.resource: Resource = resource
        self.limit = limit
        self.window_ns = window_ns
        self.burst = burst
        self.name = name or resource
        self._at_ns = 0
        self._lack = 0  # units * ns of the window: what flows back in that time is exactly limit * ns
        self._scale_ns = window_ns

    @property
    def capacity(self) -> int:
        """What the full bucket holds."""
        return self.limit if self.burst is None else self.burst

    def _flow(self, now_ns: int) -> int:
        """Let flow back what is due; what is lacking then."""
        if self._scale_ns != self.window_ns:
            self._lack = -(-self._lack * self.window_ns // self._scale_ns)
            self._scale_ns = self.window_ns
        self._lack = max(0, self._lack - self.limit * max(0, now_ns - self._at_ns))
        self._at_ns = now_ns
        return self._lack

    def _left(self, now_ns: int) -> int:
        return self.capacity + -self._flow(now_ns) // self.window_ns

    def admit(self, now_ns: int, cost: Cost) -> Decision:
        """Reserve `cost` if it fits; charge nothing if not."""
        return decide(self, now_ns, cost)

    def charge(self, now_ns: int, cost: Cost) -> Grant:
        """Take `cost` whether it fits or not."""
        self._lack = self._flow(now_ns) + cost.of(self.resource) * self.window_ns
        return Grant(cost)

    def settle(self, now_ns: int, grant: Grant, actual: Cost) -> None:
        """Take now what `actual` is more than the reservation, or give back what it is less, up to the burst."""
        more = actual.of(self.resource) - grant.cost.of(self.resource)
        self._lack = self._flow(now_ns) + more * self.window_ns  # below 0 it is cut off by the next flow

    def release(self, now_ns: int, grant: Grant) -> None:
        """Give the reservation back, up to the burst."""
        self.settle(now_ns, grant, Cost(0, 0))

    def earliest(self, now_ns: int, cost: Cost) -> int | None:
        """Now, or when enough has flowed back; None where `cost` is more than the burst, or nothing flows."""
        room = self.capacity - needed(cost.of(self.resource))
        missing = self._flow(now_ns) - room * self.window_ns
        if missing <= 0:
            return now_ns
        return None if room < 0 or not self.limit else now_ns - (-missing // self.limit)

    def remaining(self, now_ns: int) -> Mapping[Resource, int]:
        """What is in the bucket, in whole units."""
        return {self.resource: max(0, self._left(now_ns))}

    def standing(self, now_ns: int) -> Mapping[Resource, Standing]:
        """The burst and what is left of it; whole when the bucket is full."""
        left = self._left(now_ns)
        whole_at_ns: int | None = now_ns
        if self._lack:
            whole_at_ns = now_ns - (-self._lack // self.limit) if self.limit else None
        return {self.resource: Standing(self.name, self.capacity, left, whole_at_ns)}
