"""Public traces of language-model traffic, as they are published, read line by line: some are larger than memory.

Mooncake: JSON lines with `timestamp` (ms), `input_length`, `output_length` (tokens) and `hash_ids` (of blocks of 512
tokens; the same ids at the beginning of two requests are a prefix that they share).
Azure: CSV with the columns TIMESTAMP, ContextTokens and GeneratedTokens; 2023's times have seven decimals and no zone,
2024's six and `+00:00`.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

from tensorix_api.errors import SettingsError

__all__ = ["Traced", "format_of", "read_trace"]

_AZURE = ["TIMESTAMP", "ContextTokens", "GeneratedTokens"]
# Traces are written in order but for what logging from several threads does to neighbours.
_OUT_OF_ORDER = 1000


class Traced(NamedTuple):
    """One request of a trace; `at_ns` on the trace's own clock."""

    at_ns: int
    prompt_tokens: int | None
    answer_tokens: int | None
    hash_ids: tuple[int, ...] = ()
    kind: str | None = None


def _tokens(value: Any, name: str, least: int) -> int:
    """A number of tokens; ValueError says what is wrong with it."""
    number = int(value) if isinstance(value, str) else value
    if isinstance(number, bool) or not isinstance(number, int) or number < least:
        raise ValueError(f"{name} is {value!r}, not a whole number from {least}")
    return number


def _mooncake(line: str) -> Traced:
    data = json.loads(line)
    if not isinstance(data, dict):
        raise ValueError("no JSON object")  # noqa: TRY004 - of a file, not of our caller
    at, hashes = data.get("timestamp"), data.get("hash_ids", [])
    if isinstance(at, bool) or not isinstance(at, int | float) or not 0 <= at < 1e15:
        raise ValueError(f"timestamp is {at!r}, not milliseconds")
    if not isinstance(hashes, list) or not all(isinstance(item, int) for item in hashes):
        raise ValueError("hash_ids is no list of whole numbers")
    return Traced(
        round(at * 1e6),
        _tokens(data.get("input_length"), "input_length", 1),
        _tokens(data.get("output_length"), "output_length", 0),
        tuple(hashes),
    )


def _azure(line: str) -> Traced:
    fields = line.split(",")
    if len(fields) != len(_AZURE):
        raise ValueError(f"{len(fields)} columns instead of {len(_AZURE)}")
    try:
        at = datetime.fromisoformat(fields[0].strip())
    except ValueError:
        raise ValueError(f"{_AZURE[0]} is {fields[0][:40]!r}, no date and time") from None
    since = (at if at.tzinfo else at.replace(tzinfo=UTC)) - datetime(1970, 1, 1, tzinfo=UTC)
    nanoseconds = (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000
    return Traced(nanoseconds, _tokens(fields[1], _AZURE[1], 1), _tokens(fields[2], _AZURE[2], 0))


def format_of(path: Path) -> Literal["run", "mooncake", "azure"]:
    """What a trace is, by its look. Raises SettingsError for anything else, or where it cannot be read."""
    if path.is_dir():
        return "run"
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            first = file.readline(65_536).strip()
    except OSError as error:
        raise SettingsError(f"the trace {str(path)!r} cannot be read ({error.strerror})") from None
    if first.startswith("{"):
        return "mooncake"
    if [name.strip() for name in first.split(",")] == _AZURE:
        return "azure"
    raise SettingsError(
        f"{str(path)!r} is no trace: give the folder of a run, Mooncake's JSON lines, or a CSV with {','.join(_AZURE)}"
    )


def _lines(path: Path, name: str, read: Callable[[str], Traced], *, header: bool) -> Iterator[tuple[int, Traced]]:
    """Each line's number and what it says."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if (header and number == 1) or not line.strip():
                    continue
                try:
                    yield number, read(line)
                except (ValueError, OverflowError, RecursionError) as error:
                    reason = "no JSON" if isinstance(error, json.JSONDecodeError) else error
                    raise SettingsError(
                        f"{path}, line {number}: {reason}; a line of {name}'s trace is wanted"
                    ) from None
    except OSError as error:
        raise SettingsError(f"the trace {str(path)!r} cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise SettingsError(f"the trace {str(path)!r} is not UTF-8 text") from None


def read_trace(path: Path, kind: Literal["mooncake", "azure"]) -> Iterator[Traced]:
    """The requests of a trace in the order of their times. Raises SettingsError with file and line for a wrong one."""
    name, read = ("Mooncake", _mooncake) if kind == "mooncake" else ("Azure", _azure)
    held: list[tuple[int, int, Traced]] = []
    last_ns = 0
    for number, traced in _lines(path, name, read, header=kind == "azure"):
        if traced.at_ns < last_ns:
            raise SettingsError(
                f"{path}, line {number}: earlier than lines long before it: sort the trace by its times"
            )
        heapq.heappush(held, (traced.at_ns, number, traced))
        if len(held) > _OUT_OF_ORDER:
            last_ns, _, earliest = heapq.heappop(held)
            yield earliest
    while held:
        yield heapq.heappop(held)[2]
