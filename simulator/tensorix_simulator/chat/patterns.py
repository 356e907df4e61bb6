"""A text that a regular expression finds: for the `pattern` of a JSON schema."""

from __future__ import annotations

import importlib
import random
import re
import string
from typing import Any

__all__ = ["text_for"]

# Python's own reader of expressions; it has no public name since `sre_parse` was deprecated.
_read: Any = importlib.import_module("re._parser")

_PRINTABLE = string.ascii_letters + string.digits + " _-.,:;!?@#%&*()[]{}<>/+=|~^$'\"`"
_CATEGORIES = {
    "CATEGORY_DIGIT": string.digits,
    "CATEGORY_WORD": string.ascii_lowercase + string.digits + "_",
    "CATEGORY_SPACE": " ",
}
_MOST_REPEATS = 3
_MOST_STEPS = 10_000


def _category(name: str) -> set[str]:
    if name.startswith("CATEGORY_NOT_"):
        return set(_PRINTABLE) - set(_CATEGORIES[name.replace("NOT_", "")])
    return set(_CATEGORIES[name])


def _members(items: list[Any]) -> list[str]:
    """The characters that a class such as `[a-z_]` may be."""
    allowed: set[str] = set()
    negated = False
    for kind, value in items:
        match str(kind):
            case "NEGATE":
                negated = True
            case "LITERAL":
                allowed.add(chr(value))
            case "RANGE":
                # A part of a wide range is enough.
                allowed.update(map(chr, range(value[0], min(value[1], value[0] + 255) + 1)))
            case "CATEGORY":
                allowed |= _category(str(value))
            case other:
                raise ValueError(f"{other.lower()} in a class")
    return sorted(set(_PRINTABLE) - allowed if negated else allowed)


class _Writer:
    """Writes one text. Its steps are bounded, since repeats of repeats could go on for ever."""

    def __init__(self, generator: random.Random) -> None:
        self._random = generator
        self._groups: dict[int | None, str] = {}
        self._steps = 0

    def all(self, parsed: Any) -> str:
        """Each part of an expression in turn."""
        written = ""
        for kind, value in parsed:
            self._step()
            written += self._one(str(kind), value)
        return written

    def _one(self, kind: str, value: Any) -> str:
        match kind:
            case "LITERAL":
                return chr(value)
            case "NOT_LITERAL":
                return self._random.choice([one for one in _PRINTABLE if one != chr(value)])
            case "ANY":
                return self._random.choice(string.ascii_lowercase)
            case "IN":
                return self._random.choice(_members(value))
            case "BRANCH":
                return self.all(self._random.choice(value[1]))
            case "SUBPATTERN":
                self._groups[value[0]] = written = self.all(value[3])
                return written
            case "GROUPREF":
                return self._groups[value]
            case "MAX_REPEAT" | "MIN_REPEAT":
                times = self._random.randint(value[0], min(int(value[1]), value[0] + _MOST_REPEATS))
                return "".join(self._repeated(value[2]) for _ in range(times))
            case "AT":
                # Anchors hold at the edges, which is where expressions have them.
                return ""
            case other:
                raise ValueError(f"{other.lower()} in an expression")

    def _repeated(self, parsed: Any) -> str:
        self._step()
        return self.all(parsed)

    def _step(self) -> None:
        self._steps += 1
        if self._steps > _MOST_STEPS:
            raise ValueError("it asks for too long a text")


def text_for(pattern: str, generator: random.Random) -> str:
    """Some text that matches from its start to its end. Raises ValueError where none can be made."""
    try:
        return _Writer(generator).all(_read.parse(pattern))
    except (re.error, KeyError, IndexError, RecursionError, OverflowError) as error:
        raise ValueError(str(error)) from None
