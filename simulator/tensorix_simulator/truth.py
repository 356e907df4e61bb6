"""The truth of each request, as JSON lines that are written straight through: killing everything loses no line.

All `_ns` stamps are `time.monotonic_ns()` (CLOCK_MONOTONIC: comparable between processes of one machine) unless the
name says `unix`. One object a line, told apart by `event`:

`start`     once a run: `format` (1), `pid`, `settings`, `monotonic_ns` and `unix_ns` read together.
`settings`  after each change, `reset` after each reset: `at_ns` (and the new `settings`).
`outage`    when the door was closed or opened: `at_ns`, `what` (`begin` or `end`), `fault` (its text).
`arrival`   when a request is whole and decided, before the first byte of its response (or when it is given up): `n`
            (counts requests from 1), `connection` (counts connections from 1), `request_id` (the client's
            `x-request-id`, or the one made for it), `traceparent` (the client's, as it came; null without one),
            `key_alias` (null without a key; never the key), `method`, `path`,
            `arrival_ns` (of its first bytes: the instant to compare with a client's stamp of sending. The kernel's
            stamp of what the first read brought, put on CLOCK_MONOTONIC by the distance of the two clocks as measured
            at that read; where the kernel gives none, `arrival_read_ns`), `arrival_read_ns` (that read had returned:
            later by what the simulator was busy with), `arrival_kernel_ns` (the kernel's stamp; null where it gives
            none), `arrival_unix_ns` (of `arrival_ns`), `body_ns` (the read that completed it had returned; null if none
            did), `decided_ns`, `decision` (`admitted`, `refused_requests`, `refused_tokens`, `refused_in_flight`,
            `bad_request`, `unauthorised`, `no_credit`, `injected_error`, `injected_reset` (status 0), `overloaded` (no
            slot and no place to wait), `not_found`, `not_allowed`, `too_large`, `malformed`, `incomplete`, `undecided`
            (it was waiting to fit a limit when its client went or the simulator was stopped)), `status`; its key's
            ledger: `ledger_ns` (the one instant at which the limits were asked and charged, or looked at where nothing
            is charged; null without a key), `before_requests` and `before_tokens` (what was left just before it),
            `remaining_requests` and `remaining_tokens` (after it: less what was charged or reserved, so with a refused
            request that counts too; never below 0), the least of every limit that applies to it (of its key, of its
            model where that is known and has its own, of all keys; requests in flight are no part of it; null where
            there is no such limit), `waited_ns` (how long it was delayed to fit), `over` (of a 429 the limit that it
            was over: `requests`, `tokens`, or the text of another one; else null), `fault` (the texts of the faults
            that can be seen in it, with semicolons; null where there are none); and of an admitted chat completion
            `model`, `stream`, `completions` (OpenAI's `n`), `max_tokens`, `prompt_tokens`, `reply_tokens` (a choice),
            `reserved_tokens`.
`end`       when it is over: `n`, `request_id`, `status`, `ended` (`complete`; `client_gone`: the client closed first;
            `stopped`: the simulator was; `idle`: its rest did not come in `idle_s`; `unanswered`: its
            connection ended with the response before it; by a fault `cut`, `reset` or
            `error_event`), `headers_sent_ns` (after the send of the response's head), `first_token_sent_ns`,
            `last_sent_ns`, `chunk_sent_ns` (after the send of each content chunk; for several choices one send carries
            a chunk of each) and `lateness_ns` (of each: stamp less when it was due), both empty where it was not
            streamed, `blocked` (how often a chunk had to wait because the client did not read), `end_ns`,
            `prompt_tokens`, `completion_tokens` (made, all choices), `reasoning_tokens`, `queue_ns` (of a completion:
            how long it waited for a slot), `settled_ns` (when what was reserved became what was really used, and a
            place in flight was free again; null where nothing was reserved), `remaining_requests`, `remaining_tokens`
            (at the end).

A file that is there is appended to. Where its last line was torn (a full disk, a machine that went down) the next run
ends it, and begins with one of its own: a reader skips what is no JSON.
"""

from __future__ import annotations

import json
import os
from collections import deque
from pathlib import Path
from typing import Any

from tensorix_api.errors import CannotWriteError, SettingsError

__all__ = ["FORMAT", "TruthError", "TruthLog"]

FORMAT = 1
_KEPT = 10_000


class TruthError(CannotWriteError):
    """The truth can no longer be written, so there is nothing left to simulate for."""


class TruthLog:
    """Appends lines to a file, each in one write; without a file it keeps the last 10,000 in memory."""

    def __init__(self, path: Path | None) -> None:
        """Raises SettingsError where the file cannot be opened, TruthError where the disk is full."""
        self.path = path
        self._recent: deque[bytes] = deque()
        self._forgotten = 0
        """Bytes of the lines that are no longer kept: where the first that is has its offset."""
        self._fd: int | None = None
        self._failed = False
        if path is not None:
            try:
                self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            except OSError as error:
                raise SettingsError(f"the truth cannot be written to {path}: {error.strerror}") from None
            if _is_torn(path):
                self._put(b"\n")

    def write(self, event: str, fields: dict[str, Any]) -> None:
        """Write one line. Raises TruthError, once, where the disk does not take it."""
        line = json.dumps({"event": event, **fields}, separators=(",", ":")).encode() + b"\n"
        if self._fd is None:
            self._recent.append(line)
            if len(self._recent) > _KEPT:
                self._forgotten += len(self._recent.popleft())
            return
        if not self._failed:
            self._put(line)

    def _put(self, line: bytes) -> None:
        assert self._fd is not None
        try:
            while line:
                line = line[os.write(self._fd, line) :]
        except OSError as error:
            self._failed = True
            raise TruthError(f"the truth cannot be written to {self.path}: {error.strerror}") from None

    def read(self, offset: int, most: int) -> tuple[bytes, int]:
        """Whole lines from a byte offset on, up to `most` bytes (at least a line), and the offset to go on from.

        Without a file, offsets count as if there were one; where what stood at `offset` is no longer kept, the lines
        begin with the first that is (its offset is that to go on from less the length). Raises SettingsError for an
        offset at which no line begins, and where the truth goes to a device.
        """
        if self.path is None:
            return self._read_kept(offset, most)
        if not self.path.is_file():
            raise SettingsError(f"the truth goes to {self.path}, from which nothing can be read again")
        with self.path.open("rb") as file:
            if offset > os.fstat(file.fileno()).st_size:
                raise _no_line(offset)
            if offset:
                file.seek(offset - 1)
                if file.read(1) != b"\n":
                    raise _no_line(offset)
            data = file.read(most)
            if not data.endswith(b"\n"):
                data += file.readline()
        return data, offset + len(data)

    def _read_kept(self, offset: int, most: int) -> tuple[bytes, int]:
        at, lines = self._forgotten, list[bytes]()
        offset = max(offset, at)
        end = offset
        for line in self._recent:
            if at >= offset:
                if lines and end + len(line) - offset > most:
                    break
                if at != end:
                    raise _no_line(offset)
                lines.append(line)
                end += len(line)
            at += len(line)
        if at < offset or (not lines and at != offset):
            raise _no_line(offset)
        return b"".join(lines), end

    def close(self) -> None:
        """Close the file; nothing is buffered."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _is_torn(path: Path) -> bool:
    """Whether a file ends in the middle of a line. One that may be written and not read is taken for whole."""
    try:
        if not path.is_file() or not path.stat().st_size:
            return False
        with path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except OSError:
        return False


def _no_line(offset: int) -> SettingsError:
    return SettingsError(f"offset {offset} is not where a line begins: 0, or what x-next-offset said")
