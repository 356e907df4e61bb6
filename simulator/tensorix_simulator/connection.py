"""One HTTP/1.1 connection: requests read by httptools, stamped, and handed over one at a time.

The socket is used directly rather than through an asyncio transport. A transport on uvloop collects what is written
and sends it at the end of the loop's round, so a stamp taken "after the send" would come before it; and only
`recvmsg` tells when the kernel had received what is read.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import unquote

import httptools

__all__ = ["Connection", "Request", "ask_for_stamps"]

# Linux's number for SO_TIMESTAMPNS (and of the message that carries it); Python 3.11 does not name it.
_SO_TIMESTAMPNS = 35
_READ = 65_536
_MOST_HEAD_BYTES = 65_536
_MOST_QUEUED = 64
_LINGER_S = 1.0


def ask_for_stamps(listener: socket.socket) -> bool:
    """Have the kernel stamp what arrives; connections inherit it from their listener. False where it does not."""
    if sys.platform != "linux":
        return False
    try:
        listener.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    except OSError:
        return False
    return True


def _kernel_stamp(ancillary: list[tuple[int, int, bytes]]) -> int | None:
    """The kernel's stamp, put on the monotonic clock; None where there is none."""
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS and len(data) == 16:
            seconds, nanoseconds = struct.unpack("qq", data)
            return int(seconds * 1_000_000_000 + nanoseconds - _unix_less_monotonic_ns())
    return None


def _unix_less_monotonic_ns() -> int:
    """How far the two clocks are apart, both read at one instant as nearly as can be."""
    best, offset = 1 << 62, 0
    for _ in range(4):
        before, real, after = time.monotonic_ns(), time.time_ns(), time.monotonic_ns()
        if after - before < best:
            best, offset = after - before, real - (before + after) // 2
        if best < 1_000:
            break
    return offset


@dataclass(slots=True)
class Request:
    """One request, as far as it has come."""

    connection: int
    arrival_ns: int
    arrival_kernel_ns: int | None
    arrival_unix_ns: int
    method: str = ""
    target: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    """Names in lower case; of a header that came twice, the last."""
    body: bytearray = field(default_factory=bytearray)
    body_ns: int | None = None
    http11: bool = True
    keep_alive: bool = True
    problem: str | None = None
    """`too_large` or `malformed`: to be refused without a look at what it asks."""

    @property
    def path(self) -> str:
        """The path, decoded, without the query."""
        return unquote(self.target.split(b"?", 1)[0].decode("latin-1"))

    @property
    def query(self) -> str:
        """What follows the question mark."""
        return self.target.partition(b"?")[2].decode("latin-1")


