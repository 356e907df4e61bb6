"""A whole body that goes wrong on its way out."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from typing import Any, Protocol

from tensorix_simulator.faults.fault_text import FaultKind
from tensorix_simulator.faults.plan import Plan
from tensorix_simulator.http.connection import Connection
from tensorix_simulator.http.wire import Headers
from tensorix_simulator.latency.alarm import Alarm

__all__ = ["Answered", "FaultyAnswer"]

_OVERSTATED = 64


class Answered(Protocol):
    """What is answered: an exchange."""

    connection: Connection

    def head(self, content: Headers) -> bytes:
        """The response's head."""
        ...

    def end(
        self,
        ended: str,
        *,
        headers_sent_ns: int | None = None,
        last_sent_ns: int | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        """Write how it ended."""
        ...


class FaultyAnswer:
    """Sends head and body, in parts where it stalls."""

    __slots__ = ("_alarm", "_by_reset", "_cut", "_exchange", "_facts", "_headers_ns", "_last_ns", "_parts", "_plan")

    def __init__(
        self,
        exchange: Answered,
        plan: Plan,
        body: bytes,
        headers: Headers,
        facts: Mapping[str, Any] | None,
        *,
        head_only: bool,
    ) -> None:
        """`headers` are those of the content, without its length; `head_only`: the body is not sent."""
        self._exchange = exchange
        self._plan = plan
        self._facts = facts
        self._headers_ns: int | None = None
        self._last_ns: int | None = None
        self._alarm: Alarm | None = None
        ending = plan.ending
        kind = ending.kind if ending else None
        if kind is FaultKind.MALFORMED:
            body = body[: len(body) // 2]
        length, half = len(body), len(body) // 2
        if ending is not None and kind is FaultKind.CONTENT_LENGTH:
            length = length + _OVERSTATED if ending.where == "long" else half
        self._cut = kind is FaultKind.CUT
        self._by_reset = ending is not None and ending.by_reset
        head = exchange.head([*headers, ("content-length", str(length))])
        if head_only:
            body = b""
        waits = [stall.time_ns if (stall := plan.stall(at)) else 0 for at in ("headers", "first token", "chunks")]
        parts = zip(waits, (head, body[:half], b"" if self._cut else body[half:]), strict=True)
        self._parts: deque[tuple[int, bytes]] = deque()
        for wait_ns, part in parts:
            if wait_ns or not self._parts:
                self._parts.append((wait_ns, part))
            else:
                self._parts[-1] = (self._parts[-1][0], self._parts[-1][1] + part)

    def start(self) -> None:
        """Send the first part, now or when it is due."""
        self._exchange.connection.on_gone = self._gone
        self._plan.held.add(self)
        self._next(time.monotonic_ns())

    def _next(self, now_ns: int) -> None:
        wait_ns = self._parts[0][0]
        if wait_ns:
            self._alarm = Alarm(self._plan.pacer, now_ns + wait_ns, self._turn)
        else:
            self._turn(now_ns)

    def _turn(self, _: int) -> None:
        self._alarm = None
        sent_ns = self._last_ns = self._exchange.connection.send(self._parts.popleft()[1])
        self._headers_ns = self._headers_ns or sent_ns
        if self._parts:
            self._next(sent_ns)
            return
        connection = self._exchange.connection
        connection.on_gone = None
        self._end("cut" if self._cut else "complete")
        if self._cut and self._by_reset:
            connection.reset()
            return
        if self._cut:
            connection.close_after()
        connection.finish()

    def _end(self, ended: str) -> None:
        self._plan.held.discard(self)
        self._parts.clear()
        if self._alarm is not None:
            self._alarm.cancel()
        self._exchange.end(ended, headers_sent_ns=self._headers_ns, last_sent_ns=self._last_ns, facts=self._facts)

    def _gone(self) -> None:
        self._end("client_gone")

    def stop(self) -> None:
        """The simulator stops."""
        self._end("stopped")
