"""The parameters that give a reply its form: tools, functions and the response format, checked as OpenAI does."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from tensorix_simulator.chat.checks import (
    Check,
    RefusedError,
    flag,
    known_names,
    mistyped,
    one_of,
    out_of_range,
    required,
    text,
    typed,
)
from tensorix_simulator.chat.json_values import lean_value
from tensorix_simulator.chat.schemas import BadSchemaError, Schema, UnmakeableError, check_schema, check_strict
from tensorix_simulator.chat.tools import Function, ToolUse

__all__ = ["check_format", "check_functions", "check_tools", "format_schema", "tool_use"]

_MOST_TOOLS = 128
_LONGEST_SCHEMA = 100_000
# Each may be a schema within it, and takes the check some 0.2 ms of the simulator's one thread.
_PARTS = re.compile(r"\{|\btrue\b|\bfalse\b")
_MOST_PARTS = 500
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_OBJECT: Check = typed(dict, "an object")
_NO_PARAMETERS: Schema = {"type": "object", "properties": {}, "additionalProperties": False}
_ANY_OBJECT: Schema = {
    "type": "object",
    "properties": {
        "answer": {"type": "string"},
        "items": {"type": "array", "items": {"type": "string"}, "minItems": 1},
    },
    "required": ["answer", "items"],
    "additionalProperties": False,
}


@lru_cache(maxsize=256)
def _looked_at(schema_text: str, strict: bool) -> tuple[str, str] | None:
    schema = json.loads(schema_text)
    try:
        if len(schema_text) > _LONGEST_SCHEMA or len(_PARTS.findall(schema_text)) > _MOST_PARTS:
            raise UnmakeableError(
                f"more than {_LONGEST_SCHEMA} characters, or {_MOST_PARTS} objects and booleans in it"
            )
        if schema_text.count('"$schema"') > ("$schema" in schema):
            # The library would take another validator for that part.
            raise UnmakeableError("it takes '$schema' only at its root")
        check_schema(schema)
        if strict:
            check_strict(schema)
        if schema.get("type", "object") != "object":
            raise BadSchemaError("its type must be 'object'")
        lean_value({"type": "object", **schema})
    except BadSchemaError as error:
        return "Invalid schema for", str(error)
    except UnmakeableError as error:
        return "The simulator can make no value for the schema of", str(error)
    return None


def _check_schema(schema: Any, strict: bool, whose: str, param: str, code: str) -> None:
    """Raises RefusedError for a schema that is none, and for one that no value can be made for. Most come often."""
    if (problem := _looked_at(json.dumps(schema), strict)) is not None:
        raise RefusedError(f"{problem[0]} {whose}: {problem[1]}.", param, code)


def _name(param: str, value: Any) -> None:
    text()(param, value)
    if not _NAME.fullmatch(value):
        raise RefusedError(f"Invalid '{param}': 1 to 64 of a-z, A-Z, 0-9, underscore and dash.", param)


def _function(param: str, function: Mapping[str, Any], strict: bool) -> None:
    """One function's definition."""
    name = required(param, function, "name", _name)
    if strict:
        known_names(param, function, ("name", "description", "parameters", "strict"))
    if function.get("description") is not None:
        text()(f"{param}.description", function["description"])
    if function.get("strict") is not None:
        flag(f"{param}.strict", function["strict"])
    if function.get("parameters") is not None:
        _OBJECT(f"{param}.parameters", function["parameters"])
        given, strictly = function["parameters"], bool(function.get("strict"))
        _check_schema(given, strictly, f"function '{name}'", f"{param}.parameters", "invalid_function_parameters")


def _counted(param: str, value: Any) -> None:
    typed(list, "an array")(param, value)
    if not value:
        raise RefusedError(f"Invalid '{param}': at least one.", param, "empty_array")
    if len(value) > _MOST_TOOLS:
        raise out_of_range(param, f"at most {_MOST_TOOLS}")


def check_tools(param: str, value: Any, strict: bool) -> None:
    """`tools`; `strict` refuses members that are not known. Raises RefusedError."""
    _counted(param, value)
    for index, tool in enumerate(value):
        where = f"{param}[{index}]"
        _OBJECT(where, tool)
        required(where, tool, "type", one_of("function"))
        if strict:
            known_names(where, tool, ("type", "function"))
        _function(f"{where}.function", required(where, tool, "function", _OBJECT), strict)


def check_functions(param: str, value: Any, strict: bool) -> None:
    """`functions`, which `tools` replaced."""
    _counted(param, value)
    for index, function in enumerate(value):
        _OBJECT(f"{param}[{index}]", function)
        _function(f"{param}[{index}]", function, strict)