class Connection:
    """Reads requests and hands each to `serve` when the one before it is answered.

    Whoever serves calls `send` as often as it likes and `finish` once. `on_gone` is called where the client closes
    before that (a half-closed connection counts as closed).
    """

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
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._fd = sock.fileno()
        self.number = number
        self._serve = serve
        self._max_body_bytes = max_body_bytes
        self._on_closed = on_closed
        self._on_unserved = on_unserved
        self._parser = httptools.HttpRequestParser(self)
        self._reading: Request | None = None
        self._queue: deque[Request] = deque()
        self._in_head = False
        self._head_bytes = 0
        self._stamp_ns = 0
        self._kernel_ns: int | None = None
        self._serving = False
        self._pumping = False
        self._keep_alive = True
        self._expects = False
        self._deaf = False
        self._unsent = bytearray()
        self.closed = False
        self.on_gone: Callable[[], None] | None = None
        loop.add_reader(self._fd, self._on_readable)

    # Reading.

    def _on_readable(self) -> None:
        try:
            data, ancillary, _, _ = self._sock.recvmsg(_READ, 64)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._gone()
            return
        self._stamp_ns = time.monotonic_ns()
        if not data:
            self._gone()
            return
        if self._deaf:
            return
        self._kernel_ns = _kernel_stamp(ancillary)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # No other protocol is spoken: answered as if nothing had been asked, and closed.
            self._stop_reading()
            if self._queue:
                self._queue[-1].keep_alive = False
        except httptools.HttpParserError:
            self._refuse(self._reading or self._begin(), "malformed")
        if self._in_head and self._reading is not None:
            # The parser keeps a header's value until it is whole, however long it grows.
            self._head_bytes += len(data)
            if self._head_bytes > _MOST_HEAD_BYTES:
                self._refuse(self._reading, "malformed")
        self._pump()

    def _begin(self) -> Request:
        unix_ns = self._stamp_ns + _unix_less_monotonic_ns()
        return Request(self.number, self._stamp_ns, self._kernel_ns, unix_ns)

    def _stop_reading(self) -> None:
        """Hear no more requests, but notice when the client goes."""
        self._deaf = True

    # What httptools calls.

    def on_message_begin(self) -> None:
        """A request's first bytes."""
        if not self._deaf:
            self._reading = self._begin()
            self._in_head, self._head_bytes = True, 0

    def on_url(self, url: bytes) -> None:
        """A part of the target."""
        if self._reading is not None:
            self._reading.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        if self._reading is not None:
            self._reading.headers[name.decode("latin-1").lower()] = value.decode("latin-1").strip()

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._in_head = False
        request = self._reading
        if request is None:
            return
        request.method = self._parser.get_method().decode("latin-1")
        request.http11 = self._parser.get_http_version() == "1.1"
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._max_body_bytes():
            self._refuse(request, "too_large")
        elif request.http11 and request.headers.get("expect", "").lower() == "100-continue":
            self._expects = True
            self._continue()

    def _continue(self) -> None:
        """Ask for the body, once the responses before it are out."""
        if self._expects and not self._serving and not self._queue:
            self._expects = False
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _refuse(self, request: Request, problem: str) -> None:
        request.problem, request.keep_alive = problem, False
        self._reading = None
        self._queue.append(request)
        self._stop_reading()

    def on_body(self, data: bytes) -> None:
        """A part of the body."""
        request = self._reading
        if request is None:
            return
        request.body += data
        if len(request.body) > self._max_body_bytes():
            self._refuse(request, "too_large")

    def on_message_complete(self) -> None:
        """The request is whole."""
        request, self._reading, self._expects = self._reading, None, False
        if request is None or self._deaf:
            return
        request.body_ns = self._stamp_ns
        request.keep_alive = bool(self._parser.should_keep_alive())
        self._queue.append(request)
        if not request.keep_alive:
            self._stop_reading()
        elif len(self._queue) >= _MOST_QUEUED:
            self._loop.remove_reader(self._fd)

    # Serving.

    def _pump(self) -> None:
        """Serve what waits. A loop rather than a recursion: a pipeline of short answers may be long."""
        if self._pumping:
            return
        self._pumping = True
        try:
            while self._queue and not self._serving and not self.closed:
                if len(self._queue) == _MOST_QUEUED:
                    self._loop.add_reader(self._fd, self._on_readable)
                request = self._queue.popleft()
                self._serving, self._keep_alive = True, request.keep_alive
                self._serve(request, self)
        finally:
            self._pumping = False
        if not self.closed:
            self._continue()

    def send(self, data: bytes) -> int:
        """Hand `data` to the kernel, or as much as it takes now; the rest follows. Returns the stamp after it."""
        if not self._unsent:
            try:
                sent = self._sock.send(data)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError:
                # The read side tells that the client is gone; until then this goes nowhere.
                self._loop.call_soon(self._gone)
                return time.monotonic_ns()
            stamp = time.monotonic_ns()
            if sent == len(data):
                return stamp
            data = data[sent:]
            self._loop.add_writer(self._fd, self._on_writable)
        self._unsent += data
        return time.monotonic_ns()

    @property
    def blocked(self) -> bool:
        """Whether the client has not read what was sent before."""
        return bool(self._unsent)

    def _on_writable(self) -> None:
        try:
            sent = self._sock.send(self._unsent)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._gone()
            return
        del self._unsent[:sent]
        if not self._unsent:
            self._loop.remove_writer(self._fd)
            if not self._serving and not self._keep_alive:
                self._end()

    def close_after(self) -> None:
        """Close when the response under way is whole, whatever the client asked for."""
        self._keep_alive = False
        self._stop_reading()

    def finish(self) -> None:
        """The response is whole: on to the next request, or to the end."""
        self.on_gone = None
        self._serving = False
        if self._keep_alive:
            self._pump()
        elif not self._unsent:
            self._end()

    # Ending.

    def _end(self) -> None:
        """Close in order: our side first, so that a client still sending gets the answer rather than a reset."""
        if self.closed:
            return
        self._stop_reading()
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.close()
            return
        self._loop.call_later(_LINGER_S, self.close)

    def _gone(self) -> None:
        """The client has closed."""
        on_gone, self.on_gone = self.on_gone, None
        unserved = [*self._queue, *([self._reading] if self._reading is not None else [])]
        self._queue.clear()
        self._reading = None
        was_closed = self.closed
        self.close()
        if on_gone is not None:
            on_gone()
        if self._on_unserved is not None and not was_closed:
            for request in unserved:
                self._on_unserved(request, self)

    def close(self) -> None:
        """Close at once; says nothing to whoever serves."""
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        self._sock.close()
        # Broken by hand: the collector sleeps while streams run.
        del self._parser
        self._unsent.clear()
        self._on_closed(self)
