"""A request's parameters as the attributes of its span."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypeAlias

from tensorix_api.secret import Redactor, Secret
from tensorix_api.semantic_names import REQUEST_PARAMETERS

__all__ = ["AttributeValue", "key_of", "model_of", "request_parameters", "text_without_key", "without_key"]

AttributeValue: TypeAlias = str | bool | int | float | list[str]

_LONGEST_MODEL = 200
_MOST_STOPS = 16
_LONGEST_STOP = 100
# A text that a server made up for one call hides no key if it is shorter and holds neither end of it.
_PLAIN_LENGTH = 60
_EDGE = 6
# Words of the contract, which a key may end in: that does not make them a part of it.
_DOCUMENTED_CODES = frozenset(["invalid_api_key", "stop", "length", "tool_calls", "content_filter"])
_LINE_BREAKS = re.compile(r"([\n\r\t])")
_COUNTS = {"seed", "n", "top_k", "max_tokens", "max_completion_tokens"}


def model_of(body: Mapping[str, Any]) -> str | None:
    """The name of the model that a request asks for, bounded; None where it names none."""
    model = body.get("model")
    return _model_name(model) if isinstance(model, str) and model else None


@lru_cache(maxsize=256)
def _model_name(model: str) -> str:
    # A key in the place of a model is somebody's mistake, and no reason to tell it to all the world.
    return Redactor()(model, _LONGEST_MODEL)


def key_of(headers: Mapping[str, str]) -> Secret | None:
    """The key that a request carries."""
    # Rows of httpx's own (name, name in small letters, value): its look-up goes through them all too, and copies.
    for row in getattr(headers, "_list", ()):
        if len(row) == 3 and row[1] == b"authorization":
            return Secret(row[2].partition(b" ")[2].decode("latin-1") or row[2].decode("latin-1"))
    for name in ("authorization", "api-key"):
        if value := headers.get(name):
            return Secret(value.partition(" ")[2] or value)
    return None


def without_key(text: str | None, key: Secret | None, *, unique: bool = False) -> str | None:
    """A short text of a server's, which may repeat the key. `unique`: another for each call, so not worth keeping."""
    if text is None or text in _DOCUMENTED_CODES:
        return text
    if unique:
        edges = (key.reveal()[:_EDGE], key.reveal()[-_EDGE:]) if key else ()
        small = text.lower()
        if len(text) < _PLAIN_LENGTH and "sk-" not in small and not any(edge.lower() in small for edge in edges):
            return text
        return _redactor(key)(text, len(text))
    return _known_without_key(text, key)


def text_without_key(text: str, key: Secret | None) -> str:
    """A longer text, whose lines stay what they are."""
    redact = _redactor(key)
    return "".join(redact(line, len(line)) if line else line for line in _LINE_BREAKS.split(text))


@lru_cache(maxsize=256)
def _known_without_key(text: str, key: Secret | None) -> str:
    return _redactor(key)(text, len(text))


@lru_cache(maxsize=16)
def _redactor(key: Secret | None) -> Redactor:
    return Redactor(key)


def request_parameters(body: Mapping[str, Any]) -> dict[str, AttributeValue]:
    """The parameters that the conventions name, of a chat request's body; what has the wrong type is left out."""
    found: dict[str, AttributeValue] = {}
    for field, name in REQUEST_PARAMETERS.items():
        value = body.get(field)
        if value is None or isinstance(value, bool):
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
