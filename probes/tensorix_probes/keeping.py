"""Keeps rounds in a history: a thread of its own for `serve`, one call for `once`.

A history that is locked, full or gone holds no probe up. Its rounds wait in memory, and what still waits at the end in
a file beside it. A kill -9 takes what is not reported as written: that of the last second.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from tensorix_api.errors import HistoryError
from tensorix_probes.kept import memory_name, memory_value, recall_counts, recall_memory, recall_spends, row_of
from tensorix_probes.memory import Clock, TargetMemory
from tensorix_probes.result import Round
from tensorix_probes.settings import HistorySettings
from tensorix_records.history import History, RoundRow, spool

__all__ = ["Keeper", "Standing", "keep_once", "recall_counts", "recall_memory", "recall_spends", "row_of"]

_BATCH = 500
_GATHER_S = 0.5
_MOST_WAIT_S = 60.0
_HOUR_S = 3600.0


def keep_once(
    url: str,
    rounds: Sequence[Round],
    memories: Mapping[str, TargetMemory] | None = None,
    *,
    settings: HistorySettings | None = None,
    wait_s: float = 5.0,
    clock: Clock | None = None,
) -> None:
    """Keep rounds, and by target what is known after them, waiting for a lock no longer than that.

    Where they cannot be written they go into a file beside the history, which the next that can write takes in. Raises
    HistoryError then, too: its message says where they are.
    """
    settings, clock = settings or HistorySettings(), clock or Clock()
    rows = [row_of(round_) for round_ in rounds]
    locations = {row.target: row.location for row in rows}
    remember = {
        memory_name(target, locations.get(target)): memory_value(memory) for target, memory in (memories or {}).items()
    }
    try:
        history = History.open(url, wait_s=wait_s)
        try:
            history.append(rows, remember=remember)
        except HistoryError:
            history.close()
            raise
    except HistoryError as error:
        path = spool(url, rows)
        raise HistoryError(f"{error}; what was found waits in {path} for the next that can write") from None
    with history:
        history.take_in()
        _maintain_for_a_moment(history, settings, clock)


def _maintain_for_a_moment(history: History, settings: HistorySettings, clock: Clock) -> None:
    """Each hour; what takes longer than a second is left to the next."""
    now = clock.unix_ns()
    last = history.recall("maintained_unix_ns")
    if isinstance(last, int) and 0 <= now - last < _HOUR_S * 1e9:
        return
    until = time.monotonic() + 1.0
    while history.maintain_some(now, keep_results_s=settings.keep_results_s, keep_hours_s=settings.keep_hours_s):
        if time.monotonic() > until:
            return
    history.remember("maintained_unix_ns", now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How the keeping goes, for metrics and the page."""

    queued: int
    """Rounds that wait to be written."""
    written: int
    """Rounds that are on the disk, or in the file beside it."""
    lost: int
    """Rounds that found no room any more."""
    error: str | None
    """Why nothing can be written; None where all is well."""


