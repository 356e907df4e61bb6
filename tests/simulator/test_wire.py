"""HTTP as bytes: framing, pipelines, odd clients and bad ones."""

from __future__ import annotations

import json
import random
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tensorix_simulator import Simulator

Body = Callable[..., dict[str, Any]]
Raw = Callable[..., bytes]
MODELS = {"method": "GET", "path": "/v1/models"}


def test_a_connection_is_kept(quick: Simulator, connect: Any, wire_request: Raw, body: Body) -> None:
    """Streams, replies, errors and lists follow one another on one connection."""
    wire = connect(quick)
    asked = [
        (wire_request(body(stream=True)), 200),
        (wire_request(body()), 200),
        (wire_request(b"{"), 400),
        (wire_request(**MODELS), 200),
        (wire_request(body(stream=True), key="sk-invalid"), 401),
        (wire_request(method="OPTIONS"), 204),
        (wire_request(body(stream=True)), 200),
    ]
    for data, status in asked:
        wire.send(data)
        assert wire.read_response()[0] == status


def test_a_pipeline_is_answered_in_order(quick: Simulator, connect: Any, wire_request: Raw, body: Body) -> None:
    """300 requests in one write, slow and quick ones mixed: as many answers, in the order they were asked."""
    wire = connect(quick)
    asked = []
    for k in range(300):
        kind = {"body": body(stream=k % 20 == 0)} if k % 10 == 0 else MODELS
        asked.append(wire_request(**kind, x_request_id=f"id-{k}"))
    wire.send(b"".join(asked))
    assert [wire.read_response()[1]["x-request-id"] for _ in asked] == [f"id-{k}" for k in range(300)]


def test_a_request_byte_by_byte(quick: Simulator, connect: Any, wire_request: Raw, body: Body) -> None:
    """However the bytes are split, the request is the same."""
    wire = connect(quick)
    wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in wire_request(body()):
        wire.send(bytes([byte]))
    assert wire.read_response()[0] == 200


@pytest.mark.parametrize("server", ["http://simulator", "HTTPS://[::1]:8000", "http://a.b:80"])
def test_a_target_in_absolute_form(quick: Simulator, connect: Any, wire_request: Raw, body: Body, server: str) -> None:
    """As a client sends it to a proxy: what stands before the path says nothing."""
    wire = connect(quick)
    for path, status in (("/v1/models", 200), ("/v1/models?page=http://x/", 200), ("/v1/else", 404), ("", 404)):
        wire.send(wire_request(method="GET", path=server + path))
        assert wire.read_response()[0] == status
    wire.send(wire_request(body(), path=f"{server}/v1/chat/completions"))
    assert wire.read_response()[0] == 200
    assert {line["path"] for line in quick.truth()[-20:] if line["event"] == "arrival"} >= {
        "/v1/models",
        "/v1/else",
        "/",
    }


def test_a_body_in_chunks(quick: Simulator, connect: Any, wire_request: Raw, body: Body) -> None:
    """A chunked request body is read like one with a length."""
    whole = wire_request(body())
    data = whole.split(b"\r\n\r\n", 1)[1]
    head = wire_request(transfer_encoding="chunked")
    wire = connect(quick)
    wire.send(head + b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (data[:20], data[20:])) + b"0\r\n\r\n")
    assert wire.read_response()[0] == 200


def test_each_event_is_a_chunk_of_its_own(quick: Simulator, connect: Any, wire_request: Raw, body: Body) -> None:
    """The chunk sizes of a stream are right, and each holds one whole event."""
    wire = connect(quick)
    wire.send(wire_request(body(stream=True, stream_options={"include_usage": True}, max_tokens=5)))
    _, headers, raw = wire.read_response()
    assert "content-length" not in headers
    events = []
    while True:
        size, _, raw = raw.partition(b"\r\n")
        length = int(size, 16)
        payload, raw = raw[:length], raw[length:]
        assert raw.startswith(b"\r\n")
        raw = raw[2:]
        if not length:
            break
        events.append(payload)
    assert raw == b""
    assert len(events) == 1 + 5 + 1 + 1 + 1
    assert all(
        event.startswith(b"data: ") and event.count(b"\n\n") == 1 and event.endswith(b"\n\n") for event in events
    )


