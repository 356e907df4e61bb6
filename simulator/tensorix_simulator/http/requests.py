"""Bytes in, HTTP/1.1 requests out, each with the stamps of the reads that brought it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import unquote

import httptools

from tensorix_simulator.http.stamps import unix_less_monotonic_ns

__all__ = ["Request", "RequestReader"]

_MOST_HEAD_BYTES = 65_536
# What comes before the path in a target of absolute form, which a server has to accept too (RFC 9112, 3.2.2).
_AUTHORITY = re.compile(rb"https?://[^/?#]*", re.IGNORECASE)


@dataclass(slots=True)
class Request:
    """One request, as far as it has come."""

    connection: int
    arrival_ns: int
    """Of its first bytes: the kernel's stamp, or the read's where the kernel gives none."""
    arrival_read_ns: int
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
    bytes_per_s: int = 0
    """How fast its body is read; 0: as it comes."""
    slow: str | None = None
    """Why it is read slowly."""
    problem: str | None = None
    """`too_large` or `malformed`: to be refused without a look at what it asks. `idle`: its rest did not come."""

    @property
    def path(self) -> str:
        """The path, decoded, without the query."""
        path = self.target.partition(b"?")[0]
        if (authority := _AUTHORITY.match(path)) is not None:
            path = path[authority.end() :] or b"/"
        return unquote(path.decode("latin-1"))

    @property
    def query(self) -> str:
        """What follows the question mark."""
        return self.target.partition(b"?")[2].decode("latin-1")


class RequestReader:
    """Reads one connection's requests. After one that ends the connection it is deaf to what follows."""

    def __init__(
        self,
        connection: int,
        max_body_bytes: Callable[[], int],
        on_head: Callable[[Request], None] | None = None,
    ) -> None:
        """`on_head` is called with each request whose head is whole; it may set `bytes_per_s`."""
        self._connection = connection
        self._max_body_bytes = max_body_bytes
        self._on_head = on_head
        self._parser = httptools.HttpRequestParser(self)
        self._whole: list[Request] = []
        self._in_head = False
        self._head_bytes = 0
        self._stamp_ns = 0
        self._kernel_ns: int | None = None
        self.unfinished: Request | None = None
        """The request that is not whole yet."""
        self.expects = False
        """Whether the unfinished request's client waits to be told to send the body."""
        self.deaf = False
        self.slow: Request | None = None
        """The last request that is to be read slowly, also when it is whole."""

    def feed(self, data: bytes, stamp_ns: int, kernel_ns: int | None) -> list[Request]:
        """Take what one read brought; returns the requests that are whole now, or to be refused as they are."""
        if self.deaf:
            return []
        self._stamp_ns, self._kernel_ns = stamp_ns, kernel_ns
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # No other protocol is spoken: answered as if none had been offered, and closed.
            self.deaf = True
            if self._whole:
                self._whole[-1].keep_alive = False
        except httptools.HttpParserError:
            self._refuse(self.unfinished or self._begin(), "malformed")
        if self._in_head and self.unfinished is not None:
            # The parser keeps a header's value until it is whole, however long it grows.
            self._head_bytes += len(data)
            if self._head_bytes > _MOST_HEAD_BYTES:
                self._refuse(self.unfinished, "malformed")
        whole, self._whole = self._whole, []
        return whole

    def close(self) -> None:
        """Let go of the parser: the two hold each other, and the collector of cycles sleeps while streams run."""
        self.deaf = True
        self.unfinished = self.slow = self._on_head = None
        del self._parser

    def _begin(self) -> Request:
        read_ns, kernel_ns = self._stamp_ns, self._kernel_ns
        # It came before it was read, whatever the two clocks are off by.
        arrival_ns = read_ns if kernel_ns is None else min(kernel_ns, read_ns)
        return Request(self._connection, arrival_ns, read_ns, kernel_ns, arrival_ns + unix_less_monotonic_ns())

    def _refuse(self, request: Request, problem: str) -> None:
        request.problem, request.keep_alive = problem, False
        self.unfinished, self.expects, self.deaf = None, False, True
        self._whole.append(request)

    # What httptools calls.

    def on_message_begin(self) -> None:
        """A request's first bytes."""
        if not self.deaf:
            self.unfinished = self._begin()
            self._in_head, self._head_bytes = True, 0

    def on_url(self, url: bytes) -> None:
        """A part of the target."""
        if self.unfinished is not None:
            self.unfinished.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        if self.unfinished is not None:
            self.unfinished.headers[name.decode("latin-1").lower()] = value.decode("latin-1").strip()

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._in_head = False
        request = self.unfinished
        if request is None:
            return
        request.method = self._parser.get_method().decode("latin-1")
        request.http11 = self._parser.get_http_version() == "1.1"
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._max_body_bytes():
            self._refuse(request, "too_large")
        else:
            self.expects = request.http11 and request.headers.get("expect", "").lower() == "100-continue"
            if self._on_head is not None:
                self._on_head(request)
                if request.bytes_per_s:
                    self.slow = request

    def on_body(self, data: bytes) -> None:
        """A part of the body."""
        request = self.unfinished
        if request is None:
            return
        request.body += data
        if len(request.body) > self._max_body_bytes():
            self._refuse(request, "too_large")

    def on_message_complete(self) -> None:
        """The request is whole."""
        request, self.unfinished, self.expects = self.unfinished, None, False
        if request is None:
            return
        request.body_ns = self._stamp_ns
        request.keep_alive = bool(self._parser.should_keep_alive())
        self.deaf = not request.keep_alive
        self._whole.append(request)
