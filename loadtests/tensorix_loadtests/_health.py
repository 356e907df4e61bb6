"""How this process itself is doing: the lag of its event loop, its share of a core, its memory and open files."""

from __future__ import annotations

import gc
import resource
import time
from typing import Any

import gevent
import psutil

__all__ = ["Health", "raise_open_files", "spare_the_collector"]

_BEAT_S = 0.02


class Health:
    """Watches the process from inside; `second()` gives what was seen since it was last called."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._lag_max_ns = 0
        self._cpu_ns = time.process_time_ns()
        self._wall_ns = time.monotonic_ns()

    def beat(self) -> None:
        """Sleep for a moment, for ever, and note by how much each sleep was too long: run it as a greenlet."""
        planned = int(_BEAT_S * 1e9)
        while True:
            before = time.monotonic_ns()
            gevent.sleep(_BEAT_S)
            self._lag_max_ns = max(self._lag_max_ns, time.monotonic_ns() - before - planned)

    def second(self) -> dict[str, Any]:
        """`loop_lag_max_ns`, `cpu_share` (1 is one core), `rss_bytes` and `open_files` since the last call."""
        cpu, wall = time.process_time_ns(), time.monotonic_ns()
        share = (cpu - self._cpu_ns) / max(1, wall - self._wall_ns)
        self._cpu_ns, self._wall_ns = cpu, wall
        lag, self._lag_max_ns = self._lag_max_ns, 0
        return {
            "loop_lag_max_ns": lag,
            "cpu_share": round(share, 4),
            "rss_bytes": self._process.memory_info().rss,
            "open_files": self._process.num_fds(),
        }


def spare_the_collector() -> None:
    """Take everything that lives now out of the garbage collector's sight, and let it look less often.

    A full collection goes through every object: with Locust, pandas and their imports 60 to 120 ms in which nothing is
    read (measured with 1,000 streams). What a request leaves behind goes by reference counting, so little is left to
    find. Call it once all is imported, and again when all users have started.
    """
    gc.freeze()
    gc.set_threshold(5_000, 20, 1_000)


def raise_open_files(connections: int) -> str | None:
    """Let the process open as many files as `connections` need; a warning in words where it is not allowed to."""
    wanted = connections + 200
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return None
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    except (OSError, ValueError):
        most = soft
    if most >= wanted:
        return None
    return (
        f"{connections} users need about {wanted} open files but only {most} are allowed: "
        f"raise the limit (ulimit -n {wanted}) or take fewer users, or connections will fail"
    )
