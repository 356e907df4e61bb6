"""How slowly a request's body is read, where it is."""

from __future__ import annotations

import contextlib
import socket
import time

from tensorix_simulator.http.requests import Request

__all__ = ["SlowReading"]

# So that the kernel takes little for us while we do not read, and the client's send blocks.
_SMALL_BUFFER = 4096
_USUAL_BUFFER = 212_992
# How often it is looked whether the client is still there: what it has sent stands before its end, so no read tells.
_LOOK_S = 0.25
# TCP_CLOSE and TCP_CLOSE_WAIT of Linux's tcp_states.h.
_CLOSED = (7, 8)


class SlowReading:
    """Of one request: when so much of its body may have been read."""

    __slots__ = ("_begun_ns", "_sock", "request")

    def __init__(self, sock: socket.socket, request: Request) -> None:
        self._sock = sock
        self._begun_ns = time.monotonic_ns()
        self.request = request
        self._resize(_SMALL_BUFFER)

    def _resize(self, size: int) -> None:
        with contextlib.suppress(OSError):
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)

    @property
    def most(self) -> int:
        """How much to read at once, in bytes."""
        return max(1, min(65_536, self.request.bytes_per_s // 20))

    @property
    def wait_s(self) -> float:
        """How long to wait before reading on, at most a quarter of a second; 0: not at all."""
        due_ns = self._begun_ns + len(self.request.body) * 1_000_000_000 // self.request.bytes_per_s
        return min(_LOOK_S, max(0, due_ns - time.monotonic_ns()) / 1e9)

    @property
    def client_gone(self) -> bool:
        """Whether the client has closed, unread bytes or not. False where the system does not say."""
        if not hasattr(socket, "TCP_INFO"):
            return False
        try:
            return self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] in _CLOSED
        except OSError:
            return True

    def end(self) -> None:
        """The request is whole, now."""
        self.request.body_ns = time.monotonic_ns()
        self._resize(_USUAL_BUFFER)
