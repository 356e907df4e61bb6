"""Where prompts come from, and how long they and their answers are to be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tensorix_api.errors import SettingsError
from tensorix_loadtests.plan._checks import positive, positive_int

__all__ = ["Lengths", "Prompting"]

_MOST_DEVIATION = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """A distribution of lengths, in tokens (or of numbers of turns).

    What is drawn is rounded, and cut to `least` and `most`; normal and lognormal lengths also where one in a million
    would be longer, so that a run has a bound. A file's lengths are taken in turn.
    """

    kind: Literal["constant", "normal", "lognormal", "uniform", "file"] = "constant"
    mean: float = 0.0
    deviation: float = 0.0
    """Standard deviation, of the lengths themselves (for lognormal too); half the width where it is uniform."""
    least: int = 1
    most: int = 1_000_000
    path: str | None = None
    """A file with one length a line, for `file`."""

    def __post_init__(self) -> None:
        positive_int("least length", self.least)
        positive_int("most length", self.most)
        if self.most < self.least:
            raise SettingsError(f"the most length {self.most} is below the least, {self.least}: give a larger one")
        if (self.kind == "file") != (self.path is not None):
            raise SettingsError("lengths of the kind 'file' have a path, others have none: write file:lengths.txt")
        if self.kind == "file":
            return
        positive("mean length", self.mean)
        if self.mean > self.most:
            raise SettingsError(f"the mean length {self.mean:g} is above the most, {self.most:,}: give a smaller one")
        if isinstance(self.deviation, bool) or not 0 <= self.deviation <= _MOST_DEVIATION:
            raise SettingsError(f"the deviation of a length is {self.deviation!r}: give a number from 0 to a million")
        if self.kind == "uniform" and self.deviation >= self.mean:
            raise SettingsError("uniform lengths begin below 1: write them like uniform:100-900")


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
    """So many tokens at the beginning are the same in every prompt; of a synthetic one they are a part."""
    shared_prefixes: int = 1
    """So many such beginnings there are; each prompt has one of them."""
    unique: bool = False
    """Each prompt begins with something that no other has, of this run or of another, so that no cache of prefixes
    helps."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.path is not None and self.prompt_tokens is not None:
            raise SettingsError("prompts come from a file or are synthetic, not both: leave one out")
        if self.shared_prefix_tokens:
            positive_int("shared prefix", self.shared_prefix_tokens)
        positive_int("number of shared prefixes", self.shared_prefixes)
        if self.unique and self.shared_prefix_tokens:
            raise SettingsError("prompts share a prefix or begin uniquely, not both: leave one out")
        lengths = self.prompt_tokens
        if lengths and lengths.kind == "constant" and self.shared_prefix_tokens >= lengths.mean:
            raise SettingsError(
                f"a shared prefix of {self.shared_prefix_tokens} tokens leaves nothing of prompts of {lengths.mean:g}:"
                " give a shorter one"
            )
