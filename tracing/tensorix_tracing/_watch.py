"""The calls that are open, and what ends those that nobody ends: streams dropped or left unread.

A dropped stream is noticed by its finaliser, which the garbage collector may run anywhere: also in the middle of
OpenTelemetry's own code, whose locks would then be taken twice by one thread. There the end is put off, to a thread
that also looks for streams left idle; anywhere else it is told at once.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import weakref
from collections import deque
from typing import Protocol

__all__ = ["OpenCalls", "is_safe_here"]

# Modules whose locks an end may need; a finaliser that runs below one of them must not end anything itself.
_LOCKING = ("opentelemetry.sdk", "opentelemetry.exporter", "logging", "queue")
# A collector's run may be deep below; what lies further up than this holds none of those locks in practice.
_DEEPEST = 200
_SECOND_NS = 1_000_000_000
# Seconds without an open call after which the thread rests until it is woken.
_LOOKS_ON = 10


class OpenCall(Protocol):
    """What is watched."""

    last_activity_ns: int
    idle_after_ns: int

    def abandon(self) -> None: ...


def is_safe_here(skip: int = 1) -> bool:
    """Whether no frame of this thread is inside code that may hold a lock which the end of a call needs.

    `skip` is how many frames nearest to the caller are its own.
    """
    frame = sys._getframe(skip)
    for _ in range(_DEEPEST):
        above = frame.f_back
        if above is None:
            return True
        frame = above
        name = frame.f_globals.get("__name__", "")
        if isinstance(name, str) and name.startswith(_LOCKING):
            return False
    return True


class OpenCalls:
    """The open streams of this process. All methods may be called from any thread."""

    def __init__(self) -> None:
        self._open: set[OpenCall] = set()
        self._put_off: deque[OpenCall] = deque()
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._resting = False
        self._quiet = 0
        self._starting = threading.Lock()

    def __len__(self) -> int:
        return len(self._open)

    def add(self, call: OpenCall) -> None:
        """Watch a call until `discard`."""
        self._open.add(call)
        if self._thread is None:
            self._start()
        elif self._resting:
            self._resting = False
            self._wake.set()

    def discard(self, call: OpenCall) -> None:
        """The call has ended."""
        self._open.discard(call)

    def put_off(self, call: OpenCall) -> None:
        """Abandon the call soon, elsewhere: the caller may hold any lock."""
        # Nothing here takes a lock: both are single operations of the interpreter.
        self._put_off.append(call)

    def sweep(self, now_ns: int) -> None:
        """Abandon what was put off, and what nobody has read for too long (`now_ns` of `time.perf_counter_ns`)."""
        while self._put_off:
            try:
                call = self._put_off.popleft()
            except IndexError:
                break
            call.abandon()
        for call in list(self._open):
            if now_ns - call.last_activity_ns > call.idle_after_ns:
                call.abandon()

    def abandon_all(self) -> None:
        """At the end of the process: whatever is open ends now."""
        self.sweep(time.perf_counter_ns())
        for call in list(self._open):
            call.abandon()

    def forget_all(self) -> None:
        """In a child after a fork: the open calls are the parent's to end, and its thread stayed with it."""
        self.__init__()  # type: ignore[misc]

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=_watch, args=(weakref.ref(self), self._wake), name="tensorix-tracing", daemon=True
                )
                self._thread.start()

    def rest(self) -> float | None:
        """How long the thread may rest: a quarter of the shortest patience, a second at most; None for until it is woken.

        It looks on for a while after the last call has ended: to be woken for each would cost every call a switch of
        threads.
        """
        patiences = [call.idle_after_ns for call in list(self._open)]
        self._quiet = 0 if patiences else self._quiet + 1
        if self._quiet < _LOOKS_ON:
            return min(1.0, max(0.01, min(patiences, default=_SECOND_NS * 4) / 4e9))
        self._wake.clear()
        self._resting = True
        # Looked at after the flag is up, so that who adds a call either is seen here or wakes the thread.
        self._resting = not self._open
        return None if self._resting else 0.01


def _watch(calls: weakref.ref[OpenCalls], wake: threading.Event) -> None:
    while (found := calls()) is not None:
        found.sweep(time.perf_counter_ns())
        rest_s = found.rest()
        del found
        wake.wait(rest_s)
        # Left set, it would let no later rest last.
        wake.clear()


OPEN = OpenCalls()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=OPEN.forget_all)
