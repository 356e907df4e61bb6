"""How many tokens a request is charged: what is known afterwards, and what that tells of the next."""

from __future__ import annotations

from enum import StrEnum

from tensorix_loadtests._pacing._tally import Sent
from tensorix_records import RequestRecord

__all__ = ["Charging", "Ratio", "charge_of", "read_usage"]

# Of prose and JSON a token is three bytes or more.
_BYTES_PER_TOKEN = 3
_MEMORY = 0.97


class Charging(StrEnum):
    """What a server may count for a request that has ended."""

    USED = "used"
    """The tokens that usage says: what everybody expects who is told nothing else."""
    RESERVED = "reserved"
    """The prompt and the most that might have been generated, whatever was."""
    PROMPT = "prompt"
    """The prompt: what is generated is free."""


def charge_of(charging: Charging, one: Sent) -> float:
    """The tokens that one which has ended was charged; its worst case where the server said nothing."""
    if one.prompt_tokens is None:
        return one.worst_tokens
    match charging:
        case Charging.USED:
            return one.prompt_tokens + (one.completion_tokens or 0)
        case Charging.RESERVED:
            return one.prompt_tokens + max(one.most_completion_tokens or 0, one.completion_tokens or 0)
        case _:
            return one.prompt_tokens


def read_usage(one: Sent, record: RequestRecord) -> None:
    """Note what a record says of the tokens of its request."""
    answers = record.n if record.n and record.n > 1 else 1
    bound = None if record.max_tokens is None else record.max_tokens * answers
    one.most_completion_tokens = bound
    if record.prompt_tokens is not None:
        one.prompt_tokens = record.prompt_tokens
        one.completion_tokens = record.completion_tokens or 0
    elif record.status is not None and record.status >= 400:
        # Refused or failed before it began: nobody is known to charge tokens for that.
        one.prompt_tokens = one.completion_tokens = one.most_completion_tokens = 0
    elif record.token_source == "chunks" and bound is not None:  # noqa: S105 - no password
        # No usage: the chunks were counted; the prompt is what the worst case holds besides the answer, in bytes.
        one.prompt_tokens = max(0, one.worst_tokens - bound) // _BYTES_PER_TOKEN + 1
        one.completion_tokens = record.completion_tokens or 0


class Ratio:
    """A share of the worst case, averaged over the last requests; a guess before the first has ended."""

    __slots__ = ("_guess", "_part", "_whole")

    def __init__(self, guess: float) -> None:
        self._guess = guess
        self._part = self._whole = 0.0

    def add(self, part: float, whole: float) -> None:
        """One has ended."""
        self._part = self._part * _MEMORY + part
        self._whole = self._whole * _MEMORY + whole

    @property
    def value(self) -> float:
        return self._part / self._whole if self._whole > 0 else self._guess
