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


def _written(parsed: Any, generator: random.Random, groups: dict[int | None, str]) -> str:
    written = ""
    for kind, value in parsed:
        match str(kind):
            case "LITERAL":
                written += chr(value)
            case "NOT_LITERAL":
                written += generator.choice([one for one in _PRINTABLE if one != chr(value)])
            case "ANY":
                written += generator.choice(string.ascii_lowercase)
            case "IN":
                written += generator.choice(_members(value))
            case "BRANCH":
                written += _written(generator.choice(value[1]), generator, groups)
            case "SUBPATTERN":
                groups[value[0]] = _written(value[3], generator, groups)
                written += groups[value[0]]
            case "GROUPREF":
                written += groups[value]
            case "MAX_REPEAT" | "MIN_REPEAT":
                low, high = value[0], min(int(value[1]), value[0] + _MOST_REPEATS)
                if low > 10_000:
                    raise ValueError("too many repeats")
                written += "".join(_written(value[2], generator, groups) for _ in range(generator.randint(low, high)))
            case "AT":
                # Anchors hold at the edges, which is where expressions have them.
                continue
            case other:
                raise ValueError(f"{other.lower()} in an expression")
        if len(written) > 100_000:
            raise ValueError("the text gets too long")
    return written


def text_for(pattern: str, generator: random.Random) -> str:
    """Some text that matches from its start to its end. Raises ValueError where none can be made."""
    try:
        return _written(_read.parse(pattern), generator, {})
    except (re.error, KeyError, IndexError, RecursionError, OverflowError) as error:
        raise ValueError(str(error)) from None
