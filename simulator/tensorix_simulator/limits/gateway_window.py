"""Requests and tokens counted as LiteLLM's gateway counts them, alone and in memory (1.106.2, seen from outside)."""

from __future__ import annotations

from collections.abc import Mapping

from tensorix_api.limiters import Cost, Decision, Grant, Resource, Standing

__all__ = ["GatewayLimit", "GatewayWindow"]

_SECOND_NS = 1_000_000_000


class GatewayWindow:
    """One key's window, which its requests and its tokens share.

    It opens with the first charge, is reckoned from the whole second of the clock before that, and is over when
    `window_ns` have passed from there: so it is up to a second short. The counts are kept by another clock, for
    exactly `window_ns` from the first charge; when they expire, the window that may have opened meanwhile is forgotten
    too. So up to three limits pass in the second around an edge. Of requests that were counted beyond the limit (a
    refused one counts, once) the gateway sees the counts only: it refuses until they expire.
    """

    __slots__ = ("_expires_ns", "_start_ns", "limits", "phase_ns", "used", "window_ns")

    def __init__(self, window_ns: int, phase_ns: int) -> None:
        """`phase_ns` is any instant at which a second of the clock turns."""
        self.limits: dict[Resource, int] = {}
        self.window_ns = window_ns
        self.phase_ns = phase_ns
        self.used: dict[Resource, int] = {"requests": 0, "tokens": 0}
        self._start_ns = 0
        self._expires_ns: int | None = None

    def _second_ns(self, now_ns: int) -> int:
        return now_ns - (now_ns - self.phase_ns) % _SECOND_NS

    def is_kept(self, now_ns: int) -> bool:
        """Whether the counts have not expired."""
        return self._expires_ns is not None and now_ns <= self._expires_ns

    def is_pinned(self, now_ns: int) -> bool:
        """Whether a request was refused, so that the counts must expire."""
        limit = self.limits.get("requests")
        return limit is not None and self.used["requests"] > limit and self.is_kept(now_ns)

    def is_spent(self, now_ns: int) -> bool:
        """Whether no request is left."""
        limit = self.limits.get("requests")
        return limit is not None and self.is_open(now_ns) and self.used["requests"] >= limit

    def is_open(self, now_ns: int) -> bool:
        """Whether what was counted counts."""
        if self.is_pinned(now_ns):
            return True
        return self.is_kept(now_ns) and self._second_ns(now_ns) - self._start_ns < self.window_ns

    def roll(self, now_ns: int) -> None:
        """Open a window where none is open."""
        if self.is_open(now_ns):
            return
        self.used = {"requests": 0, "tokens": 0}
        self._start_ns = self._second_ns(now_ns)
        if not self.is_kept(now_ns):
            self._expires_ns = now_ns + self.window_ns

    def over_ns(self, now_ns: int) -> int:
        """When the open window is over."""
        assert self._expires_ns is not None
        if self.is_pinned(now_ns):
            return self._expires_ns + 1
        # The first second of the clock that is far enough from the start.
        seconds = -(-self.window_ns // _SECOND_NS)
        return min(self._start_ns + seconds * _SECOND_NS, self._expires_ns + 1)


class GatewayLimit:
    """One resource of such a window, as a limiter. The gateway looks at requests first: so they stand first."""

    __slots__ = ("_resource", "_window", "name")

    def __init__(self, resource: Resource, limit: int, window: GatewayWindow, *, name: str | None = None) -> None:
        self.name = name or resource
        self._resource: Resource = resource
        self._window = window
        self.limit = limit

    @property
    def limit(self) -> int:
        """May be assigned at any time; what was used stays."""
        return self._window.limits[self._resource]

    @limit.setter
    def limit(self, limit: int) -> None:
        self._window.limits[self._resource] = limit

    @property
    def window_ns(self) -> int:
        """May be assigned at any time, for the window's other resource too; counts expire when they were to."""
        return self._window.window_ns

    @window_ns.setter
    def window_ns(self, window_ns: int) -> None:
        self._window.window_ns = window_ns

    def admit(self, now_ns: int, cost: Cost) -> Decision:
        """Reserve `cost` if it fits; charge nothing if not."""
        at_ns = self.earliest(now_ns, cost)
        if at_ns != now_ns:
            return Decision(False, self.remaining(now_ns), self.name, at_ns)
        grant = self.charge(now_ns, cost)
        return Decision(True, self.remaining(now_ns), grant=grant)

    def charge(self, now_ns: int, cost: Cost) -> Grant:
        """Take `cost` whether it fits or not."""
        self._window.roll(now_ns)
        self._window.used[self._resource] += cost.of(self._resource)
        return Grant(cost)

    def settle(self, now_ns: int, grant: Grant, actual: Cost) -> None:
        """Put `actual` in place of the reservation, whichever window is open by now: more than a limit may be left."""
        self._window.used[self._resource] += actual.of(self._resource) - grant.cost.of(self._resource)

    def release(self, now_ns: int, grant: Grant) -> None:
        """Give the reservation back, likewise."""
        self.settle(now_ns, grant, Cost(0, 0))

    def earliest(self, now_ns: int, cost: Cost) -> int | None:
        """Now, or when the open window is over; None where `cost` is more than a whole window's limit.

        While its requests are spent nobody looks at its tokens: they hold nothing.
        """
        if self._resource == "tokens" and self._window.is_spent(now_ns):
            return now_ns
        need = cost.of(self._resource) or 1
        if need <= self._left(now_ns):
            return now_ns
        return self._window.over_ns(now_ns) if need <= self.limit else None

    def _left(self, now_ns: int) -> int:
        return self.limit - (self._window.used[self._resource] if self._window.is_open(now_ns) else 0)

    def remaining(self, now_ns: int) -> Mapping[Resource, int]:
        """What is left in the window that is open, or would open now."""
        return {self._resource: max(0, self._left(now_ns))}

    def standing(self, now_ns: int) -> Mapping[Resource, Standing]:
        """Limit and what is left of it; whole when the open window is over."""
        left = self._left(now_ns)
        whole_at_ns = self._window.over_ns(now_ns) if left < self.limit else now_ns
        return {self._resource: Standing(self.name, self.limit, left, whole_at_ns)}
