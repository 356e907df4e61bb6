"""The entries of a prompt file, found one after the other and remembered by their place: the file is never held whole.

In memory are a piece of the file (256 KiB, or its largest entry) and 16 bytes an entry.
"""

from __future__ import annotations

import csv
import json
import os
from array import array
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, TypeAlias

from tensorix_api.errors import SettingsError
from tensorix_loadtests.prompts._formats import WrongEntryError, of_json, of_row
from tensorix_loadtests.prompts._json_array import json_array
from tensorix_loadtests.prompts._script import Script, user_message

__all__ = ["MOST_ENTRY_BYTES", "Entries", "Format"]

Format: TypeAlias = Literal["auto", "messages", "sharegpt", "csv", "text"]

MOST_ENTRY_BYTES = 64 << 20


class _Raw(NamedTuple):
    """An entry as it stands in the file, between two offsets (bytes)."""

    begin: int
    end: int
    value: Any


class Entries:
    """The scripts of a file by number; behind the last comes the first again. Close it in the end.

    Raises SettingsError, with the file and the line, for an entry that is wrong, when that is come to, and for a file
    that cannot be read or holds nothing.
    """

    def __init__(self, path: str, format_: Format = "auto", *, turns: bool = False) -> None:
        self.path = path
        self.left_out = 0
        """Conversations in which nobody asks anything, so far."""
        try:
            self._file: IO[bytes] = Path(path).open("rb")  # noqa: SIM115 - closed in `close`
        except OSError as error:
            raise SettingsError(f"the prompt file {path!r} cannot be read: {error.strerror}") from None
        self._turns = turns
        self._format = format_
        self._kind = _kind_of(path, self._file, format_)
        self._columns: tuple[str, ...] = ()
        self._begins, self._ends = array("q"), array("q")
        self._new = self._scan()
        self._whole = False
        try:
            first = self._advance()
        except SettingsError:
            self.close()
            raise
        if first is None:
            self.close()
            empty = "holds no prompt" if not self.left_out else "holds no conversation in which somebody asks"
            raise SettingsError(f"the prompt file {path!r} {empty}: write at least one")

    def close(self) -> None:
        """Close the file."""
        self._new.close()
        self._file.close()

    def __iter__(self) -> Iterator[Script]:
        """Each once."""
        number = 0
        while number < len(self._begins) or not self._whole:
            script = self._at(number)
            if script is None:
                return
            yield script
            number += 1

    def script(self, number: int) -> Script:
        """The number-th, from 0."""
        script = self._at(number)
        if script is None:
            script = self._at(number % len(self._begins))
        assert script is not None
        return script

    def _at(self, number: int) -> Script | None:
        """The number-th of the file; None where it holds no more than that."""
        if number < len(self._begins):
            return self._again(number)
        script: Script | None = None
        while not self._whole and number >= len(self._begins):
            script = self._advance()
        return script

    def _advance(self) -> Script | None:
        """The next that was not come to yet, its place remembered; None behind the last."""
        try:
            for raw in self._new:
                script = self._read(raw.value, raw.begin)
                if script is None:
                    self.left_out += 1
                    continue
                self._begins.append(raw.begin)
                self._ends.append(raw.end)
                return script
        except OSError as error:
            raise SettingsError(f"the prompt file {self.path!r} cannot be read: {error.strerror}") from None
        self._whole = True
        return None

    def _again(self, number: int) -> Script:
        """One whose place is known."""
        begin, end = self._begins[number], self._ends[number]
        script: Script | None = None
        try:
            data = os.pread(self._file.fileno(), end - begin, begin)
        except OSError as error:
            raise SettingsError(f"the prompt file {self.path!r} cannot be read: {error.strerror}") from None
        try:
            if len(data) < end - begin:
                pass
            elif self._kind == "json":
                script = self._read(json.loads(data.decode()), begin)
            elif self._kind == "csv":
                script = self._read(next(csv.reader([data.decode()], strict=True)), begin)
            else:
                script = self._read(data.decode(), begin)
        except (ValueError, StopIteration, csv.Error, RecursionError):
            script = None
        if script is None:
            raise SettingsError(f"the prompt file {self.path!r} was changed while it was read: leave it as it is")
        return script

    def _read(self, value: Any, begin: int) -> Script | None:
        try:
            if self._kind == "json":
                return of_json(value, self._format, turns=self._turns)
            if self._kind == "csv":
                row = dict(zip(self._columns, value, strict=False))
                return of_row(row.get("prompt", ""), row.get("max_tokens"), row.get("model"))
            return Script(opening=(user_message(value.strip()),))
        except WrongEntryError as error:
            raise self._wrong(begin, str(error)) from None

    def _wrong(self, offset: int, why: str) -> SettingsError:
        """The error of what stands at this offset, with its line: counted now, since it is needed only once."""
        line = 1
        with Path(self.path).open("rb") as file:
            left = offset
            while left > 0 and (piece := file.read(min(left, 1 << 20))):
                line += piece.count(b"\n")
                left -= len(piece)
        return SettingsError(f"the prompt file {self.path!r}, line {line}: {why}")

    def _scan(self) -> Generator[_Raw, None, None]:
        """All entries, in the file's order."""
        with Path(self.path).open("rb") as file:
            if self._kind == "json" and _is_array(file):
                yield from (_Raw(*found) for found in json_array(file, self._wrong, MOST_ENTRY_BYTES))
            elif self._kind == "json":
                for begin, line in _Lines(file, self._wrong).filled():
                    try:
                        value = json.loads(line)
                    except ValueError as error:
                        raise self._wrong(begin, f"no JSON: {_said(error)}") from None
                    except RecursionError:
                        raise self._wrong(begin, "nested too deep") from None
                    yield _Raw(begin, begin + len(line.encode()), value)
            elif self._kind == "csv":
                yield from self._rows(file)
            else:
                for begin, line in _Lines(file, self._wrong).filled():
                    yield _Raw(begin, begin + len(line.encode()), line)

    def _rows(self, file: IO[bytes]) -> Iterator[_Raw]:
        lines = _Lines(file, self._wrong)
        csv.field_size_limit(MOST_ENTRY_BYTES)
        reader = csv.reader(lines, strict=True)
        while True:
            begin = lines.offset
            try:
                row = next(reader, None)
            except csv.Error as error:
                raise self._wrong(begin, f"no row of a table: {error}") from None
            if row is None:
                return
            if not row:
                continue
            if not self._columns:
                self._columns = tuple(name.strip().lower() for name in row)
                if "prompt" not in self._columns:
                    raise self._wrong(begin, "the first row names no column prompt (others: max_tokens, model)")
                continue
            yield _Raw(begin, lines.offset, row)


