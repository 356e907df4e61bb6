"""One TCP connection, in the clear or under TLS, read by a persistent watcher and stamped by the kernel.

The watcher's callback does one non-blocking receive, takes the stamps and hands the bytes on, all inside the event
loop: no greenlet wakes for a chunk. TLS goes through memory BIOs over the same receive, so the stamps stay those of the
kernel. Under TLS a read's stamp is that of the record's last bytes, which is when it became readable.
"""

from __future__ import annotations

import _socket
import errno
import os
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import gevent
from gevent.hub import get_hub
from gevent.socket import getaddrinfo as resolve
from gevent.socket import wait as wait_for

from tensorix_api.errors import ErrorKind, Phase
from tensorix_loadtests._clock import ANCILLARY_BYTES, SO_TIMESTAMPNS, KernelClock, kernel_stamp_ns
from tensorix_loadtests._failure import Failure, tls_failure
from tensorix_loadtests._target import Target

__all__ = ["ConnectStamps", "Connection", "Receiver"]

_READ, _WRITE = 1, 2
_READ_BYTES = 65536
# One buffer for all connections: it is read out before the event loop goes on.
_buffer = bytearray(_READ_BYTES)
_view = memoryview(_buffer)
# A stamp outside this range of the clock was taken while the real-time clock was being set.
_PLAUSIBLE_NS = 2_000_000


class Receiver(Protocol):
    """What a connection delivers to. Stamps are monotonic ns."""

    def receive(self, data: Any, stamp_ns: int, now_ns: int) -> None:
        """Bytes (any buffer; valid during the call) that the kernel had at `stamp_ns` and that were read at `now_ns`.

        The two are equal where the kernel gave no stamp.
        """

    def ended(self, error: OSError | None, now_ns: int) -> None:
        """The peer closed (None), or the connection broke."""


@dataclass(slots=True)
class ConnectStamps:
    """When each step of opening was through, monotonic ns; None for a step that was not reached, or TLS without it."""

    start_ns: int | None = None
    dns_done_ns: int | None = None
    tcp_done_ns: int | None = None
    tls_done_ns: int | None = None


