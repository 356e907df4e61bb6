"""What came in a stream, event by event: to the letter, and tolerant of what servers of this kind really send."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tensorix_probes.exchange.answer import StreamEvent

__all__ = ["Seen", "read_events"]

_SAYS = ("content", "refusal", "reasoning_content", "reasoning", "tool_calls", "function_call")
_REASONS = ("reasoning_content", "reasoning")


@dataclass(slots=True)
class Seen:
    """What the chunks said. Times are ns from the start of the sending."""

    chunks: int = 0
    first: dict[str, Any] = field(default_factory=dict)
    """The first chunk."""
    broken: str | None = None
    """The first event that is no JSON object, or whose choices are none."""
    error: Any = None
    """What an event said under `error`."""
    ids: set[str] = field(default_factory=set)
    models: set[str] = field(default_factory=set)
    objects: set[str] = field(default_factory=set)
    first_delta: dict[str, Any] | None = None
    text: str = ""
    reasoned: bool = False
    finish_reasons: dict[str, list[Any]] = field(default_factory=dict)
    """By choice."""
    said_after_finish: bool = False
    usage: Any = None
    """The last that came: some servers send one that grows with each chunk."""
    done: bool = False
    after_done: int = 0
    """Events after [DONE]."""
    first_token_ns: int | None = None
    last_token_ns: int | None = None
    largest_gap_ns: int | None = None
    """Between two events, from the first token on: the wait before it is a figure of its own."""


def read_events(events: Iterable[StreamEvent]) -> Seen:
    """Read a stream's events, also of one that broke off."""
    seen = Seen()
    texts: list[str] = []
    before_ns: int | None = None
    for event in events:
        if before_ns is not None:
            seen.largest_gap_ns = max(seen.largest_gap_ns or 0, event.at_ns - before_ns)
        data = event.data.strip()
        if seen.done:
            seen.after_done += 1
        elif data == b"[DONE]":
            seen.done = True
        elif data and seen.broken is None and seen.error is None:
            _read_chunk(seen, data, event.at_ns, texts)
        before_ns = None if seen.first_token_ns is None or seen.done else event.at_ns
    seen.text = "".join(texts)
    return seen


def _read_chunk(seen: Seen, data: bytes, at_ns: int, texts: list[str]) -> None:
    try:
        chunk = json.loads(data.decode())
    except (ValueError, RecursionError):
        chunk = None
    choices = chunk.get("choices") or [] if isinstance(chunk, dict) else None
    if not isinstance(choices, list) or not all(map(_is_choice, choices)):
        seen.broken = data[:2_000].decode("utf-8", "replace")
        return
    assert isinstance(chunk, dict)
    if chunk.get("error"):
        seen.error = chunk["error"]
        return
    if not (seen.chunks or choices or chunk.get("id")) and "prompt_filter_results" in chunk:
        # Azure tells of its filter before the completion begins: it has no id yet, and no model.
        return
    seen.chunks += 1
    if seen.chunks == 1:
        seen.first = chunk
    for name, values in (("id", seen.ids), ("model", seen.models), ("object", seen.objects)):
        values.add(_name(chunk.get(name)))
    if chunk.get("usage") is not None:
        seen.usage = chunk["usage"]
    for choice in choices:
        _read_choice(seen, choice, at_ns, texts)


def _is_choice(choice: Any) -> bool:
    return isinstance(choice, dict) and isinstance(choice.get("delta"), dict | None)


def _read_choice(seen: Seen, choice: dict[str, Any], at_ns: int, texts: list[str]) -> None:
    delta = choice.get("delta") or {}
    if seen.first_delta is None:
        seen.first_delta = delta
    reasons = seen.finish_reasons.setdefault(_name(choice.get("index", 0)), [])
    if any(delta.get(name) for name in _SAYS):
        seen.first_token_ns = at_ns if seen.first_token_ns is None else seen.first_token_ns
        seen.last_token_ns = at_ns
        seen.said_after_finish |= bool(reasons)
    if isinstance(delta.get("content"), str):
        texts.append(delta["content"])
    seen.reasoned |= any(isinstance(delta.get(name), str) and delta[name] != "" for name in _REASONS)
    # Some say with empty text that there is none yet.
    if choice.get("finish_reason") not in (None, ""):
        reasons.append(choice["finish_reason"])


def _name(value: Any) -> str:
    """A value to count by; what is no text goes by its type, whole numbers by themselves."""
    if isinstance(value, str):
        return value
    return str(value) if type(value) is int else f"({type(value).__name__})"