class _Lines:
    """The lines of a file as text, and where the next one begins."""

    def __init__(self, file: IO[bytes], wrong: Callable[[int, str], SettingsError]) -> None:
        self._file = file
        self._wrong = wrong
        self.offset = len(_MARK) if file.read(len(_MARK)) == _MARK else 0
        file.seek(self.offset)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._file.readline(MOST_ENTRY_BYTES)
        if not line:
            raise StopIteration
        begin = self.offset
        if len(line) == MOST_ENTRY_BYTES:
            raise self._wrong(begin, f"longer than {MOST_ENTRY_BYTES >> 20} MiB")
        self.offset += len(line)
        try:
            return line.decode()
        except UnicodeDecodeError:
            raise self._wrong(begin, "no UTF-8 text") from None

    def filled(self) -> Iterator[tuple[int, str]]:
        """Those that are not empty, each with where it begins."""
        begin = self.offset
        for line in self:
            if line.strip():
                yield begin, line
            begin = self.offset


_MARK = b"\xef\xbb\xbf"
"""What some editors write before UTF-8 text."""


def _said(error: ValueError) -> str:
    return getattr(error, "msg", str(error))


def _kind_of(path: str, file: IO[bytes], format_: Format) -> Literal["json", "csv", "text"]:
    """How a file is read: as it was said, by its name, or by its first line."""
    if format_ in ("csv", "text"):
        return "csv" if format_ == "csv" else "text"
    name = Path(path).suffix.lower()
    if format_ != "auto" or name in (".json", ".jsonl", ".ndjson"):
        return "json"
    if name == ".csv":
        return "csv"
    first = file.readline(1 << 20).removeprefix(_MARK).strip()
    if first in (b"[", b"{"):
        return "json"
    try:
        return "json" if isinstance(json.loads(first), dict | list) else "text"
    except (ValueError, RecursionError):
        return "text"


def _is_array(file: IO[bytes]) -> bool:
    """Whether a JSON file is one array of entries, rather than an entry a line (which may be lists of messages)."""
    first = b""
    while not first:
        line = file.readline(1 << 20)
        if not line:
            break
        first = line.removeprefix(_MARK).strip()
    file.seek(0)
    if not first.startswith(b"["):
        return False
    try:
        value = json.loads(first)
    except (ValueError, RecursionError):
        return True
    return not (value and isinstance(value[0], dict) and "role" in value[0])
