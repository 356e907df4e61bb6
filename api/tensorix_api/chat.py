"""What the parts of a chat reply mean: each event of a stream, and a whole reply.

A stream is followed by `ChatStream`: feed it each event's data and it says, as flags, what came. It decodes JSON only
where something new can be learnt: servers repeat every chunk to the letter but for the generated text, so a chunk that
equals the last one outside that text, and holds a valid JSON string inside it, means the same and is not decoded.
Every other chunk is, so nothing malformed passes.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, Final

from tensorix_api.errors import ErrorBody, parse_error_body

__all__ = [
    "CHUNK",
    "DONE",
    "ERROR",
    "FINISH",
    "MALFORMED",
    "OUTPUT",
    "TOKEN",
    "USAGE",
    "ChatReply",
    "ChatStream",
    "MalformedError",
    "Usage",
    "is_json_text",
    "parse_models",
    "parse_reply",
]

# Plain integers: flags of the enum module cost more than all the rest of a chunk's handling.
CHUNK: Final = 1
"""A chat completion chunk, whatever is in it."""
TOKEN: Final = 2
"""Something generated: content, refusal, reasoning, or a tool call's name or arguments."""
OUTPUT: Final = 4
"""Something generated that is not reasoning."""
FINISH: Final = 8
"""A finish reason."""
USAGE: Final = 16
"""Token usage."""
DONE: Final = 32
"""`[DONE]`."""
ERROR: Final = 64
"""An `error` object."""
MALFORMED: Final = 128
"""No JSON where JSON was due, or not shaped like a chat completion chunk."""

_LARGEST = 2**63 - 1
_MOST_CHOICES = 128
_GENERATED_TEXT = re.compile(rb'"(?:content|reasoning_content|reasoning)"\s*:\s*"((?:[^"\\]|\\.)+)"')
_ASCII_TEXT = re.compile(rb"[ !#-\[\]-~]+").fullmatch
_ANY_TEXT = re.compile(rb'(?:[ !#-\[\]-~\x80-\xff]|\\["\\/bfnrt])+').fullmatch


class MalformedError(ValueError):
    """The bytes are not what the contract says; the message is short and holds nothing the server sent."""


@dataclass(slots=True)
class Usage:
    """Tokens as the server counted them; None where it did not say."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    reasoning_tokens: int | None = None
    cached_tokens: int | None = None


@dataclass(slots=True)
class ChatReply:
    """What was learnt from a reply, streamed or not."""

    response_id: str | None = None
    model: str | None = None
    finish_reason: str | None = None
    """Of the first choice that said one."""
    choice_reasons: dict[int, str] | None = None
    """The finish reason of each choice by its index, where there is more than one choice."""
    tool_calls: int = 0
    usage: Usage | None = None
    error: ErrorBody | None = None
    text: str | None = None
    """What the first choice says, reasoning apart; of a stream only where it was to be kept."""

    @property
    def finish_reasons(self) -> list[str]:
        """Of every choice that said one, in their order."""
        if self.choice_reasons:
            return [reason for _, reason in sorted(self.choice_reasons.items())]
        return [self.finish_reason] if self.finish_reason else []

    def finished_choice(self, index: int, reason: str) -> None:
        """A choice said why it ended. Nearly always there is but one, which needs no more than a field."""
        if self.finish_reason is None and index == 0:
            self.finish_reason = reason
            return
        if self.choice_reasons is None:
            self.choice_reasons = {} if self.finish_reason is None else {0: self.finish_reason}
        self.finish_reason = self.finish_reason or reason
        if len(self.choice_reasons) < _MOST_CHOICES:
            self.choice_reasons.setdefault(index, reason)


def is_json_text(text: bytes) -> bool:
    r"""Whether bytes are the inside of a JSON string, and not empty. False for some that are (those with `\u`)."""
    if _ASCII_TEXT(text):
        return True
    if not _ANY_TEXT(text):
        return False
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _count(value: Any) -> int | None:
    """A token count that a record can hold."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST else None


def _name(value: Any) -> str | None:
    """A short text that can be written as UTF-8: JSON may smuggle lone surrogates."""
    if not isinstance(value, str) or not value:
        return None
    return value[:200].encode("utf-8", "replace").decode()


def _decode(data: bytes) -> dict[str, Any]:
    try:
        # Decoded as UTF-8 first: given bytes, the json module would also guess at UTF-16 and UTF-32.
        value = json.loads(data.decode())
    except (ValueError, RecursionError):
        raise MalformedError("not valid JSON") from None
    if not isinstance(value, dict):
        raise MalformedError("JSON, but no object")
    return value


