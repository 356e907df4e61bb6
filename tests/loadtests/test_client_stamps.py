"""When things happened: the order of stamps, whose clock they are, what TTFT runs to, and the client's own lag."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from tensorix_records import RequestRecord

if TYPE_CHECKING:
    from tests.loadtests.conftest import Client, Peer, Server, SignalPort

Serve = Callable[..., "Server"]

# The offset between two clocks is known to less than this, and loopback delivers within the sender's call.
_CLOCKS_NS = 1_000_000
# A busy machine may take the processor from the server between its send and its reading of the clock, which only
# widens the bracket; the rest is for the kernel's own deferred work.
_DELIVERY_NS = 20_000_000

kernel_stamps = pytest.mark.skipif(sys.platform != "linux", reason="the kernel stamps what it receives on Linux only")


def _in_order(record: RequestRecord) -> None:
    stamps = [
        record.request_sent_at_ns,
        record.headers_at_ns,
        record.first_chunk_at_ns,
        record.first_token_at_ns,
        record.first_output_at_ns,
        record.last_token_at_ns,
        record.end_at_ns,
    ]
    known = [stamp for stamp in stamps if stamp is not None]
    assert len(known) == len(stamps), stamps
    assert known[0] >= 0
    assert all(earlier <= later for earlier, later in pairwise(known)), stamps


def _pause(seconds: float) -> None:
    threading.Event().wait(seconds)


@kernel_stamps
def test_ttft_is_to_the_first_token(answer: Serve, client: Client) -> None:
    """TTFT runs to the first token, not to headers, role chunk, empty delta or keep-alive, and is the kernel's."""
    sends: dict[str, tuple[int, int]] = {}

    def act(peer: Peer) -> None:
        peer.begin_stream()
        sends["arrived"] = (peer.arrived_ns, peer.arrived_ns)
        sends["role"] = peer.send(peer.event({"role": "assistant", "content": ""}))
        _pause(0.1)
        peer.send(b": ping\n\n" + peer.event({}) + peer.event({"content": None}))
        _pause(0.1)
        sends["token"] = peer.send(peer.event({"content": "a"}))
        _pause(0.05)
        sends["last"] = peer.send(peer.event({"content": "b"}))
        _pause(0.05)
        sends["end"] = peer.send(peer.event({}, "stop") + b"data: [DONE]\n\n")
        peer.close()

    seen = client.send(answer(act).base_url, keep_gaps=True)
    record = seen.record
    _in_order(record)
    assert record.stamp_source == "kernel"
    for column, name in (
        ("first_chunk", "role"),
        ("first_token", "token"),
        ("first_output", "token"),
        ("last_token", "last"),
        ("end", "end"),
    ):
        before, after = sends[name]
        assert before - _CLOCKS_NS <= seen.at(column) <= after + _DELIVERY_NS, column
    assert seen.at("start") <= sends["arrived"][0] + _CLOCKS_NS
    assert record.first_token_at_ns is not None
    assert record.first_token_at_ns >= 200_000_000 - _CLOCKS_NS
    assert record.chunks == 2
    assert record.last_token_at_ns is not None
    gap = record.last_token_at_ns - record.first_token_at_ns
    assert (record.icl_max_ns, record.chunk_gaps_ns) == (gap, [gap])


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning"])
def test_reasoning_comes_before_output(answer: Serve, client: Client, key: str) -> None:
    """Where the model reasons first, its first token is reasoning and its first output comes later."""

    def act(peer: Peer) -> None:
        peer.begin_stream()
        peer.send(peer.event({key: "hm"}))
        _pause(0.1)
        peer.send(peer.event({key: "so"}))
        _pause(0.1)
        peer.send(peer.event({"content": "a"}))
        peer.send(peer.event({}, "stop") + b"data: [DONE]\n\n")
        peer.close()

    record = client.send(answer(act).base_url).record
    _in_order(record)
    assert record.first_output_at_ns is not None
    assert record.first_token_at_ns is not None
    assert record.first_output_at_ns - record.first_token_at_ns >= 200_000_000 - _CLOCKS_NS
    assert record.chunks == 3


def test_reasoning_alone_has_no_output(answer: Serve, client: Client) -> None:
    """A reply that was reasoning to its end has a first token and no first output."""

    def act(peer: Peer) -> None:
        peer.begin_stream()
        peer.send(peer.event({"reasoning_content": "hm"}) + peer.event({}, "length") + b"data: [DONE]\n\n")
        peer.close()

    record = client.send(answer(act).base_url).record
    assert record.first_token_at_ns is not None
    assert record.first_output_at_ns is None
    assert record.finish_reason == "length"


def test_a_tool_call_is_a_token(answer: Serve, client: Client) -> None:
    """A tool call's name is the first token, and its calls are counted."""

    def call(index: int, **function: str) -> dict[str, object]:
        return {"tool_calls": [{"index": index, "function": function}]}

    def act(peer: Peer) -> None:
        peer.begin_stream()
        for delta in (call(0, name="look"), call(0, arguments="{}"), call(1, name="see")):
            peer.send(peer.event(delta))
        peer.send(peer.event({}, "tool_calls") + b"data: [DONE]\n\n")
        peer.close()

    record = client.send(answer(act).base_url).record
    _in_order(record)
    assert (record.tool_calls, record.chunks, record.finish_reason) == (2, 3, "tool_calls")


