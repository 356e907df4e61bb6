"""Rounds that could not be written, in a file of JSON lines, until somebody can write them.

Beside an SQLite file it is called `NAME.spool.jsonl`; for PostgreSQL it lies in the folder for state of systemd
(`$STATE_DIRECTORY`) or of the user (`$XDG_STATE_HOME`, `~/.local/state`), by a hash of the address.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import IO, Any

from tensorix_api.errors import HistoryError
from tensorix_records._lock import close_unlocked, lock_for_life
from tensorix_records.history._engine import Place, compact_json, place_of
from tensorix_records.history._rows import ResultRow, RoundRow
from tensorix_records.history._stored import kept

__all__ = ["spool", "spooled", "spooled_rounds"]

_FIELDS: dict[type, set[str]] = {kind: {field.name for field in fields(kind)} for kind in (RoundRow, ResultRow)}


def _path_of(place: Place) -> Path:
    if place.file is not None:
        return place.file.with_name(f"{place.file.name}.spool.jsonl")
    of_systemd = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    of_user = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    folder = Path(of_systemd) if of_systemd else Path(of_user).expanduser() / "tensorix"
    return folder / f"history-{hashlib.sha256(str(place).encode()).hexdigest()[:12]}.spool.jsonl"


def spool(url: str, rounds: Sequence[RoundRow]) -> Path:
    """Add rounds to the file of a history that cannot be written, all or none; where it is.

    Raises HistoryError where that fails, too.
    """
    place = place_of(url)
    path = _path_of(place)
    lines = "".join(compact_json(kept(asdict(row))) + "\n" for row in rounds).encode()
    try:
        if place.file is None:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            lock_for_life(fd)
            _add(fd, lines)
        finally:
            close_unlocked(fd)
    except OSError as error:
        raise HistoryError(f"{path} cannot be written: {error.strerror}") from None
    return path


def _add(fd: int, lines: bytes) -> None:
    size = os.fstat(fd).st_size
    # A line that a killed process left half written is ended, so that it spoils no other.
    if size and os.pread(fd, 1, size - 1) != b"\n":
        lines = b"\n" + lines
    try:
        while lines:
            lines = lines[os.write(fd, lines) :]
        os.fsync(fd)
    except OSError:
        os.ftruncate(fd, size)
        raise


def spooled(place: Place) -> IO[bytes] | None:
    """The file of rounds that wait, locked; None where none do. Who has taken them in truncates it."""
    try:
        file = _path_of(place).open("r+b")
    except FileNotFoundError:
        return None
    lock_for_life(file.fileno())
    return file


def spooled_rounds(file: IO[bytes]) -> Iterator[RoundRow]:
    """The rounds of such a file; a line that is none (cut by a full disk) is passed over."""
    for line in file:
        try:
            yield _round_of(json.loads(line))
        except (ValueError, TypeError, KeyError, AttributeError):
            continue


def _known(kind: type, value: dict[str, Any]) -> dict[str, Any]:
    return {name: one for name, one in value.items() if name in _FIELDS[kind]}


def _round_of(value: dict[str, Any]) -> RoundRow:
    results = []
    for one in value["results"]:
        known = _known(ResultRow, one)
        known["failed"], known["assertions"] = tuple(known["failed"]), tuple(known["assertions"])
        results.append(ResultRow(**known))
    known = _known(RoundRow, value)
    known["results"] = tuple(results)
    return RoundRow(**known)
