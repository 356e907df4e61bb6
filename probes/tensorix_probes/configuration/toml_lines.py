"""On which line each name and value of a TOML text stands: tomllib tells what they are, not where."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from typing import TypeAlias

__all__ = ["Path", "lines_of"]

Path: TypeAlias = tuple[str | int, ...]
"""Names, and numbers from 0 in arrays: `("target", 1, "timeouts", "connect")`."""

_TOKEN = re.compile(
    r"(?P<skip>[ \t\r]+|\#[^\n]*)|(?P<newline>\n)"
    r'|(?P<text>"""(?:[^\\]|\\.)*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\')'
    r"|(?P<mark>[\[\]{}=,.])|(?P<bare>[^\s\[\]{}=,.\#\"']+)",
    re.DOTALL,
)


def lines_of(text: str) -> dict[Path, int]:
    """The line (from 1) of each name, table and element of an array of a text that tomllib has read.

    A table made by several headers, or by dotted names, stands where it is first named.
    """
    return _Reader(text).lines


class _Reader:
    """Walks a text that is known to be valid: nothing is checked, only followed."""

    def __init__(self, text: str) -> None:
        self.lines: dict[Path, int] = {}
        self._lengths: dict[Path, int] = {}
        self._pieces = self._read(text)
        self._next()
        table: Path = ()
        while self._kind != "end":
            if self._kind == "newline":
                self._next()
            elif self._piece == "[":
                table = self._header()
            else:
                self._pair(table)

    def _read(self, text: str) -> Iterator[tuple[str, str, int]]:
        line = 1
        for match in _TOKEN.finditer(text):
            if match.lastgroup != "skip":
                yield str(match.lastgroup), match[0], line
            line += match[0].count("\n")
        while True:
            yield "end", "", line

    def _next(self) -> str:
        """Go on to the next piece; returns the one that was there."""
        passed = getattr(self, "_piece", "")
        self._kind, self._piece, self._line = next(self._pieces)
        return passed

    def _name(self) -> list[str]:
        names: list[str] = []
        while self._kind in ("bare", "text") or self._piece == ".":
            if self._kind != "mark":
                quoted = self._kind == "text"
                names.append(tomllib.loads(f"x = {self._piece}")["x"] if quoted else self._piece)
            self._next()
        return names

    def _see(self, path: Path, line: int) -> None:
        for length in range(1, len(path) + 1):
            self.lines.setdefault(path[:length], line)

    def _header(self) -> Path:
        line = self._line
        self._next()
        several = self._piece == "["
        if several:
            self._next()
        path: Path = ()
        names = self._name()
        for at, name in enumerate(names):
            path = (*path, name)
            if several and at == len(names) - 1:
                self._lengths[path] = self._lengths.get(path, 0) + 1
            if path in self._lengths:
                self._see(path, line)
                path = (*path, self._lengths[path] - 1)
        self._see(path, line)
        while self._piece == "]":
            self._next()
        return path

    def _pair(self, table: Path) -> None:
        line = self._line
        path = (*table, *self._name())
        self._see(path, line)
        self._next()
        self._value(path)

    def _value(self, path: Path) -> None:
        opening = self._piece
        if opening not in ("[", "{"):
            # A number or a time may have been cut at its point.
            while self._kind in ("text", "bare") or self._piece == ".":
                self._next()
            return
        self._next()
        index = 0
        while self._piece not in ("]", "}"):
            if self._kind == "newline" or self._piece == ",":
                self._next()
            elif opening == "{":
                self._pair(path)
            else:
                self._see((*path, index), self._line)
                self._value((*path, index))
                index += 1
        self._next()
