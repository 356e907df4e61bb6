"""A stream on its way out: its events sent as they fall due, each token with a stamp."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable

from tensorix_simulator.http.connection import Connection

__all__ = ["Delivery"]


class Delivery:
    """Sends in order. While the client does not read, what falls due waits, and goes out as soon as it reads again."""

    __slots__ = (
        "_connection",
        "_held",
        "_on_sent",
        "_send",
        "_unsent",
        "blocked",
        "headers_ns",
        "lateness_ns",
        "sent_ns",
    )

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._send = connection.send
        self._unsent = connection.unsent
        self._held: deque[tuple[int, bytes]] = deque()
        self._on_sent: Callable[[int], None] | None = None
        self.headers_ns: int | None = None
        """After the send of the head."""
        self.sent_ns = array("q")
        """After the send of each token."""
        self.lateness_ns = array("q")
        """Of each token: its stamp less when it was due."""
        self.blocked = 0
        """How often a token had to wait because the client did not read."""

    def begin(self, head: bytes, events: bytes = b"") -> None:
        """Send the head, and the events that go with it."""
        self.headers_ns = self._send(head + events)

    def token(self, due_ns: int, data: bytes) -> None:
        """Send the token that is due, or hold it."""
        if self._held or self._unsent:
            self.blocked += 1
            self._held.append((due_ns, data))
            self._connection.on_drained = self._drain
            return
        sent_ns = self._send(data)
        self.sent_ns.append(sent_ns)
        self.lateness_ns.append(sent_ns - due_ns)

    def finish(self, data: bytes, on_sent: Callable[[int], None]) -> None:
        """Send what ends the stream, after everything that is held; `on_sent` gets the stamp after it."""
        if not self._held and not self._connection.blocked:
            on_sent(self._send(data))
            return
        self._on_sent = on_sent
        self._held.append((0, data))
        self._connection.on_drained = self._drain

    def _drain(self) -> None:
        """The client has read what was sent: go on, until it stops reading again."""
        while self._held and not self._connection.blocked and not self._connection.closed:
            due_ns, data = self._held.popleft()
            sent_ns = self._send(data)
            if due_ns:
                self.sent_ns.append(sent_ns)
                self.lateness_ns.append(sent_ns - due_ns)
            elif self._on_sent is not None:
                self._on_sent(sent_ns)
                return
        if self._held:
            self._connection.on_drained = self._drain

    def stop(self) -> None:
        """It is over, whole or not.

        What is held goes, and the calls that lead back here: nothing may be left to the collector of cycles.
        """
        self._held.clear()
        self._on_sent = None
        self._connection.on_drained = None

    @property
    def waiting(self) -> int:
        """How many sends wait for the client to read."""
        return len(self._held)

    @property
    def last_ns(self) -> int | None:
        """The last stamp there is."""
        return self.sent_ns[-1] if self.sent_ns else self.headers_ns
