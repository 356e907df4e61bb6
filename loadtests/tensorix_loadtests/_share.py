"""What each of several processes has of a whole."""

from __future__ import annotations

__all__ = ["part_of"]


def part_of(whole: int, share: tuple[int, int]) -> int:
    """The part of the k-th of n: the parts of all add up to the whole, and differ by one at most."""
    part, parts = share
    # Of the indexes below `whole` those with index % parts == part, as a schedule is shared.
    return (whole + parts - 1 - part) // parts