def test_http_1_0_gets_no_chunks(quick: Simulator, connect: Any, wire_request: Raw, body: Body) -> None:
    """An older client gets the events as they are, and the end of the connection as their end."""
    wire = connect(quick)
    wire.send(wire_request(body(stream=True), version="1.0"))
    head, _, text = wire.read_all().partition(b"\r\n\r\n")
    assert b"connection: close" in head.lower()
    assert b"transfer-encoding" not in head.lower()
    assert text.startswith(b"data: {")
    assert text.endswith(b"data: [DONE]\n\n")


def test_connection_close_is_honoured(quick: Simulator, connect: Any, wire_request: Raw, body: Body) -> None:
    """The response says so too, and what came after that request is not served."""
    wire = connect(quick)
    wire.send(wire_request(body(), connection="close") + wire_request(**MODELS))
    text = wire.read_all()
    assert text.count(b"HTTP/1.1 ") == 1
    assert b"connection: close" in text


def test_expect_continue(quick: Simulator, connect: Any, wire_request: Raw, body: Body) -> None:
    """A client that asks before it sends its body is told to go on, after the answer to its request before."""
    wire = connect(quick)
    head, _, data = wire_request(body(), expect="100-continue").partition(b"\r\n\r\n")
    for before in (b"", wire_request(body(stream=True))):
        wire.send(before + head + b"\r\n\r\n")
        if before:
            assert wire.read_response()[0] == 200
        assert wire.read_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        wire.send(data)
        assert wire.read_response()[0] == 200


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_too_large(
    start: Callable[..., Simulator], connect: Any, wire_request: Raw, body: Body, announced: bool
) -> None:
    """413 in order, whether its length was announced or not; a body just small enough is served."""
    small = wire_request(body())
    most = len(small.split(b"\r\n\r\n", 1)[1])
    simulator = start(max_body_bytes=most)
    wire = connect(simulator)
    wire.send(small)
    assert wire.read_response()[0] == 200
    if announced:
        wire.send(wire_request(b"x" * (most + 1)))
    else:
        wire.send(wire_request(transfer_encoding="chunked") + b"%x\r\n%s\r\n" % (most + 1, b"x" * (most + 1)))
    status, headers, _ = wire.read_response()
    assert (status, headers["connection"]) == (413, "close")
    assert headers["x-ratelimit-api_key-remaining-requests"] == "59", "the key is known, and not charged"
    assert wire.read_all() == b""


def test_what_says_what_remains(start: Callable[..., Simulator], connect: Any, wire_request: Raw, body: Body) -> None:
    """Every response of a valid key, also one refused before it is looked at; none without, and none to what is no
    HTTP."""
    simulator = start(max_body_bytes=500)
    cases = [
        (wire_request(b"x" * 501), 413, True),
        (wire_request(b"x" * 501, key="sk-invalid"), 413, False),
        (wire_request(body(), x_simulator_fault="nonsense"), 400, True),
        (wire_request(body(), x_simulator_fault="status 503"), 503, True),
        (wire_request(b"{"), 400, True),
        (wire_request(body(), key="sk-no-credit"), 402, True),
        (wire_request(body(), key="sk-invalid"), 401, False),
        (wire_request(method="GET", path="/v1/nowhere"), 404, True),
        (wire_request(method="GET"), 405, True),
        (wire_request(method="OPTIONS"), 204, True),
        (wire_request(method="GET", path="/v1/models"), 200, True),
        (b"POST /v1/chat/completions HTTP/1.1\r\nauthorization: Bearer sk-a\r\ncontent-length: x\r\n\r\n", 400, False),
    ]
    for data, status, told in cases:
        wire = connect(simulator)
        wire.send(data)
        found, headers, _ = wire.read_response()
        assert (found, "x-ratelimit-api_key-remaining-requests" in headers) == (status, told), data


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"hello\r\n\r\n",
        b"GET /v1/models HTTP/9.9\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nbad header\r\n\r\n",
        b"POST /v1/models HTTP/1.1\r\ncontent-length: five\r\n\r\n",
        b"POST /v1/models HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nx: " + b"a" * 70_000,
        b"GET /" + b"a" * 70_000,
    ],
)
def test_what_is_no_http(quick: Simulator, connect: Any, wire_request: Raw, data: bytes) -> None:
    """400 and a closed connection; others go on."""
    other = connect(quick)
    wire = connect(quick)
    wire.send(data)
    text = wire.read_all()
    assert text.startswith(b"HTTP/1.1 400 ")
    assert b'"code":"invalid_http"' in text
    other.send(wire_request(**MODELS))
    assert other.read_response()[0] == 200


