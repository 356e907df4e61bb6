"""Tools as a request offers them, and the calls that are made of them.

A call costs a token for its name and one for every four characters of its arguments.
"""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tensorix_simulator.chat.json_values import value_for
from tensorix_simulator.chat.schemas import Schema

__all__ = ["PIECE", "Function", "ToolUse", "call_deltas", "calls_made"]

PIECE = 4
"""Characters of a token, where a text is not made of whole words."""


@dataclass(frozen=True, slots=True)
class Function:
    """What may be called, and what its arguments have to satisfy."""

    name: str
    parameters: Schema


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolUse:
    """What a request says about calls."""

    functions: tuple[Function, ...]
    """Those that may be called; at least one."""
    must: bool
    """A call is asked for; else whether one is made is drawn (`tool_call_rate`)."""
    several: bool = False
    """More than one call is explicitly allowed, so there are two or three; else there is one."""
    legacy: bool = False
    """Asked for as `functions`, so answered with `function_call`."""


def calls_made(use: ToolUse, generator: random.Random) -> list[tuple[str, str]]:
    """Names and arguments (JSON)."""
    count = generator.randint(2, 3) if use.several else 1
    chosen = [generator.choice(use.functions) for _ in range(count)]
    return [(one.name, json.dumps(value_for(one.parameters, generator), ensure_ascii=False)) for one in chosen]


def call_deltas(calls: list[tuple[str, str]], legacy: bool) -> Iterator[Mapping[str, Any]]:
    """The deltas of a stream, a token each: who is called, then the arguments in pieces."""
    for index, (name, arguments) in enumerate(calls):
        pieces = [arguments[at : at + PIECE] for at in range(0, len(arguments), PIECE)]
        if legacy:
            yield {"function_call": {"name": name, "arguments": ""}}
            for piece in pieces:
                yield {"function_call": {"arguments": piece}}
            continue
        function = {"name": name, "arguments": ""}
        yield {
            "tool_calls": [
                {"index": index, "id": f"call_{uuid.uuid4().hex[:24]}", "type": "function", "function": function}
            ]
        }
        for piece in pieces:
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}
