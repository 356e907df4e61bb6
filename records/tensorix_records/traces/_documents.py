"""The JSON values in a file: one a line, or the whole file one; plain or gzip. The longest line bounds the memory."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

from tensorix_api.errors import SettingsError
from tensorix_records.traces._seen import Seen

__all__ = ["LONGEST_LINE", "documents"]

LONGEST_LINE = 64 * 2**20
"""Bytes. A collector's batch of 8,192 spans without contents takes about a third of this."""

Readable: TypeAlias = io.BufferedReader | gzip.GzipFile

_NOTHING = object()


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return _NOTHING


def documents(path: Path, seen: Seen, *, longest: int = LONGEST_LINE) -> Iterator[Any]:
    """Each JSON value of a file, in order; lines that hold none are counted and passed over.

    Raises SettingsError where the file cannot be opened or read.
    """
    try:
        with path.open("rb") as file:
            # Looked at without being taken: it may be a pipe.
            if file.peek(2)[:2] == b"\x1f\x8b":
                with gzip.GzipFile(fileobj=file) as unpacked:
                    yield from _values(unpacked, seen, longest)
            else:
                yield from _values(file, seen, longest)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        seen.files_cut += 1
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise SettingsError(f"{str(path)!r} cannot be read ({reason})") from error


def _values(file: Readable, seen: Seen, longest: int) -> Iterator[Any]:
    first = True
    while line := file.readline(longest + 1):
        if len(line) > longest:
            while line and not line.endswith(b"\n"):
                line = file.readline(2**20)
            seen.lines_skipped += 1
        elif line.strip():
            value = _parsed(line)
            if value is _NOTHING and first:
                # Some write one value over many lines.
                yield from _whole_or_lines(line, file, seen, longest)
            elif value is _NOTHING:
                seen.lines_skipped += 1
            else:
                yield value
            first = False


def _whole_or_lines(head: bytes, file: Readable, seen: Seen, longest: int) -> Iterator[Any]:
    """What follows a first line that is no JSON by itself."""
    begins = head.lstrip()[:1] in (b"{", b"[")
    text = head + file.read(longest - len(head)) if begins else head
    if begins and not file.peek(1)[:1]:
        value = _parsed(text)
        if value is not _NOTHING:
            yield value
            return
    # The last of these lines may be cut where the reading stopped: then the rest of it belongs to it.
    if not text.endswith(b"\n"):
        text += file.readline(longest)
    for line in text.splitlines():
        value = _parsed(line) if line.strip() else None
        if value is _NOTHING:
            seen.lines_skipped += 1
        elif value is not None:
            yield value
