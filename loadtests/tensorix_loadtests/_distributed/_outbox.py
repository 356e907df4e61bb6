"""What a worker still has to bring to the master: sent in order, at a bounded pace, and kept until it is written."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Outbox", "Parcel"]

# Larger amounts at once were seen to hold up a worker's own streams.
_BYTES_A_SECOND = 128 << 10
_BURST_BYTES = 64 << 10
# On the way without having been acknowledged. A master that is slow is not buried, and one that is gone costs little.
_ON_THE_WAY = 8
_RESEND_NS = 2_000_000_000


@dataclass(frozen=True, slots=True)
class Parcel:
    """Numbered from 0; `records` of them are in it."""

    number: int
    message: dict[str, Any]
    size: int
    records: int


@dataclass(slots=True)
class Outbox:
    """Parcels in order. Times are monotonic ns, given by the caller.

    At most `most_bytes` wait; what comes beyond that is lost and counted in `lost`. Parcels that were not acknowledged
    within two seconds are sent again, from the first of them on; the other end takes each number once.
    """

    most_bytes: int = 16 << 20
    lost: int = 0
    """Records that found no room."""
    taken: int = 0
    """Records that did."""
    _waiting: deque[Parcel] = field(default_factory=deque)
    _sent: int = 0
    """How many of those waiting are on the way."""
    _bytes: int = 0
    _next: int = 0
    _room: float = _BURST_BYTES
    _looked_ns: int | None = None
    _moved_ns: int = 0
    """When something was last sent or acknowledged."""

    def put(self, message: dict[str, Any], size: int, records: int) -> bool:
        """Take a parcel; False where there is no room for it, and its records are lost."""
        if self._bytes + size > self.most_bytes:
            self.lost += records
            return False
        self._waiting.append(Parcel(self._next, message, size, records))
        self._next += 1
        self._bytes += size
        self.taken += records
        return True

    def due(self, now_ns: int, *, at_once: bool = False) -> list[Parcel]:
        """What is to be sent now; with `at_once` all of it, for the end, when there is no stream left to hold up."""
        if self._looked_ns is not None:
            self._room = min(_BURST_BYTES, self._room + (now_ns - self._looked_ns) * _BYTES_A_SECOND / 1e9)
        self._looked_ns = now_ns
        if self._sent and now_ns - self._moved_ns >= _RESEND_NS:
            self._sent = 0
        found: list[Parcel] = []
        while self._sent < len(self._waiting) and (at_once or (self._sent < _ON_THE_WAY and self._room > 0)):
            parcel = self._waiting[self._sent]
            # A parcel may overdraw: the next one waits the longer.
            self._room -= parcel.size
            self._sent += 1
            self._moved_ns = now_ns
            found.append(parcel)
        return found

    def acknowledged(self, number: int, now_ns: int) -> None:
        """Everything up to this number is written."""
        while self._waiting and self._waiting[0].number <= number:
            self._bytes -= self._waiting.popleft().size
            self._sent = max(0, self._sent - 1)
            self._moved_ns = now_ns

    @property
    def parcels(self) -> int:
        """How many there were."""
        return self._next

    @property
    def empty(self) -> bool:
        """Whether all of it was acknowledged."""
        return not self._waiting

    @property
    def undelivered(self) -> int:
        """Records that were not acknowledged."""
        return sum(parcel.records for parcel in self._waiting)
