"""The calls that are open, and what ends those that nobody ends: streams dropped or left unread.

A dropped stream is noticed by its finaliser, which the garbage collector may run anywhere: also in the middle of
OpenTelemetry's own code, whose locks would then be taken twice by one thread. There the end is put off, to a thread
that also looks for streams left idle; anywhere else it is told at once.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import sys
import threading
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from tensorix_tracing._errors import Ending

__all__ = ["OPEN", "OpenCalls", "end_at_exit", "is_safe_here"]

log = logging.getLogger("tensorix_tracing")

# Modules whose locks an end may need; a finaliser that runs below one of them must not end anything itself.
_LOCKING = ("opentelemetry.", "logging", "queue")
# What runs deeper than this is not looked through, and counts as unsafe: to put an end off costs next to nothing.
_DEEPEST = 200
_SECOND_NS = 1_000_000_000
# Seconds without an open call after which the thread rests until it is woken.
_LOOKS_ON = 10


class OpenCall(Protocol):
    """What is watched."""

    last_activity_ns: int

    @property
    def idle_after_ns(self) -> int: ...
    def end(self, ending: Ending) -> None: ...
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
    return False


class OpenCalls:
    """The open streams of this process. All methods may be called from any thread, `put_off` from any finaliser.

    No lock is taken here, neither of Python's nor, where gevent has patched it after the import, of the system's:
    whoever runs a finaliser might hold it. What several threads touch are single operations of the interpreter.
    """

    def __init__(self) -> None:
        self._open: set[OpenCall] = set()
        self.discard = self._open.discard
        """The call has ended. The set's own, for each call comes by."""
        self._put_off: deque[tuple[OpenCall, Ending]] = deque()
        self._unstarted = [None]
        self._wake: threading.Lock | None = None
        """Held while nobody has woken the thread; a semaphore that may be released by a finaliser."""
        self._resting = False
        self._quiet = 0

    def __len__(self) -> int:
        return len(self._open)

    def add(self, call: OpenCall) -> None:
        """Watch a call until `discard`."""
        self._open.add(call)
        if self._unstarted:
            self._start()
        elif self._resting:
            self._resting = False
            self._rouse()

    def put_off(self, call: OpenCall, ending: Ending) -> None:
        """End the call soon, elsewhere: the caller may hold any lock."""
        self._put_off.append((call, ending))
        self._rouse()

    def sweep(self, now_ns: int) -> None:
        """End what was put off, and abandon what nobody has read for too long (`now_ns` of `time.perf_counter_ns`)."""
        while self._put_off:
            try:
                call, ending = self._put_off.popleft()
            except IndexError:
                break
            call.end(ending)
        for call in list(self._open):
            if now_ns - call.last_activity_ns > call.idle_after_ns:
                _abandon(call)

    def abandon_all(self) -> None:
        """At the end of the process: whatever is open ends now."""
        self.sweep(time.perf_counter_ns())
        for call in list(self._open):
            _abandon(call)

    def forget_all(self) -> None:
        """In a child after a fork: the open calls are the parent's to end, and its thread stayed with it."""
        self.__init__()  # type: ignore[misc]

    def _start(self) -> None:
        try:
            self._unstarted.pop()
        except IndexError:
            return
        self._wake = wake = threading.Lock()
        wake.acquire()
        thread = threading.Thread(target=_watch, args=(weakref.ref(self), wake), name="tensorix-tracing", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            # No thread can be had: too many, or the interpreter is about to end. The next call tries again.
            self._unstarted.append(None)

    def _rouse(self) -> None:
        if (wake := self._wake) is not None:
            # Already released: it is awake, or about to be.
            with contextlib.suppress(RuntimeError):
                wake.release()

    def rest(self) -> float | None:
        """Seconds that the thread may rest: a quarter of the shortest patience, one at most; None: until it is woken.

        It looks on for a while after the last call has ended: to be woken for each would cost every call a switch of
        threads.
        """
        patiences = [call.idle_after_ns for call in list(self._open)]
        self._quiet = 0 if patiences else self._quiet + 1
        if self._quiet < _LOOKS_ON:
            return min(1.0, max(0.01, min(patiences, default=_SECOND_NS * 4) / 4e9))
        self._resting = True
        # Looked at after the flag is up, so that who adds a call either is seen here or wakes the thread.
        self._resting = not (self._open or self._put_off)
        return None if self._resting else 0.01


def _abandon(call: OpenCall) -> None:
    try:
        call.abandon()
    except Exception:
        log.debug("an open call could not be abandoned", exc_info=True)


def _watch(calls: weakref.ref[OpenCalls], wake: threading.Lock) -> None:
    while (found := calls()) is not None:
        found.sweep(time.perf_counter_ns())
        rest_s = found.rest()
        del found
        wake.acquire(timeout=-1 if rest_s is None else rest_s)


OPEN = OpenCalls()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=OPEN.forget_all)


def end_at_exit() -> None:
    """End what is open when the process ends, before the providers known by now are shut down.

    The last to be registered is the first to be called: so this is to be called again for each new provider.
    """
    atexit.unregister(OPEN.abandon_all)
    atexit.register(OPEN.abandon_all)
