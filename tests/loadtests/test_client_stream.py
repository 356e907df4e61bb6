"""Streams as the client sees them: whole, cut, late, broken, cancelled; what is a token and what is not."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.loadtests.conftest import Client, Peer, Server, SignalPort

Serve = Callable[..., "Server"]


def _usage(peer: Peer, completion: int) -> bytes:
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": completion,
        "completion_tokens_details": {"reasoning_tokens": 1},
        "prompt_tokens_details": {"cached_tokens": 4},
    }
    return b"data: " + json.dumps({"id": "chatcmpl-1", "model": "m", "choices": [], "usage": usage}).encode() + b"\n\n"


def test_a_whole_stream(answer: Serve, client: Client) -> None:
    """A stream that ends with [DONE] is a success with its usage, its names and its count of chunks."""

    def act(peer: Peer) -> None:
        peer.begin_stream()
        peer.send(peer.stream("a", "b", "c", done=False) + _usage(peer, 7) + b"data: [DONE]\n\n")
        peer.close()

    record = client.send(answer(act).base_url).record
    assert (record.outcome, record.stream_outcome, record.error_kind, record.done_seen) == (
        "success",
        "completed",
        None,
        True,
    )
    assert (record.prompt_tokens, record.completion_tokens, record.token_source) == (9, 7, "usage")
    assert (record.reasoning_tokens, record.cached_tokens, record.chunks) == (1, 4, 3)
    assert (record.finish_reason, record.response_id, record.model_served) == ("stop", "chatcmpl-1", "m")


def test_without_usage_chunks_are_counted(answer: Serve, client: Client) -> None:
    """Where the server counts no tokens the chunks stand for them, and the record says so."""

    def act(peer: Peer) -> None:
        peer.begin_stream(transfer_encoding="chunked")
        peer.send(peer.chunked(peer.stream("a", "b", "c")))

    record = client.send(answer(act).base_url).record
    assert (record.completion_tokens, record.token_source, record.chunks) == (3, "chunks", 3)


@pytest.mark.parametrize("end", [b"data: [DONE]", b"data: [DONE]\n", b"data:[DONE]\r\n\r\n", b"data: [DONE]\r\r"])
def test_spellings_of_the_end(answer: Serve, client: Client, end: bytes) -> None:
    """[DONE] is seen with any line end, with and without a space, and where the connection ends right behind it."""

    def act(peer: Peer) -> None:
        peer.begin_stream()
        peer.send(peer.stream("a", done=False) + end)
        peer.close()

    record = client.send(answer(act).base_url).record
    assert (record.outcome, record.done_seen) == ("success", True)


@pytest.mark.parametrize("framing", ["chunked", "close"])
def test_done_may_be_missing(answer: Serve, client: Client, framing: str) -> None:
    """A stream with a finish reason and an orderly end is a success without [DONE]; the record says it was missing."""

    def act(peer: Peer) -> None:
        data = peer.stream("a", done=False)
        if framing == "chunked":
            peer.begin_stream(transfer_encoding="chunked")
            peer.send(peer.chunked(data))
        else:
            peer.begin_stream()
            peer.send(data)
            peer.close()

    record = client.send(answer(act).base_url).record
    assert (record.outcome, record.done_seen, record.finish_reason) == ("success", False, "stop")


def test_an_orderly_end_without_a_finish_reason_is_a_cut(answer: Serve, client: Client) -> None:
    """A stream that ends between two chunks, as HTTP goes in order, was cut all the same."""

    def act(peer: Peer) -> None:
        peer.begin_stream(transfer_encoding="chunked")
        peer.send(peer.chunked(peer.event({"content": "a"})))

    record = client.send(answer(act).base_url).record
    assert (record.outcome, record.stream_outcome, record.error_kind) == ("failed", "cut", "cut")
    assert (record.status, record.chunks) == (200, 1)


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("tokens", [0, 1, 3])
def test_cut_in_the_middle(answer: Serve, client: Client, signal_port: SignalPort, how: str, tokens: int) -> None:
    """A connection that ends in mid-stream, by FIN or RST, is a failure that keeps what came before."""

    def act(peer: Peer) -> None:
        peer.begin_stream(transfer_encoding="chunked")
        for number in range(tokens):
            event = peer.event({"content": f"t{number}"})
            peer.send(b"%x\r\n%b\r\n" % (len(event), event))
        if how == "reset":
            # A reset may overtake bytes that were not read yet: only after the client has had them.
            signal_port.fire(answered=True)
        getattr(peer, how)()

    case: dict[str, Any] = {"signal_port": signal_port.port, "on_signal": "stall"} if how == "reset" else {}
    record = client.send(answer(act).base_url, **case).record
    assert (record.outcome, record.stream_outcome, record.error_kind) == ("failed", "cut", "cut")
    assert record.error_phase == ("stream" if tokens else "first_token")
    assert (record.status, record.chunks, record.done_seen) == (200, tokens, False)
    assert (record.first_token_at_ns is not None) == bool(tokens)
    assert record.end_at_ns is not None


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_cut_after_done_is_none(answer: Serve, client: Client, signal_port: SignalPort, how: str) -> None:
    """A connection that breaks behind [DONE] costs the connection, not the result."""

    def act(peer: Peer) -> None:
        peer.begin_stream(transfer_encoding="chunked")
        data = peer.stream("a")
        peer.send(b"%x\r\n%b\r\n" % (len(data), data))
        signal_port.fire(answered=True)
        getattr(peer, how)()

    seen = client.send(answer(act).base_url, signal_port=signal_port.port, on_signal="stall")
    assert (seen.record.outcome, seen.record.done_seen) == ("success", True)
    assert not seen.answer["usable"]


def test_an_end_that_is_withheld_behind_done(answer: Serve, client: Client) -> None:
    """A server that sends [DONE] and never ends the message does not hold the user for long."""

    def act(peer: Peer) -> None:
        peer.begin_stream(transfer_encoding="chunked")
        data = peer.stream("a")
        peer.send(b"%x\r\n%b\r\n" % (len(data), data))

    seen = client.send(answer(act).base_url)
    assert (seen.record.outcome, seen.record.stream_outcome) == ("success", "completed")
    assert seen.record.end_at_ns is not None
    assert seen.record.last_token_at_ns is not None
    # The end is that of the last byte, not of the wait for more.
    assert seen.record.end_at_ns - seen.record.last_token_at_ns < 1_000_000_000
    assert not seen.answer["usable"]


@pytest.mark.parametrize(
    "event",
    [
        b"data: {not json}\n\n",
        b'data: {"choices": 7}\n\n',
        b'data: {"choices": [{"delta": 7}]}\n\n',
        b'data: {"choices": [{"delta": {"content": 7}}]}\n\n',
        b"data: []\n\n",
        b'data: {"choices": [{"delta": {"content": "\xff"}}]}\n\n',
    ],
)
@pytest.mark.parametrize("tokens", [0, 1, 3])
def test_malformed_events(answer: Serve, client: Client, event: bytes, tokens: int) -> None:
    """An event that is no chunk of a chat completion makes the stream malformed, at once, its tokens kept."""

    def act(peer: Peer) -> None:
        peer.begin_stream(transfer_encoding="chunked")
        for data in [*(peer.event({"content": "abc"}) for _ in range(tokens)), event]:
            peer.send(b"%x\r\n%b\r\n" % (len(data), data))

    seen = client.send(answer(act).base_url)
    record = seen.record
    assert (record.outcome, record.stream_outcome, record.error_kind) == ("failed", "malformed", "malformed")
    assert record.error_phase == ("stream" if tokens else "first_token")
    assert (record.status, record.chunks) == (200, tokens)
    assert not seen.answer["usable"]


@pytest.mark.parametrize("text", [b"\xff", b'a"b', b"a\\x", b"a\x01", b"\xed\xa0\x80"])
def test_a_malformed_text_amid_chunks_of_one_shape(answer: Serve, client: Client, text: bytes) -> None:
    """A chunk that differs from those before it only in a text that is no JSON is found out, as the first would be."""

    def act(peer: Peer) -> None:
        peer.begin_stream(transfer_encoding="chunked")
        for _ in range(4):
            event = peer.event({"content": "abc"})
            peer.send(b"%x\r\n%b\r\n" % (len(event), event))
        event = peer.event({"content": "abc"}).replace(b"abc", text)
        peer.send(b"%x\r\n%b\r\n" % (len(event), event))

    record = client.send(answer(act).base_url).record
    assert (record.outcome, record.stream_outcome, record.chunks) == ("failed", "malformed", 4)


def test_a_wrong_chunk_size_amid_chunks_of_one_shape(answer: Serve, client: Client) -> None:
    """A chunk whose size does not fit what follows breaks the framing, however much it looks like those before."""

    def act(peer: Peer) -> None:
        peer.begin_stream(transfer_encoding="chunked")
        event = peer.event({"content": "abc"})
        for _ in range(4):
            peer.send(b"%x\r\n%b\r\n" % (len(event), event))
        peer.send(b"%x\r\n%b\r\n" % (len(event) - 1, event))

    record = client.send(answer(act).base_url).record
    assert (record.outcome, record.error_kind) == ("failed", "malformed")


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("tokens", [0, 2])
def test_an_error_event(answer: Serve, client: Client, named: bool, tokens: int) -> None:
    """An `error` object as an event fails the stream with the error's words, before or amid its tokens."""
    error = b'data: {"error": {"message": "Overloaded.", "type": "server_error", "code": 503}}\n\n'

    def act(peer: Peer) -> None:
        peer.begin_stream()
        peer.send(b"".join(peer.event({"content": "a"}) for _ in range(tokens)))
        peer.send(b"event: error\n" * named + error)

    record = client.send(answer(act).base_url).record
    assert (record.outcome, record.stream_outcome, record.error_kind) == ("failed", "error_event", "error_event")
    assert record.error_phase == ("stream" if tokens else "first_token")
    assert (record.error_message, record.error_type, record.error_code) == ("Overloaded.", "server_error", "503")
    assert record.chunks == tokens


