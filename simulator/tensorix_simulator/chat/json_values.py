"""Values that satisfy a JSON schema, drawn from a seed: the arguments of tool calls, and structured replies.

They are made of the keywords that structured outputs have, and of `oneOf`, `prefixItems` and what of `allOf` can be put
together. The others are only checked: of several attempts one may fit them.
"""

from __future__ import annotations

import json
import math
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from itertools import count, islice
from typing import Any

from tensorix_simulator.chat.formats import FORMATS
from tensorix_simulator.chat.patterns import text_for
from tensorix_simulator.chat.schemas import ASTRAY, Budget, Schema, TooMuchError, UnmakeableError, checker
from tensorix_simulator.chat.words import WORDS

__all__ = ["lean_value", "value_for"]

_DEEPEST = 30
_LEAN_BELOW = 5
_LONGEST_TEXT = 10_000
_TRIES = 20
_KINDS_BY_KEYWORD = {
    **dict.fromkeys(("properties", "required", "additionalProperties"), "object"),
    **dict.fromkeys(("items", "prefixItems", "minItems"), "array"),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"), "number"),
}


def _kinds(types: str | list[str]) -> list[str]:
    return [types] if isinstance(types, str) else types


def _merged(one: Schema, other: Schema) -> Schema:
    """A schema for what satisfies both; what cannot be put together is left to the check."""
    if isinstance(one, bool) or isinstance(other, bool):
        return other if one is True else one if other is True else False
    return {
        **other,
        **one,
        **{name: _MERGERS[name](one[name], other[name]) for name in _MERGERS if name in one and name in other},
    }


_MERGERS: Mapping[str, Callable[[Any, Any], Any]] = {
    **dict.fromkeys(("minimum", "exclusiveMinimum", "minLength", "minItems"), max),
    **dict.fromkeys(("maximum", "exclusiveMaximum", "maxLength", "maxItems"), min),
    **dict.fromkeys(("additionalProperties", "items"), _merged),
    "properties": lambda one, other: {**one, **{name: _merged(one.get(name, True), other[name]) for name in other}},
    "required": lambda one, other: list(dict.fromkeys([*one, *other])),
    "enum": lambda one, other: [value for value in one if value in other],
    "type": lambda one, other: [kind for kind in _kinds(one) if kind in _kinds(other)],
}


