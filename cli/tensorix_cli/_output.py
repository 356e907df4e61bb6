"""Words to the terminal: what is said on standard output, what is complained of on standard error.

A reader that goes away (`| head`) is no error: what is left goes unsaid and the work goes on. An output that cannot be
written (a full disk) is one: it is remembered and told at the end.
"""

from __future__ import annotations

import io
import os
import sys
from typing import TextIO

__all__ = ["complain", "flush", "mute", "never_fail_to_encode", "one_line", "say"]

_trouble: list[OSError] = []


def one_line(text: str) -> str:
    """`text` on one line, without control characters."""
    return "".join(character if character.isprintable() else " " for character in " ".join(text.split()))


def mute(stream: TextIO, error: OSError) -> None:
    """Send what else a stream is told to nowhere, so that the interpreter's last flush is quiet too."""
    if not isinstance(error, BrokenPipeError):
        _trouble.append(error)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def never_fail_to_encode() -> None:
    """On a terminal of another encoding, and for a file name that is no text: better question marks than no line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors != "backslashreplace":
            stream.reconfigure(errors="replace")


def _write(stream: TextIO, text: str) -> None:
    try:
        stream.write(text + "\n")
        stream.flush()
    except OSError as error:
        mute(stream, error)


def say(text: str) -> None:
    """Print a line, or several, on standard output."""
    _write(sys.stdout, text)


def complain(text: str) -> None:
    """Print `tensorix: …` in one line on standard error."""
    _write(sys.stderr, f"tensorix: {one_line(text)}")


def flush() -> OSError | None:
    """Flush standard output; the first error that writing to it ever met, or None."""
    try:
        sys.stdout.flush()
    except OSError as error:
        mute(sys.stdout, error)
    return _trouble[0] if _trouble else None