# timeouts


@pytest.mark.parametrize("stream", [True, False])
def test_no_headers_in_time(answer: Serve, client: Client, stream: bool) -> None:
    """A server that says nothing is a timeout in the phase `headers`, when the time for it is over."""
    timeouts = {"first_token_s": 0.3, "total_s": 20.0} if stream else {"total_s": 0.3}
    record = client.send(answer(lambda peer: None).base_url, {"stream": stream}, timeouts=timeouts).record
    assert (record.outcome, record.error_kind, record.error_phase) == ("failed", "timeout", "headers")
    assert record.end_at_ns is not None
    assert 250_000_000 < record.end_at_ns < 5_000_000_000


def test_a_list_of_models_in_time(answer: Serve, client: Client) -> None:
    """A list of models is due as soon as a first token is: a run does not wait minutes for a server that hangs."""
    timeouts = {"first_token_s": 0.3, "total_s": 20.0}
    record = client.send(answer(lambda peer: None).base_url, {"models": True}, timeouts=timeouts).record
    assert (record.error_kind, record.error_phase) == ("timeout", "headers")
    assert record.end_at_ns is not None
    assert record.end_at_ns < 5_000_000_000


def test_no_first_token_in_time(answer: Serve, client: Client) -> None:
    """Headers, a role and keep-alives are no token: the time for the first one runs on."""
    over = threading.Event()

    def act(peer: Peer) -> None:
        peer.begin_stream()
        peer.send(peer.event({"role": "assistant"}))
        while not over.wait(0.05):
            peer.send(b": ping\n\n")

    record = client.send(answer(act).base_url, timeouts={"first_token_s": 0.3}).record
    over.set()
    assert (record.outcome, record.stream_outcome) == ("failed", "timeout")
    assert (record.error_kind, record.error_phase, record.chunks) == ("timeout", "first_token", 0)