def test_an_upgrade_is_not_taken(quick: Simulator, connect: Any, wire_request: Raw) -> None:
    """A client that offers HTTP/2 in clear text gets an answer in HTTP/1.1."""
    wire = connect(quick)
    wire.send(wire_request(**MODELS, connection="upgrade, http2-settings", upgrade="h2c", http2_settings="AAMAAABk"))
    assert wire.read_all().startswith(b"HTTP/1.1 200 OK")


def test_a_client_that_does_not_read(
    start: Callable[..., Simulator], connect: Any, wire_request: Raw, body: Body
) -> None:
    """Its stream waits and is whole in the end; another's stream is not held up meanwhile."""
    simulator = start(rpm=None, tpm=None, ttft="0", between_tokens="0")
    slow = connect(simulator)
    # Longer than both ends' buffers together.
    slow.send(wire_request(body(stream=True, max_tokens=40_000), x_request_id="slow"))
    quick = connect(simulator)
    quick.send(wire_request(body(stream=True, max_tokens=200), x_request_id="quick"))
    assert quick.read_response()[0] == 200
    assert "slow" not in [line["request_id"] for line in simulator.truth() if line["event"] == "end"]
    assert slow.read_all_chunks().count(b'"content"') == 40_000
    # The next answer comes after the end of the one before was written.
    slow.send(wire_request(**MODELS))
    slow.read_response()
    [end] = [line for line in simulator.truth() if line["event"] == "end" and line["request_id"] == "slow"]
    assert end["ended"] == "complete"
    assert end["blocked"] > 0


def test_listening_on_ipv6(quick: Simulator, subprocess_environment: dict[str, str]) -> None:
    """An IPv6 address is listened on, and stands in brackets in the base URL."""
    command = [sys.executable, "-m", "tensorix_simulator", "--host", "::1", "--with-parent"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=subprocess_environment
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        addresses = json.loads(process.stdout.readline())
        with socket.create_connection(("::1", addresses["port"]), timeout=5) as sock:
            sock.sendall(b"OPTIONS /v1/models HTTP/1.1\r\n\r\n")
            assert sock.recv(100).startswith(b"HTTP/1.1 204")
        process.stdin.close()
        assert process.wait(5) == 0
    assert addresses["base_url"] == f"http://[::1]:{addresses['port']}/v1"


def test_garbage_harms_nobody(quick: Simulator, connect: Any, wire_request: Raw, body: Body) -> None:
    """1,000 requests with bytes changed, left out, put in or cut off: each connection is answered or closed."""
    rng = random.Random(5)
    whole = [wire_request(body(stream=True)), wire_request(body(n=2)), wire_request(**MODELS, expect="100-continue")]
    for _ in range(1_000):
        data = bytearray(rng.choice(whole))
        for _ in range(rng.randrange(1, 6)):
            at = rng.randrange(len(data))
            data[at : at + rng.choice([0, 1, 1, 5])] = rng.randbytes(rng.choice([0, 1, 1, 3]))
        wire = connect(quick)
        wire.send(bytes(data[: rng.choice([len(data), len(data), rng.randrange(1, len(data))])]))
        wire.socket.shutdown(socket.SHUT_WR)
        try:
            wire.read_all()
        except ConnectionResetError:
            # Closed with something of ours unread.
            pass
        wire.close()
    wire = connect(quick)
    wire.send(wire_request(body()))
    assert wire.read_response()[0] == 200
