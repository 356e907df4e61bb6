"""What one choice of a completion says, token by token: reasoning first, then words, a known text, or calls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from tensorix_simulator.chat.tools import PIECE
from tensorix_simulator.chat.words import CYCLE, first_stop, stretch

__all__ = ["Choice", "spoken", "texts", "written"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """First `plain` tokens of the cycle of words, the reasoning among them; then `script`, a delta a token."""

    start: int
    """The first token's place in the cycle."""
    plain: int
    reasoning_tokens: int
    finish_reason: str
    script: tuple[Mapping[str, Any], ...] = ()

    @property
    def tokens(self) -> int:
        """In all."""
        return self.plain + len(self.script)

    def token(self, index: int) -> int:
        """The place in the cycle of one of the plain tokens."""
        return (self.start + index) % CYCLE

    def message(self) -> dict[str, Any]:
        """What a client has put together when it has read all deltas."""
        message: dict[str, Any] = {"role": "assistant"}
        if self.reasoning_tokens:
            message["reasoning_content"] = stretch(self.start, self.reasoning_tokens)
        content = stretch(self.start + self.reasoning_tokens, self.plain - self.reasoning_tokens)
        content += "".join(delta.get("content", "") for delta in self.script)
        calls: list[dict[str, Any]] = []
        function: dict[str, str] | None = None
        for delta in self.script:
            for part in delta.get("tool_calls", ()):
                if "id" in part:
                    calls.append({"id": part["id"], "type": "function", "function": dict(part["function"])})
                else:
                    calls[-1]["function"]["arguments"] += part["function"]["arguments"]
            if "function_call" in delta:
                function = function or {**delta["function_call"], "arguments": ""}
                function["arguments"] += delta["function_call"]["arguments"]
        message["content"] = None if calls or function else content
        if calls:
            message["tool_calls"] = calls
        if function:
            message["function_call"] = function
        return message


def spoken(
    *, start: int, tokens: int, reasoning: int, finish: str, stops: Sequence[str] = (), not_before: int = 0
) -> Choice:
    """Words of the cycle, up to the first of `stops` that comes after `not_before` tokens.

    The token in which it begins was made, and counts, though only what comes before it is shown.
    """
    said = max(reasoning, min(not_before, tokens))
    stop = first_stop(start + said, tokens - said, stops) if stops else None
    if stop is None:
        return Choice(start=start % CYCLE, plain=tokens, reasoning_tokens=reasoning, finish_reason=finish)
    more, shown = stop
    return Choice(
        start=start % CYCLE,
        plain=said + more,
        reasoning_tokens=reasoning,
        finish_reason="stop",
        script=({"content": shown},),
    )


def written(*, start: int, reasoning: int, script: Iterable[Mapping[str, Any]], finish: str, most: int) -> Choice:
    """Reasoning, and then a script of which `most` tokens in all leave room for the beginning."""
    room = max(0, most - reasoning)
    deltas = tuple(islice(script, room + 1))
    return Choice(
        start=start % CYCLE,
        plain=min(reasoning, most),
        reasoning_tokens=min(reasoning, most),
        finish_reason=finish if len(deltas) <= room else "length",
        script=deltas[:room],
    )


def texts(text: str, stops: Sequence[str], room: int) -> list[Mapping[str, Any]]:
    """The deltas of a known text up to the first of `stops` within `room` tokens; a token for four characters."""
    made, text = text[: room * PIECE], text[: (room + 1) * PIECE]
    ends = [at for stop in stops if (at := made.find(stop)) >= 0]
    if ends:
        text = text[: min(ends)]
    pieces = [text[at : at + PIECE] for at in range(0, len(text), PIECE)]
    # What ends it is a token too where nothing else of that token is shown.
    if not pieces or (ends and len(text) % PIECE == 0):
        pieces.append("")
    return [{"content": piece} for piece in pieces]