def test_nothing_for_too_long_between_chunks(answer: Serve, client: Client) -> None:
    """A stream that falls silent is a timeout in the phase `stream`, its tokens kept."""

    def act(peer: Peer) -> None:
        peer.begin_stream()
        peer.send(peer.event({"content": "a"}))

    record = client.send(answer(act).base_url, timeouts={"chunk_s": 0.3}).record
    assert (record.stream_outcome, record.error_kind, record.error_phase) == ("timeout", "timeout", "stream")
    assert record.chunks == 1
    assert record.end_at_ns is not None
    assert record.last_token_at_ns is not None
    assert 250_000_000 < record.end_at_ns - record.last_token_at_ns < 5_000_000_000


def test_a_stream_longer_than_the_bound_between_chunks(answer: Serve, client: Client) -> None:
    """Chunks that keep coming are not late, however long the stream lasts."""
    over = threading.Event()

    def act(peer: Peer) -> None:
        peer.begin_stream()
        for _ in range(12):
            peer.send(peer.event({"content": "a"}))
            over.wait(0.1)
        peer.send(peer.event({}, "stop") + b"data: [DONE]\n\n")
        peer.close()

    record = client.send(answer(act).base_url, timeouts={"chunk_s": 0.6}).record
    assert (record.outcome, record.chunks) == ("success", 12)


def test_the_whole_takes_too_long(answer: Serve, client: Client) -> None:
    """A stream that never ends is ended by the bound on the whole request."""
    over = threading.Event()

    def act(peer: Peer) -> None:
        peer.begin_stream()
        while not over.wait(0.05):
            peer.send(peer.event({"content": "a"}))

    record = client.send(answer(act).base_url, timeouts={"total_s": 0.5}).record
    over.set()
    assert (record.stream_outcome, record.error_kind, record.error_phase) == ("timeout", "timeout", "stream")
    assert "in all" in (record.error_message or "")
    assert record.chunks


