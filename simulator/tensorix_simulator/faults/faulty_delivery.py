"""A stream that goes wrong on its way out: late, altered, in pieces, or never whole."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from functools import partial

from tensorix_simulator.delivery import Delivery
from tensorix_simulator.faults.fault_text import FaultKind
from tensorix_simulator.faults.plan import Plan
from tensorix_simulator.http.connection import Connection
from tensorix_simulator.http.wire import frame, framed_apart, last_chunk
from tensorix_simulator.latency.alarm import Alarm

__all__ = ["FaultyDelivery"]

_PING = b": ping\n\n"
_DONE = b"data: [DONE]\n\n"


class FaultyDelivery(Delivery):
    """Suffers what its plan says.

    A stall moves everything that comes after it, so tokens keep their distances; what is late by a stall alone is not
    late in the truth. The tokens are made meanwhile, as if only their way out were blocked. While it stalls there is
    one entry in the pacer's heap, and none that holds anything once the client has gone.
    """

    __slots__ = (
        "_alarm", "_chunked", "_due_ns", "_ending", "_error_event", "_given", "_index", "_line", "_on_broken", "_over",
        "_ping_alarm", "_ping_each", "_plan",
    )  # fmt: skip

    def __init__(
        self,
        connection: Connection,
        plan: Plan,
        *,
        chunked: bool,
        error_event: Callable[[], bytes],
        on_broken: Callable[[str], None],
    ) -> None:
        """`error_event` gives the body of an error, `on_broken` is told how the stream ended where a fault ends it."""
        super().__init__(connection)
        if plan.of(FaultKind.SPLIT) is not None:
            connection.send_apart(True)
            self._send = partial(_send_bytewise, connection, chunked)
        self._plan = plan
        self._ending = plan.ending
        self._chunked = chunked
        self._error_event = error_event
        self._on_broken = on_broken
        comments = plan.of(FaultKind.COMMENTS)
        self._ping_each = comments is not None and comments.time_ns == 0
        self._ping_alarm: Alarm | None = None
        self._alarm: Alarm | None = None
        self._line: deque[tuple[int, Callable[[], None]]] = deque()
        self._given = 0
        """Tokens that were given here."""
        self._index = 0
        """Tokens that were handed on; the others wait in line."""
        self._due_ns = 0
        self._over = False

    # When.

    def begin(self, head: bytes, events: bytes = b"") -> None:
        """Send the head, now or after a stall."""
        stall = self._plan.stall("headers")
        due_ns = time.monotonic_ns() + (stall.time_ns if stall else 0)
        self._at(due_ns, partial(self._begin, head, events))

    def token(self, due_ns: int, data: bytes) -> None:
        """Send the token when it is due and the stalls before it are over."""
        before = (self._plan.stall("headers"), self._plan.stall("first token"), self._plan.stall("chunks"))
        late_ns = sum(stall.time_ns for stall in before if stall and self._given >= stall.after)
        self._given += 1
        self._due_ns = due_ns + late_ns
        self._at(self._due_ns, partial(self._token, self._due_ns, data))

    def finish(self, data: bytes, on_sent: Callable[[int], None]) -> None:
        """Send what ends the stream after everything else."""
        stall = self._plan.stall("chunks")
        if stall is not None and self._given == stall.after:
            self._due_ns += stall.time_ns
        self._at(self._due_ns, partial(self._finish, data, on_sent))

    def _at(self, due_ns: int, act: Callable[[], None]) -> None:
        if self._over:
            return
        if not self._line and due_ns <= time.monotonic_ns():
            act()
            return
        self._line.append((due_ns, act))
        if self._alarm is None:
            self._alarm = Alarm(self._plan.pacer, self._line[0][0], self._turn)

    def _turn(self, _: int) -> int | None:
        while self._line and self._line[0][0] <= time.monotonic_ns():
            self._line.popleft()[1]()
        if self._line:
            return self._line[0][0]
        self._alarm = None
        return None

    # What.

    def _begin(self, head: bytes, events: bytes) -> None:
        self.headers_ns = self._connection.send(head)
        if events:
            self._send(events)
        comments = self._plan.of(FaultKind.COMMENTS)
        if comments is not None and comments.time_ns:
            self._ping_alarm = Alarm(self._plan.pacer, self.headers_ns + comments.time_ns, self._ping)
        self._look_for_end()

    def _ping(self, due_ns: int) -> int | None:
        comments = self._plan.of(FaultKind.COMMENTS)
        if comments is None or self._connection.closed:
            return None
        if not self._held and not self._connection.blocked:
            self._send(frame(_PING, self._chunked))
        return due_ns + comments.time_ns

    def _token(self, due_ns: int, data: bytes) -> None:
        data = self._spoilt(data)
        if self._ping_each:
            data = frame(_PING, self._chunked) + data
        self._index += 1
        super().token(due_ns, data)
        self._look_for_end()

    def _finish(self, data: bytes, on_sent: Callable[[int], None]) -> None:
        self._look_for_end(last=True)
        if self._over:
            return
        data = self._spoilt(data, last=True)
        if self._ending is not None and self._ending.kind is FaultKind.NO_DONE:
            data = data.replace(frame(_DONE, self._chunked), b"", 1)
        super().finish(data, on_sent)

    def _spoilt(self, data: bytes, *, last: bool = False) -> bytes:
        """With half of its first event missing, where that is the one."""
        ending = self._ending
        if ending is None or ending.kind is not FaultKind.MALFORMED:
            return data
        if ending.after != self._index and not last:
            return data
        self._ending = None
        size, payload, rest = len(data), data, b""
        if self._chunked:
            line, _, payload = data.partition(b"\r\n")
            size = int(line, 16)
            rest = payload[size + 2 :]
        event, _, others = payload[:size].partition(b"\n\n")
        return frame(event[: len(event) // 2] + b"\n\n" + others, self._chunked) + rest

    def _look_for_end(self, *, last: bool = False) -> None:
        """End here, where that is due after so many chunks, or before the `last` event where there are not so many."""
        ending = self._ending
        if ending is None or ending.kind not in (FaultKind.CUT, FaultKind.ERROR_EVENT):
            return
        if ending.after != self._index and not last:
            return
        self._over = True
        if ending.kind is FaultKind.CUT:
            super().finish(b"", partial(self._cut, ending.by_reset))
            return
        event = frame(b"data: " + self._error_event() + b"\n\n", self._chunked)
        super().finish(event + last_chunk(self._chunked), self._failed)

    def _cut(self, by_reset: bool, _: int) -> None:
        connection = self._connection
        connection.on_gone = None
        self._on_broken("cut")
        if by_reset:
            connection.reset()
        else:
            connection.close_after()
            connection.finish()

    def _failed(self, _: int) -> None:
        self._on_broken("error_event")
        self._connection.finish()

    def stop(self) -> None:
        """It is over: nothing is to come any more."""
        super().stop()
        self._over = True
        self._connection.send_apart(False)
        self._line.clear()
        for alarm in (self._alarm, self._ping_alarm):
            if alarm is not None:
                alarm.cancel()
        self._alarm = self._ping_alarm = None
        # Both lead back here: nothing may be left to the collector of cycles.
        self._on_broken, self._error_event = _ignored, bytes


def _ignored(_: str) -> None:
    pass


def _send_bytewise(connection: Connection, chunked: bool, data: bytes) -> int:
    """Each byte in a chunk of HTTP's too: the client's kernel may join packets again, and a parser whole chunks."""
    stamp_ns = None
    for part in framed_apart(data, chunked):
        stamp_ns = connection.send(part)
    return connection.send(b"") if stamp_ns is None else stamp_ns
