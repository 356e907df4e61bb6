"""HTTP/1.1 as servers really speak it: framing, encodings, 1xx, kept connections, bounds."""

from __future__ import annotations

import gzip
import json
import queue
import threading
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.loadtests.conftest import Client, Peer, Server

Serve = Callable[..., "Server"]
UNSTREAMED = {"stream": False}


def _bytewise(peer: Peer, data: bytes) -> None:
    for at in range(len(data)):
        peer.send(data[at : at + 1])


def _deflated(data: bytes) -> bytes:
    return zlib.compress(data)


def _raw_deflated(data: bytes) -> bytes:
    """Deflate without zlib's frame, as some servers send it."""
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(data) + compressor.flush()


def _two_gzip_members(data: bytes) -> bytes:
    return gzip.compress(data[:20]) + gzip.compress(data[20:])


# bodies


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
@pytest.mark.parametrize("split", [False, True])
def test_framing(answer: Serve, client: Client, stream: bool, framing: str, split: bool) -> None:
    """A body in chunks, with a length or until the connection closes reads the same, in whatever pieces it comes."""

    def act(peer: Peer) -> None:
        data = peer.stream("a", "b") if stream else json.dumps(peer.completion()).encode()
        head = f"HTTP/1.1 200 OK\r\ncontent-type: {'text/event-stream' if stream else 'application/json'}\r\n".encode()
        if framing == "chunked":
            head += b"transfer-encoding: chunked\r\n"
            data = peer.chunked(data, 7)
        elif framing == "length":
            head += b"content-length: %d\r\n" % len(data)
        (_bytewise if split else _at_once)(peer, head + b"\r\n" + data)
        if framing == "close":
            peer.close()

    seen = client.send(answer(act).base_url, {"stream": stream})
    assert (seen.record.outcome, seen.record.finish_reason) == ("success", "stop")
    assert seen.record.chunks == (2 if stream else None)
    assert seen.answer["usable"] == (framing != "close")


def _at_once(peer: Peer, data: bytes) -> None:
    peer.send(data)


@pytest.mark.parametrize("framing", ["chunked", "length"])
def test_a_reply_that_is_cut(answer: Serve, client: Client, framing: str) -> None:
    """A whole reply whose connection closes before its end is `cut`, in the phase `body`."""

    def act(peer: Peer) -> None:
        head = {"chunked": b"transfer-encoding: chunked\r\n\r\nff\r\n", "length": b"content-length: 255\r\n\r\n"}
        peer.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n" + head[framing] + b'{"choices"')
        peer.close()

    record = client.send(answer(act).base_url, UNSTREAMED).record
    assert (record.outcome, record.error_kind, record.error_phase) == ("failed", "cut", "body")


# encodings


@pytest.mark.parametrize(
    ("encoding", "encode"),
    [
        ("gzip", gzip.compress),
        ("GZip", gzip.compress),
        ("x-gzip", gzip.compress),
        ("gzip", _two_gzip_members),
        ("deflate", _deflated),
        ("deflate", _raw_deflated),
    ],
)
@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("stream", [True, False])
def test_compressed(
    answer: Serve, client: Client, encoding: str, encode: Callable[[bytes], bytes], split: bool, stream: bool
) -> None:
    """Gzip (of several members, too) and deflate (with zlib's frame or raw) are undone, whole or byte by byte."""

    def act(peer: Peer) -> None:
        data = encode(peer.stream("a", "b") if stream else json.dumps(peer.completion()).encode())
        kind = "text/event-stream" if stream else "application/json"
        head = f"content-type: {kind}\r\ncontent-encoding: {encoding}\r\ncontent-length: {len(data)}\r\n\r\n"
        (_bytewise if split else _at_once)(peer, b"HTTP/1.1 200 OK\r\n" + head.encode() + data)

    seen = client.send(answer(act).base_url, {"stream": stream})
    assert (seen.record.outcome, seen.record.error_message) == ("success", None)
    assert seen.record.chunks == (2 if stream else None)
    assert seen.answer["usable"]


@pytest.mark.parametrize("encode", [gzip.compress, _deflated])
def test_a_compressed_body_that_ends_early(answer: Serve, client: Client, encode: Callable[[bytes], bytes]) -> None:
    """A compressed body without its end is cut, though the HTTP message is whole."""

    def act(peer: Peer) -> None:
        data = encode(json.dumps(peer.completion()).encode())[:-12]
        peer.answer(200, data, content_encoding="gzip" if encode is gzip.compress else "deflate")

    record = client.send(answer(act).base_url, UNSTREAMED).record
    assert (record.outcome, record.error_kind, record.error_phase) == ("failed", "cut", "body")


