"""Parts of a report worked out at once: NumPy and Arrow leave Python to others while they compute."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ["together"]

T = TypeVar("T")
# More would need more memory, too: each of them holds columns of its own.
_MOST_THREADS = 2


def together(calls: Iterable[Callable[[], T]]) -> list[T]:
    """What the calls give, in their order; the first exception of them is raised, when those that run have ended."""
    with ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1)) as pool:
        try:
            return [future.result() for future in [pool.submit(call) for call in calls]]
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
