"""What the simulator makes for a request goes with it, without Python's collector, which is held back meanwhile."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

import pytest

from tensorix_simulator.chat.replies import Reply
from tensorix_simulator.completion import Completion
from tensorix_simulator.delivery import Delivery
from tensorix_simulator.exchange import Exchange
from tensorix_simulator.faults.faulty_answer import FaultyAnswer
from tensorix_simulator.faults.faulty_delivery import FaultyDelivery
from tensorix_simulator.http.certificates import TlsServer, certified
from tensorix_simulator.http.connection import Connection
from tensorix_simulator.http.listening import Listener, listen
from tensorix_simulator.http.requests import Request, RequestReader
from tensorix_simulator.http.tls import TlsSession
from tensorix_simulator.latency.pacing import Pacer
from tensorix_simulator.service import Service
from tensorix_simulator.settings import SimulatorSettings
from tensorix_simulator.truth import TruthLog

Raw = Callable[..., bytes]
_KINDS = {
    *(Completion, Connection, Delivery, Exchange, FaultyAnswer, FaultyDelivery),
    *(Reply, Request, RequestReader, TlsSession),
}
Body = Callable[..., dict[str, Any]]
Asked = dict[str, Any]
_MADE = 3_000
# Longer than both ends' buffers together; of streams every token that is made has to wait.
_STREAM, _WHOLE = {"stream": True, "max_tokens": _MADE}, {"max_tokens": 100_000}


def alive() -> dict[str, int]:
    """How many there are of what is made for connections and requests."""
    return dict(Counter(type(one).__name__ for one in gc.get_objects() if type(one) in _KINDS))


@pytest.fixture
def _no_collector() -> Iterator[None]:
    gc.collect()
    # What there is already is looked at no more: a suite's objects take most of the time to walk.
    gc.freeze()
    gc.disable()
    yield
    gc.enable()
    gc.unfreeze()


@cache
def certificate() -> TlsServer:
    return certified("valid", "127.0.0.1")


class Served:
    """A simulator in this process, and who asks it."""

    def __init__(self, tls: bool, **settings: Any) -> None:
        loop = asyncio.get_running_loop()
        wanted = SimulatorSettings(rpm=None, tpm=None, ttft="0", between_tokens="0").to_dict() | settings
        self.truth = TruthLog(None)
        del wanted["format"]
        self.service = Service(SimulatorSettings(**wanted), self.truth, Pacer(loop))
        self.sock = listen("127.0.0.1", 0)
        # Its connections have it too: little is enough to fill it.
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self.context = certificate().context if tls else None
        self.listener = Listener(loop, self.sock, self.service.serve, max_body_bytes=lambda: 1 << 20, tls=self.context)
        self.service.begin(self.listener, time.monotonic_ns())

    async def unread(self, request: bytes) -> asyncio.StreamWriter:
        """Ask, and read next to nothing of the answer."""
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, self.sock.getsockname())
        context = ssl.create_default_context(cadata=certificate().authority_pem.decode()) if self.context else None
        _, writer = await asyncio.open_connection(
            sock=sock, ssl=context, server_hostname="localhost" if context else None, limit=1024
        )
        writer.write(request)
        return writer

    def ended(self) -> list[str]:
        """How each request ended that has."""
        lines = [json.loads(line) for line in self.truth.read(0, 1 << 30)[0].splitlines()]
        return [line["ended"] for line in lines if line["event"] == "end"]


Reached = Callable[[Served], bool]


@asynccontextmanager
async def serving(tls: bool, **settings: Any) -> AsyncIterator[Served]:
    served = Served(tls, **settings)
    try:
        yield served
    finally:
        served.listener.stop_accepting()
        served.service.stop()
        served.listener.close_connections()


async def until(true: Callable[[], bool]) -> bool:
    """Whether it comes true in ten seconds."""
    deadline = time.monotonic() + 10
    while not (so := true()) and time.monotonic() < deadline:
        await asyncio.sleep(0.005)
    return so


def delivered() -> Delivery | None:
    """The stream that is under way."""
    return next((one for one in gc.get_objects() if isinstance(one, Delivery) and one.headers_ns), None)


def comes_to(made: int) -> Callable[[Served], bool]:
    """Whether so many tokens of a stream were made, and those that do not fit wait."""

    def reached(_: Served) -> bool:
        one = delivered()
        return one is not None and len(one.sent_ns) + one.waiting >= made

    return reached


def blocked(_: Served) -> bool:
    """Whether something waits for the client."""
    return any(type(one) is Connection and one.blocked for one in gc.get_objects())


def stalled(served: Served) -> bool:
    """Whether a whole body has stopped half way."""
    return bool(served.service.faults.held)


@pytest.mark.usefixtures("_no_collector")
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize(
    ("fault", "asked", "reached", "ended"),
    [
        # The end of a whole body is written when the kernel has its beginning.
        pytest.param(None, _WHOLE, blocked, "complete", id="whole"),
        pytest.param("stall 1h after 3 chunks", _WHOLE, stalled, "client_gone", id="whole, stalled"),
        pytest.param(None, _STREAM, blocked, "client_gone", id="amid"),
        pytest.param(None, _STREAM, comes_to(_MADE), "client_gone", id="all made"),
        *(
            pytest.param(fault, _STREAM, comes_to(made), "client_gone", id=fault)
            for fault, made in (
                ("comments", _MADE),
                ("split", _MADE),
                (f"cut after {_MADE} chunks", _MADE),
                (f"error event after {_MADE} chunks", _MADE),
                ("stall 1h after 3 chunks", 3),
            )
        ),
    ],
)
def test_a_client_that_goes_without_reading_leaves_nothing(
    wire_request: Raw, body: Body, fault: str | None, asked: Asked, reached: Reached, ended: str, n: int, tls: bool
) -> None:
    """Whatever waited for it, also where all of the answer was made: nothing of it is left."""
    headers = {} if fault is None else {"x_simulator_fault": fault}

    async def go() -> None:
        before = alive()
        async with serving(tls) as served:
            writer = await served.unread(wire_request(body(n=n, **asked), **headers))
            assert await until(lambda: reached(served))
            assert alive() != before
            writer.transport.abort()
            assert await until(lambda: served.ended() == [ended])
            # A job of its may still be in the pacer's heap, and what was to be called soon.
            assert await until(lambda: alive() == before), alive()

    asyncio.run(go())


@pytest.mark.usefixtures("_no_collector")
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"ttft": "1h"}, id="its first token"),
        pytest.param({"ttft": "1h", "slots": 1, "queue": 5}, id="a slot"),
        pytest.param({"rpm": 1, "over_limit": "delay", "longest_delay_s": 3600.0, "ttft": "1h"}, id="its limit"),
    ],
)
def test_clients_that_go_while_they_wait_leave_nothing(
    wire_request: Raw, body: Body, settings: dict[str, Any], stream: bool
) -> None:
    """Whatever they waited for, and however long that would have taken."""

    async def go() -> None:
        before = alive()
        async with serving(False, **settings) as served:
            writers = [await served.unread(wire_request(body(stream=stream))) for _ in range(3)]
            assert await until(lambda: alive().get("Exchange", 0) - before.get("Exchange", 0) == 3)
            for writer in writers:
                writer.transport.abort()
            assert await until(lambda: served.ended() == ["client_gone"] * 3)
            assert await until(lambda: alive() == before), alive()

    asyncio.run(go())
