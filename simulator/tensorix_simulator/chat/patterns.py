"""Regular expressions of JSON schemas: whether a text matches one, and texts that do, both in bounded time.

RE2 looks for them, in time linear in the text; what it does not know (lookaround, back references) is refused.
"""

from __future__ import annotations

import random
import re
import warnings
from functools import lru_cache
from typing import Any

import re2
import rstr

__all__ = ["compiled", "text_for"]

_LONGEST_PATTERN = 500
_MOST_STEPS = 2_000


@lru_cache(maxsize=256)
def compiled(pattern: str) -> Any:
    """RE2's form of an expression. Raises ValueError for one that it does not take."""
    options = re2.Options()
    options.log_errors = False
    try:
        if len(pattern) <= _LONGEST_PATTERN:
            return re2.compile(pattern, options)
    except re2.error:
        pass
    raise ValueError(f"the pattern {pattern[:100]!r} is longer than {_LONGEST_PATTERN} characters or not one of RE2's")


class _Draws(random.Random):
    """What rstr draws from: characters in a fixed order, repeats few, and no more than so many of them in all."""

    left = _MOST_STEPS
    more_repeats = 3

    def choice(self, seq: Any) -> Any:
        self._spend(1 + len(seq) // 100)
        if isinstance(seq[0], str):
            # rstr has characters from a set, whose order is another in each process.
            seq = sorted(filter(str.isprintable, seq)) or sorted(seq)
        return super().choice(seq)

    def randint(self, a: int, b: int) -> int:
        times = super().randint(a, min(b, a + self.more_repeats))
        self._spend(1 + times)
        return times

    def _spend(self, steps: int) -> None:
        self.left -= steps
        if self.left < 0:
            raise ValueError("the pattern asks for too long a text")


def text_for(pattern: str, more_repeats: int, generator: random.Random) -> str:
    """A text that an expression should match from start to end. Raises ValueError where none can be made."""
    compiled(pattern)
    draws = _Draws(generator.getrandbits(64))
    draws.more_repeats = more_repeats
    try:
        with warnings.catch_warnings(action="ignore"):
            return rstr.Rstr(draws).xeger(pattern)
    except (re.error, LookupError, RecursionError, OverflowError):
        raise ValueError(f"no text can be made for the pattern {pattern[:100]!r}") from None
