"""Waking a greenlet at an instant: by a timer of the kernel's where there is one, for the event loop's count in ms."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from typing import Any

import gevent
from gevent.hub import get_hub

__all__ = ["Alarm"]

_CLOCK_MONOTONIC = 1
_NON_BLOCKING = os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0)
_ABSOLUTE = 1
_READ = 1


class _Time(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _TimerTime(ctypes.Structure):
    _fields_ = (("interval", _Time), ("value", _Time))


def _kernel_timer() -> tuple[Any, int]:
    """The C library and the file descriptor of a timer (timerfd_create(2)); -1 where there is none.

    `os.timerfd_create` is there from Python 3.13 on only.
    """
    if sys.platform != "linux":
        return None, -1
    library = ctypes.CDLL(None)
    create = getattr(library, "timerfd_create", None)
    return library, create(_CLOCK_MONOTONIC, _NON_BLOCKING) if create else -1


class Alarm:
    """Wakes one greenlet at a time, some 0.1 ms after an instant of the monotonic clock; ms late without a timerfd."""

    def __init__(self) -> None:
        self._library, self._fd = _kernel_timer()
        self._watcher: Any = get_hub().loop.io(self._fd, _READ) if self._fd >= 0 else None

    def wait_until(self, at_ns: int) -> None:
        """Sleep until then; not at all where it is past."""
        left_ns = at_ns - time.monotonic_ns()
        if left_ns <= 0:
            return
        if self._watcher is None:
            gevent.sleep(left_ns / 1e9)
            return
        when = _TimerTime(_Time(0, 0), _Time(*divmod(at_ns, 10**9)))
        self._library.timerfd_settime(self._fd, _ABSOLUTE, ctypes.byref(when), None)
        get_hub().wait(self._watcher)
        # Setting it anew makes it unreadable again: nothing need be read.

    def close(self) -> None:
        """Give the timer back."""
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher.close()
            os.close(self._fd)
            self._watcher = None