@pytest.mark.parametrize("stream", [True, False])
def test_a_damaged_compression(answer: Serve, client: Client, stream: bool) -> None:
    """What claims to be gzip and is not is malformed."""
    kind = "text/event-stream" if stream else "application/json"
    server = answer(lambda peer: peer.answer(200, b"not gzip at all", content_encoding="gzip", content_type=kind))
    record = client.send(server.base_url, {"stream": stream}).record
    assert (record.outcome, record.error_kind) == ("failed", "malformed")


def test_a_compressed_error(answer: Serve, client: Client) -> None:
    """The words of an error are read where its body is compressed."""
    body = gzip.compress(b'{"error": {"message": "No."}}')
    server = answer(lambda peer: peer.answer(429, body, content_encoding="gzip"))
    record = client.send(server.base_url).record
    assert (record.outcome, record.error_message) == ("throttled", "No.")


def test_an_encoding_that_was_not_asked_for(answer: Serve, client: Client) -> None:
    """An encoding that the client did not offer is a failure that names it."""
    server = answer(lambda peer: peer.answer(200, b"xxxx", content_encoding="br"))
    record = client.send(server.base_url, UNSTREAMED).record
    assert (record.outcome, record.error_kind) == ("failed", "malformed")
    assert "br" in (record.error_message or "")


def test_a_bomb(answer: Serve, client: Client) -> None:
    """A small body that unpacks to more than the bound is refused, not held in memory."""
    packed = gzip.compress(b" " * (80 * 2**20))
    server = answer(lambda peer: peer.answer(200, packed, content_encoding="gzip"))
    record = client.send(server.base_url, UNSTREAMED).record
    assert (record.outcome, record.error_kind) == ("failed", "malformed")
    assert "64 MiB" in (record.error_message or "")


# bounds


def test_a_reply_over_the_bound(answer: Serve, client: Client) -> None:
    """A reply of more than 64 MiB ends there, as malformed."""

    def act(peer: Peer) -> None:
        peer.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")
        for _ in range(65):
            peer.send(b" " * 2**20)
        peer.wait_for_end()

    record = client.send(answer(act).base_url, UNSTREAMED).record
    assert (record.outcome, record.error_kind) == ("failed", "malformed")
    assert "64 MiB" in (record.error_message or "")


def test_an_error_without_end(answer: Serve, client: Client) -> None:
    """Of an error's body only the beginning is kept: the status speaks, and the message is bounded."""
    body = b"no " * 200_000
    record = client.send(answer(lambda peer: peer.answer(500, body, content_type="text/plain")).base_url).record
    assert (record.outcome, record.error_kind) == ("failed", "server_error")
    assert len(record.error_message or "") <= 500


@pytest.mark.parametrize("head", [b"x" * 2**19, b"HTTP/1.1 200 OK\r\n" + b"x-filler: yes\r\n" * 2**16])
def test_a_head_over_the_bound(answer: Serve, client: Client, head: bytes) -> None:
    """A header block without end is malformed, not waited for."""

    def act(peer: Peer) -> None:
        peer.send(head)

    record = client.send(answer(act).base_url, timeouts={"total_s": 20.0}).record
    assert (record.outcome, record.error_kind, record.error_phase) == ("failed", "malformed", "headers")


def test_an_event_without_end(answer: Serve, client: Client) -> None:
    """A stream whose event does not end is malformed once it is over its bound."""

    def act(peer: Peer) -> None:
        peer.begin_stream()
        peer.send(b"data: ")
        for _ in range(5):
            peer.send(b"x" * 2**20)

    record = client.send(answer(act).base_url).record
    assert (record.outcome, record.stream_outcome, record.error_kind) == ("failed", "malformed", "malformed")


# not HTTP


@pytest.mark.parametrize(
    "said",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"\x00\x01\x02\x03",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nbad name: x\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
    ],
)
def test_malformed_http(answer: Serve, client: Client, said: bytes) -> None:
    """An answer that is not HTTP is malformed, in words, and the connection is not used again."""
    seen = client.send(answer(lambda peer: peer.send(said)).base_url, UNSTREAMED, timeouts={"total_s": 20.0})
    assert (seen.record.outcome, seen.record.error_kind) == ("failed", "malformed")
    assert "HTTP" in (seen.record.error_message or "")
    assert not seen.answer["usable"]


