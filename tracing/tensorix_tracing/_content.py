"""What was said, for those who ask for it: messages as attributes, each text redacted and then shortened.

The shape is that of the GenAI conventions' JSON schemas: messages of parts (`text`, `reasoning`, `tool_call`,
`tool_call_response`, `blob`, `uri`, `file`). Of what is no text only the kind and the size are told.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

from tensorix_api import semantic_names as names
from tensorix_api.secret import Secret
from tensorix_tracing._keys import text_without_key
from tensorix_tracing._messages import (
    Part,
    as_mapping,
    content_parts,
    input_message,
    items_of,
    parsed,
    tool_call,
    tool_definition,
    without_data,
)

__all__ = ["Content"]

log = logging.getLogger("tensorix_tracing")

_INSTRUCTING = {"system", "developer"}
# What one attribute may hold, in texts of the longest kind and in characters: the larger of the two.
_MOST_TEXTS = 16
_MOST_CHARACTERS = 65_536
_LARGEST_REPLY = 4 * 2**20
_MOST_CHOICES = 128
# The rest of a part is told as it is: none of it was written by anybody.
_FIXED = {"type", "role", "modality", "size"}
_warned: set[str] = set()


class _Choice:
    """One answer as it comes in, in pieces."""

    def __init__(self) -> None:
        self.finish_reason: str | None = None
        self.texts: dict[str, list[str]] = {}
        self.tools: dict[int, dict[str, list[str]]] = {}

    def parts(self) -> list[Part]:
        found: list[Part] = [
            {"type": kind, "content": "".join(self.texts[kind])} for kind in ("reasoning", "text") if kind in self.texts
        ]
        for _, tool in sorted(self.tools.items()):
            whole = {name: "".join(pieces) for name, pieces in tool.items()}
            found.append(tool_call(whole.get("id"), whole.get("name"), whole.get("arguments")))
        return found


class Content:
    """The texts of one call. Nothing here raises; where something fails, `redact` above all, nothing is told."""

    def __init__(self, redact: Callable[[str], str] | None, limit: int, body: Mapping[str, Any]) -> None:
        self._redact = redact
        self._limit = limit
        self._failed = False
        self._received = 0
        self._choices: dict[int, _Choice] = {}
        self._messages: list[Part] = []
        self._tools: list[Part] = []
        self._guarded(self._read_request, body)

    def event(self, data: bytes) -> None:
        """An event of a streamed answer."""
        self._guarded(self._read_reply, data, "delta")

    def whole(self, body: bytes) -> None:
        """An answer that is not streamed."""
        self._guarded(self._read_reply, body, "message")

    def attributes(self, key: str | None = None) -> dict[str, str | int]:
        """What a span is given; `key` is kept out of it."""
        told: dict[str, str | int] = {}
        self._guarded(self._tell, told, Secret(key) if key else None)
        return {} if self._failed else told

    def _guarded(self, act: Callable[..., None], *arguments: Any) -> None:
        if self._failed:
            return
        try:
            act(*arguments)
        except Exception as error:  # noqa: BLE001 - the caller's call comes first
            self._failed = True
            kind = type(error).__name__
            # Neither its message nor its traceback, which may repeat what was said.
            if kind not in _warned and len(_warned) < _MOST_TEXTS:
                _warned.add(kind)
                log.warning("the contents of a call were not captured: %s was raised (by redact, if one is set)", kind)

    # What comes in is only taken apart, into strings that nobody can change: redacting waits for the end.

    def _read_request(self, body: Mapping[str, Any]) -> None:
        self._messages = [input_message(as_mapping(message)) for message in items_of(body.get("messages"))]
        functions = [{"type": "function", "function": one} for one in items_of(body.get("functions"))]
        self._tools = [tool_definition(as_mapping(tool)) for tool in [*items_of(body.get("tools")), *functions]]

    def _read_reply(self, data: bytes, field: str) -> None:
        self._received += len(data)
        if self._received > _LARGEST_REPLY:
            return
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            return
        for position, choice in enumerate(items_of(value.get("choices") if isinstance(value, dict) else None)):
            if not isinstance(choice, dict):
                continue
            index = choice.get("index", position)
            if not isinstance(index, int) or (index not in self._choices and len(self._choices) >= _MOST_CHOICES):
                continue
            told = self._choices.setdefault(index, _Choice())
            if isinstance(reason := choice.get("finish_reason"), str):
                told.finish_reason = reason
            _add(told, as_mapping(choice.get(field)))

    # At the end

    def _tell(self, told: dict[str, str | int], key: Secret | None) -> None:
        left_out = 0
        answers: list[Part] = []
        for _, choice in sorted(self._choices.items()):
            answer: Part = {"role": "assistant", "parts": choice.parts()}
            if choice.finish_reason:
                reason = choice.finish_reason
                answer["finish_reason"] = "tool_call" if reason in ("tool_calls", "function_call") else reason[:60]
            answers.append(answer)
        if self._received > _LARGEST_REPLY:
            left_out, answers = len(answers), []
        instructions: list[Part] = []
        for message in self._messages:
            if message["role"] not in _INSTRUCTING:
                break
            instructions += message["parts"]
        for name, items, newest_first in (
            (names.SYSTEM_INSTRUCTIONS, instructions, False),
            # Of a long conversation what came last is what was asked.
            (names.INPUT_MESSAGES, self._messages, True),
            (names.TOOL_DEFINITIONS, self._tools, False),
            (names.OUTPUT_MESSAGES, answers, False),
        ):
            texts, missing = self._bounded(items[::-1] if newest_first else items, key)
            left_out += missing
            if texts:
                told[name] = f"[{','.join(texts[::-1] if newest_first else texts)}]"
        if left_out:
            told[names.CONTENT_LEFT_OUT] = left_out

    def _bounded(self, items: list[Part], key: Secret | None) -> tuple[list[str], int]:
        """As many of the items as there is room for, in JSON, and how many there was none for."""
        room = max(_MOST_CHARACTERS, _MOST_TEXTS * self._limit)
        texts: list[str] = []
        for item in items:
            text = json.dumps(self._clean(item, key), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
            room -= len(text) + 1
            if room < 0:
                break
            texts.append(text)
        return texts, len(items) - len(texts)

    def _clean(self, value: Any, key: Secret | None) -> Any:
        if isinstance(value, str):
            return self._text(value, key)
        if isinstance(value, list):
            return [self._clean(one, key) for one in value]
        if isinstance(value, dict):
            cleaned = {name: one if name in _FIXED else self._clean(one, key) for name, one in value.items()}
            for name in ("arguments", "parameters"):
                if name in cleaned:
                    cleaned[name] = parsed(cleaned[name])
            return cleaned
        return value

    def _text(self, text: str, key: Secret | None) -> str:
        text = without_data(text)
        if self._redact is not None:
            text = self._redact(text)
            if not isinstance(text, str):
                raise TypeError
        limit = self._limit
        # Lone surrogates, which JSON may smuggle in, cannot be exported.
        shown = text[:limit].encode("utf-8", "replace").decode()
        shown = text_without_key(shown, key)
        return shown if len(text) <= limit and len(shown) <= limit else shown[: limit - 1] + "…"


def _add(choice: _Choice, delta: Mapping[str, Any]) -> None:
    """A piece of an answer, or a whole one."""
    for field, kind in (("reasoning_content", "reasoning"), ("reasoning", "reasoning"), ("refusal", "text")):
        # Some servers send the same reasoning under both names.
        if field == "reasoning" and delta.get("reasoning_content"):
            continue
        if isinstance(piece := delta.get(field), str) and piece:
            choice.texts.setdefault(kind, []).append(piece)
    for part in content_parts(delta.get("content")):
        if part["type"] == "text" and part["content"]:
            choice.texts.setdefault("text", []).append(part["content"])
    calls = [as_mapping(call) for call in items_of(delta.get("tool_calls"))]
    if delta.get("function_call"):
        calls.append({"index": 0, "function": delta["function_call"]})
    for position, call in enumerate(calls):
        number = call.get("index", position)
        if not isinstance(number, int) or (number not in choice.tools and len(choice.tools) >= _MOST_CHOICES):
            continue
        tool = choice.tools.setdefault(number, {})
        function = as_mapping(call.get("function"))
        for name, piece in (("id", call.get("id")), ("name", function.get("name"))):
            # Servers that repeat them with each delta mean the same call.
            if isinstance(piece, str) and piece and name not in tool:
                tool[name] = [piece]
        if isinstance(piece := function.get("arguments"), str):
            tool.setdefault("arguments", []).append(piece)
