"""Listening sockets, and the connections that come in by them."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from tensorix_api.errors import SettingsError
from tensorix_simulator.http.connection import Connection
from tensorix_simulator.http.idleness import Idleness
from tensorix_simulator.http.requests import Request
from tensorix_simulator.http.stamps import ask_for_stamps

__all__ = ["Listener", "listen"]

_BACKLOG = 4096
_ACCEPTS_AT_ONCE = 64
_SHORT_OF_FILES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Listener:
    """Accepts connections and keeps the set of those that are open."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        serve_request: Callable[[Request, Connection], None],
        *,
        max_body_bytes: Callable[[], int],
        unserved: Callable[[Request, Connection], None] | None = None,
        tls: ssl.SSLContext | None = None,
        on_head: Callable[[Request], None] | None = None,
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._serve = serve_request
        self._max_body_bytes = max_body_bytes
        self._unserved = unserved
        self._tls = tls
        self._on_head = on_head
        self._idleness = Idleness(loop)
        self._count = 0
        self._open: set[Connection] = set()
        self._closing = False
        self._refusing = False
        self._address: tuple[int, Any] = sock.family, sock.getsockname()
        loop.add_reader(sock.fileno(), self._accept)

    def _accept(self) -> None:
        for _ in range(_ACCEPTS_AT_ONCE):
            try:
                sock, _ = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _SHORT_OF_FILES:
                    # Those waiting stay in the backlog; trying at once again would only spin.
                    self._loop.remove_reader(self._sock.fileno())
                    self._loop.call_later(0.1, self._accept_again)
                return
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._count += 1
            connection = Connection(
                self._loop,
                sock,
                self._count,
                self._serve,
                max_body_bytes=self._max_body_bytes,
                on_closed=self._closed,
                on_unserved=self._unserved,
                tls=self._tls,
                on_head=self._on_head,
            )
            self._open.add(connection)
            self._idleness.watch(connection)

    def _closed(self, connection: Connection) -> None:
        self._open.discard(connection)
        self._idleness.forget(connection)

    def close_idle_after(self, idle_s: float | None) -> None:
        """From now on close connections on which nothing came for so long; None: none."""
        self._idleness.change(idle_s, self._open)

    def _accept_again(self) -> None:
        if not self._closing and not self._refusing:
            self._loop.add_reader(self._sock.fileno(), self._accept)

    def refuse(self) -> None:
        """From now on the kernel refuses new connections; who is through its handshake is still let in."""
        if self._closing or self._refusing:
            return
        self._refusing = True
        for _ in range(_BACKLOG // _ACCEPTS_AT_ONCE):
            self._accept()
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()
        with suppress(OSError):
            # Bound, so that the port stays ours, and not listening.
            self._sock = _bound(*self._address)

    def admit(self) -> None:
        """Accept new connections again."""
        if not self._refusing or self._closing:
            return
        try:
            if self._sock.fileno() < 0:
                self._sock = _bound(*self._address)
            self._sock.listen(_BACKLOG)
        except OSError:
            # Another program has taken the port meanwhile, perhaps only for a moment.
            self._loop.call_later(0.1, self.admit)
            return
        self._refusing = False
        self._sock.setblocking(False)
        self._accept_again()

    def reset_connections(self) -> None:
        """Reset what is open."""
        for connection in tuple(self._open):
            connection.reset()

    def stop_accepting(self) -> None:
        """Refuse new connections."""
        self._closing = True
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock.fileno())
        self._sock.close()

    def close_connections(self) -> None:
        """Close what is open."""
        self._idleness.change(None, ())
        for connection in tuple(self._open):
            connection.close()


def _bound(family: int, address: Any) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        ask_for_stamps(sock)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises SettingsError where the address cannot be had."""
    if not 0 <= port <= 65_535:
        # The resolver would take it modulo 65,536.
        raise SettingsError(f"port {port} is no port: give 1 to 65535, or 0 for any that is free")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        sock = _bound(family, address)
        try:
            sock.listen(_BACKLOG)
        except OSError:
            sock.close()
            raise
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise SettingsError(f"port {port} on {host} is in use: give another, or 0 for any that is free") from None
        raise SettingsError(f"cannot listen on {host} port {port}: {error.strerror or error}") from None
    sock.setblocking(False)
    return sock
