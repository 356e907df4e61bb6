"""One request on its way: a connection opened or used again, the request sent, the answer waited for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import gevent
from gevent.event import Event
from gevent.hub import get_hub

from tensorix_api.errors import ErrorKind, Phase
from tensorix_api.secret import Secret
from tensorix_loadtests._call import Call
from tensorix_loadtests._connection import Connection, ConnectStamps
from tensorix_loadtests._exchange import Exchange
from tensorix_loadtests._failure import Failure
from tensorix_loadtests._origin import Origin
from tensorix_loadtests._session import Session

__all__ = ["Attempt", "always"]

# After [DONE] only the end of the HTTP message is due; a server that withholds it costs the connection, not the result.
_AFTER_DONE_NS = 2_000_000_000
# How soon after the send a close must come to have been on its way already, on a network without a round trip.
_AT_ONCE_NS = 20_000_000


class Attempt:
    """One request on its way: opens or reuses a connection, sends, waits within its timeouts."""

    def __init__(
        self,
        session: Session,
        call: Call,
        connection: Connection | None,
        origin: Origin,
        key: Secret | None,
        may_resend: Callable[[], bool],
        on_start: Callable[[int], None] | None = None,
    ) -> None:
        self.session = session
        self.call = call
        self.origin = origin
        self.key = key
        self.connection = connection
        self._may_resend = may_resend
        self._on_start = on_start
        self.record_id = session.next_record_id()
        self.request_id = f"{session.run_id}.{self.record_id}"
        self.began_ns = time.monotonic_ns()
        self.reused = False
        self.resent = False
        """Whether it went out a second time, since the server had closed the kept connection meanwhile."""
        self.opened: ConnectStamps | None = None
        self.exchange: Exchange | None = None
        self.failure: Failure | None = None
        self.start_ns = self.sent_ns = 0
        self.request_bytes = 0

    def run(self) -> None:
        try:
            if self.connection is not None and self.connection.usable:
                self.reused = True
                self._exchange(self.connection)
                if not self._closed_while_idle() or not self._may_resend():
                    return
                # The server had closed the idle connection before the request reached it: it goes out again, once, on
                # a new one.
                self.reused, self.resent = False, True
                self.start_ns = self.sent_ns = 0
            self._exchange(self._connect())
        except Failure as failure:
            self.failure = failure

    def _closed_while_idle(self) -> bool:
        """Whether the close must have been on its way before the request came: it follows the send at once.

        A server that takes the request and drops it later has failed it, and that is what the record says.
        """
        exchange = self.exchange
        return (
            exchange is not None
            and not exchange.bytes_received
            and exchange.failure is not None
            and exchange.failure.kind is ErrorKind.CONNECTION_FAILED
            and exchange.end_ns - self.start_ns <= max(_AT_ONCE_NS, 2 * self._round_trip_ns())
        )

    def _round_trip_ns(self) -> int:
        """What opening the connection took, from its address known to TCP established; 0 where that is not known."""
        stamps = self.connection.stamps if self.connection is not None else ConnectStamps()
        return stamps.tcp_done_ns - stamps.dns_done_ns if stamps.tcp_done_ns and stamps.dns_done_ns else 0

    def _connect(self) -> Connection:
        self.exchange = None
        connection = self.connection = Connection(self.session.target, self.session.clock)
        self.opened = connection.stamps
        deadline = time.monotonic_ns() + int(self.session.timeouts.connect_s * 1e9)
        connection.open(min(deadline, self._whole_deadline()))
        return connection

    def _whole_deadline(self) -> int:
        return self.began_ns + int(self.session.timeouts.total_s * 1e9)

    def _exchange(self, connection: Connection) -> None:
        """Send and wait for the end of the answer."""
        done = Event()
        exchange = self.exchange = Exchange(stream=self.call.stream, finish=done.set, keep_text=self.call.keep_text)
        connection.receiver = exchange
        wire = self.session.wire(self.call, self.request_id, self.key)
        self.request_bytes = len(wire)
        try:
            self.sent_ns = connection.send(wire, self._whole_deadline(), self._started)
        except OSError as error:
            # An early answer may have ended the exchange already; else the connection broke under the request.
            exchange.ended(error, time.monotonic_ns())
        except Failure as failure:
            exchange.abort(failure, time.monotonic_ns())
        try:
            if not exchange.over:
                self._wait(exchange, done)
        finally:
            exchange.release()

    def _started(self, stamp_ns: int) -> None:
        self.start_ns = stamp_ns
        if self._on_start is not None:
            self._on_start(stamp_ns)

    def _wait(self, exchange: Exchange, done: Event) -> None:
        nearest_new = min(int(self.session.timeouts.chunk_s * 1e9), _AFTER_DONE_NS)

        def look() -> None:
            if exchange.over:
                return
            deadline, failure = self._deadline(exchange)
            left = deadline - time.monotonic_ns()
            if left <= 0:
                exchange.abort(failure, time.monotonic_ns())
            else:
                # One timer for all deadlines, so that chunks do not touch it. A first token or [DONE] brings a nearer
                # deadline, never nearer than this.
                timer.start(min(left, nearest_new))

        timer = _Timer(look)
        try:
            look()
            done.wait()
        finally:
            timer.close()

    def _deadline(self, exchange: Exchange) -> tuple[int, Failure]:
        """The nearest deadline and what missing it means."""
        timeouts = self.session.timeouts
        whole = self._whole_deadline()
        if exchange.done_seen:
            return exchange.last_read_ns + _AFTER_DONE_NS, Failure(ErrorKind.TIMEOUT, Phase.STREAM, "no end")
        phase = exchange.phase
        deadline, words = whole, f"no answer within {timeouts.total_s:g} s in all"
        if self.call.stream or self.call.is_models:
            if exchange.first_token_ns:
                near = exchange.last_read_ns + int(timeouts.chunk_s * 1e9)
                text = f"nothing came for {timeouts.chunk_s:g} s in the middle of the stream"
            else:
                near = self.start_ns + int(timeouts.first_token_s * 1e9)
                text = f"no {'first token' if self.call.stream else 'list'} within {timeouts.first_token_s:g} s"
            if near < whole:
                deadline, words = near, text
        return deadline, Failure(ErrorKind.TIMEOUT, phase, words)

    def interrupted(self, error: BaseException) -> None:
        """Note that the greenlet was killed, or that our own code failed."""
        if isinstance(error, gevent.GreenletExit | gevent.Timeout | KeyboardInterrupt | SystemExit):
            failure = Failure(ErrorKind.CANCELLED, Phase.CONNECT, "cancelled: whoever asked did not wait for it")
        else:
            failure = Failure(ErrorKind.INTERNAL, Phase.CONNECT, f"a defect of the load client: {type(error).__name__}")
        if self.exchange is not None:
            failure.phase = self.exchange.phase
            self.exchange.abort(failure, time.monotonic_ns())
        else:
            self.failure = failure


def always() -> bool:
    """Permission without asking."""
    return True


def _nothing() -> None:
    """The callback of a timer that is closed."""


class _Timer:
    """A timer of the event loop that can be set again from its own callback."""

    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback = callback
        self._timer: Any = None

    def start(self, left_ns: int) -> None:
        self.stop()
        self._timer = get_hub().loop.timer(left_ns / 1e9)
        self._timer.start(self._callback)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
            self._timer = None

    def close(self) -> None:
        """Stop for good."""
        self.stop()
        # The callback holds this timer in turn.
        self._callback = _nothing
