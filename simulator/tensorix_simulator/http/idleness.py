"""Connections on which nothing happens, closed after a while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from itertools import islice

from tensorix_simulator.http.connection import Connection

__all__ = ["Idleness"]

# Of thousands that fall due together so many are closed, then the streams have their turn, a ms later the next.
_AT_ONCE = 50


class Idleness:
    """Keeps connections in the order in which they were last active: only those that are due are ever looked at.

    One timer whatever their number, and none while nothing is to be closed. A connection with a response under way is
    not idle, however long the response is silent.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._idle_ns: int | None = None
        self._active_ns: dict[Connection, int] = {}
        self._timer: asyncio.TimerHandle | None = None

    def change(self, idle_s: float | None, connections: Iterable[Connection]) -> None:
        """Close `connections`, and those that are watched from now on, after so long; None: never.

        Where a time was set before, what has passed of it counts.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if idle_s is None:
            for connection in self._active_ns:
                connection.on_active = None
            self._active_ns.clear()
            self._idle_ns = None
            return
        was_off, self._idle_ns = self._idle_ns is None, round(idle_s * 1e9)
        if was_off:
            for connection in connections:
                self.watch(connection)
        if self._timer is None:
            self._look()

    def watch(self, connection: Connection) -> None:
        """A connection that was just opened."""
        if self._idle_ns is not None:
            connection.on_active = self._active
            self._active(connection)

    def forget(self, connection: Connection) -> None:
        """It is closed, or about to be."""
        connection.on_active = None
        self._active_ns.pop(connection, None)

    def _active(self, connection: Connection) -> None:
        # Last in the order.
        self._active_ns.pop(connection, None)
        self._active_ns[connection] = time.monotonic_ns()
        if self._timer is None:
            self._arm()

    def _look(self) -> None:
        self._timer = None
        now_ns = time.monotonic_ns()
        for connection, active_ns in tuple(islice(self._due(now_ns), _AT_ONCE)):
            if connection.idle:
                self.forget(connection)
                connection.close_idle()
            elif self._active_ns.get(connection) == active_ns:
                self._active(connection)
        self._arm()

    def _due(self, now_ns: int) -> Iterable[tuple[Connection, int]]:
        assert self._idle_ns is not None
        for connection, active_ns in self._active_ns.items():
            if active_ns + self._idle_ns > now_ns:
                return
            yield connection, active_ns

    def _arm(self) -> None:
        """Wake when the first may be due; not at all while there is none."""
        if self._timer is None and self._active_ns and self._idle_ns is not None:
            first_ns = next(iter(self._active_ns.values())) + self._idle_ns
            # A ms more than it needs: the loop's clock ticks in whole ms and may be early by one.
            self._timer = self._loop.call_later(max(0, first_ns - time.monotonic_ns()) / 1e9 + 0.001, self._look)
