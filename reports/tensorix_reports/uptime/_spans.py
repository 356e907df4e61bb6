"""Stretches of time as sorted pairs of Unix ns that do not touch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

__all__ = ["Span", "both", "length_ns", "within"]

Span: TypeAlias = tuple[int, int]
"""From, and up to but not with."""


def within(spans: Iterable[Span], since_ns: int, until_ns: int) -> list[Span]:
    """What of them lies in [since, until)."""
    cut = ((max(start, since_ns), min(end, until_ns)) for start, end in spans)
    return [(start, end) for start, end in cut if start < end]


def length_ns(spans: Iterable[Span]) -> int:
    """How long they are together."""
    return sum(end - start for start, end in spans)


def both(some: Sequence[Span], others: Sequence[Span]) -> list[Span]:
    """What lies in one of each."""
    found, one, other = [], 0, 0
    while one < len(some) and other < len(others):
        start, end = max(some[one][0], others[other][0]), min(some[one][1], others[other][1])
        if start < end:
            found.append((start, end))
        if some[one][1] <= others[other][1]:
            one += 1
        else:
            other += 1
    return found
