"""The journal of what a run spends: lines of JSON in its folder, written before a request goes out and after it ended.

Each line is in the operating system's hands before the request is: killing the process loses none of it, and what was
set aside and never settled counts as its worst case. (A machine that loses power may lose the last seconds.)

    {"event": "opened", "t_unix_ns": …, "process_id": …}                           once an engine
    {"event": "charged", "requests": 1, "tokens": 0, "money": 0.0}                   a look at the server
    {"event": "reserved", "id": "p7-0", "requests": 1, "tokens": 90, "money": 0.01}  `index`: its arrival; `again`: true
                                                                                     where it goes out again
    {"event": "settled", "id": "p7-0", "requests": 1, "tokens": 40, "money": 0.002}
    {"event": "released", "id": "p7-0"}                                              it was never sent
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tensorix_api.budget import NOTHING, Spend
from tensorix_api.errors import CannotWriteError, RunFolderError
from tensorix_records.locking import close_unlocked, try_lock_for_life

__all__ = ["JOURNAL_NAME", "Journal", "Past", "read_journal"]

JOURNAL_NAME = "spending.jsonl"
_KINDS = ("requests", "tokens", "money")
# `json.dumps` with separators makes an encoder each time.
_encode = json.JSONEncoder(separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class Past:
    """What a journal tells."""

    spent: Spend = NOTHING
    """Settled, or set aside and never settled."""
    sent: int = 0
    """Requests of users that went out."""
    indexes: frozenset[int] = field(default=frozenset(), repr=False)
    """The arrivals of the schedule that went out."""
    engines: int = 0
    """How many have written it so far."""

    @property
    def first_index(self) -> int:
        """The first arrival that did not go out."""
        index = 0
        while index in self.indexes:
            index += 1
        return index


def read_journal(folder: Path) -> Past:
    """What was spent in a run; nothing where there is no journal. A line that is cut counts for nothing: it was never
    acted upon. Raises RunFolderError where the file cannot be read.
    """
    path = folder / JOURNAL_NAME
    units = dict.fromkeys(_KINDS, 0)
    held: dict[str, tuple[Spend, int | None, bool]] = {}
    indexes: set[int] = set()
    sent = engines = 0

    def add(spend: Spend) -> None:
        for kind in _KINDS:
            units[kind] += spend.units(kind)

    try:
        with path.open("rb") as file:
            for text in file:
                line = _parsed(text)
                event, identity = line.get("event"), str(line.get("id"))
                if event == "opened":
                    engines += 1
                elif event == "charged":
                    add(_spend(line))
                elif event == "reserved":
                    held[identity] = _spend(line), line.get("index"), line.get("again") is not True
                elif event in ("settled", "released") and identity in held:
                    _, index, first = held.pop(identity)
                    if event == "settled":
                        add(_spend(line))
                        sent += first
                        indexes |= {index} if isinstance(index, int) else set()
    except FileNotFoundError:
        return Past()
    except OSError as error:
        raise RunFolderError(f"{path} cannot be read: {error.strerror}") from error
    for spend, index, first in held.values():
        add(spend)
        sent += first
        indexes |= {index} if isinstance(index, int) else set()
    spent = Spend(units["requests"], units["tokens"], units["money"] / 1e9)
    return Past(spent, sent, frozenset(indexes), engines)


def _parsed(text: bytes) -> dict[str, Any]:
    if not text.endswith(b"\n"):
        return {}
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return line if isinstance(line, dict) else {}


def _spend(line: dict[str, Any]) -> Spend:
    try:
        return Spend(int(line["requests"]), int(line["tokens"]), float(line["money"]))
    except (KeyError, TypeError, ValueError, OverflowError):
        raise RunFolderError(f"{JOURNAL_NAME} is damaged: what the run has spent cannot be known from it") from None


class Journal:
    """Appends to the journal of a run, which it holds: a second engine is refused.

    What cannot be written raises CannotWriteError; then nothing may be sent.
    """

    def __init__(
        self, folder: Path, process_id: str, *, now_unix_ns: Callable[[], int] = time.time_ns, new: bool = False
    ) -> None:
        """Raises RunFolderError where another engine holds it. `past` tells what was there before."""
        self._path = folder / JOURNAL_NAME
        self._fd: int | None = None
        self._cut = False
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | (os.O_EXCL if new else 0)
        try:
            fd = os.open(self._path, flags, 0o644)
        except OSError as error:
            raise CannotWriteError(f"{self._path} cannot be written: {error.strerror}") from error
        if not try_lock_for_life(fd):
            os.close(fd)
            raise RunFolderError(f"another engine is running {folder}: wait for its end, or stop it")
        self._fd = fd
        try:
            self.past = read_journal(folder)
            size = os.fstat(fd).st_size
            self._cut = size > 0 and os.pread(fd, 1, size - 1) != b"\n"
            self._write({"event": "opened", "t_unix_ns": now_unix_ns(), "process_id": process_id})
        except BaseException:
            self.close()
            raise

    def charge(self, spend: Spend) -> None:
        """Something was spent, or is about to be, that nobody settles."""
        self._write({"event": "charged", **_amounts(spend)})

    def reserve(self, identity: str, spend: Spend, index: int | None = None, *, again: bool = False) -> None:
        """It may go out once this has returned. `again`: for the second time, which makes no other request of it."""
        line = {"event": "reserved", "id": identity, **_amounts(spend)}
        line |= {} if index is None else {"index": index}
        self._write(line | {"again": True} if again else line)

    def settle(self, identity: str, spend: Spend) -> None:
        """It has ended, and counts for this."""
        self._write({"event": "settled", "id": identity, **_amounts(spend)})

    def release(self, identity: str) -> None:
        """It was never sent."""
        self._write({"event": "released", "id": identity})

    def _write(self, line: dict[str, Any]) -> None:
        data = _encode(line).encode() + b"\n"
        if self._cut:
            # Somebody was stopped within a line: ours does not continue it.
            data = b"\n" + data
        if self._fd is None:
            raise RunFolderError(f"{self._path} is closed: nothing more can be written to it")
        try:
            written = os.write(self._fd, data)
            if written < len(data):
                self._cut = True
                written += os.write(self._fd, data[written:])
        except OSError as error:
            raise CannotWriteError(
                f"{self._path} cannot be written: {error.strerror}; free space or choose another folder"
            ) from error
        self._cut = written < len(data)
        if self._cut:
            raise CannotWriteError(f"{self._path} takes no whole lines; free space or choose another folder")

    def close(self) -> None:
        """Let another engine have it."""
        if self._fd is not None:
            fd, self._fd = self._fd, None
            with contextlib.suppress(OSError):
                close_unlocked(fd)


def _amounts(spend: Spend) -> dict[str, float]:
    return {"requests": spend.requests, "tokens": spend.tokens, "money": spend.money}
