"""One prompt that is to be sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tensorix_loadtests.prompts._script import CountedBy, Message

__all__ = ["Prompt"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What a chat request asks, beyond what the plan says of all of them."""

    number: int
    """Of the prompt, or of the conversation, among all of the run."""
    messages: tuple[Message, ...]
    """All that the model is to read, its own answers before included."""
    max_tokens: int | None = None
    """None: the plan's, or a bound is in `body`."""
    model: str | None = None
    """None: the run's."""
    body: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of the request's body."""
    tokens: int
    """Of the text; what a chat template puts around it is not known."""
    counted_by: CountedBy
    """How `tokens` was come by: both are estimates, for a model whose tokenizer is not at hand."""
    conversation_id: str | None = None
    turn: int | None = None
    """From 1."""
    wants_answer: bool = False
    """There is a further turn, which needs the text of the answer: `Prompts.answered` takes it."""
    user_id: int | None = None
    """Who goes on with the conversation; None: whoever comes next."""
