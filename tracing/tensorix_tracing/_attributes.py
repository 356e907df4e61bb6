"""A request's parameters as the attributes of its span."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from tensorix_api.secret import Redactor
from tensorix_api.semantic_names import REQUEST_PARAMETERS

__all__ = ["AttributeValue", "model_name", "request_parameters"]

AttributeValue: TypeAlias = str | bool | int | float | list[str]

_LONGEST_MODEL = 200
_MOST_STOPS = 16
_LONGEST_STOP = 100
_COUNTS = {"seed", "n", "top_k", "max_tokens", "max_completion_tokens"}


def model_name(model: str) -> str:
    """The name of the model that a request asks for, bounded."""
    # A key in the place of a model is somebody's mistake, and no reason to tell it to all the world.
    return Redactor()(model, _LONGEST_MODEL)


def request_parameters(body: Mapping[str, Any]) -> dict[str, AttributeValue]:
    """The parameters that the conventions name, of a chat request's body; what has the wrong type is left out."""
    found: dict[str, AttributeValue] = {}
    for field, value in body.items():
        name = REQUEST_PARAMETERS.get(field)
        if name is None or value is None or isinstance(value, bool):
            continue
        if field == "max_tokens" and name in found:
            # Its successor goes before it.
            continue
        if field == "stop":
            stops = [value] if isinstance(value, str) else value
            if isinstance(stops, list | tuple) and all(isinstance(stop, str) for stop in stops):
                found[name] = [stop[:_LONGEST_STOP] for stop in stops[:_MOST_STOPS]]
        elif field in _COUNTS:
            # One choice is what everybody gets who asks for none.
            if isinstance(value, int) and not (field == "n" and value == 1):
                found[name] = value
        elif isinstance(value, int | float):
            found[name] = float(value)
    return found
