"""A mistake as Nagios and its kin read it: one line on standard output, and a code of their own."""

from __future__ import annotations

from collections.abc import Sequence

from tensorix_cli._output import say

__all__ = ["is_for_nagios", "say_unknown"]

_UNKNOWN = 3
_MOST_TEXT = 1_000
"""Agents pass on about so much of a line."""


def is_for_nagios(arguments: Sequence[str]) -> bool:
    """Whether whoever gave these arguments reads Nagios's codes, whatever else is wrong with them."""
    return list(arguments[:2]) == ["probe", "once"] and "--nagios" in arguments


def say_unknown(reason: str) -> int:
    """Say why nothing can be said; returns the code. Reasons of several lines become one."""
    lines = [" ".join(line.split()) for line in reason.splitlines()]
    text = "; ".join(line for line in lines if line)
    # What follows a bar is read as figures.
    say(f"TENSORIX UNKNOWN - {text if len(text) <= _MOST_TEXT else text[:_MOST_TEXT] + '…'}".replace("|", "/"))
    return _UNKNOWN
