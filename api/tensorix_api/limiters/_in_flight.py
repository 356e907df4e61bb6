"""So many requests at once."""

from __future__ import annotations

from collections.abc import Mapping

from tensorix_api.limiters._limiter import Cost, Decision, Grant, Resource, Standing

__all__ = ["InFlight"]


class InFlight:
    """So many requests at once, each with one place, whatever it costs. `settle` and `release` free the place.

    Waiting alone frees nothing: while it is full, `earliest` and a refusal's `retry_at_ns` are None, and whoever wants
    to wait asks again when a request has ended. A request that is charged without being admitted (a refused one that
    counts) is not in flight: `charge` takes no place.

    It limits no resource. `remaining` and `standing` are empty, since what servers print there are requests and tokens
    of a window; `running` is how many are in flight.
    """

    __slots__ = ("limit", "name", "running")

    def __init__(self, limit: int, *, name: str = "in_flight") -> None:
        if limit < 0:
            raise ValueError("a limit is at least 0")
        self.limit = limit
        self.name = name
        self.running = 0

    def admit(self, now_ns: int, cost: Cost) -> Decision:
        """Take a place if one is free."""
        if self.running >= self.limit:
            return Decision(False, {}, self.name)
        self.running += 1
        return Decision(True, {}, grant=Grant(cost, mark=1))

    def charge(self, now_ns: int, cost: Cost) -> Grant:
        """Take nothing: what was not admitted is not in flight."""
        return Grant(cost)

    def settle(self, now_ns: int, grant: Grant, actual: Cost) -> None:
        """Free the place."""
        self.running -= grant.mark

    def release(self, now_ns: int, grant: Grant) -> None:
        """Free the place."""
        self.running -= grant.mark

    def earliest(self, now_ns: int, cost: Cost) -> int | None:
        """Now, or None while it is full."""
        return now_ns if self.running < self.limit else None

    def remaining(self, now_ns: int) -> Mapping[Resource, int]:
        """Nothing: it limits no resource."""
        return {}

    def standing(self, now_ns: int) -> Mapping[Resource, Standing]:
        """Nothing: it limits no resource."""
        return {}
