"""One connection: requests are read and stamped, and served one at a time.

The socket is used directly rather than through an asyncio transport. A transport on uvloop collects what is written
and sends it at the end of the loop's round, so a stamp taken "after the send" would come before it; and only
`recvmsg` tells when the kernel had received what is read.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
import time
from collections import deque
from collections.abc import Callable

from tensorix_simulator.http.requests import Request, RequestReader
from tensorix_simulator.http.slow_reading import SlowReading
from tensorix_simulator.http.stamps import kernel_stamp_ns
from tensorix_simulator.http.tls import TlsSession

__all__ = ["Connection"]

_READ = 65_536
_MOST_QUEUED = 64
_LINGER_S = 1.0
_HANDSHAKE_S = 10.0
# Where the system has it.
_APART = getattr(socket, "MSG_EOR", 0)


class Connection:
    """Hands each request to `serve` when the one before it is answered.

    Whoever serves calls `send` as often as it likes and `finish` once. `on_gone` is called where the client closes
    before that (a half-closed connection counts as closed), `on_unserved` with each request that was not served then.
    """

    __slots__ = (
        "_fd", "_handshake", "_keep_alive", "_loop", "_on_closed", "_on_unserved", "_paused", "_pumping", "_put",
        "_queue", "_reader", "_serve", "_serving", "_slow", "_sock", "_tls", "closed", "on_active", "on_drained",
        "on_gone", "unsent", "was_reset",
    )  # fmt: skip

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        number: int,
        serve: Callable[[Request, Connection], None],
        *,
        max_body_bytes: Callable[[], int],
        on_closed: Callable[[Connection], None],
        on_unserved: Callable[[Request, Connection], None] | None = None,
        tls: ssl.SSLContext | None = None,
        on_head: Callable[[Request], None] | None = None,
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._put: Callable[[bytes], int] = sock.send
        self._fd = sock.fileno()
        self._serve = serve
        self._on_closed = on_closed
        self._on_unserved = on_unserved
        self._tls = None if tls is None else TlsSession(tls)
        self._reader = RequestReader(number, max_body_bytes, on_head)
        self._slow: SlowReading | None = None
        self._queue: deque[Request] = deque()
        self._paused = False
        self._serving = False
        self._pumping = False
        self._keep_alive = True
        self.unsent = bytearray()
        """What the client has not read of what was sent before: always this one object."""
        self.closed = False
        self.was_reset = False
        self._handshake = None if tls is None else loop.call_later(_HANDSHAKE_S, self.close)
        self.on_active: Callable[[Connection], None] | None = None
        """Called when something came, and when a response is whole."""
        self.on_gone: Callable[[], None] | None = None
        self.on_drained: Callable[[], None] | None = None
        """Called once, when the client has read what was sent."""
        loop.add_reader(self._fd, self._on_readable)

    # Reading and serving.

    def _on_readable(self) -> None:
        try:
            data, ancillary, _, _ = self._sock.recvmsg(_READ if self._slow is None else self._slow.most, 64)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._gone()
            return
        stamp_ns = time.monotonic_ns()
        if not data:
            self._gone()
            return
        if self.on_active is not None:
            self.on_active(self)
        if self._tls is not None:
            data = self._decrypted(data)
            if not data:
                return
        self._queue += self._reader.feed(data, stamp_ns, kernel_stamp_ns(ancillary))
        if self._reader.slow is not None:
            self._slow = self._slow or SlowReading(self._sock, self._reader.slow)
            self._loop.remove_reader(self._fd)
            self._read_slowly()
            return
        if len(self._queue) > _MOST_QUEUED:
            self._paused = True
            self._loop.remove_reader(self._fd)
        if self._queue or self._reader.expects:
            # Not now: the others that can be read are read, and stamped, before any of them is served.
            self._loop.call_soon(self._pump)

    def _read_slowly(self) -> None:
        """Read on, or serve, when the time for what was read is over."""
        slow = self._slow
        if self.closed or slow is None:
            return
        if slow.client_gone:
            self._gone()
        elif wait_s := slow.wait_s:
            self._loop.call_later(wait_s, self._read_slowly)
        else:
            if self._reader.unfinished is not slow.request:
                self._slow = self._reader.slow = None
                slow.end()
            self._loop.add_reader(self._fd, self._on_readable)
            self._loop.call_soon(self._pump)

    def _decrypted(self, data: bytes) -> bytes:
        """What came, in the clear; nothing while hands are shaken, or where it was no TLS."""
        tls = self._tls
        assert tls is not None
        try:
            data = tls.open(data)
        except ssl.SSLError as error:
            if error.reason != "HTTP_REQUEST" and tls.has_to_send:
                self.send(b"")
            if tls.established:
                # Not from within: whoever sends may be in the middle of something.
                self._loop.call_soon(self._gone)
            else:
                # Who speaks plain HTTP could not read an alert: an end is all that it can be told.
                self._end()
            return b""
        if tls.established and self._handshake is not None:
            self._handshake.cancel()
            self._handshake = None
        if tls.has_to_send:
            self.send(b"")
        if tls.ended:
            # After what came before the client's goodbye has been looked at.
            self._loop.call_soon(self._loop.call_soon, self._gone)
        return data

    def _pump(self) -> None:
        """Serve what waits. A loop rather than a recursion: a pipeline of short answers may be long."""
        if self._pumping:
            return
        self._pumping = True
        try:
            while self._queue and not self._serving and not self.closed and self._slow is None:
                request = self._queue.popleft()
                self._serving, self._keep_alive = True, request.keep_alive
                self._serve(request, self)
        except Exception:
            # A defect, which the loop reports: the client sees an end rather than nothing.
            self.close()
            raise
        finally:
            self._pumping = False
        if self.closed:
            return
        if self._paused and len(self._queue) <= _MOST_QUEUED // 2:
            self._paused = False
            self._loop.add_reader(self._fd, self._on_readable)
        if self._reader.expects and not self._serving:
            self._reader.expects = False
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def send(self, data: bytes) -> int:
        """Hand `data` to the kernel, or as much as it takes now; the rest follows. Returns the stamp after it."""
        if self._tls is not None:
            try:
                data = self._tls.seal(data)
            except ssl.SSLError:
                self._loop.call_soon(self._gone)
                return time.monotonic_ns()
        if not self.unsent:
            try:
                sent = self._put(data)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError:
                # Not from within: whoever sends is in the middle of something.
                self._loop.call_soon(self._gone)
                return time.monotonic_ns()
            stamp_ns = time.monotonic_ns()
            if sent == len(data):
                return stamp_ns
            self._loop.add_writer(self._fd, self._on_writable)
            self.unsent += memoryview(data)[sent:]
        else:
            self.unsent += data
        return time.monotonic_ns()

    def send_apart(self, apart: bool) -> None:
        """Whether each send shall be a packet of its own from now on, as far as the client keeps up."""
        sock = self._sock
        # The end of a record: what is sent later is not joined to it, also where it has to wait.
        self._put = (lambda data: sock.send(data, _APART)) if apart else sock.send

    @property
    def idle(self) -> bool:
        """Whether no response is under way."""
        return not self._serving and not self.unsent and self._slow is None

    @property
    def blocked(self) -> bool:
        """Whether the client has not read what was sent before."""
        return bool(self.unsent)

    def _on_writable(self) -> None:
        try:
            sent = self._sock.send(self.unsent)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._gone()
            return
        del self.unsent[:sent]
        if not self.unsent:
            self._loop.remove_writer(self._fd)
            on_drained, self.on_drained = self.on_drained, None
            if on_drained is not None:
                on_drained()
            if self.unsent or self.closed:
                return
            if not self._serving and not self._keep_alive:
                self._end()

    def close_after(self) -> None:
        """Close when the response under way is whole, whatever the client asked for."""
        self._keep_alive = False
        self._reader.deaf = True

    def finish(self) -> None:
        """The response is whole: on to the next request, or to the end."""
        self.on_gone = self.on_drained = None
        self._serving = False
        if self.on_active is not None:
            self.on_active(self)
        if self._keep_alive:
            self._pump()
        elif not self.unsent:
            self._end()

    # Ending.

    def _end(self) -> None:
        """Close in order: our side first, so that a client still sending gets the answer rather than a reset."""
        if self.closed:
            return
        self._reader.deaf = True
        unserved = self._take_unserved()
        try:
            if self._tls is not None:
                self._sock.send(self._tls.goodbye())
            self._sock.shutdown(socket.SHUT_WR)
            self._loop.call_later(_LINGER_S, self.close)
        except OSError:
            self.close()
        for request in unserved:
            request.problem = "unanswered"
        self._put_down(unserved)

    def _take_unserved(self) -> list[Request]:
        """The requests that wait, and that which came half."""
        unserved = [*self._queue, *([self._reader.unfinished] if self._reader.unfinished else [])]
        self._queue.clear()
        self._reader.unfinished = None
        return unserved

    def _put_down(self, unserved: list[Request]) -> None:
        if self._on_unserved is not None:
            for request in unserved:
                self._on_unserved(request, self)

    def reset(self) -> None:
        """End at once by a reset (RST); for whoever serves it is as if the client had gone."""
        if self.closed:
            return
        self.was_reset = True
        with contextlib.suppress(OSError):
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._gone()

    def close_idle(self) -> None:
        """Nothing came for too long: close in order, and put down a request that came half."""
        if self._reader.unfinished is not None:
            self._reader.unfinished.problem = "idle"
            self._gone()
        else:
            self._end()

    def _gone(self) -> None:
        """The client has closed."""
        if self.closed:
            return
        unserved = self._take_unserved()
        if self._tls is not None and self._tls.ended and not self.unsent:
            with contextlib.suppress(OSError):
                self._sock.send(self._tls.goodbye())
        on_gone, self.on_gone, self.on_drained = self.on_gone, None, None
        self.close()
        if on_gone is not None:
            on_gone()
        self._put_down(unserved)

    def close(self) -> None:
        """Close at once; says nothing to whoever serves."""
        if self.closed:
            return
        self.closed = True
        if self._handshake is not None:
            self._handshake.cancel()
            self._handshake = None
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        self._sock.close()
        self._reader.close()
        self.unsent.clear()
        self._on_closed(self)
