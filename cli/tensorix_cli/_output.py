"""Words to the terminal: what is said on standard output, what is complained of on standard error.

A reader that goes away (`| head`) is no error: what is left goes unsaid and the work goes on. An output that cannot be
written (a full disk) is one: it is remembered and told at the end.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from pathlib import Path
from typing import TextIO

__all__ = ["complain", "flush", "mute", "never_fail_to_encode", "occupy", "one_line", "say"]

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


def occupy() -> OSError | None:
    """Fill what was closed (`>&-`) of the three standard descriptors, so that no socket or file gets its number.

    Returns an error where standard output was: nothing could be said there.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest that is free, so this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 - for as long as the process
    if sys.stdout is None:
        sys.stdout = sys.stderr
        return OSError(errno.EBADF, "it is closed")
    return None


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
