"""Known questions, so that a probe can tell a right answer from a wrong one: a canary.

Answered in full and the same each time, whatever the seed, are

- the questions of the setting `answers`: a last message that is, word for word, one of its names;
- "What is 17 + 25? Answer with the number only.": any two whole numbers, and `-` or `*` too;
- "Reply with exactly: X" and "Repeat after me: X": X.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["answer_to", "configured_answer"]

_SUM = re.compile(
    r"what is (-?\d{1,18}) ?([+*-]) ?(-?\d{1,18}) ?\?\s+(?:answer|reply) with (?:only the number|the number only)\.?",
    re.IGNORECASE | re.ASCII,
)
_REPEAT = re.compile(r"(?:reply with exactly|repeat after me):\s*(\S.*)", re.IGNORECASE | re.DOTALL)


def configured_answer(question: str, answers: Mapping[str, str]) -> str | None:
    """The setting's answer, if it has one."""
    answer = answers.get(question)
    return answers.get(question.strip()) if answer is None else answer


def answer_to(question: str) -> str | None:
    """The answer that every simulator knows, if it does."""
    question = question.strip()
    if match := _SUM.fullmatch(question):
        one, other = int(match[1]), int(match[3])
        return str({"+": one + other, "-": one - other, "*": one * other}[match[2]])
    if match := _REPEAT.fullmatch(question):
        return match[1]
    return None
