"""Due times kept: one heap of jobs and one timer, whatever the number of streams."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable
from itertools import count

__all__ = ["Job", "Pacer"]

Job = Callable[[int], int | None]
"""Called with its due time, at or after it; returns when it is due next, or None when it is over."""

# So many jobs run before sockets are looked at again: a burst of due chunks must not delay the reading of requests.
# A round of the loop costs about as much as half a chunk.
_BATCH = 8


class Pacer:
    """Runs jobs at absolute times of CLOCK_MONOTONIC, never early.

    The loop's timers tick in whole ms; a heap of our own costs a third of a loop timer a chunk and wakes once for all
    chunks that fall due in the same ms.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._heap: list[tuple[int, int, Job]] = []
        self._order = count()
        self._wake: asyncio.Handle | None = None
        self._wake_ns = 0
        self._running = False

    def add(self, due_ns: int, job: Job) -> None:
        """Run `job` when `due_ns` has come."""
        heapq.heappush(self._heap, (due_ns, next(self._order), job))
        if not self._running and (self._wake is None or due_ns < self._wake_ns):
            self._arm()

    def _arm(self) -> None:
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        if not self._heap:
            return
        self._wake_ns = self._heap[0][0]
        wait_ns = self._wake_ns - time.monotonic_ns()
        if wait_ns <= 0:
            self._wake = self._loop.call_soon(self._tick)
        else:
            # Rounded up to whole ms: the loop would turn a shorter wait into none and spin until the time has come.
            self._wake = self._loop.call_later(-(-wait_ns // 1_000_000) / 1e3, self._tick)

    def _tick(self) -> None:
        heap, now, left = self._heap, time.monotonic_ns, _BATCH
        self._wake = None
        self._running = True
        try:
            while left and heap and heap[0][0] <= now():
                left -= 1
                entry = heap[0]
                next_ns: int | None = None
                try:
                    next_ns = entry[2](entry[0])
                finally:
                    # In its own place, unless what the job planned is due still earlier.
                    if heap[0] is not entry:
                        heap.remove(entry)
                        heapq.heapify(heap)
                        if next_ns is not None:
                            heapq.heappush(heap, (next_ns, entry[1], entry[2]))
                    elif next_ns is None:
                        heapq.heappop(heap)
                    else:
                        heapq.heapreplace(heap, (next_ns, entry[1], entry[2]))
        finally:
            # Also after a job that raised: the loop reports it, the other streams go on.
            self._running = False
            self._arm()