def test_a_reply_whose_body_takes_too_long(answer: Serve, client: Client) -> None:
    """A reply that is not streamed and stops in its body is a timeout in the phase `body`."""

    def act(peer: Peer) -> None:
        peer.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{")

    record = client.send(answer(act).base_url, {"stream": False}, timeouts={"total_s": 0.4}).record
    assert (record.error_kind, record.error_phase, record.status) == ("timeout", "body", 200)


# cancelled by us


@pytest.mark.parametrize("tokens", [0, 2])
def test_cancelled(answer: Serve, client: Client, signal_port: SignalPort, tokens: int) -> None:
    """A request whose greenlet is killed leaves its one record, cancelled, with what it had."""

    def act(peer: Peer) -> None:
        peer.begin_stream()
        peer.send(b"".join(peer.event({"content": "a"}) for _ in range(tokens)))
        signal_port.fire()

    seen = client.send(answer(act).base_url, {}, {}, signal_port=signal_port.port, on_signal="kill")
    assert (seen.record.outcome, seen.record.error_kind) == ("cancelled", "cancelled")
    assert seen.answer["returned"] == 0
    assert not seen.answer["usable"]


def test_cancelled_while_connecting(serve: Serve, client: Client, signal_port: SignalPort) -> None:
    """Killed in the handshake it leaves its one record, too."""

    def handle(peer: Peer) -> None:
        signal_port.fire()
        peer.wait_for_end()

    url = f"https://127.0.0.1:{serve(handle).port}/v1"
    seen = client.send(url, signal_port=signal_port.port, on_signal="kill")
    assert (seen.record.outcome, seen.record.error_kind, seen.record.status) == ("cancelled", "cancelled", None)


# one record each


def test_one_record_for_each_request(serve: Serve, client: Client) -> None:
    """Whatever the server does, in whatever order, each request has one record and its own id on the wire."""
    sent: list[str] = []

    def note(peer: Peer) -> None:
        head = peer.request()[0].decode().split("\r\n")
        sent.extend(line.partition(": ")[2] for line in head if line.startswith("X-Request-Id"))

    def cut(peer: Peer) -> None:
        note(peer)
        peer.begin_stream()
        peer.send(peer.event({"content": "a"}))

    def whole(peer: Peer) -> None:
        for _ in range(2):
            note(peer)
            peer.begin_stream(transfer_encoding="chunked")
            peer.send(peer.chunked(peer.stream("a")))

    def refused(peer: Peer) -> None:
        note(peer)
        peer.answer(429, retry_after="0", connection="close")

    def gone(peer: Peer) -> None:
        note(peer)
        peer.reset()

    server = serve(cut, whole, refused, gone, whole)
    seen = client.send(server.base_url, *[{}] * 7)
    outcomes = [record.outcome for record in seen.records]
    assert outcomes == ["failed", "success", "success", "throttled", "failed", "success", "success"]
    assert len({record.record_id for record in seen.records}) == 7
    assert [record.request_id for record in seen.records] == sent
    assert seen.answer["returned"] == 7


def test_a_page_instead_of_a_stream(answer: Serve, client: Client) -> None:
    """A portal's page with status 200 is malformed, not a stream that was cut; a stream of another type is a stream."""
    page = b"<html><body>Please log in</body></html>"
    record = client.send(answer(lambda peer: peer.answer(200, page, content_type="text/html")).base_url).record
    assert (record.outcome, record.error_kind) == ("failed", "malformed")
    assert "text/html" in (record.error_message or "")
    plain = client.send(answer(lambda peer: peer.answer(200, peer.stream("a"), content_type="text/plain")).base_url)
    assert plain.record.outcome == "success"


def test_the_first_chunk_may_hold_anything(answer: Serve, client: Client) -> None:
    """An event of metadata counts as the first chunk, and not as a token."""

    def act(peer: Peer) -> None:
        peer.begin_stream()
        peer.send(b'data: {"provider": "x"}\n\n')
        threading.Event().wait(0.1)
        peer.send(peer.stream("a"))
        peer.close()

    record = client.send(answer(act).base_url).record
    assert record.first_chunk_at_ns is not None
    assert record.first_token_at_ns is not None
    assert record.first_token_at_ns - record.first_chunk_at_ns > 50_000_000
