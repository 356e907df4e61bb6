"""One request's account with its key's limits."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tensorix_api.limiters import AllOf, Cost, Decision, Grant, Resource

__all__ = ["NO_END", "NO_LEDGER", "Ledger", "OverLimit"]

NO_LEDGER: Mapping[str, Any] = {
    "before_requests": None,
    "before_tokens": None,
    "remaining_requests": None,
    "remaining_tokens": None,
    "ledger_ns": None,
    "waited_ns": 0,
    "over": None,
}
"""What is said of a request without a key when it is decided."""

NO_END: Mapping[str, Any] = {"settled_ns": None, "remaining_requests": None, "remaining_tokens": None}
"""And when it has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OverLimit:
    """Which limit a request was over."""

    name: str
    """The limiter's: `requests`, `tokens` or the text of another limit."""
    resource: Resource | None
    """None: too many in flight."""
    limit: int
    window_ns: int
    """Of the limit; 0: it has none."""
    wait_ns: int | None
    """Until it would pass; None where waiting alone does not help."""
    unix_s: float
    """When it was refused, by the clock."""


class Ledger:
    """What was left before the request and after it, what it reserved, and that this is settled once."""

    __slots__ = (
        "_freed", "_grant", "alias", "at_ns", "before", "granted", "limiter", "over", "remaining", "settled_ns",
        "waited_ns",
    )  # fmt: skip

    def __init__(self, alias: str, limiter: AllOf, freed: Callable[[str], None]) -> None:
        """`freed` is told the key's alias whenever something may have become free again."""
        self.alias = alias
        self.limiter = limiter
        self.before: Mapping[Resource, int] = {}
        self.remaining: Mapping[Resource, int] = {}
        self.granted: Mapping[Resource, int] = {}
        """What was left when the limits had been asked, nothing settled yet."""
        self.at_ns = 0
        """When the limits were asked, or looked at where nothing is charged; 0: not yet."""
        self.settled_ns: int | None = None
        self.waited_ns = 0
        self.over: OverLimit | None = None
        self._grant: Grant | None = None
        self._freed = freed

    def look(self, now_ns: int) -> None:
        """Read what is left, where nothing is charged."""
        self.at_ns = now_ns
        self.before = self.remaining = self.limiter.remaining(now_ns)

    def ask(self, now_ns: int, cost: Cost) -> Decision:
        """Reserve `cost`, or nothing."""
        self.look(now_ns)
        decision = self.limiter.admit(now_ns, cost)
        self.remaining = self.granted = decision.remaining
        self._grant = decision.grant
        return decision

    def charge(self, now_ns: int, cost: Cost) -> None:
        """Take `cost` for good, whether it fits or not."""
        self.limiter.charge(now_ns, cost)
        self.remaining = self.limiter.remaining(now_ns)

    def settle(self, tokens: int) -> None:
        """Charge what was really used, once; what comes later changes nothing."""
        grant, self._grant = self._grant, None
        if grant is None:
            return
        self.settled_ns = now_ns = time.monotonic_ns()
        self.limiter.settle(now_ns, grant, Cost(grant.cost.requests, tokens))
        self._freed(self.alias)

    def look_again(self) -> None:
        """Read what is left now."""
        self.remaining = self.limiter.remaining(time.monotonic_ns())

    def _left(self) -> dict[str, int | None]:
        return {
            "remaining_requests": self.remaining.get("requests"),
            "remaining_tokens": self.remaining.get("tokens"),
        }

    def decided(self) -> dict[str, Any]:
        """What the truth says when the request is decided."""
        if not self.at_ns:
            self.look(time.monotonic_ns())
        elif self.settled_ns is not None:
            self.remaining = self.limiter.remaining(self.settled_ns)
        return {
            "before_requests": self.before.get("requests"),
            "before_tokens": self.before.get("tokens"),
            **self._left(),
            "ledger_ns": self.at_ns,
            "waited_ns": self.waited_ns,
            "over": self.over.name if self.over else None,
        }

    def ended(self) -> dict[str, Any]:
        """What the truth says when the request has ended."""
        self.look_again()
        return {"settled_ns": self.settled_ns, **self._left()}
