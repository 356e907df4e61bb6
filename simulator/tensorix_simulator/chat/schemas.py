"""JSON schemas as they come with tools and response formats: their form, how they are put together, what fits them.

Of `$ref` only those within the schema are followed. Formats and patterns are not checked here: they are kept in the
making of a value.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

__all__ = ["BadSchemaError", "Schema", "check_schema", "check_strict", "merged", "resolved", "satisfies", "type_of"]

Schema: TypeAlias = Mapping[str, Any] | bool
_DEEPEST = 64
_TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
_UNSUPPORTED_IF_STRICT = (
    "allOf", "not", "if", "then", "else", "dependentRequired", "dependentSchemas", "patternProperties",
    "propertyNames", "contains", "uniqueItems", "unevaluatedProperties", "oneOf",
)  # fmt: skip


class BadSchemaError(ValueError):
    """What is given is no schema, or one that nothing can satisfy."""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_schema(value: Any) -> bool:
    return isinstance(value, dict | bool)


def _is_list_of(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(check, value))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_type(value: Any) -> bool:
    return value in _TYPES if isinstance(value, str) else isinstance(value, list) and all(map(_is_type, value))


def _is_object_of(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(map(check, value.values()))


_ONE = dict.fromkeys(
    ("additionalProperties", "items", "contains", "propertyNames", "not", "if", "then", "else"), _is_schema
)
_SEVERAL = dict.fromkeys(("allOf", "anyOf", "oneOf", "prefixItems"), _is_list_of(_is_schema))
_NAMED = dict.fromkeys(("properties", "patternProperties", "dependentSchemas", "$defs"), _is_object_of(_is_schema))
_NUMBERS = dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), _is_number)
_COUNTS = dict.fromkeys(
    ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties", "minContains", "maxContains"),
    _is_count,
)
_FORMS: Mapping[str, Callable[[Any], bool]] = {
    **_ONE,
    **_SEVERAL,
    **_NAMED,
    **_NUMBERS,
    **_COUNTS,
    "type": _is_type,
    "enum": lambda value: isinstance(value, list) and bool(value),
    "required": _is_list_of(_is_text),
    "multipleOf": lambda value: _is_number(value) and value > 0,
    "pattern": _is_text,
    "format": _is_text,
    "$ref": _is_text,
    "uniqueItems": lambda value: isinstance(value, bool),
    "dependentRequired": _is_object_of(_is_list_of(_is_text)),
}


def _below(schema: Mapping[str, Any]) -> list[tuple[str, Schema]]:
    """The schemas within one, each with where it is."""
    found = [(name, schema[name]) for name in _ONE if name in schema]
    found += [(f"{name}[{index}]", one) for name in _SEVERAL for index, one in enumerate(schema.get(name, ()))]
    found += [(f"{name}.{member}", one) for name in _NAMED for member, one in schema.get(name, {}).items()]
    return found


def check_schema(schema: Any, where: str = "", depth: int = 0) -> None:
    """Whether it is a schema at all. Raises BadSchemaError that says where it is not."""
    if isinstance(schema, bool):
        return
    at = where[:200] or "the root"
    if not isinstance(schema, dict):
        raise BadSchemaError(f"{at} is not an object")
    if depth > _DEEPEST:
        raise BadSchemaError(f"{at} is nested more than {_DEEPEST} deep")
    for keyword, value in schema.items():
        if keyword in _FORMS and not _FORMS[keyword](value):
            raise BadSchemaError(f"{json.dumps(value)[:100]} is not valid as {keyword!r}, at {at}")
    for name, one in _below(schema):
        check_schema(one, f"{where}.{name}".lstrip("."), depth + 1)


def check_strict(schema: Schema, where: str = "") -> None:
    """What OpenAI wants besides where `strict` is true: every property required and no other allowed."""
    at = where[:200] or "the root"
    if isinstance(schema, bool):
        raise BadSchemaError(f"with 'strict' a schema must be an object, at {at}")
    for keyword in _UNSUPPORTED_IF_STRICT:
        if keyword in schema:
            raise BadSchemaError(f"{keyword!r} is not permitted with 'strict', at {at}")
    types = schema.get("type")
    if types == "object" or (isinstance(types, list) and "object" in types) or "properties" in schema:
        if schema.get("additionalProperties") is not False:
            raise BadSchemaError(f"'additionalProperties' is required to be supplied and to be false, at {at}")
        if left_out := sorted(set(schema.get("properties", {})) ^ set(schema.get("required", []))):
            raise BadSchemaError(f"'required' must name every property and no other ({left_out[0]!r}), at {at}")
    for name, one in _below(schema):
        if name != "additionalProperties":
            check_strict(one, f"{where}.{name}".lstrip("."))


def resolved(schema: Schema, root: Schema) -> Schema:
    """What a `$ref` stands for, with what stands beside it. Raises BadSchemaError."""
    seen: set[str] = set()
    while isinstance(schema, Mapping) and "$ref" in schema:
        reference = schema["$ref"]
        if reference in seen or not reference.startswith("#"):
            raise BadSchemaError(f"'$ref' {reference[:100]!r} cannot be followed")
        seen.add(reference)
        target: Any = root
        for step in reference[1:].split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            if isinstance(target, list) and name.isascii() and name.isdigit() and int(name[:6]) < len(target):
                target = target[int(name)]
            elif isinstance(target, Mapping) and name in target:
                target = target[name]
            else:
                raise BadSchemaError(f"'$ref' {reference[:100]!r} leads nowhere")
        if not _is_schema(target):
            raise BadSchemaError(f"'$ref' {reference[:100]!r} leads to no schema")
        schema = merged({name: value for name, value in schema.items() if name != "$ref"}, target)
    return schema


_MOST = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_LEAST = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")


def _both_types(one: Any, other: Any) -> list[str]:
    first, second = ([given] if isinstance(given, str) else given for given in (one, other))
    both = [kind for kind in first if kind in second or (kind == "integer" and "number" in second)]
    return both + [kind for kind in second if kind == "integer" and "number" in first and kind not in both]


def merged(one: Schema, other: Schema) -> Schema:
    """A schema for what satisfies both."""
    if isinstance(one, bool) or isinstance(other, bool):
        if one is False or other is False:
            return False
        return one if isinstance(other, bool) else other
    both = {**one, **other}
    for name in one.keys() & other.keys():
        first, second = one[name], other[name]
        if first == second:
            continue
        if name == "properties":
            both[name] = {**first, **second}
            both[name] |= {key: merged(first[key], second[key]) for key in first.keys() & second.keys()}
        elif name in ("additionalProperties", "items"):
            both[name] = merged(first, second)
        elif name == "required":
            both[name] = [*first, *(key for key in second if key not in first)]
        elif name == "type":
            both[name] = _both_types(first, second)
        elif name == "enum":
            both[name] = [value for value in first if value in second]
        elif name in _MOST:
            both[name] = max(first, second)
        elif name in _LEAST:
            both[name] = min(first, second)
        elif name in ("allOf", "anyOf", "oneOf", "not", "const", "$ref"):
            both[name] = first
            both["allOf"] = [*both.get("allOf", ()), {name: second}]
    return both


def type_of(value: Any) -> str:
    """A value's type as schemas name it; a whole number is an integer."""
    if value is None:
        return "null"
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array"}
    return kinds.get(type(value), "object")


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON is: true is not 1."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _typed(value: Any, wanted: Any) -> bool:
    kinds = [wanted] if isinstance(wanted, str) else wanted
    kind = type_of(value)
    whole = kind == "number" and float(value).is_integer()
    return kind in kinds or (kind == "integer" and "number" in kinds) or (whole and "integer" in kinds)