@kernel_stamps
def test_the_clients_own_lag_is_no_latency(answer: Serve, client: Client, signal_port: SignalPort) -> None:
    """A client that comes late to read has the kernel's stamps all the same, and owns up to its lag."""
    sends: list[tuple[int, int]] = []

    def act(peer: Peer) -> None:
        peer.begin_stream()
        signal_port.fire(answered=True)
        # The client's event loop stands still now, for 0.3 s.
        sends.append(peer.send(peer.event({"content": "a"})))
        _pause(0.6)
        sends.append(peer.send(peer.event({"content": "b"}) + peer.event({}, "stop") + b"data: [DONE]\n\n"))
        peer.close()

    seen = client.send(answer(act).base_url, signal_port=signal_port.port, on_signal="stall")
    record = seen.record
    assert record.outcome == "success"
    assert sends[0][0] - _CLOCKS_NS <= seen.at("first_token") <= sends[0][1] + _DELIVERY_NS
    assert record.lag_first_token_ns is not None
    assert record.lag_first_token_ns > 150_000_000
    assert record.lag_max_ns is not None
    assert record.lag_max_ns >= record.lag_first_token_ns
    assert record.chunks_in_first_read == 1


def test_chunks_that_come_in_one_read_are_counted(answer: Serve, client: Client) -> None:
    """Several chunks in one read are told, since the kernel stamps only the newest bytes of a read."""

    def act(peer: Peer) -> None:
        peer.begin_stream()
        peer.send(b"".join(peer.event({"content": text}) for text in "abc"))
        _pause(0.1)
        peer.send(b"".join(peer.event({"content": text}) for text in "defgh"))
        _pause(0.1)
        peer.send(peer.event({"content": "i"}) + peer.event({}, "stop") + b"data: [DONE]\n\n")
        peer.close()

    record = client.send(answer(act).base_url, keep_gaps=True).record
    assert (record.chunks, record.chunks_in_first_read, record.max_chunks_in_a_read) == (9, 3, 5)
    assert record.chunk_gaps_ns is not None
    assert [gap == 0 for gap in record.chunk_gaps_ns] == [True, True, False, True, True, True, True, False]


@pytest.mark.parametrize("framing", ["chunked", "close"])
def test_a_token_in_many_reads(answer: Serve, client: Client, framing: str) -> None:
    """An event that comes byte by byte, its UTF-8 characters split, is one chunk, stamped when it was whole."""
    sends: list[tuple[int, int]] = []

    def act(peer: Peer) -> None:
        peer.begin_stream(**({"transfer_encoding": "chunked"} if framing == "chunked" else {}))
        event = peer.event({"content": "ä€🙂"}).decode("unicode_escape").encode("utf-16", "surrogatepass")
        data = event.decode("utf-16").encode()
        sent = b"%x\r\n%b\r\n" % (len(data), data) if framing == "chunked" else data
        for at in range(len(sent)):
            sends.append(peer.send(sent[at : at + 1]))
        rest = peer.event({}, "stop") + b"data: [DONE]\n\n"
        peer.send(peer.chunked(rest) if framing == "chunked" else rest)
        peer.close()

    seen = client.send(answer(act).base_url)
    assert (seen.record.outcome, seen.record.chunks) == ("success", 1)
    _in_order(seen.record)
    # The event is whole with its last line end; in a chunk two bytes follow that.
    whole = sends[-3 if framing == "chunked" else -1]
    assert seen.at("first_token") >= whole[0] - _CLOCKS_NS


def test_paced_chunks_are_all_stamped(answer: Serve, client: Client) -> None:
    """In a paced stream of equal chunks, each in a chunk of its own, every one is counted with a stamp in order."""
    sends: list[tuple[int, int]] = []

    def act(peer: Peer) -> None:
        peer.begin_stream(transfer_encoding="chunked")
        for number in range(40):
            # Texts of every length, and some that must be escaped.
            event = peer.event({"content": ("x" * number + '"\n ') if number % 7 == 0 else "y" * (number + 1)})
            sends.append(peer.send(b"%x\r\n%b\r\n" % (len(event), event)))
            _pause(0.005)
        peer.send(peer.chunked(peer.event({}, "stop") + b"data: [DONE]\n\n"))

    seen = client.send(answer(act).base_url, keep_gaps=True)
    record = seen.record
    assert (record.outcome, record.chunks, record.done_seen) == ("success", 40, True)
    _in_order(record)
    stamps = [stamp - seen.answer["offset_ns"] for stamp in seen.answer["results"][0]["chunk_unix_ns"]]
    if sys.platform == "linux":
        for stamp, (before, after) in zip(stamps, sends, strict=True):
            assert before - _CLOCKS_NS <= stamp <= after + _DELIVERY_NS
    assert record.response_bytes is not None
    assert record.response_bytes > 40 * 100


def test_the_time_before_a_request(serve: Serve, client: Client) -> None:
    """Opening a connection lies before the start, so that it is no part of TTFT."""

    def handle(peer: Peer) -> None:
        peer.request()
        peer.begin_stream()
        peer.send(peer.stream("a"))

    record = client.send(serve(handle).base_url).record
    assert record.connect_start_at_ns is not None
    assert record.dns_done_at_ns is not None
    assert record.tcp_done_at_ns is not None
    assert record.connect_start_at_ns <= record.dns_done_at_ns <= record.tcp_done_at_ns <= 0
    assert record.tls_done_at_ns is None
