"""TLS for a connection that owns its socket: encrypted bytes in and out, whoever moves them."""

from __future__ import annotations

import ssl

__all__ = ["TlsSession"]

_READ = 65_536


class TlsSession:
    """One connection's side of TLS, as a server.

    Nothing here touches a socket, so reads keep the kernel's stamps and sends are stamped after the kernel has taken
    them. What TLS has to say itself (its part of the handshake, alerts) goes out with the next `seal`.
    """

    __slots__ = ("_incoming", "_outgoing", "_tls", "ended", "established")

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self.established = False
        """Whether the handshake is through."""
        self.ended = False
        """Whether the client has said that nothing more will come, or what came was no TLS."""

    def open(self, data: bytes) -> bytes:
        """The plain bytes of what came, which may be none.

        Raises ssl.SSLError where it is not TLS, or an alert with which the client gives up; the alert for the client
        is then among what `seal` gives.
        """
        if self.ended:
            return b""
        self._incoming.write(data)
        plain = b""
        try:
            if not self.established:
                self._tls.do_handshake()
                self.established = True
            while piece := self._tls.read(_READ):
                plain = plain + piece if plain else piece
            self.ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.ended = True
        except ssl.SSLError:
            self.ended = True
            raise
        return plain

    def seal(self, plain: bytes) -> bytes:
        """The bytes to send for these, after what TLS has to send before them. Raises ssl.SSLError after an end."""
        sent = self._tls.write(plain) if plain else 0
        if sent < len(plain):
            # A record a call: more than 16 KiB takes several.
            rest = memoryview(plain)
            while sent < len(plain):
                sent += self._tls.write(rest[sent:])
        return self._outgoing.read()

    @property
    def has_to_send(self) -> bool:
        """Whether TLS itself has something to say."""
        return self._outgoing.pending > 0

    def goodbye(self) -> bytes:
        """The bytes that tell the client that nothing more will come; none before the handshake is through."""
        if not self.established:
            return b""
        try:
            self._tls.unwrap()
        except ssl.SSLError:
            # The client has not said goodbye yet, and need not.
            pass
        return self._outgoing.read()
