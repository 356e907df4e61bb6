"""One entry of a prompt file as a script: a list of messages, a ShareGPT conversation, a row of a table, a line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tensorix_loadtests.prompts._script import Message, Script, user_message

__all__ = ["WrongEntryError", "of_json", "of_row"]

# What the load test itself says of each request, and what names an entry rather than asking for something.
_NOT_SENT = {"stream", "stream_options", "id", "custom_id"}
_HUMANS = {"human", "user"}
_NO_UTF8 = "it holds a character that UTF-8 cannot carry"


class WrongEntryError(ValueError):
    """What an entry should have been, without its place."""


def of_json(value: Any, format_: str, *, turns: bool) -> Script | None:
    """The script of a JSON value; None for a ShareGPT conversation in which nobody asks anything.

    `turns`: a list of messages is a conversation too, whose answers the model gives anew. Raises WrongEntryError.
    """
    if isinstance(value, list) and format_ != "sharegpt":
        value = {"messages": value}
    if not isinstance(value, dict):
        raise WrongEntryError('no JSON object: write {"messages": [...]} or a list of messages')
    if isinstance(value.get("body"), dict):
        # A line of OpenAI's batch format.
        value = value["body"]
    if format_ != "messages" and isinstance(value.get("conversations"), list):
        return _sharegpt(value["conversations"])
    if format_ == "sharegpt":
        raise WrongEntryError('no list under "conversations", as ShareGPT has it')
    if isinstance(value.get("prompt"), str) and value["prompt"] and "messages" not in value:
        value = {"messages": [user_message(value["prompt"])]} | {k: v for k, v in value.items() if k != "prompt"}
    return _messages(value, turns=turns)


def _messages(value: dict[str, Any], *, turns: bool) -> Script:
    messages = value.get("messages")
    if not isinstance(messages, list) or not messages:
        raise WrongEntryError('no list of messages under "messages"')
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise WrongEntryError('a message is no object with a "role"')
        if not isinstance(message.get("content"), str | list | None):
            raise WrongEntryError('the "content" of a message is neither text nor a list of parts')
    rest = {name: item for name, item in value.items() if name not in {"messages", "model", "max_tokens", *_NOT_SENT}}
    opening, later = _split(messages) if turns else (messages, [])
    return Script(
        opening=tuple(opening),
        later=tuple(later),
        conversation=turns,
        max_tokens=_bound(value.get("max_tokens")),
        model=_model(value.get("model")),
        body=_sendable(rest, messages),
    )


def _split(messages: list[Message]) -> tuple[list[Message], list[Message]]:
    """Up to the first question, and each further one: the answers between them are the model's own."""
    asked = [at for at, message in enumerate(messages) if message["role"] == "user"]
    if not asked:
        return messages, []
    return messages[: asked[0] + 1], [messages[at] for at in asked[1:]]


def _sharegpt(turns: list[Any]) -> Script | None:
    system: list[Message] = []
    asked: list[Message] = []
    for turn in turns:
        if not isinstance(turn, dict):
            raise WrongEntryError('a turn of "conversations" is no object')
        who, text = turn.get("from", turn.get("role")), turn.get("value", turn.get("content"))
        if not isinstance(who, str) or not isinstance(text, str):
            raise WrongEntryError('a turn of "conversations" has no text under "from" and "value"')
        if not text.strip():
            continue
        if who == "system" and not asked:
            system.append({"role": "system", "content": text})
        elif who in _HUMANS:
            asked.append(user_message(text))
    if not asked:
        return None
    try:
        for message in (*system, *asked):
            message["content"].encode()
    except UnicodeEncodeError:
        raise WrongEntryError(_NO_UTF8) from None
    return Script(opening=(*system, asked[0]), later=tuple(asked[1:]), conversation=True)


def of_row(prompt: str, max_tokens: str | None, model: str | None) -> Script:
    """The script of a row of a table. Raises WrongEntryError."""
    if not prompt.strip():
        raise WrongEntryError("the prompt is empty")
    text = (max_tokens or "").strip()
    if text and not (text.isdigit() and len(text) < 10):
        raise WrongEntryError(f"max_tokens is {text[:40]!r}: write a whole number from 1")
    return Script(
        opening=(user_message(prompt),),
        max_tokens=_bound(int(text)) if text else None,
        model=(model or "").strip() or None,
    )


def _bound(value: Any) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise WrongEntryError(f"max_tokens is {str(value)[:40]!r}: write a whole number from 1")
    return value


def _model(value: Any) -> str | None:
    if value is not None and (not isinstance(value, str) or not value):
        raise WrongEntryError("the model is no name")
    return value


def _sendable(body: Mapping[str, Any], messages: list[Message]) -> Mapping[str, Any]:
    """`body`, if it and the messages can be sent: JSON may smuggle in numbers and characters that it cannot carry."""
    try:
        json.dumps([body, messages], ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        raise WrongEntryError(_NO_UTF8) from None
    except (ValueError, RecursionError):
        raise WrongEntryError("it holds a number that JSON cannot carry, or is nested too deep") from None
    return body
