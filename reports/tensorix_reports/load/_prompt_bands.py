"""Prompts by their length, in bands that are the same for every run, so that runs can be laid beside each other."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

__all__ = ["PromptBands", "prompt_bands"]

_EDGES = np.array([64, 256, 1_024, 4_096, 16_384, 65_536, 262_144])


@dataclass(frozen=True, slots=True)
class PromptBands:
    """The band of each request."""

    codes: NDArray[np.int8]
    """Numbers of `names`; -1 where the length is not known."""
    names: list[str]
    note: str


def _names(unit: str) -> list[str]:
    edges = [0, *_EDGES.tolist()]
    names = [f"{low:,} to {high - 1:,} {unit}" for low, high in pairwise(edges)]
    return [*names, f"{edges[-1]:,} {unit} or more"]


def prompt_bands(tokens: NDArray[np.float64], characters: NDArray[np.float64], of: NDArray[np.bool_]) -> PromptBands:
    """Bands of the prompt's tokens as the server counted them, or of its characters.

    Of the two that which is known for more of the requests `of`: a server counts the tokens of what it answered, and
    by those alone no band would ever fail. Tokens where it is the same.
    """
    by_tokens = np.count_nonzero(np.isfinite(tokens[of])) >= np.count_nonzero(np.isfinite(characters[of]))
    lengths, unit = (tokens, "tokens") if by_tokens else (characters, "characters")
    codes = np.where(np.isfinite(lengths), np.searchsorted(_EDGES, np.nan_to_num(lengths), side="right"), -1)
    note = "By the prompt's tokens as the server counted them."
    if not by_tokens:
        note = "By the prompt's characters: how many tokens a prompt has is not known of each request."
    return PromptBands(codes.astype(np.int8), _names(unit), note)