def check_format(param: str, value: Any, strict: bool) -> None:
    """`response_format`."""
    _OBJECT(param, value)
    kind = required(param, value, "type", one_of("text", "json_object", "json_schema"))
    if strict:
        known_names(param, value, ("type", "json_schema") if kind == "json_schema" else ("type",))
    if kind != "json_schema":
        return
    where = f"{param}.json_schema"
    form = required(param, value, "json_schema", _OBJECT)
    if strict:
        known_names(where, form, ("name", "description", "schema", "strict"))
    name = required(where, form, "name", _name)
    if form.get("strict") is not None:
        flag(f"{where}.strict", form["strict"])
    if form.get("schema") is not None:
        _OBJECT(f"{where}.schema", form["schema"])
        strictly = bool(form.get("strict"))
        _check_schema(form["schema"], strictly, f"response_format '{name}'", param, "invalid_json_schema")


def format_schema(value: Mapping[str, Any] | None) -> Schema | None:
    """What a reply has to satisfy; None for text."""
    if value is None or value["type"] == "text":
        return None
    schema = (value.get("json_schema") or {}).get("schema")
    return _ANY_OBJECT if schema is None else {"type": "object", **schema}


def _only_with(param: str, other: str) -> RefusedError:
    message = f"Invalid value for '{param}': '{param}' is only allowed when '{other}' are specified."
    return RefusedError(message, param)


def _named(param: str, choice: Any, functions: list[Function]) -> tuple[Function, ...]:
    """The function that is chosen by its name."""
    name = required(param, choice, "name", text())
    chosen = tuple(one for one in functions if one.name == name)[:1]
    if not chosen:
        raise RefusedError(f"Invalid value for '{param}.name': no function named '{name[:64]}' was specified.", param)
    return chosen


def _allowed(param: str, choice: Mapping[str, Any], functions: list[Function]) -> tuple[bool, tuple[Function, ...]]:
    """`allowed_tools`: whether one must be called, and of which."""
    allowed = required(param, choice, "allowed_tools", _OBJECT)
    where = f"{param}.allowed_tools"
    mode = required(where, allowed, "mode", one_of("auto", "required"))
    tools = required(where, allowed, "tools", _counted)
    chosen: tuple[Function, ...] = ()
    for index, tool in enumerate(tools):
        _OBJECT(f"{where}.tools[{index}]", tool)
        function = required(f"{where}.tools[{index}]", tool, "function", _OBJECT)
        chosen += _named(f"{where}.tools[{index}].function", function, functions)
    return mode == "required", chosen


def _chosen(choice: Any, functions: list[Function]) -> tuple[bool, tuple[Function, ...]]:
    """What a `tool_choice` comes to: whether there must be a call, and of which functions."""
    if isinstance(choice, str):
        one_of("none", "auto", "required")("tool_choice", choice)
        return choice == "required", () if choice == "none" else tuple(functions)
    if not isinstance(choice, dict):
        raise mistyped("tool_choice", "a string or an object")
    kind = required("tool_choice", choice, "type", one_of("function", "allowed_tools"))
    if kind == "allowed_tools":
        return _allowed("tool_choice", choice, functions)
    return True, _named("tool_choice.function", required("tool_choice", choice, "function", _OBJECT), functions)


def _made(definition: Mapping[str, Any]) -> Function:
    parameters = definition.get("parameters")
    return Function(definition["name"], _NO_PARAMETERS if parameters is None else {"type": "object", **parameters})


def tool_use(data: Mapping[str, Any]) -> ToolUse | None:
    """What a checked body says about calls; None where none may be made. Raises RefusedError."""
    given, old = data.get("tools"), data.get("functions")
    for param, other in (("tool_choice", "tools"), ("parallel_tool_calls", "tools"), ("function_call", "functions")):
        if data.get(param) is not None and data.get(other) is None:
            raise _only_with(param, other)
    if given is not None and old is not None:
        raise RefusedError("'functions' is not allowed beside 'tools'.", "functions", "invalid_parameter_combination")
    if given is not None:
        choice = data.get("tool_choice")
        must, chosen = _chosen("auto" if choice is None else choice, [_made(tool["function"]) for tool in given])
        several = data.get("parallel_tool_calls") is True and not (
            isinstance(choice, dict) and choice["type"] == "function"
        )
        return ToolUse(functions=chosen, must=must, several=several) if chosen else None
    if old is None:
        return None
    choice, functions = data.get("function_call"), [_made(function) for function in old]
    if isinstance(choice, dict):
        return ToolUse(functions=_named("function_call", choice, functions), must=True, legacy=True)
    if choice is not None:
        one_of("none", "auto")("function_call", choice)
    return None if choice == "none" else ToolUse(functions=tuple(functions), must=False, legacy=True)