def _is_address(host: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
            return True
        except OSError:
            continue
    return False


def _reason(error: OSError) -> str:
    return error.strerror or os.strerror(error.errno) if error.errno else str(error) or type(error).__name__


class Connection:
    """A connection to a target. `open` it, set `receiver`, `send`; `usable` says whether it can carry one more request.

    A receiver is called inside the event loop and must not block or raise.
    """

    __slots__ = (
        "_clock",
        "_incoming",
        "_outgoing",
        "_sock",
        "_target",
        "_tls",
        "_watcher",
        "receiver",
        "stamps",
        "usable",
    )

    def __init__(self, target: Target, clock: KernelClock) -> None:
        self._target = target
        self._clock = clock
        self._sock: _socket.socket | None = None
        self._watcher: Any = None
        self._tls: ssl.SSLObject | None = None
        self._incoming: ssl.MemoryBIO | None = None
        self._outgoing: ssl.MemoryBIO | None = None
        self.receiver: Receiver | None = None
        self.stamps = ConnectStamps()
        self.usable = False

    # opening

    def open(self, deadline_ns: int) -> None:
        """Resolve, connect (through the proxy, if any) and shake hands. Raises Failure; closes itself then.

        `stamps` holds what was reached, also after a failure.
        """
        stamps, target = self.stamps, self._target
        stamps.start_ns = time.monotonic_ns()
        host, port = (target.proxy.host, target.proxy.port) if target.proxy else (target.host, target.port)
        try:
            addresses = self._resolve(host, port, deadline_ns)
            stamps.dns_done_ns = time.monotonic_ns()
            self._connect(addresses, host, port, deadline_ns)
            stamps.tcp_done_ns = time.monotonic_ns()
            if target.tls:
                if target.proxy:
                    self._tunnel(deadline_ns)
                self._shake_hands(target.tls, deadline_ns)
                stamps.tls_done_ns = time.monotonic_ns()
        except BaseException:
            self.close()
            raise
        assert self._sock is not None
        self._watcher = get_hub().loop.io(self._sock.fileno(), _READ)
        self._watcher.start(self._readable)
        self.usable = True

    def _resolve(self, host: str, port: int, deadline_ns: int) -> list[Any]:
        if _is_address(host):
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            return [(family, (host, port))]
        late = Failure(ErrorKind.TIMEOUT, Phase.DNS, f"looking up {host} took too long")
        try:
            with gevent.Timeout(max(0.001, (deadline_ns - time.monotonic_ns()) / 1e9), late):
                found = resolve(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "no valid host name"
            raise Failure(ErrorKind.DNS, Phase.DNS, f"cannot look up {host}: {reason}") from None
        return [(family, address) for family, _kind, _protocol, _name, address in found]

    def _connect(self, addresses: list[Any], host: str, port: int, deadline_ns: int) -> None:
        last: Failure | None = None
        for tried, (family, address) in enumerate(addresses):
            # An address that does not answer leaves the next ones their share of the time.
            now = time.monotonic_ns()
            share = now + (deadline_ns - now) // (len(addresses) - tried)
            try:
                self._connect_one(family, address, f"{host} port {port}", share)
                return
            except Failure as failure:
                self.close()
                last = failure
        raise last or Failure(ErrorKind.DNS, Phase.DNS, f"{host} has no address")

    def _connect_one(self, family: int, address: Any, where: str, deadline_ns: int) -> None:
        try:
            sock = self._sock = _socket.socket(family, socket.SOCK_STREAM)
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if SO_TIMESTAMPNS is not None:
                sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            code = sock.connect_ex(address)
            if code in (errno.EINPROGRESS, errno.EWOULDBLOCK):
                self._wait(_WRITE, deadline_ns, Phase.CONNECT)
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        except OSError as error:
            code = error.errno or errno.EIO
        if code == errno.ECONNREFUSED:
            raise Failure(ErrorKind.CONNECTION_REFUSED, Phase.CONNECT, f"{where} refused the connection")
        if code:
            raise Failure(ErrorKind.CONNECTION_FAILED, Phase.CONNECT, f"cannot connect to {where}: {os.strerror(code)}")

    def _tunnel(self, deadline_ns: int) -> None:
        """Ask the proxy for a tunnel (RFC 9110, CONNECT)."""
        target, proxy = self._target, self._target.proxy
        assert proxy is not None
        host = f"[{target.host}]" if ":" in target.host else target.host
        lines = [f"CONNECT {host}:{target.port} HTTP/1.1", f"Host: {host}:{target.port}"]
        head = "\r\n".join(lines) + "\r\n"
        # A memoryview shows nothing in a traceback's locals.
        self._write(
            memoryview(
                (
                    head
                    + (f"Proxy-Authorization: {proxy.authorization.reveal()}\r\n" if proxy.authorization else "")
                    + "\r\n"
                ).encode()
            ),
            deadline_ns,
            Phase.CONNECT,
        )
        answer = b""
        while b"\r\n\r\n" not in answer:
            # Byte by byte towards the end would be purer; a proxy sends nothing after its answer until we speak.
            piece = self._read_some(deadline_ns, Phase.CONNECT)
            answer += piece
            if not piece or len(answer) > _READ_BYTES:
                raise Failure(ErrorKind.CONNECTION_FAILED, Phase.CONNECT, "the proxy closed or sent no HTTP answer")
        status = answer.split(b"\r\n", 1)[0].split(b" ")
        if len(status) < 2 or not status[0].startswith(b"HTTP/1.") or not status[1].startswith(b"2"):
            said = b" ".join(status[1:])[:80].decode("latin-1")
            raise Failure(ErrorKind.CONNECTION_FAILED, Phase.CONNECT, f"the proxy refused the tunnel: {said}")

    def _shake_hands(self, context: ssl.SSLContext, deadline_ns: int) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=self._target.host)
        host = self._target.host
        try:
            while True:
                try:
                    tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    self._flush(deadline_ns, Phase.TLS)
                    piece = self._read_some(deadline_ns, Phase.TLS)
                    if not piece:
                        raise tls_failure(OSError("closed by the server"), host) from None
                    self._incoming.write(piece)
            self._flush(deadline_ns, Phase.TLS)
        except OSError as error:  # SSLError is one
            try:
                self._flush(deadline_ns, Phase.TLS)  # the alert that tells the server why
            except (OSError, Failure):
                pass
            raise tls_failure(error, host) from None

    # blocking steps: the calling greenlet waits

    def _wait(self, events: int, deadline_ns: int, phase: Phase) -> None:
        assert self._sock is not None
        late = Failure(ErrorKind.TIMEOUT, phase, f"timed out ({phase})")
        left_s = (deadline_ns - time.monotonic_ns()) / 1e9
        if left_s <= 0:
            raise late
        watcher = get_hub().loop.io(self._sock.fileno(), events)
        try:
            wait_for(watcher, timeout=left_s, timeout_exc=late)
        finally:
            watcher.close()

    def _read_some(self, deadline_ns: int, phase: Phase) -> bytes:
        assert self._sock is not None
        while True:
            try:
                return self._sock.recv(_READ_BYTES)
            except BlockingIOError:
                self._wait(_READ, deadline_ns, phase)
            except OSError as error:
                if phase is Phase.TLS:
                    raise
                raise Failure(ErrorKind.CONNECTION_FAILED, phase, f"the connection broke: {_reason(error)}") from None

    def _write(self, data: memoryview, deadline_ns: int, phase: Phase) -> None:
        sent = 0
        while sent < len(data):
            if self._sock is None:
                raise OSError(errno.ECONNRESET, "the connection was closed")
            try:
                sent += self._sock.send(data[sent:])
            except BlockingIOError:
                self._wait(_WRITE, deadline_ns, phase)

    def _flush(self, deadline_ns: int, phase: Phase) -> None:
        assert self._outgoing is not None
        if self._outgoing.pending:
            self._write(memoryview(self._outgoing.read()), deadline_ns, phase)

    def send(self, data: memoryview, deadline_ns: int, started: Callable[[int], None]) -> int:
        """Send a request; `started` gets the stamp just before its first byte, the stamp after its last is returned.

        Raises OSError where the connection broke, Failure on a timeout.
        """
        if self._tls is not None:
            assert self._outgoing is not None
            self._tls.write(data)
            data = memoryview(self._outgoing.read())
        started(time.monotonic_ns())
        self._write(data, deadline_ns, Phase.SEND)
        return time.monotonic_ns()

    # the event loop's side

    def _readable(self) -> None:
        sock = self._sock
        if sock is None:
            return
        try:
            count, ancillary, _flags, _address = sock.recvmsg_into((_buffer,), ANCILLARY_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._broken(error)
            return
        now = time.monotonic_ns()
        if not count:
            self._broken(None)
            return
        stamp = kernel_stamp_ns(ancillary) - self._clock.offset_ns if ancillary else now
        if not -_PLAUSIBLE_NS < now - stamp < 60_000_000_000:
            self._clock.measure()
            stamp = now
        elif stamp > now:
            stamp = now
        data: Any = _view[:count]
        over, why = False, None
        if self._tls is not None:
            data, over, why = self._decrypt(data)
        if data:
            receiver = self.receiver
            if receiver is None:
                # Nobody asked: a server's parting words before it closes an idle connection.
                self.close()
                return
            receiver.receive(data, stamp, now)
        if over:
            self._broken(why)

    def _decrypt(self, data: Any) -> tuple[bytes, bool, OSError | None]:
        """The plaintext of what came (perhaps none yet), whether the connection is over with it, and why."""
        tls, incoming, outgoing = self._tls, self._incoming, self._outgoing
        assert tls is not None
        assert incoming is not None
        assert outgoing is not None
        incoming.write(data)
        pieces: list[bytes] = []
        ended = False
        broken: OSError | None = None
        try:
            while incoming.pending or tls.pending():
                piece = tls.read(_READ_BYTES)
                if not piece:
                    ended = True
                    break
                pieces.append(piece)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            ended = True
        except ssl.SSLError as error:
            ended, broken = True, error
        if outgoing.pending and self._sock is not None:
            try:
                # A key update's answer: a few bytes, which fit any socket buffer that is not stuck.
                self._sock.send(outgoing.read())
            except OSError as error:
                ended, broken = True, error
        return b"".join(pieces), ended, broken

    def _broken(self, error: OSError | None) -> None:
        receiver = self.receiver
        self.close()
        if receiver is not None:
            receiver.ended(error, time.monotonic_ns())

    def close(self) -> None:
        """Close at once; may be called at any time and again."""
        self.usable = False
        self.receiver = None
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher.close()
            self._watcher = None
        if self._sock is not None:
            self._sock.close()
            self._sock = None
        self._tls = None