def test_a_bad_chunk_size(answer: Serve, client: Client) -> None:
    """A chunk size that is none is malformed, the tokens before it kept."""

    def act(peer: Peer) -> None:
        peer.begin_stream(transfer_encoding="chunked")
        event = peer.event({"content": "a"})
        peer.send(b"%x\r\n%b\r\n" % (len(event), event) + b"zz\r\n")

    record = client.send(answer(act).base_url).record
    assert (record.outcome, record.error_kind, record.chunks) == ("failed", "malformed", 1)


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\ncontent-"])
def test_no_answer(answer: Serve, client: Client, how: str, said: bytes) -> None:
    """A connection that ends before the headers are there is a failed connection, or a cut one once bytes came."""

    def act(peer: Peer) -> None:
        peer.send(said)
        getattr(peer, how)()

    record = client.send(answer(act).base_url).record
    kinds = {"cut"} if said and how == "close" else {"connection_failed", "cut"} if said else {"connection_failed"}
    assert record.outcome == "failed"
    assert record.error_kind in kinds
    assert record.error_phase == "headers"
    assert record.status is None


# 1xx


@pytest.mark.parametrize("split", [False, True])
def test_1xx_before_the_answer(answer: Serve, client: Client, split: bool) -> None:
    """100 and 103 are passed over: the answer proper counts, with its own headers only."""
    early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\nretry-after: 5\r\n\r\n"
    late = b'HTTP/1.1 429 Too Many Requests\r\ncontent-length: 29\r\n\r\n{"error": {"message": "Hm."}}'
    send = _bytewise if split else _at_once
    seen = client.send(answer(lambda peer: send(peer, early + late)).base_url)
    assert (seen.record.status, seen.record.outcome, seen.record.error_message) == (429, "throttled", "Hm.")
    assert seen.record.retry_after_ns is None
    assert seen.answer["usable"]


