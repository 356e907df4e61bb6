"""How a server charges tokens, told by how what is left falls from one response to the next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from tensorix_loadtests._pacing._charges import Charging
from tensorix_loadtests._pacing._remaining import Heard
from tensorix_loadtests._pacing._tally import Sent

__all__ = ["charging_of"]

_FEWEST = 6
_FIT = 0.12
_APART = 1.3


def charging_of(
    heard: Sequence[Heard], sent_between: Callable[[int, int], list[Sent]], tokens_of: Callable[[Charging, Sent], float]
) -> Charging | None:
    """The one way of charging by which what is left has fallen, in both halves of what was heard alike.

    None where no way fits, as with a bucket that flows back, or where two ways cannot be told apart. `heard` never
    rises.
    """
    if len(heard) < 2 * _FEWEST:
        return None
    marks = (heard[0], heard[len(heard) // 2], heard[-1])
    fits: set[Charging] = set(Charging)
    sums: dict[Charging, float] = dict.fromkeys(Charging, 0.0)
    for one, other in pairwise(marks):
        between = sent_between(one.at_ns, other.at_ns)
        if len(between) < _FEWEST:
            return None
        fell = one.remaining - other.remaining
        for charging in Charging:
            charged = sum(tokens_of(charging, sent) for sent in between)
            sums[charging] += charged
            if abs(fell - charged) > _FIT * charged:
                fits.discard(charging)
    for charging in Charging:
        if fits == {charging} and all(
            max(sums[charging], sums[other]) >= _APART * min(sums[charging], sums[other])
            for other in Charging
            if other is not charging
        ):
            return charging
    return None
