"""Names to addresses, in a thread of its own: the system's resolver may stall, and cannot be told to stop."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

__all__ = ["Address", "Found", "Lookup", "address_of"]

Address = tuple[socket.AddressFamily, Any]
"""A family, and what `connect` takes."""
Found = list[Address] | OSError | UnicodeError | None
"""Addresses, why there are none, or None where whoever waited gave up."""


def address_of(host: str, port: int) -> Address | None:
    """A host that is an address already; None for a name."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        return family, (host, port)
    return None


@dataclass(slots=True)
class Lookup:
    """Looks names up. While one look-up of a name hangs there is no second: who comes later waits for the first."""

    resolve: Callable[..., Any] = socket.getaddrinfo
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _waiting: dict[tuple[str, int], list[SimpleQueue[Found]]] = field(default_factory=dict)

    def begin(self, host: str, port: int, result: SimpleQueue[Found]) -> None:
        """Put what is found into `result`, whenever that is."""
        with self._lock:
            if (host, port) in self._waiting:
                self._waiting[host, port].append(result)
                return
            self._waiting[host, port] = [result]
        threading.Thread(target=self._run, args=(host, port), name=f"look up {host}", daemon=True).start()

    def leave(self, host: str, port: int, result: SimpleQueue[Found]) -> None:
        """Wait no longer. The look-up goes on, and keeps its place."""
        with self._lock:
            waiting = self._waiting.get((host, port), [])
            if result in waiting:
                waiting.remove(result)

    def _run(self, host: str, port: int) -> None:
        found: Found
        try:
            found = [(family, address) for family, *_, address in self.resolve(host, port, type=socket.SOCK_STREAM)]
        except (OSError, UnicodeError) as error:
            found = error
        with self._lock:
            waiting = self._waiting.pop((host, port), [])
        for result in waiting:
            result.put(found)
