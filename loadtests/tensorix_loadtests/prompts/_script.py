"""What one prompt or conversation asks, as its source has it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

__all__ = ["CountedBy", "Message", "Script", "estimated_tokens", "texts_of", "tokens_of_text", "user_message"]

Message: TypeAlias = Mapping[str, Any]

CountedBy: TypeAlias = Literal["words", "bytes"]
"""How a number of tokens was come by: `words` of one token each, or the UTF-8 bytes of any text, four to a token."""

_BYTES_PER_TOKEN = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What is sent first, and what is said in each further turn, behind the model's answer to the one before."""

    opening: tuple[Message, ...]
    later: tuple[Message, ...] = ()
    conversation: bool = False
    """It has turns, be it only one."""
    max_tokens: int | None = None
    model: str | None = None
    body: Mapping[str, Any] = field(default_factory=dict)


def user_message(text: str) -> Message:
    """What a user says."""
    return {"role": "user", "content": text}


def tokens_of_text(text: str) -> int:
    """About how many tokens a text is, by its bytes."""
    return math.ceil(len(text.encode("utf-8", "replace")) / _BYTES_PER_TOKEN)


def estimated_tokens(messages: Sequence[Message]) -> int:
    """About how many tokens the text of messages is, by its bytes; the marks around messages are not counted."""
    return sum(tokens_of_text(text) for message in messages for text in texts_of(message.get("content")))


def texts_of(content: Any) -> list[str]:
    """The texts of a message's content, which is one text or a list of parts."""
    if isinstance(content, str):
        return [content]
    if not isinstance(content, list):
        return []
    texts = [part.get("text") for part in content if isinstance(part, Mapping)]
    return [text for text in texts if isinstance(text, str)]
