"""JSON schemas as they come with tools and response formats: whether they are valid, and what fits them.

The `jsonschema` library knows both. Here its work is counted, for all of it is done in the simulator's one thread: a
schema of few characters can ask for more steps than there is time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from jsonschema import Draft202012Validator, FormatChecker, SchemaError, ValidationError, validators
from jsonschema.exceptions import UnknownType
from referencing import Registry
from referencing.exceptions import Unresolvable

from tensorix_simulator.chat.patterns import compiled

__all__ = [
    "ASTRAY",
    "BadSchemaError",
    "Budget",
    "Schema",
    "TooMuchError",
    "UnmakeableError",
    "check_schema",
    "check_strict",
    "checker",
]

Schema: TypeAlias = Mapping[str, Any] | bool
_MOST_STEPS = 10_000
_NEVER_CHECKED = {"patternProperties", "unevaluatedProperties", "unevaluatedItems"}
_NOT_STRICT = (
    "allOf", "not", "if", "then", "else", "dependentRequired", "dependentSchemas", "patternProperties",
    "propertyNames", "contains", "uniqueItems", "unevaluatedProperties", "oneOf",
)  # fmt: skip


# What comes of numbers too large, of nesting, and of a `$ref` to what is no schema, which is not checked beforehand.
ASTRAY = (
    Unresolvable, UnknownType, ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError,
)  # fmt: skip


class BadSchemaError(ValueError):
    """What is given is no schema, or not one for `strict`."""


class UnmakeableError(ValueError):
    """A schema for which the simulator makes no value."""


class TooMuchError(UnmakeableError):
    """Another attempt would be no better."""


class Budget:
    """Steps of making and checking, a few microseconds each; all that is done for one value draws on them."""

    now: Budget
    """Of what is being checked: the library hands nothing through to its keywords."""

    def __init__(self) -> None:
        self._left = _MOST_STEPS
        Budget.now = self

    def spend(self, steps: int) -> None:
        """Raises TooMuchError where none are left."""
        self._left -= steps
        if self._left < 0:
            raise TooMuchError("it asks for more work than the simulator does for a value")

    def mostly_spent(self) -> bool:
        """Whether it is time to come to an end."""
        return self._left < _MOST_STEPS * 2 // 3


def _counted(name: str, keyword: Callable[..., Any]) -> Callable[..., Iterator[Any]]:
    def checked(validator: Any, wanted: Any, value: Any, schema: Mapping[str, Any]) -> Iterator[Any]:
        if refused := sorted(_NEVER_CHECKED & schema.keys()):
            raise TooMuchError(f"{refused[0]!r} is not followed")
        pairs = len(value) ** 2 if name == "uniqueItems" and isinstance(value, list) else 0
        Budget.now.spend(3 + (len(wanted) // 10 if isinstance(wanted, list | dict) else 0) + pairs // 100)
        yield from keyword(validator, wanted, value, schema) or ()

    return checked


def _pattern(_validator: Any, wanted: str, value: Any, _schema: Any) -> Iterator[Any]:
    if isinstance(value, str) and compiled(wanted).search(value) is None:
        yield ValidationError("it does not match")


_KEYWORDS = {**Draft202012Validator.VALIDATORS, "pattern": _pattern}
_Checker: Any = validators.extend(Draft202012Validator, {name: _counted(name, one) for name, one in _KEYWORDS.items()})


def checker(root: Schema) -> Callable[[Any, Schema], bool]:
    """What says whether a value fits a part of a schema. It raises UnmakeableError where that cannot be found out."""
    # Of a registry that is given nothing is fetched.
    validator = _Checker(root, registry=Registry())

    def fits(value: Any, schema: Schema) -> bool:
        try:
            return bool(validator.evolve(schema=schema).is_valid(value))
        except UnmakeableError:
            raise
        except ASTRAY as error:
            raise UnmakeableError(f"it cannot be checked: {str(error)[:100] or type(error).__name__}") from None

    return fits


def check_schema(schema: Any) -> None:
    """Whether it is a schema at all. Raises BadSchemaError that says where it is not."""
    try:
        Draft202012Validator.check_schema(schema, format_checker=FormatChecker(()))
    except SchemaError as error:
        raise BadSchemaError(f"{error.message[:200]}, at {error.json_path[:200]}") from None
    except RecursionError:
        raise BadSchemaError("it is nested too deeply") from None


def check_strict(schema: Schema, where: str = "$") -> None:
    """What OpenAI wants besides where `strict` is true: every property required and no other allowed."""
    at = where[:200]
    if not isinstance(schema, Mapping):
        raise BadSchemaError(f"with 'strict' a schema must be an object, at {at}")
    if refused := [keyword for keyword in _NOT_STRICT if keyword in schema]:
        raise BadSchemaError(f"{refused[0]!r} is not permitted with 'strict', at {at}")
    named = schema.get("properties", {})
    if "object" in (schema.get("type"), *schema.get("type", ())) or "properties" in schema:
        if schema.get("additionalProperties") is not False:
            raise BadSchemaError(f"'additionalProperties' is required to be supplied and to be false, at {at}")
        if left_out := sorted(named.keys() ^ set(schema.get("required", ()))):
            raise BadSchemaError(f"'required' must name every property and no other ({left_out[0]!r}), at {at}")
    below = [*named.items(), *schema.get("$defs", {}).items(), *enumerate(schema.get("anyOf", ()))]
    for name, one in below + ([("items", schema["items"])] if "items" in schema else []):
        check_strict(one, f"{where}.{name}")