def test_headers_are_stamped_at_the_answer_proper(answer: Serve, client: Client) -> None:
    """The stamp of the headers is not that of an early 103."""
    sends: queue.Queue[tuple[int, int]] = queue.Queue()

    def act(peer: Peer) -> None:
        peer.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        peer.socket.settimeout(0.05)
        with pytest.raises(TimeoutError):
            peer.socket.recv(1)
        peer.socket.settimeout(30)
        sends.put(peer.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"))

    seen = client.send(answer(act).base_url, UNSTREAMED)
    assert seen.at("headers") >= sends.get(timeout=30)[0] - 1_000_000


# kept connections


def test_a_connection_is_used_again(serve: Serve, client: Client) -> None:
    """Requests of one user share a connection; only the first has stamps of its opening."""

    def handle(peer: Peer) -> None:
        for _ in range(3):
            peer.request()
            peer.begin_stream(transfer_encoding="chunked")
            peer.send(peer.chunked(peer.stream("a"), 11))
        peer.wait_for_end()

    server = serve(handle)
    seen = client.send(server.base_url, {}, {}, {})
    assert [record.outcome for record in seen.records] == ["success"] * 3
    assert [record.connection_reused for record in seen.records] == [False, True, True]
    assert [record.tcp_done_at_ns is None for record in seen.records] == [False, True, True]
    assert server.connections == 1


@pytest.mark.parametrize("status", [400, 429, 500])
def test_a_connection_is_kept_after_an_error(serve: Serve, client: Client, status: int) -> None:
    """An error that came whole costs no connection."""

    def handle(peer: Peer) -> None:
        peer.request()
        peer.answer(status)
        peer.request()
        peer.reply()
        peer.wait_for_end()

    server = serve(handle)
    seen = client.send(server.base_url, UNSTREAMED, UNSTREAMED)
    assert [record.outcome == "success" for record in seen.records] == [False, True]
    assert server.connections == 1


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_a_connection_that_the_server_will_close(serve: Serve, client: Client, version: str) -> None:
    """After `Connection: close`, or an answer in HTTP/1.0, the next request goes out on a new connection."""

    def handle(peer: Peer) -> None:
        peer.request()
        extra = "connection: close\r\n" if version == "1.1" else ""
        body = json.dumps(peer.completion())
        peer.send(f"HTTP/{version} 200 OK\r\n{extra}content-length: {len(body)}\r\n\r\n{body}".encode())
        peer.wait_for_end()

    server = serve(handle)
    seen = client.send(server.base_url, UNSTREAMED, UNSTREAMED)
    assert [record.connection_reused for record in seen.records] == [False, False]
    assert server.connections == 2


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_connection_closed_while_idle(serve: Serve, client: Client, how: str) -> None:
    """Where the server had closed the idle connection the request goes out again on a new one, and counts once."""
    requests: list[bytes] = []

    def first(peer: Peer) -> None:
        peer.request()
        peer.reply()
        # Read, and closed without an answer: to the client the same as a close that crossed its request.
        requests.append(peer.request()[0])
        getattr(peer, how)()

    def second(peer: Peer) -> None:
        requests.append(peer.request()[0])
        peer.reply()
        peer.wait_for_end()

    server = serve(first, second)
    seen = client.send(server.base_url, UNSTREAMED, UNSTREAMED)
    assert [record.outcome for record in seen.records] == ["success", "success"]
    assert [record.connection_reused for record in seen.records] == [False, False]
    assert requests[0] == requests[1]
    assert server.connections == 2
    again = seen.records[1]
    assert again.attempt == 2
    assert again.connect_start_at_ns is not None
    assert again.tcp_done_at_ns is not None


def test_a_request_is_sent_again_only_once(serve: Serve, client: Client) -> None:
    """A server that closes the new connection too gets no third request."""

    def first(peer: Peer) -> None:
        peer.request()
        peer.reply()
        peer.request()

    server = serve(first, lambda peer: peer.request())
    seen = client.send(server.base_url, UNSTREAMED, UNSTREAMED)
    assert [record.error_kind for record in seen.records] == [None, "connection_failed"]
    assert server.connections == 2


def test_a_request_is_not_sent_again_once_it_was_answered(serve: Serve, client: Client) -> None:
    """A kept connection that breaks after the first bytes of an answer is a cut: the server has begun to work."""

    def first(peer: Peer) -> None:
        peer.request()
        peer.reply()
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")

    server = serve(first)
    seen = client.send(server.base_url, UNSTREAMED, UNSTREAMED)
    assert [record.error_kind for record in seen.records] == [None, "cut"]
    assert server.connections == 1


def test_bytes_after_an_answer(serve: Serve, client: Client) -> None:
    """What comes behind an answer is not taken for the next: that connection is given up."""

    def first(peer: Peer) -> None:
        peer.request()
        body = json.dumps(peer.completion()).encode()
        stray = b"HTTP/1.1 500 Stray\r\ncontent-length: 0\r\n\r\n"
        peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body + stray)
        peer.wait_for_end()

    def second(peer: Peer) -> None:
        peer.request()
        peer.reply()
        peer.wait_for_end()

    server = serve(first, second)
    seen = client.send(server.base_url, UNSTREAMED, UNSTREAMED)
    assert [record.outcome for record in seen.records] == ["success", "success"]
    assert [record.connection_reused for record in seen.records] == [False, False]


def test_an_answer_before_the_request_is_through(serve: Serve, client: Client) -> None:
    """A server that refuses a large request before it has read it all is heard."""

    def handle(peer: Peer) -> None:
        peer.socket.recv(1024)
        peer.answer(413, {"error": {"message": "Too large."}})
        peer.wait_for_end()

    large = {"stream": False, "extra": {"filler": "x" * 2**24}}
    record = client.send(serve(handle).base_url, large).record
    assert (record.status, record.outcome, record.error_message) == (413, "failed", "Too large.")


def test_a_request_that_was_taken_and_dropped_is_a_failure(serve: Serve, client: Client) -> None:
    """A server that holds a request on a kept connection and then closes has failed it: nobody sends it again."""
    taken: list[bytes] = []

    def first(peer: Peer) -> None:
        peer.request()
        peer.reply()
        taken.append(peer.request()[0])
        # Far beyond the moment in which a close could have crossed the request.
        threading.Event().wait(0.3)
        peer.close()

    server = serve(first, lambda peer: taken.append(peer.request()[0]))
    seen = client.send(server.base_url, UNSTREAMED, UNSTREAMED)
    assert [record.error_kind for record in seen.records] == [None, "connection_failed"]
    assert [record.attempt for record in seen.records] == [1, 1]
    assert (len(taken), server.connections) == (1, 1)
