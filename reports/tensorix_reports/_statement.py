"""A finding in a sentence, with a word for its standing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["Standing", "Statement", "counted"]

Standing: TypeAlias = Literal["good", "notice", "problem", "unknown"]


@dataclass(frozen=True, slots=True)
class Statement:
    """One finding: what it is about, how it stands, the word for that, and the sentence."""

    topic: str
    standing: Standing
    word: str
    text: str


def counted(number: int, noun: str) -> str:
    """`1 request`, `2,000 requests`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
