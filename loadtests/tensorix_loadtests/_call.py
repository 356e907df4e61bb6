"""One request to make: its endpoint and body, and how the record describes it."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Call"]


@dataclass(frozen=True, slots=True)
class Call:
    """One request to make. `body` is JSON, None for a GET; the rest describes it in the record."""

    endpoint: str
    body: bytes | None = None
    stream: bool = False
    model: str | None = None
    max_tokens: int | None = None
    n: int | None = None
    prompt_id: str | None = None
    prompt_chars: int | None = None
    prompt_tokens: int | None = None
    """About how many its text is, where its source says so."""
    keep_text: bool = False
    """The text of the answer is wanted."""

    @property
    def is_models(self) -> bool:
        """Whether it lists the models."""
        return self.body is None

    @classmethod
    def chat(
        cls,
        messages: Sequence[Mapping[str, Any]],
        *,
        model: str,
        stream: bool,
        max_tokens: int | None,
        include_usage: bool = True,
        temperature: float | None = None,
        extra: Mapping[str, Any] | None = None,
        prompt_tokens: int | None = None,
        keep_text: bool = False,
    ) -> Call:
        """A chat completion. `extra` are further fields of the body and go over the ones made here.

        What the record says of the request is read from the finished body.
        """
        body: dict[str, Any] = {"model": model, "messages": list(messages), "stream": stream}
        if max_tokens is not None:
            body["max_tokens"] = max_tokens
        if temperature is not None:
            body["temperature"] = temperature
        body |= extra or {}
        streamed = body["stream"] is True
        if streamed and include_usage:
            body.setdefault("stream_options", {"include_usage": True})
        text = _text_of(body["messages"])
        return cls(
            "/chat/completions",
            json.dumps(body, ensure_ascii=False, allow_nan=False).encode(),
            streamed,
            body["model"] if isinstance(body["model"], str) else None,
            _whole(body.get("max_tokens") or body.get("max_completion_tokens")),
            _whole(body.get("n")),
            # Tells prompts apart in a table; two that share 32 bits of checksum do no harm there.
            f"{zlib.crc32(text.encode()):08x}",
            len(text),
            prompt_tokens,
            keep_text,
        )

    @classmethod
    def list_models(cls) -> Call:
        """A list of the models."""
        return cls("/models")


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _text_of(messages: object) -> str:
    """All the text of a request's messages; nothing of pictures, nor of what is no list of messages."""
    if not isinstance(messages, list):
        return ""
    texts = [message.get("content") for message in messages if isinstance(message, Mapping)]
    return "".join(text for text in texts if isinstance(text, str))
