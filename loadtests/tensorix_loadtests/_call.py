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
    ) -> Call:
        """A chat completion. `extra` are further fields of the body and go over the ones made here."""
        body: dict[str, Any] = {"model": model, "messages": list(messages), "stream": stream}
        if stream and include_usage:
            body["stream_options"] = {"include_usage": True}
        if max_tokens is not None:
            body["max_tokens"] = max_tokens
        if temperature is not None:
            body["temperature"] = temperature
        body |= extra or {}
        texts = [message.get("content") for message in messages]
        text = "".join(part for part in texts if isinstance(part, str))
        bound = body.get("max_tokens", body.get("max_completion_tokens"))
        return cls(
            "/chat/completions",
            json.dumps(body, ensure_ascii=False).encode(),
            stream,
            model,
            bound if isinstance(bound, int) else None,
            body["n"] if isinstance(body.get("n"), int) else None,
            # Tells prompts apart in a table; two that share 32 bits of checksum do no harm there.
            f"{zlib.crc32(text.encode('utf-8', 'replace')):08x}",
            len(text),
        )

    @classmethod
    def list_models(cls) -> Call:
        """A list of the models."""
        return cls("/models")
