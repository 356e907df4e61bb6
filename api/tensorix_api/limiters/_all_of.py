"""Several limiters at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tensorix_api.limiters._limiter import Cost, Decision, Grant, Limiter, Resource, Standing

__all__ = ["AllOf"]


class AllOf:
    """Several limiters that must all admit; where one refuses, none is charged.

    Of a resource that several of them limit, the least that remains is what remains. With no limiter in it,
    everything passes. It may itself be one of several; a refusal names the limiter inside that holds longest. One
    limiter stands in it once: twice, it would be asked as if it were charged once.
    """

    __slots__ = ("limiters", "name")

    def __init__(self, limiters: Sequence[Limiter], *, name: str = "all") -> None:
        self.limiters = tuple(limiters)
        self.name = name

    def admit(self, now_ns: int, cost: Cost) -> Decision:
        """Reserve `cost` with every limiter, or with none."""
        binding, retry_at_ns = self._holding(now_ns, cost)
        if binding is not None:
            return Decision(False, self.remaining(now_ns), binding, retry_at_ns)
        # Admitted rather than charged: a place in flight is taken only so.
        decisions = [limiter.admit(now_ns, cost) for limiter in self.limiters]
        parts = tuple(decision.grant for decision in decisions if decision.grant is not None)
        return Decision(True, _least(decision.remaining for decision in decisions), grant=Grant(cost, parts=parts))

    def _holding(self, now_ns: int, cost: Cost) -> tuple[str | None, int | None]:
        """The name of the limiter that holds `cost` longest, and until when; (None, now) where none does."""
        binding: str | None = None
        until_ns = now_ns
        for limiter in self.limiters:
            if isinstance(limiter, AllOf):
                name, at_ns = limiter._holding(now_ns, cost)
            else:
                name, at_ns = limiter.name, limiter.earliest(now_ns, cost)
            if at_ns is None:
                return name, None
            if at_ns > until_ns:
                binding, until_ns = name, at_ns
        return binding, until_ns

    def charge(self, now_ns: int, cost: Cost) -> Grant:
        """Charge every limiter, whether it fits or not."""
        return Grant(cost, parts=tuple(limiter.charge(now_ns, cost) for limiter in self.limiters))

    def settle(self, now_ns: int, grant: Grant, actual: Cost) -> None:
        """Settle with every limiter."""
        for limiter, part in zip(self.limiters, grant.parts, strict=True):
            limiter.settle(now_ns, part, actual)

    def release(self, now_ns: int, grant: Grant) -> None:
        """Give the reservation back to every limiter."""
        for limiter, part in zip(self.limiters, grant.parts, strict=True):
            limiter.release(now_ns, part)

    def earliest(self, now_ns: int, cost: Cost) -> int | None:
        """When the last of them would let `cost` pass: what is left in a limiter never shrinks by waiting."""
        return self._holding(now_ns, cost)[1]

    def remaining(self, now_ns: int) -> Mapping[Resource, int]:
        """The least that any of them has left of each resource."""
        return _least(limiter.remaining(now_ns) for limiter in self.limiters)

    def standing(self, now_ns: int) -> Mapping[Resource, Standing]:
        """Of each resource the limiter with the least remaining; of equals the one that is whole last."""
        tightest: dict[Resource, Standing] = {}
        for limiter in self.limiters:
            for resource, standing in limiter.standing(now_ns).items():
                if resource not in tightest or _is_tighter(standing, tightest[resource]):
                    tightest[resource] = standing
        return tightest


def _least(shares: Iterable[Mapping[Resource, int]]) -> Mapping[Resource, int]:
    least: dict[Resource, int] = {}
    for share in shares:
        for resource, left in share.items():
            least[resource] = min(left, least.get(resource, left))
    return least


def _is_tighter(one: Standing, other: Standing) -> bool:
    if one.remaining != other.remaining or other.whole_at_ns is None:
        return one.remaining < other.remaining
    return one.whole_at_ns is None or one.whole_at_ns > other.whole_at_ns
