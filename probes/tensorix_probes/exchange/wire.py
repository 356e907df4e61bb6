"""One request's connection, underneath httpcore: each step bounded and stamped, to be ended from another thread."""

from __future__ import annotations

import errno
import socket
import ssl
import threading
import time
from collections.abc import Iterable
from queue import Empty, SimpleQueue
from typing import Any

import httpcore

from tensorix_api.errors import ErrorKind, Phase
from tensorix_probes.exchange.answer import Certificate
from tensorix_probes.exchange.certificate import certificate_of
from tensorix_probes.exchange.failures import Ended, HandshakeDone, tls_failure, words
from tensorix_probes.exchange.lookup import Address, Found, Lookup, address_of
from tensorix_probes.settings import Timeouts

__all__ = ["Wire"]

_HTTP = b"HTTP/"
_TLS_ALERT = b"\x15\x03"
_AFTER_DONE_NS = 2_000_000_000
"""After a stream's [DONE] only the end of the HTTP message is due."""


class Wire(httpcore.NetworkBackend, httpcore.NetworkStream):
    """The backend and the stream of one request. All stamps are monotonic ns, None for what was not reached.

    Raises `Ended` for whatever goes wrong. The timeouts that httpcore hands down are ignored: those of the phase and of
    the whole count from fixed points, so that a server that drips bytes gains nothing.
    """

    def __init__(self, timeouts: Timeouts, lookup: Lookup, *, only_handshake: bool = False) -> None:
        self._timeouts = timeouts
        self._lookup = lookup
        self._only_handshake = only_handshake
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._cancelled = False
        self._result: SimpleQueue[Found] = SimpleQueue()
        self._unsent = bytearray()
        self._first_bytes = b""
        self._came = 0
        """Bytes of the answer."""
        self.phase = Phase.DNS
        self.tunnelling = False
        """What is sent and read is with a proxy, and part of connecting."""
        self.done = False
        """Nothing that matters is still to come."""
        self.peer_ended = False
        """The server closed its end, or the connection broke."""
        self.certificate: Certificate | None = None
        self.began_ns = time.monotonic_ns()
        self.dns_ns: int | None = None
        self.connect_ns: int | None = None
        self.tls_ns: int | None = None
        self.sending_ns: int | None = None
        self.sent_ns: int | None = None
        self.first_byte_ns: int | None = None
        self.read_ns = self._step_ns = self.began_ns
        """When the last read came back."""

    # from another thread

    def cancel(self) -> None:
        """Let whatever waits fail at once."""
        with self._lock:
            self._cancelled = True
            if self._socket is not None:
                try:
                    # Not SSLSocket's own, which takes its TLS away under the hands of whoever is reading.
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
                except OSError:
                    pass
        self._result.put(None)

    def _hold(self, sock: socket.socket) -> socket.socket:
        """Take a socket as the one that `cancel` ends."""
        with self._lock:
            self._socket = sock
            self._check_cancelled()
        return sock

    def _check_cancelled(self) -> None:
        if self._cancelled:
            raise Ended(ErrorKind.CANCELLED, self.phase, "ended by us before it was over")

    # time

    def _step(self) -> int:
        """How long the step took that ends now."""
        before, self._step_ns = self._step_ns, time.monotonic_ns()
        return self._step_ns - before

    def _left_s(self, deadline_ns: int, text: str) -> float:
        """Seconds until the nearer of a deadline and that of the whole; raises Ended where it is over."""
        self._check_cancelled()
        left_s = (min(deadline_ns, self._whole_ns) - time.monotonic_ns()) / 1e9
        if left_s <= 0:
            raise self._late(deadline_ns, text)
        return left_s

    @property
    def _whole_ns(self) -> int:
        return self.began_ns + int(self._timeouts.total_s * 1e9)

    @property
    def _whole_text(self) -> str:
        return f"not over within {self._timeouts.total_s:g} s in all"

    def _late(self, deadline_ns: int, text: str) -> Ended:
        """What a wait that took too long means."""
        return Ended(ErrorKind.TIMEOUT, self.phase, text if deadline_ns < self._whole_ns else self._whole_text)

    def _answer_deadline(self) -> tuple[int, str]:
        """Until when the next bytes have to be there, and what it means where they are not."""
        timeouts, start_ns = self._timeouts, self.sending_ns or self._step_ns
        if self.tunnelling:
            return self._step_ns + int(timeouts.connect_s * 1e9), f"no tunnel within {timeouts.connect_s:g} s"
        if self.done:
            return self.read_ns + _AFTER_DONE_NS, "the stream's connection stays open after [DONE]"
        if self.phase in (Phase.SEND, Phase.HEADERS):
            text = f"only {self._came:,} bytes of a head" if self._came else "no answer"
            return start_ns + int(timeouts.first_byte_s * 1e9), f"{text} within {timeouts.first_byte_s:g} s"
        if self.phase is Phase.FIRST_TOKEN:
            return start_ns + int(timeouts.first_token_s * 1e9), f"no first token within {timeouts.first_token_s:g} s"
        if self.phase is Phase.STREAM:
            return self.read_ns + int(timeouts.chunk_s * 1e9), f"nothing for {timeouts.chunk_s:g} s in mid-stream"
        return self._whole_ns, self._whole_text

    # connecting: what httpcore asks of a backend

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Look the host up and connect to the first of its addresses that takes us."""
        self.began_ns = self._step_ns = time.monotonic_ns()
        self._check_cancelled()
        literal = address_of(host, port)
        addresses = [literal] if literal else self._look_up(host, port)
        self.phase = Phase.CONNECT
        deadline_ns = self._step_ns + int(self._timeouts.connect_s * 1e9)
        failure: Ended | None = None
        for tried, address in enumerate(addresses):
            now_ns = time.monotonic_ns()
            # One that does not answer leaves the others their share of the time.
            share_ns = now_ns + (deadline_ns - now_ns) // (len(addresses) - tried)
            try:
                self._connect(address, share_ns, f"{host} port {port}")
                self.connect_ns = self._step()
                return self
            except Ended as ended:
                self.close()
                if ended.kind is ErrorKind.CANCELLED:
                    raise
                failure = ended
        raise failure or Ended(ErrorKind.DNS, Phase.DNS, f"{host} has no address")

    def _look_up(self, host: str, port: int) -> list[Address]:
        text = f"{host} was not looked up within {self._timeouts.dns_s:g} s"
        deadline_ns = self.began_ns + int(self._timeouts.dns_s * 1e9)
        self._lookup.begin(host, port, self._result)
        try:
            found = self._result.get(timeout=self._left_s(deadline_ns, text))
        except Empty:
            raise self._late(deadline_ns, text) from None
        finally:
            self._lookup.leave(host, port, self._result)
        self._check_cancelled()
        if not isinstance(found, list):
            reason = found.strerror if isinstance(found, OSError) else "no valid name of a host"
            raise Ended(ErrorKind.DNS, Phase.DNS, f"{host} cannot be looked up: {reason}")
        self.dns_ns = self._step()
        return found

    def _connect(self, address: Address, deadline_ns: int, where: str) -> None:
        family, place = address
        text = f"{where} did not take the connection in time"
        try:
            sock = self._hold(socket.socket(family, socket.SOCK_STREAM))
            sock.settimeout(self._left_s(deadline_ns, text))
            sock.connect(place)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            self._check_cancelled()
            if isinstance(error, TimeoutError) and error.errno is None:
                raise self._late(deadline_ns, text) from None
            if error.errno == errno.ECONNREFUSED:
                raise Ended(ErrorKind.CONNECTION_REFUSED, self.phase, f"{where} refused the connection") from None
            raise Ended(ErrorKind.CONNECTION_FAILED, self.phase, f"no connection to {where}: {words(error)}") from None
        self._check_cancelled()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """Shake hands; the chain, the name and the dates are verified."""
        host = server_hostname or ""
        if self.tunnelling:
            self.connect_ns = (self.connect_ns or 0) + self._step()
        self.phase, self.tunnelling = Phase.TLS, False
        text = f"no TLS handshake with {host} within {self._timeouts.tls_s:g} s"
        deadline_ns = self._step_ns + int(self._timeouts.tls_s * 1e9)
        try:
            with self._lock:
                self._check_cancelled()
                assert self._socket is not None
                tls = ssl_context.wrap_socket(self._socket, server_hostname=host, do_handshake_on_connect=False)
                self._socket = tls
            tls.settimeout(self._left_s(deadline_ns, text))
            tls.do_handshake()
        except OSError as error:
            self._check_cancelled()
            if isinstance(error, TimeoutError) and error.errno is None:
                raise self._late(deadline_ns, text) from None
            raise tls_failure(error, host) from None
        self.tls_ns = self._step()
        self.certificate = certificate_of(tls)
        return self

    # sending and reading: what httpcore asks of a stream

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Keep what is to be sent: head and body go out together, when the answer is asked for."""
        self._unsent += buffer

    def _send(self) -> None:
        data = memoryview(bytes(self._unsent))
        self._unsent.clear()
        if not self.tunnelling:
            if self._only_handshake:
                raise HandshakeDone
            self.phase = Phase.SEND
            self.sending_ns = time.monotonic_ns()
        deadline_ns, _ = self._answer_deadline()
        text = f"the request was not taken within {self._timeouts.first_byte_s:g} s"
        assert self._socket is not None
        try:
            while data:
                self._socket.settimeout(self._left_s(deadline_ns, text))
                data = data[self._socket.send(data) :]
        except TimeoutError:
            self._check_cancelled()
            raise self._late(deadline_ns, text) from None
        except OSError:
            # The server went away, perhaps with an answer that is still to be read: reading tells.
            self._check_cancelled()
        if not self.tunnelling:
            self.sent_ns = time.monotonic_ns()
            self.phase = Phase.HEADERS

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """The next bytes of the answer, nothing at its end; sends what is to be sent before."""
        if self._unsent:
            self._send()
        deadline_ns, text = self._answer_deadline()
        sock = self._socket
        if sock is None:
            return b""
        try:
            sock.settimeout(self._left_s(deadline_ns, text))
            data = sock.recv(max_bytes)
        except TimeoutError as error:
            self._check_cancelled()
            if error.errno is None:
                raise self._late(deadline_ns, text) from None
            raise self._broke(error) from None
        except OSError as error:
            self._check_cancelled()
            raise self._broke(error) from None
        self._check_cancelled()
        self._took(data)
        return data

    def _took(self, data: bytes) -> None:
        if not data:
            self.peer_ended = True
            return
        self.read_ns = time.monotonic_ns()
        if self.tunnelling:
            return
        self.first_byte_ns = self.first_byte_ns or self.read_ns
        self._came += len(data)
        if len(self._first_bytes) < len(_HTTP):
            self._first_bytes += data[: len(_HTTP)]
            if not (self._first_bytes.startswith(_HTTP) or _HTTP.startswith(self._first_bytes)):
                # The parser would wait for a line's end that may never come.
                hint = ", but TLS: is it https?" if self._first_bytes.startswith(_TLS_ALERT) else ""
                raise Ended(ErrorKind.MALFORMED, Phase.HEADERS, f"the answer is not HTTP{hint}")

    def _broke(self, error: OSError) -> Ended:
        self.peer_ended = True
        return self.ended(f"the connection broke: {words(error)}")

    def ended(self, text: str) -> Ended:
        """What it means that the connection is over before the answer is."""
        if self.tunnelling:
            return Ended(ErrorKind.CONNECTION_FAILED, Phase.CONNECT, text)
        nothing_yet = self.phase is Phase.HEADERS and self.first_byte_ns is None
        return Ended(ErrorKind.CONNECTION_FAILED if nothing_yet else ErrorKind.CUT, self.phase, text)

    def close(self) -> None:
        """Close at once; may be called again."""
        with self._lock:
            if self._socket is not None:
                self._socket.close()
                self._socket = None

    def get_extra_info(self, info: str) -> Any:
        """Nothing: HTTP/2 is not negotiated, and no connection is used again."""
        return None