def _number_fits(value: float, schema: Mapping[str, Any]) -> bool:
    factor = schema.get("multipleOf")
    return (
        value >= schema.get("minimum", value)
        and value <= schema.get("maximum", value)
        and ("exclusiveMinimum" not in schema or value > schema["exclusiveMinimum"])
        and ("exclusiveMaximum" not in schema or value < schema["exclusiveMaximum"])
        and (factor is None or abs(value / factor - round(value / factor)) < 1e-9)
    )


def _array_fits(value: list[Any], schema: Mapping[str, Any], root: Schema) -> bool:
    first = schema.get("prefixItems", ())
    rest = schema.get("items", True)
    unique = {json.dumps(item, sort_keys=True) for item in value} if schema.get("uniqueItems") else value
    found = sum(satisfies(item, schema["contains"], root) for item in value) if "contains" in schema else 1
    return (
        schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value))
        and len(unique) == len(value)
        and schema.get("minContains", 1) <= found <= schema.get("maxContains", found)
        and all(satisfies(item, one, root) for item, one in zip(value, first, strict=False))
        and all(satisfies(item, rest, root) for item in value[len(first) :])
    )


def _object_fits(value: Mapping[str, Any], schema: Mapping[str, Any], root: Schema) -> bool:
    named = schema.get("properties", {})
    # Names that a pattern allows are not looked at: none is ever made.
    others = schema.get("additionalProperties", True)
    return (
        schema.get("minProperties", 0) <= len(value) <= schema.get("maxProperties", len(value))
        and all(name in value for name in schema.get("required", ()))
        and all(satisfies(item, named.get(name, others), root) for name, item in value.items())
        and all(satisfies(name, schema.get("propertyNames", True), root) for name in value)
        and all(
            need in value
            for name, needs in schema.get("dependentRequired", {}).items()
            if name in value
            for need in needs
        )
        and all(
            satisfies(value, one, root) for name, one in schema.get("dependentSchemas", {}).items() if name in value
        )
    )


def _branches_fit(value: Any, schema: Mapping[str, Any], root: Schema) -> bool:
    def fits(one: Schema) -> bool:
        return satisfies(value, one, root)

    if "if" in schema and not fits(schema.get("then" if fits(schema["if"]) else "else", True)):
        return False
    return (
        all(map(fits, schema.get("allOf", ())))
        and ("anyOf" not in schema or any(map(fits, schema["anyOf"])))
        and ("oneOf" not in schema or sum(map(fits, schema["oneOf"])) == 1)
        and ("not" not in schema or not fits(schema["not"]))
    )


def satisfies(value: Any, schema: Schema, root: Schema) -> bool:
    """Whether a value is one that the schema allows. Raises BadSchemaError where a `$ref` leads nowhere."""
    schema = resolved(schema, root)
    if isinstance(schema, bool):
        return schema
    if "type" in schema and not _typed(value, schema["type"]):
        return False
    if "const" in schema and not _same(value, schema["const"]):
        return False
    if "enum" in schema and not any(_same(value, one) for one in schema["enum"]):
        return False
    kind = type_of(value)
    if kind in ("integer", "number") and not _number_fits(value, schema):
        return False
    if kind == "string" and not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)):
        return False
    if kind == "array" and not _array_fits(value, schema, root):
        return False
    if kind == "object" and not _object_fits(value, schema, root):
        return False
    return _branches_fit(value, schema, root)
