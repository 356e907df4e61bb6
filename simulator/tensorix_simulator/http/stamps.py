"""When bytes arrived: the kernel's own stamps, put on the monotonic clock."""

from __future__ import annotations

import socket
import struct
import sys
import time

__all__ = ["ask_for_stamps", "kernel_stamp_ns", "unix_less_monotonic_ns"]

# Linux's number for SO_TIMESTAMPNS (and of the message that carries it); Python 3.11 does not name it.
_SO_TIMESTAMPNS = 35


def ask_for_stamps(listener: socket.socket) -> bool:
    """Have the kernel stamp what arrives; connections inherit it from their listener. False where it does not."""
    if sys.platform != "linux":
        return False
    try:
        listener.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    except OSError:
        return False
    return True


def unix_less_monotonic_ns() -> int:
    """How far the two clocks are apart, both read at one instant as nearly as can be."""
    best, offset = 1 << 62, 0
    for _ in range(4):
        before, real, after = time.monotonic_ns(), time.time_ns(), time.monotonic_ns()
        if after - before < best:
            best, offset = after - before, real - (before + after) // 2
        if best < 1_000:
            break
    return offset


def kernel_stamp_ns(ancillary: list[tuple[int, int, bytes]]) -> int | None:
    """The stamp among what `recvmsg` gave besides the data, on CLOCK_MONOTONIC; None where there is none.

    Of several segments read at once it is the newest's.
    """
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS and len(data) == 16:
            seconds, nanoseconds = struct.unpack("qq", data)
            return int(seconds * 1_000_000_000 + nanoseconds - unix_less_monotonic_ns())
    return None
