"""Lengths of time as a person writes them: `250ms`, `1.5m`, `1h30m`. One way for distributions, limits and faults."""

from __future__ import annotations

import re
from fractions import Fraction

__all__ = ["TIME", "UNIT", "UNITS", "nanoseconds"]

_NS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "min": 60 * 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
    "d": 86_400 * 10**9,
}
UNITS = "ns, us, ms, s, m or min, h, d"
"""The units, as messages and pages name them."""

UNIT = f"(?:{'|'.join(_NS)})"
_NUMBER = r"(?:[0-9]{1,18}(?:\.[0-9]{0,18})?|\.[0-9]{1,18})"
TIME = rf"(?:{_NUMBER}\s*{UNIT})+"
"""A time within a larger pattern, which must not let a letter follow it."""

_PART = re.compile(rf"({_NUMBER})\s*({UNIT})(?![a-z])")
_WHOLE = re.compile(TIME)


def nanoseconds(text: str) -> Fraction | None:
    """Exactly the ns of one or more numbers with units, added up; None for anything else."""
    if not _WHOLE.fullmatch(text):
        return None
    return sum((Fraction(number) * _NS[unit] for number, unit in _PART.findall(text)), Fraction(0))