class Keeper:
    """Writes rounds from a thread of its own, which also rolls up and forgets: at the start and each hour."""

    def __init__(
        self,
        settings: HistorySettings,
        *,
        most_rounds: int = 50_000,
        wait_s: float = 5.0,
        clock: Clock | None = None,
    ) -> None:
        assert settings.url is not None
        self._url = settings.url
        self._settings = settings
        self._most_rounds = most_rounds
        self._wait_s = wait_s
        self._clock = clock or Clock()
        self._changed = threading.Condition()
        self._queue: deque[RoundRow] = deque()
        self._memories: dict[str, Any] = {}
        self._closing = False
        self._history: History | None = None
        self._written = self._lost = self._failures = 0
        self._error: str | None = None
        self._maintain_at = 0.0
        self._thread = threading.Thread(target=self._run, name="history", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def opened(self, timeout_s: float) -> History | None:
        """The history, to read from, as soon as it is open; None where it is not by then, or was closed by an error."""
        with self._changed:
            self._changed.wait_for(lambda: self._history is not None or self._error is not None, timeout_s)
            return self._history

    def keep(self, round_: Round, memory: TargetMemory | None = None) -> None:
        """Take a round over, and what is known of its target after it. Never waits and never raises."""
        try:
            row = row_of(round_)
        except Exception as error:  # noqa: BLE001 - what a check of somebody's own got wrong is to hold up no other round
            with self._changed:
                self._lost += 1
                self._error = f"a round of {round_.target} is none: {type(error).__name__}: {error}"
            return
        try:
            value = None if memory is None else memory_value(memory)
        except (TypeError, ValueError):
            value = None  # it keeps what is no JSON
        with self._changed:
            if len(self._queue) >= self._most_rounds or self._closing:
                self._lost += 1
                return
            self._queue.append(row)
            if value is not None:
                self._memories[memory_name(round_.target, round_.location)] = value
            self._changed.notify_all()

    def remember(self, name: str, value: Any) -> None:
        """Take over a JSON value to be kept under a name, in place of what is there. Never waits and never raises."""
        with self._changed:
            self._memories[name] = value
            self._changed.notify_all()

    def standing(self) -> Standing:
        """How it goes."""
        with self._changed:
            return Standing(queued=len(self._queue), written=self._written, lost=self._lost, error=self._error)

    def close(self, timeout_s: float) -> None:
        """Write what waits; what is not written by then goes into the file beside the history."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        with self._changed:
            left = list(self._queue)
            self._queue.clear()
        if not left:
            return
        try:
            # A batch that is being written still is then there twice, and kept once.
            spool(self._url, left)
        except HistoryError as error:
            with self._changed:
                self._lost += len(left)
                self._error = str(error)
        else:
            with self._changed:
                self._written += len(left)

    def _run(self) -> None:
        pause_s = 0.0
        while self._wait_for_work(pause_s):
            began = time.monotonic()
            try:
                written = self._work()
            except Exception as error:  # noqa: BLE001 - a defect may not end the keeping; it shows in the metrics
                self._note(str(error) if isinstance(error, HistoryError) else f"{type(error).__name__}: {error}")
                if self._closing:
                    break
                pause_s = min(2.0 ** min(self._failures, 16) / 2, _MOST_WAIT_S)
            else:
                # Others, too, are to come by the lock between two pieces of maintenance.
                pause_s = 0.0 if written else time.monotonic() - began
        self._shut()

    def _wait_for_work(self, pause_s: float) -> bool:
        """Wait until there is something to write or to maintain; False where all is done and closed."""
        with self._changed:
            if pause_s:
                self._changed.wait_for(lambda: self._closing, pause_s)
            self._changed.wait_for(
                lambda: self._queue or self._memories or self._closing, max(0.0, self._maintain_at - time.monotonic())
            )
            if self._queue and not self._closing:
                self._changed.wait_for(lambda: self._closing or len(self._queue) >= _BATCH, _GATHER_S)
            return not self._closing or bool(self._queue or self._memories)

    def _work(self) -> bool:
        """Write a batch, or else do a piece of maintenance; whether something was written."""
        history = self._history or self._open()
        with self._changed:
            batch = list(islice(self._queue, _BATCH))
            memories, self._memories = self._memories, {}
        if not batch and not memories:
            self._maintain(history)
            self._note(None)
            return False
        try:
            history.append(batch, remember=memories)
        except BaseException:
            with self._changed:
                self._memories = memories | self._memories
            raise
        with self._changed:
            # Fewer where `close` has put them into the file meanwhile.
            done = min(len(batch), len(self._queue))
            for _ in range(done):
                self._queue.popleft()
            self._written += done
        self._note(None)
        return True

    def _open(self) -> History:
        history = History.open(self._url, wait_s=self._wait_s)
        with self._changed:
            self._history = history
            self._changed.notify_all()
        return history

    def _maintain(self, history: History) -> None:
        history.take_in()
        keep = {"keep_results_s": self._settings.keep_results_s, "keep_hours_s": self._settings.keep_hours_s}
        if not history.maintain_some(self._clock.unix_ns(), **keep):
            self._maintain_at = time.monotonic() + _HOUR_S

    def _note(self, error: str | None) -> None:
        """Note how the last piece of work went; after an error it is opened anew."""
        with self._changed:
            self._failures = 0 if error is None else self._failures + 1
            self._error = error
            self._changed.notify_all()
        if error is not None:
            self._shut()

    def _shut(self) -> None:
        with self._changed:
            history, self._history = self._history, None
        if history is not None:
            history.close()