def _read_usage(value: Any) -> Usage | None:
    if not isinstance(value, dict):
        return None
    completion, prompt = value.get("completion_tokens_details"), value.get("prompt_tokens_details")
    return Usage(
        _count(value.get("prompt_tokens")),
        _count(value.get("completion_tokens")),
        _count(completion.get("reasoning_tokens")) if isinstance(completion, dict) else None,
        _count(prompt.get("cached_tokens")) if isinstance(prompt, dict) else None,
    )


def _choices(value: dict[str, Any]) -> list[dict[str, Any]]:
    choices = value.get("choices")
    if choices is None:
        return []
    if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
        raise MalformedError("choices is not a list of objects")
    return choices


def _text_of(content: Any) -> str:
    """The text of a message's content, which may be a list of parts."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else ()
    texts = [part.get("text") for part in parts if isinstance(part, dict) and part.get("type") in ("text", None)]
    return "".join(text for text in texts if isinstance(text, str))


def _generated(delta: dict[str, Any]) -> int:
    """TOKEN and OUTPUT as a delta holds them."""
    flags = 0
    for key in ("content", "refusal"):
        text = delta.get(key)
        if text is not None and not isinstance(text, str | list):
            raise MalformedError(f"{key} is neither text nor a list of parts")
        if text:
            flags |= TOKEN | OUTPUT
    for key in ("reasoning_content", "reasoning"):
        if isinstance(delta.get(key), str) and delta[key]:
            flags |= TOKEN
    calls = delta.get("tool_calls")
    if isinstance(calls, list):
        for call in calls:
            function = call.get("function") if isinstance(call, dict) else None
            if isinstance(function, dict) and (function.get("name") or function.get("arguments")):
                flags |= TOKEN | OUTPUT
    function = delta.get("function_call")
    if isinstance(function, dict) and (function.get("name") or function.get("arguments")):
        flags |= TOKEN | OUTPUT
    return flags


@dataclass(slots=True)
class ChatStream:
    """Follows one stream. `reply` holds what was learnt so far.

    `finished` is true once every choice that was seen has a finish reason.
    """

    reply: ChatReply = field(default_factory=ChatReply)
    malformed_because: str | None = None
    pieces: list[bytes] | None = None
    """The text of the first choice as insides of JSON strings, where it is to be kept; None: it is not."""
    keeps_pattern: bool = False
    """What lies within `pattern` belongs to `pieces`."""
    _open: set[int] = field(default_factory=set)
    _closed: set[int] = field(default_factory=set)
    _tools: set[tuple[int, int]] = field(default_factory=set)
    _prefix: bytes | None = None
    _suffix: bytes = b""
    _flags: int = 0
    _kept: bool = False
    _aside: bool = False

    @property
    def pattern(self) -> tuple[bytes, bytes, int] | None:
        """What surrounds the text of a chunk that means the same as the last: before it, behind it, and the flags.

        For a reader that compares before it takes the event out of its frame; the text between must satisfy
        `is_json_text`. None where the last chunk was of another kind.
        """
        return None if self._prefix is None else (self._prefix, self._suffix, self._flags)

    @property
    def finished(self) -> bool:
        """Whether the model said that it was through."""
        return bool(self._closed) and not self._open

    def keep_text(self) -> None:
        """From now on keep the text of the first choice, for `text`."""
        self.pieces = []

    @property
    def text(self) -> str | None:
        """What the first choice said so far, reasoning apart; None where it is not kept."""
        if self.pieces is None:
            return None
        try:
            said: str = json.loads(b'"' + b"".join(self.pieces) + b'"', strict=False)
        except ValueError:
            return None
        return said.encode("utf-8", "replace").decode()

    def feed(self, data: bytes, event_type: bytes = b"") -> int:
        """What an event means, as flags. Never raises; 0 for an event that says nothing here."""
        prefix = self._prefix
        if prefix is not None and data.startswith(prefix) and data.endswith(self._suffix) and not event_type:
            text = data[len(prefix) : len(data) - len(self._suffix)]
            # Where prefix and suffix overlap the text comes out short or empty, and is decoded in full.
            if len(data) > len(prefix) + len(self._suffix) and is_json_text(text):
                if self.keeps_pattern and self.pieces is not None:
                    self.pieces.append(text)
                return self._flags
        return self._feed_decoded(data, event_type)

    def _feed_decoded(self, data: bytes, event_type: bytes) -> int:
        text = data.strip()
        if text == b"[DONE]":
            return DONE
        if not text:
            return 0
        try:
            value = _decode(data)
            if value.get("error") or (event_type == b"error" and "choices" not in value):
                self.reply.error = parse_error_body(value)
                return ERROR
            flags = self._read_chunk(value)
        except MalformedError as error:
            if event_type == b"error":
                self.reply.error = parse_error_body(data)
                return ERROR
            self.malformed_because = str(error)
            return MALFORMED
        self._learn(data, flags)
        return flags

    def _read_chunk(self, value: dict[str, Any]) -> int:
        reply = self.reply
        flags = CHUNK if "choices" in value else 0
        self._kept = self._aside = False
        for choice in _choices(value):
            flags |= self._read_choice(choice)
        if usage := _read_usage(value.get("usage")):
            reply.usage = usage
            flags |= USAGE
        reply.response_id = reply.response_id or _name(value.get("id"))
        reply.model = reply.model or _name(value.get("model"))
        return flags

    def _read_choice(self, choice: dict[str, Any]) -> int:
        index = choice.get("index", 0)
        index = index if isinstance(index, int) else 0
        delta = choice.get("delta")
        if delta is None:
            delta = {}
        if not isinstance(delta, dict):
            raise MalformedError("delta is no object")
        flags = _generated(delta)
        if self.pieces is not None and index == 0 and (said := _text_of(delta.get("content"))):
            self.pieces.append(json.dumps(said)[1:-1].encode())
            self._kept = isinstance(delta["content"], str)
            self._aside = not self._kept
        # A delta with anything in it shows a choice that is yet to finish; the usage chunk's choice has an empty one.
        if delta and index not in self._closed:
            self._open.add(index)
        calls = delta.get("tool_calls")
        if isinstance(calls, list):
            for position, call in enumerate(calls):
                number = call.get("index", position) if isinstance(call, dict) else position
                if isinstance(number, int) and len(self._tools) < 10_000:
                    self._tools.add((index, number))
            self.reply.tool_calls = len(self._tools)
        if reason := _name(choice.get("finish_reason")):
            self.reply.finished_choice(index, reason)
            self._open.discard(index)
            self._closed.add(index)
            flags |= FINISH
        return flags

    def _learn(self, data: bytes, flags: int) -> None:
        """Remember what surrounds the generated text of a chunk that holds nothing else."""
        if flags not in (CHUNK | TOKEN, CHUNK | TOKEN | OUTPUT):
            return
        found = _GENERATED_TEXT.search(data)
        # One place only, or the text could be split over two fields; none where what is kept stands in another.
        if found is None or self._aside or _GENERATED_TEXT.search(data, found.end()):
            self._prefix = None
            return
        self._prefix, self._suffix, self._flags = data[: found.start(1)], data[found.end(1) :], flags
        self.keeps_pattern = self._kept


def parse_reply(body: bytes) -> ChatReply:
    """Read a reply that is not streamed. Raises MalformedError where it is no chat completion.

    A body with an `error` and no choices gives a reply whose `error` is set.
    """
    value = _decode(body)
    reply = ChatReply(_name(value.get("id")), _name(value.get("model")), usage=_read_usage(value.get("usage")))
    if value.get("error") and not value.get("choices"):
        reply.error = parse_error_body(value)
        return reply
    choices = _choices(value)
    if not choices:
        raise MalformedError("no choices: not a chat completion")
    for index, choice in enumerate(choices):
        message = choice.get("message")
        if not isinstance(message, dict):
            raise MalformedError("a choice without a message: not a chat completion")
        if index == 0:
            reply.text = _text_of(message.get("content")).encode("utf-8", "replace").decode()
        if reason := _name(choice.get("finish_reason")):
            reply.finished_choice(index, reason)
        calls = message.get("tool_calls")
        reply.tool_calls += len(calls) if isinstance(calls, list) else 0
    return reply


def parse_models(body: bytes) -> list[str]:
    """The names in a reply to `/models`, in the server's order. Raises MalformedError where it is no model list."""
    data = _decode(body).get("data")
    if not isinstance(data, list):
        raise MalformedError("no list under data: not a model list")
    names = [_name(item.get("id")) if isinstance(item, dict) else None for item in data]
    if any(name is None for name in names):
        raise MalformedError("a model without an id: not a model list")
    return [name for name in names if name]
