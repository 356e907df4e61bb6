"""Where prompts come from, and how long they and their answers are to be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tensorix_api.errors import SettingsError

__all__ = ["Lengths", "Prompting"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """A distribution of lengths, in tokens (or of numbers of turns)."""

    kind: Literal["constant", "normal", "lognormal", "uniform", "file"] = "constant"
    mean: float = 0.0
    deviation: float = 0.0
    """Standard deviation, of the lengths themselves (for lognormal too); half the width where it is uniform."""
    least: int = 1
    most: int = 1_000_000
    path: str | None = None
    """A file with one length a line, for `file`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompting:
    """Where prompts come from: the plan's texts in turn, unless a file or lengths of synthetic ones are given."""

    path: str | None = None
    format: Literal["auto", "messages", "sharegpt", "csv", "text"] = "auto"
    prompt_tokens: Lengths | None = None
    """Synthetic prompts of these lengths."""
    answer_tokens: Lengths | None = None
    """`max_tokens` of each request, instead of the plan's."""
    turns: Lengths | None = None
    """Conversations of so many turns, each with the model's own answers before it."""
    shared_prefix_tokens: int = 0
    """So many tokens at the beginning are the same in every prompt."""
    unique: bool = False
    """Each prompt begins with something that no other has, so that no cache of prefixes helps."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.path is not None and self.prompt_tokens is not None:
            raise SettingsError("prompts come from a file or are synthetic, not both: leave one out")
