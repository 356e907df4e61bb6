"""Kernel receive stamps (CLOCK_REALTIME) put on the monotonic clock that everything else is read from."""

from __future__ import annotations

import struct
import sys
import time
from typing import Final

__all__ = ["ANCILLARY_BYTES", "SO_TIMESTAMPNS", "KernelClock", "kernel_stamp_ns"]

# From Linux's asm-generic/socket.h; the socket module does not export it. Both the option's and the message's number.
SO_TIMESTAMPNS: Final = 35 if sys.platform == "linux" and struct.calcsize("P") == 8 else None
"""The socket option that asks for receive stamps, None where there is none."""
ANCILLARY_BYTES: Final = 64
_TIMESPEC = struct.Struct("@qq").unpack_from
_READINGS = 200


def kernel_stamp_ns(ancillary: list[tuple[int, int, bytes]]) -> int:
    """The kernel's CLOCK_REALTIME stamp of the newest bytes in a read, in ns; 0 where it sent none."""
    for _level, kind, data in ancillary:
        if kind == SO_TIMESTAMPNS and len(data) >= 16:
            seconds, nanoseconds = _TIMESPEC(data)
            return int(seconds * 1_000_000_000 + nanoseconds)
    return 0


class KernelClock:
    """The offset between the real-time and the monotonic clock, in ns.

    A reading of one clock between two of the other is off by at most their distance, so of many readings the tightest
    is kept. The real-time clock is slewed and stepped: call `measure` again every second or so.
    """

    __slots__ = ("offset_ns", "uncertainty_ns")

    def __init__(self) -> None:
        self.offset_ns = 0
        self.uncertainty_ns = 0
        self.measure()

    def measure(self, readings: int = _READINGS) -> None:
        """Take the offset anew."""
        monotonic, realtime = time.monotonic_ns, time.time_ns
        tightest, offset = sys.maxsize, 0
        for _ in range(readings):
            before = monotonic()
            real = realtime()
            after = monotonic()
            if after - before < tightest:
                tightest, offset = after - before, real - (before + after) // 2
        self.offset_ns, self.uncertainty_ns = offset, tightest

    def unix_ns(self, monotonic_ns: int) -> int:
        """A monotonic stamp as Unix time."""
        return monotonic_ns + self.offset_ns
