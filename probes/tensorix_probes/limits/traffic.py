"""Whose traffic moved what remains: ours, others', a refill, or tokens that were settled."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise

from tensorix_probes.limits.observation import Observation

__all__ = ["figures_of"]

_LAG_NS = 2 * 10**9
"""So long after a response's end its tokens may be settled."""


def figures_of(observations: Sequence[Observation]) -> Mapping[str, float]:
    """What is told apart in some observations of one key, by name; a figure that nothing speaks for is left out.

    `foreign_*` is what less remained than our own requests explain, so the least that others used; `refilled_*` what
    more did; `settled_tokens` the part of it that was set aside for our own and not used; `counted_KIND` whether the
    server seems to count requests of a kind that need not count, 1 or 0.
    """
    own = sorted((one for one in observations if one.kind != "unauthorised"), key=_head_ns)
    ours = _Ours(own)
    counted = _counted(ours)
    figures: Counter[str] = Counter()
    for what in ("requests", "tokens"):
        said = [one for one in own if getattr(one.limits, f"remaining_{what}") is not None]
        if said:
            figures[f"remaining_{what}"] = getattr(said[-1].limits, f"remaining_{what}")
        for last, one in pairwise(said):
            fell = getattr(last.limits, f"remaining_{what}") - getattr(one.limits, f"remaining_{what}")
            if what == "requests":
                figures.update(_of_requests(fell, ours.between(last, one), counted))
            else:
                figures.update(_of_tokens(fell, ours.settled_between(last, one)))
    for kind, counts in counted.items():
        figures[f"counted_{kind}"] = int(counts)
    figures["own_requests"] = sum(one.requests for one in own if one.sure)
    return {name: float(amount) for name, amount in figures.items()}


def _head_ns(one: Observation) -> int:
    return one.head_unix_ns - one.clocks_apart_ns


class _Ours:
    """Our requests by when their answers' heads came: found by a search, as each round looks at hundreds."""

    def __init__(self, observations: Sequence[Observation]) -> None:
        self.observations = observations
        self._heads = [_head_ns(one) for one in observations]
        self._longest_ns = max((one.end_unix_ns - one.head_unix_ns for one in observations), default=0)

    def between(self, last: Observation, one: Observation) -> Sequence[Observation]:
        """The requests that lie between two responses, the later one's own included."""
        return self.observations[bisect_right(self._heads, _head_ns(last)) : bisect_right(self._heads, _head_ns(one))]

    def settled_between(self, last: Observation, one: Observation) -> list[Observation]:
        """The requests whose tokens may have been set aside or settled between two responses."""
        since_ns = _head_ns(last) - _LAG_NS
        first = bisect_left(self._heads, since_ns - self._longest_ns)
        return [
            use
            for use in self.observations[first : bisect_right(self._heads, _head_ns(one))]
            if use.end_unix_ns - use.clocks_apart_ns >= since_ns
        ]


def _counted(ours: _Ours) -> dict[str, bool]:
    """Which of the kinds that need not count seem to: what remains fell by one, more often than not, with one alone."""
    votes: dict[str, Counter[int]] = {}
    said = [one for one in ours.observations if one.limits.remaining_requests is not None]
    for last, one in pairwise(said):
        between = ours.between(last, one)
        fell = (last.limits.remaining_requests or 0) - (one.limits.remaining_requests or 0)
        if list(between) == [one] and not one.sure and fell in (0, 1):
            votes.setdefault(one.kind, Counter())[fell] += 1
    return {kind: votes[kind][1] > votes[kind][0] for kind in sorted(votes)}


def _of_requests(fell: int, between: Sequence[Observation], counted: Mapping[str, bool]) -> dict[str, int]:
    sure = sum(one.requests for one in between if one.sure)
    perhaps = sum(one.requests for one in between if not one.sure)
    likely = sum(one.requests for one in between if not one.sure and counted.get(one.kind))
    if sure <= fell <= sure + perhaps:
        return {"foreign_requests": max(0, fell - sure - (likely if counted else perhaps))}
    if fell > sure:
        return {"foreign_requests": fell - sure - likely}
    return {"refilled_requests": sure - fell}


def _of_tokens(fell: int, between: Sequence[Observation]) -> dict[str, int]:
    used = sum(one.tokens or 0 for one in between)
    most = sum(max(one.most_tokens, one.tokens or 0) for one in between)
    if fell > most:
        return {"foreign_tokens": fell - most}
    if fell >= 0:
        return {"foreign_tokens": 0}
    settled = min(-fell, most - used)
    return {"settled_tokens": settled, "refilled_tokens": -fell - settled}
