"""Values that satisfy a JSON schema, drawn from a seed: the arguments of tool calls, and structured replies."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from typing import Any

from tensorix_simulator.chat.formats import FORMATS
from tensorix_simulator.chat.numbers import number_within, whole_within
from tensorix_simulator.chat.patterns import text_for
from tensorix_simulator.chat.schemas import BadSchemaError, Schema, merged, resolved, satisfies
from tensorix_simulator.chat.words import WORDS

__all__ = ["lean_value", "value_for"]

_MOST_VALUES = 2_000
_DEEPEST = 40
_LEAN_BELOW = 5
_LONGEST_TEXT = 10_000
_TEXT_OF_A_VALUE = 100
_TRIES = 20
_KINDS_BY_KEYWORD = {
    "properties": "object",
    "required": "object",
    "additionalProperties": "object",
    "items": "array",
    "prefixItems": "array",
    "minItems": "array",
    "minimum": "number",
    "maximum": "number",
    "exclusiveMinimum": "number",
    "exclusiveMaximum": "number",
    "multipleOf": "number",
}


class _TooMuchError(BadSchemaError):
    """Another attempt would be no better."""


class _Maker:
    """One attempt. Where it is deep, or has made much, it makes the least that is allowed: so recursion ends."""

    def __init__(self, root: Schema, generator: random.Random, lean: bool) -> None:
        self._root = root
        self._random = generator
        self._always_lean = lean
        self._left = _MOST_VALUES
        self._weights: dict[tuple[int, int], tuple[int, Schema]] = {}

    def _lean(self, depth: int) -> bool:
        return self._always_lean or depth > _LEAN_BELOW or self._left < _MOST_VALUES // 2

    def make(self, schema: Schema, depth: int = 0) -> Any:
        """Raises BadSchemaError where nothing is found that satisfies it."""
        self._left -= 1
        if self._left < 0 or depth > _DEEPEST:
            raise _TooMuchError("it asks for more values than the simulator makes")
        schema = resolved(schema, self._root)
        if schema is False:
            raise BadSchemaError("nothing satisfies 'false'")
        if schema is True or not schema:
            return self._random.choice(WORDS)
        assert not isinstance(schema, bool)
        if "allOf" in schema:
            whole: Schema = {name: value for name, value in schema.items() if name != "allOf"}
            for part in schema["allOf"]:
                whole = merged(whole, resolved(part, self._root))
            return self.make(whole, depth + 1)
        if "if" in schema:
            return self._conditional(schema, depth)
        if "const" in schema or "enum" in schema:
            return self._listed(schema)
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                return self._branch(schema, keyword, depth)
        return self._typed(schema, depth)

    def _conditional(self, schema: Mapping[str, Any], depth: int) -> Any:
        """Either the condition and what follows from it, or what follows otherwise (and, with luck, not that)."""
        rest: Schema = {name: value for name, value in schema.items() if name not in ("if", "then", "else")}
        met = self._random.random() < 0.5
        for part in ("if", "then") if met else ("else",):
            rest = merged(rest, resolved(schema.get(part, True), self._root))
        return self.make(rest, depth + 1)

    def _listed(self, schema: Mapping[str, Any]) -> Any:
        values = [schema["const"]] if "const" in schema else schema["enum"]
        fitting = [value for value in values if satisfies(value, schema, self._root)]
        if not fitting:
            raise BadSchemaError("none of its listed values fits the rest of it")
        return self._random.choice(fitting)

    def _branch(self, schema: Mapping[str, Any], keyword: str, depth: int) -> Any:
        rest = {name: value for name, value in schema.items() if name != keyword}
        branches = list(schema[keyword])
        self._random.shuffle(branches)
        if self._lean(depth):
            branches.sort(key=lambda branch: self._weight(branch, 4))
        for branch in branches:
            try:
                value = self.make(merged(rest, resolved(branch, self._root)), depth + 1)
            except BadSchemaError:
                if self._left < 0:
                    raise
                continue
            if keyword == "anyOf" or satisfies(value, schema, self._root):
                return value
        raise BadSchemaError(f"none of the branches of {keyword!r} can be satisfied")

    def _weight(self, schema: Schema, depth: int) -> int:
        """How much a schema asks for at the least, looked at so far down."""
        if (id(schema), depth) not in self._weights:
            # Kept with the schema, whose identity would else be another's by and by.
            self._weights[id(schema), depth] = (self._weighed(resolved(schema, self._root), depth), schema)
        return self._weights[id(schema), depth][0]

    def _weighed(self, schema: Schema, depth: int) -> int:
        if isinstance(schema, bool) or "const" in schema or "enum" in schema:
            return 0
        if depth == 0:
            return 100
        for keyword in ("anyOf", "oneOf"):
            if schema.get(keyword):
                return min(self._weight(branch, depth - 1) for branch in schema[keyword])
        below = [schema.get("properties", {}).get(name, True) for name in schema.get("required", ())][:20]
        below += [schema.get("items", True)] * bool(schema.get("minItems"))
        return len(below) + sum(self._weight(one, depth - 1) for one in below)

    def _typed(self, schema: Mapping[str, Any], depth: int) -> Any:
        kinds = schema.get("type", [])
        kinds = [kinds] if isinstance(kinds, str) else list(kinds)
        if "type" not in schema:
            kinds = [next((kind for keyword, kind in _KINDS_BY_KEYWORD.items() if keyword in schema), "string")]
        if not kinds:
            raise BadSchemaError("no type is left that it may be")
        kind = "null" if self._lean(depth) and "null" in kinds else self._random.choice(kinds)
        makers: Mapping[str, Callable[[], Any]] = {
            "null": lambda: None,
            "boolean": lambda: self._random.random() < 0.5,
            "integer": lambda: whole_within(schema, self._random),
            "number": lambda: number_within(schema, self._random),
            "string": lambda: self._text(schema),
            "array": lambda: self._array(schema, depth),
            "object": lambda: self._object(schema, depth),
        }
        return makers[kind]()

    # Texts.

    def _text(self, schema: Mapping[str, Any]) -> str:
        least, most = schema.get("minLength", 0), schema.get("maxLength", _LONGEST_TEXT)
        if least > _LONGEST_TEXT or least > most:
            raise BadSchemaError(f"no text is within its lengths (and none is made longer than {_LONGEST_TEXT})")
        if "pattern" in schema:
            return self._matching(schema["pattern"], least, most)
        if (form := str(schema.get("format"))) in FORMATS:
            text = FORMATS[form](self._random)
            if not least <= len(text) <= most:
                raise BadSchemaError(f"the simulator's texts of format {form!r} are not of that length")
            return text
        words = self._random.choices(WORDS, k=self._random.randint(1, 3))
        while (text := " ".join(words)) and len(text) < least:
            words += self._random.choices(WORDS, k=1 + (least - len(text)) // 8)
        # A long text counts as several values.
        self._left -= least // _TEXT_OF_A_VALUE
        return text[:most]

    def _matching(self, pattern: str, least: int, most: int) -> str:
        for _ in range(_TRIES):
            try:
                text = text_for(pattern, self._random)
            except ValueError as error:
                raise BadSchemaError(f"no text can be made for the pattern {pattern[:100]!r}: {error}") from None
            if least <= len(text) <= most:
                return text
        raise BadSchemaError(f"no text of that length was found for the pattern {pattern[:100]!r}")

    # Arrays and objects.

    def _array(self, schema: Mapping[str, Any], depth: int) -> list[Any]:
        least, most = schema.get("minItems", 0), schema.get("maxItems", _MOST_VALUES)
        first, rest = schema.get("prefixItems", []), schema.get("items", True)
        if "contains" in schema:
            least = max(least, len(first) + schema.get("minContains", 1))
        wanted = (
            least
            if self._lean(depth)
            else self._random.randint(max(least, min(1, most)), max(least, min(most, least + 2)))
        )
        made: list[Any] = []
        seen: set[str] = set()
        for _ in range(wanted + (_TRIES if schema.get("uniqueItems") else 0)):
            if len(made) >= wanted:
                break
            if len(made) < len(first):
                one = first[len(made)]
            elif rest is False and len(made) >= least:
                break
            else:
                one = merged(rest, schema["contains"]) if "contains" in schema else rest
            item = self.make(one, depth + 1)
            written = json.dumps(item, sort_keys=True)
            if not (schema.get("uniqueItems") and written in seen):
                made.append(item)
                seen.add(written)
        if not least <= len(made) <= most:
            raise BadSchemaError("not as many items can be made as it wants")
        return made

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        named, others = schema.get("properties", {}), schema.get("additionalProperties", True)
        least, most = schema.get("minProperties", 0), schema.get("maxProperties", _MOST_VALUES)
        needed = list(schema.get("required", ()))
        for name in needed:
            # It grows while it is gone through: what is needed by what is needed.
            needed += [one for one in schema.get("dependentRequired", {}).get(name, ()) if one not in needed]
        made: dict[str, Any] = {}
        # In the order of the schema, as models write them.
        for name in (*named, *(name for name in needed if name not in named)):
            if name in needed:
                made[name] = self.make(named.get(name, others), depth + 1)
            elif len(made) < most and name not in schema.get("dependentRequired", {}):
                self._perhaps(made, name, named[name], depth, len(made) < least)
        wanted = least
        if isinstance(others, dict) and others and not self._lean(depth):
            wanted = max(least, min(most, len(made) + self._random.randint(1, 2)))
        for _ in range(_TRIES):
            if len(made) >= wanted or others is False:
                break
            name = str(self.make({"type": "string", **_as_mapping(schema.get("propertyNames", {}))}, depth + 1))
            if name not in named:
                made[name] = self.make(others, depth + 1)
        if not least <= len(made) <= most:
            raise BadSchemaError("not as many properties can be made as it wants")
        return made

    def _perhaps(self, made: dict[str, Any], name: str, schema: Schema, depth: int, wanted: bool) -> None:
        """A property that may be left out: in half of the cases, and where it cannot be made."""
        if not wanted and (self._random.random() < 0.5 or self._lean(depth)):
            return
        try:
            made[name] = self.make(schema, depth + 1)
        except BadSchemaError:
            if self._left < 0:
                raise


def _as_mapping(schema: Schema) -> Mapping[str, Any]:
    return {} if isinstance(schema, bool) else schema


def _attempt(schema: Schema, seed: str, lean: bool) -> Any:
    generator = random.Random(seed)  # noqa: S311 - arguments, not secrets
    try:
        value = _Maker(schema, generator, lean).make(schema)
        if satisfies(value, schema, schema):
            return value
    except (OverflowError, RecursionError, ArithmeticError):
        raise BadSchemaError("its numbers are too large or it is nested too deeply") from None
    raise BadSchemaError("no value was found that satisfies all of it")


def lean_value(schema: Schema) -> Any:
    """The least value that satisfies a schema, always the same. Raises BadSchemaError where none is found."""
    problem = BadSchemaError("it was not tried")
    for attempt in range(_TRIES):
        try:
            return _attempt(schema, f"lean {attempt}", True)
        except _TooMuchError:
            raise
        except BadSchemaError as error:
            problem = error
    raise problem


def value_for(schema: Schema, generator: random.Random) -> Any:
    """A value that satisfies a schema for which there is a lean one. Never raises for it."""
    for _ in range(_TRIES):
        try:
            return _attempt(schema, str(generator.random()), False)
        except _TooMuchError:
            break
        except BadSchemaError:
            continue
    return lean_value(schema)
