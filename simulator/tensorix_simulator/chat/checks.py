"""Checks of one value each: what is wrong with it is told as OpenAI tells it, with the parameter's name and a code."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

__all__ = [
    "BadParameter", "Check", "RefusedError", "flag", "known_names", "missing", "mistyped", "nothing_but", "number",
    "one_of", "out_of_range", "required", "text", "typed", "unsupported", "whole",
]  # fmt: skip

Check: TypeAlias = Callable[[str, Any], None]
"""Takes a parameter's name and value. Raises RefusedError."""


@dataclass(frozen=True, slots=True)
class BadParameter:
    """Why a body is refused: the message, the parameter (None for the body as a whole) and a code."""

    message: str
    param: str | None
    code: str


class RefusedError(Exception):
    """Ends the reading of a body; it never leaves `read_chat_request`."""

    def __init__(self, message: str, param: str | None, code: str = "invalid_value") -> None:
        super().__init__(message)
        self.reason = BadParameter(message, param, code)


def mistyped(param: str, wanted: str) -> RefusedError:
    """Another type was wanted."""
    return RefusedError(f"Invalid type for '{param}': expected {wanted}.", param, "invalid_type")


def out_of_range(param: str, allowed: str) -> RefusedError:
    """Too few, too many, too long, too large."""
    return RefusedError(f"Invalid '{param}': {allowed}.", param, "out_of_range")


def missing(param: str) -> RefusedError:
    """What must be there is not."""
    return RefusedError(f"Missing required parameter: '{param}'.", param, "missing_required_parameter")


def unsupported(param: str, why: str) -> RefusedError:
    """OpenAI knows it, the models here do not: refused, since ignoring it would pass for having it."""
    return RefusedError(f"Unsupported value: '{param}': {why}.", param, "unsupported_value")


def typed(kind: type, wanted: str) -> Check:
    """Any value of a type."""

    def check(param: str, value: Any) -> None:
        if not isinstance(value, kind):
            raise mistyped(param, wanted)

    return check


flag: Check = typed(bool, "a boolean")


def whole(low: int, high: int) -> Check:
    """A whole number."""

    def check(param: str, value: Any) -> None:
        if not isinstance(value, int) or isinstance(value, bool):
            raise mistyped(param, "an integer")
        if not low <= value <= high:
            raise out_of_range(param, f"must be from {low} to {high}")

    return check


def number(low: float, high: float) -> Check:
    """A number."""

    def check(param: str, value: Any) -> None:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise mistyped(param, "a number")
        if not low <= value <= high:
            raise out_of_range(param, f"must be from {low:g} to {high:g}")

    return check


def text(longest: int | None = None) -> Check:
    """A string of so many characters at most."""

    def check(param: str, value: Any) -> None:
        if not isinstance(value, str):
            raise mistyped(param, "a string")
        if longest is not None and len(value) > longest:
            raise out_of_range(param, f"at most {longest} characters")

    return check


def one_of(*allowed: str) -> Check:
    """One of these strings."""

    def check(param: str, value: Any) -> None:
        if not isinstance(value, str):
            raise mistyped(param, f"one of {', '.join(allowed)}")
        if value not in allowed:
            message = f"Invalid value for '{param}': '{value[:100]}'. Supported values are: {', '.join(allowed)}."
            raise RefusedError(message, param)

    return check


def nothing_but(*harmless: object, why: str) -> Check:
    """A parameter that the simulator does not serve, except in the values that ask for nothing."""

    def check(param: str, value: Any) -> None:
        if not any(type(value) is type(one) and value == one for one in harmless):
            raise unsupported(param, why)

    return check


def required(param: str, value: Mapping[str, Any], name: str, check: Check) -> Any:
    """A member of an object that must be there, checked."""
    if value.get(name) is None:
        raise missing(f"{param}.{name}")
    check(f"{param}.{name}", value[name])
    return value[name]


def known_names(param: str, value: Mapping[str, Any], names: Iterable[str]) -> None:
    """An object has no member besides these."""
    for name in value:
        if name not in names:
            where = f"{param}.{name[:100]}"
            raise RefusedError(f"Unknown parameter: '{where}'.", where, "unknown_parameter")