class _Maker:
    """One attempt. Where it is deep, or has made much, it makes the least that is allowed: so recursion ends."""

    def __init__(self, root: Schema, generator: random.Random, budget: Budget, lean: bool) -> None:
        self._root = root
        self._random = generator
        self._budget = budget
        self._always_lean = lean
        self.fits = checker(root)

    def _lean(self, depth: int) -> bool:
        return self._always_lean or depth > _LEAN_BELOW or self._budget.mostly_spent()

    def make(self, schema: Schema, depth: int = 0) -> Any:
        """Raises UnmakeableError where nothing is found that satisfies it."""
        if depth > _DEEPEST:
            raise UnmakeableError(f"it wants a value more than {_DEEPEST} deep")
        schema = self._resolved(schema)
        if isinstance(schema, bool) or not schema:
            if schema is False:
                raise UnmakeableError("nothing satisfies 'false'")
            return self._random.choice(WORDS)
        if "allOf" in schema:
            whole: Schema = {name: value for name, value in schema.items() if name != "allOf"}
            for part in schema["allOf"]:
                whole = _merged(whole, self._resolved(part))
            return self.make(whole, depth + 1)
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                return self._branch(schema, keyword, depth)
        if "const" in schema or "enum" in schema:
            values = [schema["const"]] if "const" in schema else schema["enum"]
            return self._fitting(schema, iter(self._random.sample(values, len(values))))
        return self._typed(schema, depth)

    def _resolved(self, schema: Schema) -> Schema:
        """What a `$ref` stands for, with what stands beside it."""
        self._budget.spend(1)
        if isinstance(schema, bool):
            return schema
        self._budget.spend(sum(len(one) for one in schema.values() if isinstance(one, list | dict)) // 20)
        if "$ref" not in schema:
            return schema
        at, *steps = schema["$ref"].split("/")
        target: Any = self._root if at == "#" else None
        for step in steps:
            name = step.replace("~1", "/").replace("~0", "~")
            target = target.get(name) if isinstance(target, Mapping) else None
        if not isinstance(target, Mapping | bool):
            raise UnmakeableError(f"'$ref' {schema['$ref'][:100]!r} leads nowhere that the simulator looks")
        beside = {name: value for name, value in schema.items() if name != "$ref"}
        return self._resolved(_merged(beside, self._resolved(target)))

    def _branch(self, schema: Mapping[str, Any], keyword: str, depth: int) -> Any:
        rest = {name: value for name, value in schema.items() if name != keyword}
        branches = [self._resolved(branch) for branch in self._random.sample(schema[keyword], len(schema[keyword]))]
        if self._lean(depth):
            texts = [json.dumps(branch) for branch in branches]
            self._budget.spend(sum(map(len, texts)) // 1000)
            order = sorted(range(len(texts)), key=lambda index: ('"$ref"' in texts[index], len(texts[index])))
            branches = [branches[index] for index in order]
        problem = UnmakeableError(f"none of the branches of {keyword!r} can be satisfied")
        for branch in branches:
            try:
                value = self.make(_merged(rest, branch), depth + 1)
                if keyword == "anyOf" or self.fits(value, schema):
                    return value
            except TooMuchError:
                raise
            except UnmakeableError as error:
                problem = error
        raise problem

    def _fitting(self, schema: Schema, values: Iterator[Any]) -> Any:
        """The first that fits of the first few."""
        for value in islice(values, _TRIES):
            if self.fits(value, schema):
                return value
        raise UnmakeableError(f"nothing was found for {json.dumps(schema)[:200]}")

    def _typed(self, schema: Mapping[str, Any], depth: int) -> Any:
        kinds = _kinds(
            schema.get("type", next((_KINDS_BY_KEYWORD[n] for n in schema if n in _KINDS_BY_KEYWORD), "string"))
        )
        if not kinds:
            raise UnmakeableError("no type is left that it may be")
        kind = "null" if self._lean(depth) and "null" in kinds else self._random.choice(kinds)
        if kind == "object":
            return self._object(schema, depth)
        if kind == "array":
            return self._array(schema, depth)
        if kind in ("integer", "number"):
            return self._fitting(schema, (self._number(schema, kind == "integer") for _ in count()))
        if kind == "string":
            return self._fitting(schema, (self._text(schema) for _ in count()))
        return None if kind == "null" else self._random.random() < 0.5

    def _number(self, schema: Mapping[str, Any], whole: bool) -> float:
        factor = schema.get("multipleOf", 1 if whole else None)
        # The least whole number that is a multiple: 3 of 1.5.
        exact = Fraction(str(factor)) if isinstance(factor, float) else Fraction(factor or 1)
        exact = Fraction(exact.numerator) if whole else exact
        lows = [schema[name] for name in ("minimum", "exclusiveMinimum") if name in schema]
        highs = [schema[name] for name in ("maximum", "exclusiveMaximum") if name in schema]
        low = max(lows) if lows else min(0, min(highs) - 100 * exact) if highs else 0
        high = min(highs) if highs else low + 100 * exact
        if low > high:
            raise UnmakeableError("no number is within its bounds")
        if factor is None:
            value = self._random.uniform(float(low), float(high))
            return short if low < (short := round(value, 2)) < high else value
        least, most = math.ceil(Fraction(low) / exact), math.floor(Fraction(high) / exact)
        if least > most:
            raise UnmakeableError("no number is within its bounds")
        made = self._random.randint(least, most) * exact
        return int(made) if made.denominator == 1 else float(made)

    def _text(self, schema: Mapping[str, Any]) -> str:
        least, most = int(schema.get("minLength", 0)), int(schema.get("maxLength", _LONGEST_TEXT))
        if least > min(most, _LONGEST_TEXT):
            raise UnmakeableError(f"no text is within its lengths (and none is made longer than {_LONGEST_TEXT})")
        make = FORMATS.get(schema.get("format", ""))
        if make is not None and ("pattern" not in schema or self._random.random() < 0.5):
            return make(self._random)
        if "pattern" in schema:
            self._budget.spend(200)
            return text_for(schema["pattern"], max(3, min(least, 100)), self._random)
        words = self._random.choices(WORDS, k=self._random.randint(1, 3))
        while (text := " ".join(words)) and len(text) < least:
            words += self._random.choices(WORDS, k=1 + (least - len(text)) // 8)
        self._budget.spend(least // 100)
        return text[:most]

    def _array(self, schema: Mapping[str, Any], depth: int) -> list[Any]:
        least, most = int(schema.get("minItems", 0)), int(schema.get("maxItems", sys.maxsize))
        first, rest = schema.get("prefixItems", []), schema.get("items", True)
        wanted = least if self._lean(depth) else max(least, min(most, least + self._random.randint(least == 0, 2)))
        made: list[Any] = []
        for _ in range(wanted + _TRIES):
            if len(made) == wanted or (rest is False and len(made) == len(first)):
                break
            item = self.make(first[len(made)] if len(made) < len(first) else rest, depth + 1)
            if not (schema.get("uniqueItems") and item in made):
                made.append(item)
        return made

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        named, others = schema.get("properties", {}), schema.get("additionalProperties", True)
        needed = dict.fromkeys(schema.get("required", ()))
        made: dict[str, Any] = {}
        # In the order of the schema, as models write them.
        for name in dict.fromkeys([*named, *needed]):
            if name in needed:
                made[name] = self.make(named.get(name, others), depth + 1)
            elif self._random.random() < 0.5 and not self._lean(depth):
                try:
                    made[name] = self.make(named[name], depth + 1)
                except TooMuchError:
                    raise
                except UnmakeableError:
                    continue
        if isinstance(others, Mapping) and others and not self._lean(depth):
            for name in self._random.sample(WORDS, self._random.randint(1, 2)):
                made.setdefault(name, self.make(others, depth + 1))
        return made


def _made(schema: Schema, seed: str, lean: bool) -> Any:
    budget, problem = Budget(), UnmakeableError("no value was found that satisfies all of it")
    # The library would go by it, and to a validator of its own.
    root = schema if isinstance(schema, bool) else {name: one for name, one in schema.items() if name != "$schema"}
    for attempt in range(_TRIES):
        maker = _Maker(root, random.Random(f"{seed} {attempt}"), budget, lean)  # noqa: S311 - arguments, not secrets
        try:
            value = maker.make(root)
            if maker.fits(value, root):
                return value
        except TooMuchError:
            raise
        except UnmakeableError as error:
            problem = error
        except ASTRAY as error:
            raise TooMuchError(f"it cannot be followed: {str(error)[:100] or type(error).__name__}") from None
    raise problem


def lean_value(schema: Schema) -> Any:
    """The least value that satisfies a schema, always the same. Raises UnmakeableError where none is found."""
    return _made(schema, "lean", True)


def value_for(schema: Schema, generator: random.Random) -> Any:
    """A value that satisfies a schema for which there is a lean one. Never raises for it."""
    try:
        return _made(schema, str(generator.random()), False)
    except UnmakeableError:
        return lean_value(schema)
