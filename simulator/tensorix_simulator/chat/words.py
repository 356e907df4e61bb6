"""What filler is made of: one long cycle of words, of which every text is a stretch."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

__all__ = ["CYCLE", "TOKENS", "WORDS", "first_stop", "stretch"]

_TEXT = (
    "the a of to and in that is it for on with as at by from or an be this which one all would there their what so up "
    "out if about who get when make can like time no just him know take people into year your good some could them see "
    "other than then now look only come its over think also back after use two how our work first well way even new "
    "want because any these give day most us water light stone river field morning letter answer question number"
)
WORDS = _TEXT.split()

CYCLE = 4093
"""Tokens in the cycle: a prime, so that steps through it do not repeat within a reply of usual length."""


def _make_tokens() -> tuple[str, ...]:
    generator = random.Random(20_26)  # noqa: S311 - text, not secrets
    return tuple(" " + generator.choice(WORDS) for _ in range(CYCLE))


TOKENS = _make_tokens()
"""The cycle; each word, with the space before it, is one token and one chunk."""

_ROUND = "".join(TOKENS)
_TWICE = _ROUND * 2
_STARTS = [0, *accumulate(map(len, TOKENS))]


def stretch(start: int, tokens: int) -> str:
    """The text of so many tokens from `start` on."""
    start %= CYCLE
    end = _position(start + tokens)
    text = _TWICE if end <= len(_TWICE) else _ROUND * (1 + end // len(_ROUND))
    return text[_position(start) : end]


def _position(token: int) -> int:
    """Where a token begins, counted in characters over many rounds."""
    return token // CYCLE * len(_ROUND) + _STARTS[token % CYCLE]


def first_stop(start: int, tokens: int, stops: Sequence[str]) -> tuple[int, str] | None:
    """Where a stretch first holds one of `stops` whole: the token in which it begins, and what of it comes before.

    What a stretch holds at all, it holds within a round. None where it holds none of them.
    """
    start %= CYCLE
    begin, end = _position(start), _position(start + tokens)
    found = []
    for stop in stops:
        text = _TWICE if len(stop) <= len(_ROUND) else _ROUND * (2 + len(stop) // len(_ROUND))
        if (at := text.find(stop, begin, end)) >= 0:
            found.append(at)
    if not found:
        return None
    rounds, at = divmod(min(found), len(_ROUND))
    token = bisect_right(_STARTS, at) - 1
    return rounds * CYCLE + token - start, TOKENS[token][: at - _STARTS[token]]
