"""Findings in sentences, each with a word for its standing; and the headline over them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["Standing", "Statement", "Verdict", "counted"]

Standing: TypeAlias = Literal["good", "notice", "problem", "unknown"]


@dataclass(frozen=True, slots=True)
class Statement:
    """One finding: what it is about, how it stands, the word for that, and the sentence."""

    topic: str
    standing: Standing
    word: str
    text: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The headline and what it rests on."""

    headline: str
    statements: list[Statement]

    @property
    def lines(self) -> list[str]:
        """The verdict as plain text, a line a statement."""
        width = max((len(statement.word) for statement in self.statements), default=0)
        lines = [self.headline, *(f"  {item.word.upper():<{width}}  {item.text}" for item in self.statements)]
        # Some words in them are a server's: on a terminal a control character would be a command.
        return ["".join(character if character.isprintable() else " " for character in line) for line in lines]


def counted(number: int, noun: str) -> str:
    """`1 request`, `2,000 requests`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
