"""Text of a server's own as text and nothing else, whatever shows it."""

from __future__ import annotations

__all__ = ["inert"]


def inert(text: str) -> str:
    r"""The text with a space for each line break and tab, and a sign for what would command a terminal or turn lines.

    Control characters can move a terminal's cursor, and bidirectional ones make a line read otherwise than it is.

    >>> inert("a\u202eb\tc")
    'a�b c'
    """
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else " " if letter.isspace() else "\N{REPLACEMENT CHARACTER}" for letter in text
    )
