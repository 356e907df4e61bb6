"""Text of so many tokens, by a seed: random words that are one token each (`_words`)."""

from __future__ import annotations

import random
from functools import lru_cache
from typing import Final

from tensorix_loadtests.prompts._words import WORDS

__all__ = ["BLOCK_TOKENS", "blocks", "generator", "words"]

BLOCK_TOKENS: Final = 512
"""Of a block that a trace names by its hash, as Mooncake's are."""

# Any two random bytes then name a word, each word as likely as the others.
_TABLE: Final = WORDS * (65_536 // len(WORDS))


def generator(*about: object) -> random.Random:
    """Random numbers that are the same for the same arguments, on any machine and in any process."""
    return random.Random(" ".join(map(str, about)))  # noqa: S311 - repeatable, not secret


def words(count: int, rng: random.Random) -> str:
    """So many words, with single spaces between them: as many tokens."""
    return " ".join([_TABLE[at] for at in memoryview(rng.randbytes(2 * count)).cast("H")])


@lru_cache(maxsize=4096)  # about 14 MB when full
def _block(seed: int, block_hash: int) -> str:
    return words(BLOCK_TOKENS, generator("block", seed, block_hash))


def blocks(count: int, hashes: tuple[int, ...], seed: int, rng: random.Random) -> str:
    """So many words, whose beginning is made of the blocks that `hashes` name: the same hash, the same text.

    What the hashes do not cover is random.
    """
    whole = min(len(hashes), count // BLOCK_TOKENS)
    texts = [_block(seed, block_hash) for block_hash in hashes[:whole]]
    left = count - whole * BLOCK_TOKENS
    if left and whole < len(hashes):
        texts.append(" ".join(_block(seed, hashes[whole]).split(" ", left)[:left]))
    elif left:
        texts.append(words(left, rng))
    return " ".join(texts)
