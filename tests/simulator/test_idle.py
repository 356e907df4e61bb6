"""Connections on which nothing happens: closed after `idle_s`, and only those."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from tensorix_simulator import Simulator

if TYPE_CHECKING:
    from tests.simulator.conftest import Wire

Start = Callable[..., Simulator]
Connect = Callable[[Simulator], "Wire"]
WireRequest = Callable[..., bytes]
Body = Callable[..., dict[str, Any]]


def seconds_until_closed(sock: socket.socket) -> float:
    begun = time.monotonic()
    assert sock.recv(1) == b""
    return time.monotonic() - begun


def the_only(simulator: Simulator, event: str) -> dict[str, Any]:
    """The one line of the truth, which may come after the client has seen the end."""
    deadline = time.monotonic() + 5
    while not (lines := simulator.truth(event)):
        assert time.monotonic() < deadline, "no line came"
        time.sleep(0.005)
    (line,) = lines
    return line


def test_a_connection_that_says_nothing_is_closed(start: Start, connect: Connect, wire_request: WireRequest) -> None:
    """After so long from its opening or from its last answer, not before; what came meanwhile counts."""
    # Longer than a busy machine may take between an answer and the next question.
    simulator = start(idle_s=0.7)
    begun = asked = time.monotonic()
    silent, spoken = connect(simulator), connect(simulator)
    while asked < begun + 0.15:
        asked = time.monotonic()
        spoken.send(wire_request(method="GET", path="/v1/models"))
        assert spoken.read_response()[0] == 200
    silent.read_all()
    assert 0.7 <= time.monotonic() - begun < 10
    spoken.read_all()
    assert 0.7 <= time.monotonic() - asked < 10


def test_a_response_under_way_is_not_idle(
    start: Start, connect: Connect, wire_request: WireRequest, body: Body
) -> None:
    """However long a stream is silent it goes on; after its end the time begins."""
    simulator = start(idle_s=0.1, ttft="500ms")
    wire = connect(simulator)
    wire.send(wire_request(body(stream=True)))
    assert wire.read_until(b"\r\n\r\n").startswith(b"HTTP/1.1 200")
    assert wire.read_until(b"0\r\n\r\n").endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    assert seconds_until_closed(wire.socket) > 0.05


def test_half_a_request_is_put_down(start: Start, connect: Connect, wire_request: WireRequest) -> None:
    """The truth says that its rest did not come."""
    simulator = start(idle_s=0.1)
    wire = connect(simulator)
    wire.send(wire_request(b"{}")[:-1])
    seconds_until_closed(wire.socket)
    assert the_only(simulator, "arrival")["decision"] == "incomplete"
    assert the_only(simulator, "end")["ended"] == "idle"


def test_it_is_set_and_unset_while_connections_are_open(
    start: Start, connect: Connect, wire_request: WireRequest
) -> None:
    """Set: those that are open are closed in time. Unset: none is."""
    simulator = start()
    early = connect(simulator)
    early.send(wire_request(method="GET", path="/v1/models"))
    assert early.read_response()[0] == 200
    simulator.change(idle_s=0.1)
    seconds_until_closed(early.socket)
    simulator.change(idle_s=0.7)
    kept = connect(simulator)
    simulator.change(idle_s=None)
    kept.socket.settimeout(1.0)
    with pytest.raises(TimeoutError):
        kept.socket.recv(1)
    kept.socket.settimeout(10)
    kept.send(wire_request(method="GET", path="/v1/models"))
    assert kept.read_response()[0] == 200


def test_many_are_closed_in_one_go(start: Start) -> None:
    """Five hundred at once, all in time; new ones are served meanwhile."""
    simulator = start(idle_s=0.3)
    socks = [socket.create_connection(("127.0.0.1", simulator.port), timeout=10) for _ in range(500)]
    begun = time.monotonic()
    for sock in socks:
        assert sock.recv(1) == b""
        sock.close()
    assert time.monotonic() - begun < 20
