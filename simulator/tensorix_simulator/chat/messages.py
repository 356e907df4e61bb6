"""The messages of a conversation: their form, what they cost to read, and what was said last.

A message with role `tool` must answer a call of the assistant's message before it, and every call must be answered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tensorix_simulator.chat.checks import (
    RefusedError,
    known_names,
    missing,
    mistyped,
    one_of,
    required,
    text,
    typed,
    unsupported,
)  # fmt: skip

__all__ = ["IMAGE_TOKENS", "characters_of", "check_messages", "last_question", "mentions_json", "tokens_for"]

IMAGE_TOKENS = 85
"""What an image counts in a prompt: OpenAI's price of one in low detail."""

_ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_NAMES = ("role", "content", "name")
_NAMES_OF: Mapping[str, tuple[str, ...]] = {
    # An assistant's message may be sent back as it came, so with the members that replies have.
    "assistant": (
        *_NAMES, "refusal", "tool_calls", "function_call", "audio", "annotations", "reasoning_content", "reasoning",
    ),
    "tool": (*_NAMES, "tool_call_id"),
}  # fmt: skip
_PARTS: Mapping[str, tuple[str, ...]] = {
    "user": ("text", "image_url", "input_audio", "file"),
    "assistant": ("text", "refusal"),
}


def tokens_for(characters: int) -> int:
    """An estimate that needs no tokenizer: a token for every four characters, rounded up."""
    return -(-characters // 4)


def _part(param: str, part: Any, role: str, strict: bool) -> None:
    if not isinstance(part, dict) or not isinstance(part.get("type"), str):
        raise mistyped(param, "an object with a type")
    kind = part["type"]
    one_of(*_PARTS.get(role, ("text",)))(f"{param}.type", kind)
    if kind in ("input_audio", "file"):
        raise unsupported(f"{param}.type", f"this model does not take content of type '{kind}'")
    if strict:
        known_names(param, part, ("type", kind, "cache_control", "prompt_cache_breakpoint"))
    if kind == "image_url":
        image = required(param, part, kind, typed(dict, "an object"))
        required(f"{param}.{kind}", image, "url", text())
        if image.get("detail") is not None:
            one_of("auto", "low", "high")(f"{param}.{kind}.detail", image["detail"])
    elif not isinstance(part.get(kind), str):
        raise mistyped(f"{param}.{kind}", "a string")


def _content(param: str, content: Any, role: str, strict: bool) -> None:
    if isinstance(content, list):
        if not content:
            raise RefusedError(f"Invalid '{param}': at least one part.", param, "empty_array")
        for index, part in enumerate(content):
            _part(f"{param}[{index}]", part, role, strict)
    elif not isinstance(content, str):
        raise mistyped(param, "a string or an array of parts")


def _tool_calls(param: str, calls: Any) -> list[str]:
    """The ids of an assistant's calls."""
    typed(list, "an array")(param, calls)
    if not calls:
        raise RefusedError(f"Invalid '{param}': at least one call.", param, "empty_array")
    ids = []
    for index, call in enumerate(calls):
        where = f"{param}[{index}]"
        typed(dict, "an object")(where, call)
        ids.append(required(where, call, "id", text()))
        required(where, call, "type", one_of("function"))
        function = required(where, call, "function", typed(dict, "an object"))
        _call(f"{where}.function", function)
    return ids


def _call(param: str, call: Any) -> None:
    typed(dict, "an object")(param, call)
    required(param, call, "name", text())
    required(param, call, "arguments", text())


def _message(param: str, message: Any, strict: bool) -> str:
    """Its role."""
    typed(dict, "an object")(param, message)
    role = message.get("role")
    if role is None:
        raise missing(f"{param}.role")
    if role not in _ROLES:
        raise RefusedError(f"Invalid '{param}.role': one of {', '.join(_ROLES)}.", f"{param}.role")
    if strict:
        known_names(param, message, _NAMES_OF.get(role, _NAMES))
    if message.get("name") is not None or role == "function":
        required(param, message, "name", text())
    if role == "tool":
        required(param, message, "tool_call_id", text())
    if role == "assistant" and message.get("function_call") is not None:
        _call(f"{param}.function_call", message["function_call"])
    content = message.get("content")
    if content is not None:
        _content(f"{param}.content", content, role, strict)
    elif role != "assistant" or not any(
        message.get(other) is not None for other in ("tool_calls", "function_call", "refusal")
    ):
        raise missing(f"{param}.content")
    return str(role)


def check_messages(param: str, messages: Any, strict: bool) -> None:
    """The whole conversation; `strict` refuses members that are not known. Raises RefusedError."""
    typed(list, "an array")(param, messages)
    if not messages:
        raise RefusedError(f"Invalid '{param}': at least one message.", param, "empty_array")
    open_calls: list[str] = []
    for index, message in enumerate(messages):
        where = f"{param}[{index}]"
        role = _message(where, message, strict)
        if role == "tool":
            if message["tool_call_id"] not in open_calls:
                raise RefusedError(
                    f"Invalid '{where}.tool_call_id': a message with role 'tool' must answer a call in 'tool_calls' "
                    "of the assistant's message before it.",
                    f"{where}.tool_call_id",
                )
            open_calls.remove(message["tool_call_id"])
            continue
        if open_calls:
            break
        if role == "assistant" and message.get("tool_calls") is not None:
            open_calls = _tool_calls(f"{where}.tool_calls", message["tool_calls"])
    if open_calls:
        raise RefusedError(
            f"Invalid '{param}': these calls have no message with role 'tool' that answers them: "
            f"{', '.join(call[:50] for call in open_calls[:10])}.",
            param,
        )


def _texts(content: Any) -> list[str]:
    if isinstance(content, str):
        return [content]
    if isinstance(content, list):
        return [part["text"] for part in content if part["type"] == "text"]
    return []


def characters_of(messages: Sequence[Mapping[str, Any]]) -> int:
    """What is read of a conversation: its texts, the calls made in it, and images as so many tokens' characters."""
    characters = 0
    for message in messages:
        content = message.get("content")
        characters += sum(map(len, _texts(content)))
        if isinstance(content, list):
            characters += 4 * IMAGE_TOKENS * sum(part["type"] == "image_url" for part in content)
        calls = [call["function"] for call in message.get("tool_calls") or ()]
        if message.get("function_call") is not None:
            calls.append(message["function_call"])
        characters += sum(len(call["name"]) + len(call["arguments"]) for call in calls)
    return characters


def last_question(messages: Sequence[Mapping[str, Any]]) -> str | None:
    """The text of the last message, where a user wrote it."""
    return "".join(_texts(messages[-1].get("content"))) if messages[-1]["role"] == "user" else None


def mentions_json(messages: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the word is anywhere in them, as OpenAI wants it for JSON mode."""
    return any("json" in part.lower() for message in messages for part in _texts(message.get("content")))
