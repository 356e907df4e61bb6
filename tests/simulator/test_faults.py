"""What each fault is on the wire, byte for byte: what comes with it beside what comes without."""

from __future__ import annotations

import json
import re
import socket
import struct
import time
import tomllib
import uuid
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import pytest

from tensorix_simulator import Simulator

_STATUSES = {
    400: ("invalid_request_error", "invalid_request"),
    401: ("authentication_error", "invalid_api_key"),
    402: ("insufficient_credits", "insufficient_credits"),
    403: ("invalid_request_error", "forbidden"),
    404: ("invalid_request_error", "model_not_found"),
    429: ("rate_limit_error", "rate_limit_exceeded"),
    500: ("server_error", "internal_error"),
    502: ("server_error", "bad_gateway"),
    503: ("server_error", "overloaded"),
    504: ("server_error", "gateway_timeout"),
}
_STALL_NS = 200_000_000
_ROWS: list[dict[str, str]] = tomllib.loads(Path(__file__).with_name("fault_table.toml").read_text())["cases"]


class Wire(Protocol):
    """The raw connection of conftest."""

    socket: socket.socket

    def send(self, data: bytes) -> None: ...
    def read_until(self, mark: bytes) -> bytes: ...
    def read_all(self) -> bytes: ...
    def read_response(self) -> tuple[int, dict[str, str], bytes]: ...


def _plain(data: bytes) -> bytes:
    """Without what differs between any two responses."""
    for pattern, instead in (
        (rb"chatcmpl-[0-9a-f]{32}", b"chatcmpl-0"),
        (rb'"created":\d+', b'"created":0'),
        (rb"req-[0-9a-f]{32}", b"req-0"),
        (rb"date: [^\r]*", b"date: 0"),
    ):
        data = re.sub(pattern, instead, data)
    # The sizes of chunks follow from what they hold.
    return data


class Asked:
    """Sends the same request with and without a fault, as the first of its kind each time."""

    def __init__(
        self, simulator: Simulator, connect: Callable[[Simulator], Wire], request: Callable[..., bytes]
    ) -> None:
        self.simulator = simulator
        self._connect = connect
        self._request = request
        self._before = 0
        self._id = ""

    def open(self, fault: str | None, body: dict[str, Any] | None, **request: Any) -> Wire:
        """The connection on which it was asked, nothing read yet."""
        self._before = self.simulator.truth_path.stat().st_size
        self.simulator.reset()
        wire = self._connect(self.simulator)
        headers = {} if fault is None else {"x_simulator_fault": fault}
        # The request before may still be on its way into the truth: only by its id is a line known to be this one's.
        self._id = f"req-{uuid.uuid4().hex}"
        wire.send(self._request(body, **{"x_request_id": self._id, **request, **headers}))
        return wire

    def stream(self, fault: str | None, **body: Any) -> bytes:
        """Everything that comes of a stream up to the end of its connection, HTTP's chunks as they are."""
        wire = self.open(fault, _chat(stream=True, **body), connection="close")
        return _plain(wire.read_all())

    def parts(self, **body: Any) -> tuple[bytes, list[bytes]]:
        """Head and chunks (HTTP's) of the stream without a fault; the last two are [DONE] and the end."""
        head, _, rest = self.stream(None, **body).partition(b"\r\n\r\n")
        chunks = [piece + b"\n\n\r\n" for piece in rest.split(b"\n\n\r\n")]
        assert chunks[-1] == b"0\r\n\r\n\n\n\r\n"
        return head + b"\r\n\r\n", [*chunks[:-1], b"0\r\n\r\n"]

    def truth(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Arrival and end of the last request."""
        deadline = time.monotonic() + 60
        while True:
            lines = self._lines()
            arrivals = [line for line in lines if line["event"] == "arrival" and line["request_id"] == self._id]
            ends = {line["n"]: line for line in lines if line["event"] == "end"}
            if arrivals and arrivals[-1]["n"] in ends:
                return arrivals[-1], ends[arrivals[-1]["n"]]
            assert time.monotonic() < deadline, "it does not end"
            time.sleep(0.005)

    def _lines(self) -> list[dict[str, Any]]:
        """The truth from the last request on."""
        with self.simulator.truth_path.open("rb") as file:
            file.seek(self._before)
            data = file.read()
        return [json.loads(line) for line in data[: data.rfind(b"\n") + 1].splitlines()]


def _chat(**parameters: Any) -> dict[str, Any]:
    body = {"model": "z-ai/glm-5", "messages": [{"role": "user", "content": "Say something."}], "max_tokens": 4}
    return {**body, **parameters}


def _chunk(event: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(event), event)


def _merged(data: bytes) -> bytes:
    """The head and what the chunks of HTTP's hold; a 0 where the mark of the end has come."""
    head, mark, rest = data.partition(b"\r\n\r\n")
    whole = head + mark
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        assert rest[length : length + 2] == b"\r\n"
        whole, rest = whole + rest[:length], rest[length + 2 :]
        if not length:
            return whole + b"0"
    return whole


def _event(chunk: bytes) -> bytes:
    """What a chunk of HTTP's holds."""
    size, _, rest = chunk.partition(b"\r\n")
    # The size is that of the event before it was made plain.
    assert int(size, 16) >= len(rest) - 2
    return rest[:-2]


def _read_to_end(wire: Wire) -> tuple[bytes, str]:
    """What comes in the socket's time, and whether it ends in order, by a reset or not."""
    got = b""
    deadline = time.monotonic() + (wire.socket.gettimeout() or 0)
    try:
        while data := wire.socket.recv(65_536):
            got += data
            if time.monotonic() > deadline:
                return got, "silence"
    except ConnectionResetError:
        return got, "reset"
    except TimeoutError:
        return got, "silence"
    return got, "end"


@pytest.fixture
def asked(quick: Simulator, connect: Callable[[Simulator], Wire], wire_request: Callable[..., bytes]) -> Asked:
    """On the simulator that the module shares."""
    return Asked(quick, connect, wire_request)


# instead of an answer


@pytest.mark.parametrize("status", list(_STATUSES))
@pytest.mark.parametrize("path", ["chat", "stream", "models"])
def test_a_status(asked: Asked, status: int, path: str) -> None:
    """The documented error object with the status, whatever was asked, and the connection goes on."""
    kind, code = _STATUSES[status]
    if path == "models":
        wire = asked.open(f"status {status}", None, method="GET", path="/v1/models")
    else:
        wire = asked.open(f"status {status}", _chat(stream=path == "stream"))
    got, headers, body = wire.read_response()
    assert (got, headers["content-type"]) == (status, "application/json")
    error = json.loads(body)["error"]
    assert (sorted(error), error["type"], error["code"]) == (["code", "message", "type"], kind, code)
    wire.send(b"GET /v1/models HTTP/1.1\r\nauthorization: Bearer k\r\n\r\n")
    assert wire.read_response()[0] == 200
    lines = [line for line in asked.simulator.truth() if line["event"] == "arrival"]
    assert (lines[-2]["decision"], lines[-2]["status"]) == ("injected_error", status)
    assert (lines[-2]["fault"], lines[-1]["fault"]) == (f"status {status}", None)


def test_a_status_in_the_set_style(
    start: Callable[..., Simulator], connect: Callable[[Simulator], Wire], wire_request: Callable[..., bytes]
) -> None:
    """The style writes it: LiteLLM's code is the status as a string."""
    asked = Asked(start(style="litellm", rpm=None, tpm=None), connect, wire_request)
    status, _, body = asked.open("status 503", _chat()).read_response()
    assert (status, json.loads(body)["error"]["code"]) == (503, "503")


def test_a_429_says_when_to_try_again_where_that_is_set(
    start: Callable[..., Simulator], connect: Callable[[Simulator], Wire], wire_request: Callable[..., bytes]
) -> None:
    """No limit was reached, so there is no honest time to name: only the fixed one is."""
    simulator = start(rpm=None, tpm=None)
    for mode, wanted in (("none", None), ("honest", None), ("fixed60", "60")):
        simulator.change(retry_after=mode)
        _, headers, _ = Asked(simulator, connect, wire_request).open("status 429", _chat()).read_response()
        assert headers.get("retry-after") == wanted


@pytest.mark.parametrize("stream", [False, True])
def test_reset(asked: Asked, stream: bool) -> None:
    """The request is read, then the connection is reset: no byte comes."""
    wire = asked.open("reset", _chat(stream=stream))
    with pytest.raises(ConnectionResetError):
        wire.socket.recv(1)
    arrival, end = asked.truth()
    assert (arrival["decision"], arrival["status"], arrival["fault"]) == ("injected_reset", 0, "reset")
    assert (arrival["body_ns"] is not None, end["ended"], end["headers_sent_ns"]) == (True, "reset", None)


def test_out_of_credit(asked: Asked) -> None:
    """402 as for a key without credit, on chat completions only."""
    status, _, body = asked.open("out of credit", _chat()).read_response()
    assert (status, json.loads(body)["error"]["code"]) == (402, "insufficient_credits")
    assert (asked.truth()[0]["decision"], asked.truth()[0]["fault"]) == ("no_credit", "out of credit")
    assert asked.open("out of credit", None, method="GET", path="/v1/models").read_response()[0] == 200
    assert asked.truth()[0]["fault"] is None


# stalls


def test_a_stall_before_headers(asked: Asked) -> None:
    """Nothing for the time, then the same bytes; what is late by the stall alone is not late in the truth."""
    without = asked.stream(None)
    assert asked.stream("stall 200ms before headers") == without
    arrival, end = asked.truth()
    assert arrival["fault"] == "stall 200ms before headers"
    assert end["headers_sent_ns"] - arrival["decided_ns"] >= _STALL_NS - 1_000_000
    assert end["ended"] == "complete"
    gaps = [after - before for before, after in pairwise(end["chunk_sent_ns"])]
    assert end["first_token_sent_ns"] - arrival["body_ns"] >= _STALL_NS
    assert len(gaps) == 3
    # A busy machine makes some of them late, the stall would all.
    assert min(end["lateness_ns"]) < _STALL_NS


def test_a_stall_before_the_first_token(asked: Asked) -> None:
    """The head and the role come at once, the first token after the time, the bytes are the same."""
    without = asked.stream(None)
    assert asked.stream("stall 200ms before first token") == without
    arrival, end = asked.truth()
    assert end["headers_sent_ns"] - arrival["decided_ns"] < _STALL_NS
    assert end["first_token_sent_ns"] - arrival["body_ns"] >= _STALL_NS
    assert end["chunk_sent_ns"][-1] - end["chunk_sent_ns"][0] < _STALL_NS


@pytest.mark.parametrize("after", [1, 2, 4])
def test_a_stall_between_chunks(asked: Asked, after: int) -> None:
    """So many chunks come, then nothing for the time, then the rest; the bytes are the same."""
    without = asked.stream(None)
    assert asked.stream(f"stall 200ms after {after} chunks") == without
    _, end = asked.truth()
    stamps = [*end["chunk_sent_ns"], end["last_sent_ns"]]
    gaps = [after - before for before, after in pairwise(stamps)]
    # A token's due times keep their distances, so the one before may be late by its lateness.
    late_ns = end["lateness_ns"][after - 1]
    assert gaps[after - 1] >= _STALL_NS - late_ns
    assert all(gap < _STALL_NS for at, gap in enumerate(gaps) if at != after - 1)


@pytest.mark.parametrize("where", ["before headers", "before first token", "after 1 chunk"])
def test_a_stall_of_a_whole_body(asked: Asked, where: str) -> None:
    """The same bytes, of which nothing, the head or half the body comes before the time."""
    without = asked.open(None, _chat(), connection="close").read_all()
    head, _, body = without.partition(b"\r\n\r\n")
    before = {"before headers": 0, "before first token": len(head) + 4, "after 1 chunk": len(head) + 4 + len(body) // 2}
    wire = asked.open(f"stall 200ms {where}", _chat(), connection="close")
    got = b""
    while len(got) < before[where]:
        got += wire.socket.recv(before[where] - len(got))
    wire.socket.settimeout(0.02)
    with pytest.raises(TimeoutError):
        wire.socket.recv(1)
    wire.socket.settimeout(10)
    got += wire.read_all()
    assert _plain(got) == _plain(without)
    arrival, end = asked.truth()
    assert end["last_sent_ns"] - arrival["decided_ns"] >= _STALL_NS
    assert (end["ended"], end["completion_tokens"]) == ("complete", 4)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("where", ["before headers", "before first token", "after 1 chunk"])
def test_a_stall_ends_when_the_client_goes(asked: Asked, where: str, stream: bool) -> None:
    """However long it would last: the request is over as soon as the client is."""
    fault = f"stall 24h {where}" + "; comments every 1s" * stream
    wire = asked.open(fault, _chat(stream=stream))
    wanted = {"before headers": b"", "before first token": b"\r\n\r\n"}.get(
        where, b'"content"' if stream else b'"choices"'
    )
    while wanted and wanted not in wire.socket.recv(65_536, socket.MSG_PEEK):
        pass
    while asked.simulator.truth()[-1].get("fault") != fault:
        time.sleep(0.005)
    wire.socket.close()
    arrival, end = asked.truth()
    assert end["ended"] == "client_gone"
    assert end["end_ns"] - arrival["decided_ns"] < 5_000_000_000


def test_a_stalled_request_ends_with_the_simulator(
    connect: Callable[[Simulator], Wire], wire_request: Callable[..., bytes], tmp_path: Any
) -> None:
    """Stopping does not wait for it, and the truth says how it ended."""
    truth = tmp_path / "truth.jsonl"
    with Simulator(ttft="1ms", truth_path=truth) as simulator:
        asked = Asked(simulator, connect, wire_request)
        for stream in (False, True):
            wire = asked.open("stall 24h before first token", _chat(stream=stream))
            wire.read_until(b"\r\n\r\n")
    ends = [json.loads(line) for line in truth.read_text().splitlines() if '"event":"end"' in line]
    assert [end["ended"] for end in ends] == ["stopped", "stopped"]


# bodies


@pytest.mark.parametrize("after", [0, 1, 3, 4])
def test_a_cut_by_fin(asked: Asked, after: int) -> None:
    """The head, the role, so many chunks, and the end of the connection: no part of an event, no end of the body."""
    head, chunks = asked.parts()
    assert asked.stream(f"cut after {after} chunks") == head + b"".join(chunks[: 1 + after])
    arrival, end = asked.truth()
    assert (arrival["fault"], end["ended"]) == (f"cut after {after} chunks", "cut")
    assert (end["completion_tokens"], len(end["chunk_sent_ns"])) == (after, after)


@pytest.mark.parametrize("after", [0, 2])
def test_a_cut_by_rst(asked: Asked, after: int) -> None:
    """The same bytes, then a reset."""
    head, chunks = asked.parts()
    wire = asked.open(f"cut after {after} chunks by reset", _chat(stream=True), connection="close")
    got, ended = _read_to_end(wire)
    assert ended == "reset"
    assert _plain(got) == head + b"".join(chunks[: 1 + after])
    assert asked.truth()[1]["ended"] == "cut"


@pytest.mark.parametrize("by_reset", [False, True])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models"])
def test_a_whole_body_is_cut_half_way(asked: Asked, by_reset: bool, path: str) -> None:
    """The length that is promised is the true one, half of it comes."""
    request: dict[str, Any] = {"path": path, "connection": "close"}
    body = _chat() if "chat" in path else None
    request["method"] = "POST" if body else "GET"
    without = asked.open(None, body, **request).read_all()
    head, _, whole = without.partition(b"\r\n\r\n")
    wire = asked.open("cut by reset" if by_reset else "cut", body, **request)
    got, ended = _read_to_end(wire)
    assert ended == ("reset" if by_reset else "end")
    assert _plain(got.partition(b"\r\n\r\n")[0]) == _plain(head)
    assert len(got) == len(head) + 4 + len(whole) // 2
    assert asked.truth()[1]["ended"] == "cut"


@pytest.mark.parametrize("after", [0, 2, 4])
def test_a_malformed_chunk(asked: Asked, after: int) -> None:
    """The event after so many chunks has only its first half, the others are as they would have been."""
    head, chunks = asked.parts()
    got_head, _, rest = asked.stream(f"malformed after {after} chunks").partition(b"\r\n\r\n")
    got = [piece + b"\n\n\r\n" for piece in rest.split(b"\n\n\r\n")[:-1]]
    assert got_head + b"\r\n\r\n" == head
    assert rest.endswith(b"\n\n\r\n0\r\n\r\n")
    spoilt = got.pop(1 + after)
    whole = chunks.pop(1 + after)
    assert got == chunks[:-1]
    event = _event(spoilt)
    # What is plain is shorter than what was halved, by the id and the time.
    assert _event(whole).startswith(event[:-2])
    assert event.endswith(b"\n\n")
    with pytest.raises(json.JSONDecodeError):
        json.loads(event.removeprefix(b"data: "))
    assert asked.truth()[1]["ended"] == "complete"


def test_a_malformed_body(asked: Asked) -> None:
    """Half of the JSON, with a length that fits it: the connection goes on."""
    wire = asked.open("malformed", _chat())
    status, headers, body = wire.read_response()
    assert (status, headers["content-type"], headers["content-length"]) == (200, "application/json", str(len(body)))
    with pytest.raises(json.JSONDecodeError):
        json.loads(body)
    wire.send(b"GET /v1/models HTTP/1.1\r\nauthorization: Bearer k\r\n\r\n")
    assert wire.read_response()[0] == 200


@pytest.mark.parametrize("after", [0, 2, 4])
def test_an_error_event(asked: Asked, after: int) -> None:
    """So many chunks, the error object as an event, the end of the body in order, and no [DONE]."""
    head, chunks = asked.parts()
    error = {"message": "The server had an error: try again later.", "type": "server_error", "code": "internal_error"}
    event = b"data: " + json.dumps({"error": error}, separators=(",", ":")).encode() + b"\n\n"
    wanted = head + b"".join(chunks[: 1 + after]) + _chunk(event) + b"0\r\n\r\n"
    assert asked.stream(f"error event after {after} chunks") == wanted
    assert asked.truth()[1]["ended"] == "error_event"


def test_the_connection_goes_on_after_an_error_event(asked: Asked) -> None:
    """The stream failed, its connection did not."""
    wire = asked.open("error event after 1 chunk", _chat(stream=True))
    assert wire.read_response()[0] == 200
    wire.send(b"GET /v1/models HTTP/1.1\r\nauthorization: Bearer k\r\n\r\n")
    assert wire.read_response()[0] == 200


def test_no_done(asked: Asked) -> None:
    """Everything but [DONE], the end of the body included."""
    head, chunks = asked.parts(stream_options={"include_usage": True})
    assert chunks[-2] == b"e\r\ndata: [DONE]\n\n\r\n"
    wanted = head + b"".join(chunks[:-2]) + chunks[-1]
    assert asked.stream("no done", stream_options={"include_usage": True}) == wanted


def test_split(asked: Asked) -> None:
    """The same events, each byte in a packet and in a chunk of HTTP's of its own."""
    without = asked.open(None, _chat(stream=True), connection="close").read_all()
    wire = asked.open("split", _chat(stream=True), connection="close")
    got = wire.read_all()
    rest = got.partition(b"\r\n\r\n")[2]
    parts = [rest[at : at + 6] for at in range(0, len(rest), 6)]
    assert parts.pop() == b"0\r\n\r\n"
    assert {(part[:3], part[4:]) for part in parts} == {(b"1\r\n", b"\r\n")}
    assert _plain(_merged(got)) == _plain(_merged(without))
    if hasattr(socket, "TCP_INFO"):
        # Linux's tcpi_data_segs_in. The head comes in one more, and the end of the body.
        (packets,) = struct.unpack_from("I", wire.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256), 152)
        assert packets >= len(parts) + 2


def test_split_without_chunks(asked: Asked) -> None:
    """A client of HTTP/1.0 gets the bytes as they are, one by one."""
    plain = _plain(asked.open(None, _chat(stream=True), version="1.0").read_all())
    assert _plain(asked.open("split", _chat(stream=True), version="1.0").read_all()) == plain


def test_comments_before_each_chunk(asked: Asked) -> None:
    """A comment goes before each chunk of the answer, in a chunk of HTTP's of its own; nothing else changes."""
    head, chunks = asked.parts()
    ping = _chunk(b": ping\n\n")
    wanted = head + chunks[0] + b"".join(ping + chunk for chunk in chunks[1:5]) + b"".join(chunks[5:])
    assert asked.stream("comments") == wanted


def test_comments_all_the_time(asked: Asked) -> None:
    """From the head on, as often as asked, also while the stream stalls; without them the bytes are the same."""
    without = asked.stream(None)
    got = asked.stream("comments every 10ms; stall 200ms before first token")
    ping = _chunk(b": ping\n\n")
    assert got.replace(ping, b"") == without
    # Each is due 10 ms after the one before; the last few may share the end.
    assert 15 <= got.count(ping) <= 25
    assert got.index(ping) < got.index(b'"content"')


@pytest.mark.parametrize("path", ["chat", "stream", "models", "unauthorised", "bad"])
def test_connection_close(asked: Asked, path: str) -> None:
    """Each response, of whatever kind, says that it is the last, and is."""
    request: dict[str, Any] = {}
    body: dict[str, Any] | None = _chat(stream=path == "stream", max_tokens=0 if path == "bad" else 2)
    if path == "models":
        body, request = None, {"method": "GET", "path": "/v1/models"}
    if path == "unauthorised":
        request["key"] = "sk-invalid"
    wire = asked.open("connection close", body, **request)
    status, headers, _ = wire.read_response()
    assert status == {"unauthorised": 401, "bad": 400}.get(path, 200)
    assert headers["connection"] == "close"
    assert wire.read_all() == b""
    assert asked.truth()[0]["fault"] == "connection close"


@pytest.mark.parametrize("fault", ["cut", "connection close"])
def test_a_pipeline_that_ends_early(
    quick: Simulator, connect: Callable[[Simulator], Wire], wire_request: Callable[..., bytes], fault: str
) -> None:
    """Requests behind the one whose connection ends have no response, and the truth says so."""
    before = len(quick.truth())
    wire = connect(quick)
    # At once: what comes after the response that ends the connection is not even read.
    faulty = wire_request(_chat(stream=True), x_request_id="a", x_simulator_fault=fault)
    wire.send(faulty + wire_request(_chat(), x_request_id="b"))
    got = wire.read_all()
    assert got.count(b"HTTP/1.1") == 1
    deadline = time.monotonic() + 10
    while len(ends := [line for line in quick.truth()[before:] if line["event"] == "end"]) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert {end["request_id"]: end["ended"] for end in ends} == {
        "a": "cut" if fault == "cut" else "complete",
        "b": "unanswered",
    }


def test_a_content_length_that_is_too_long(asked: Asked) -> None:
    """64 bytes more are promised than ever come, and the connection stays open."""
    without = asked.open(None, _chat()).read_response()[2]
    wire = asked.open("content length too long", _chat())
    head = wire.read_until(b"\r\n\r\n")
    assert f"content-length: {len(without) + 64}\r\n".encode() in head
    assert len(wire.read_until(b'"total_tokens":8}}')) == len(without)
    wire.socket.settimeout(0.05)
    with pytest.raises(TimeoutError):
        wire.socket.recv(1)


def test_a_content_length_that_is_too_short(asked: Asked) -> None:
    """Half is promised; the rest of the body comes where the next response should."""
    whole = asked.open(None, _chat()).read_response()[2]
    wire = asked.open("content length too short", _chat())
    _, _, body = wire.read_response()
    assert len(body) == len(whole) // 2
    rest = wire.read_until(b'"total_tokens":8}}')
    assert _plain(body + rest) == _plain(whole)


# together


def test_the_first_of_two_wins(asked: Asked) -> None:
    """Of faults that exclude each other the first happens, and the truth names only that."""
    head, chunks = asked.parts()
    got = asked.stream("cut after 2 chunks; error event after 1 chunk; no done; cut after 3 chunks")
    assert got == head + b"".join(chunks[:3])
    assert asked.truth()[0]["fault"] == "cut after 2 chunks"
    assert asked.open("status 503; status 500; reset", _chat()).read_response()[0] == 503
    assert asked.truth()[0]["fault"] == "status 503"


def test_faults_that_go_together(asked: Asked) -> None:
    """Pieces, comments, a stall and a cut in one stream; the truth names them all."""
    cut = asked.open("cut after 2 chunks", _chat(stream=True), connection="close").read_all()
    faults = "split; comments; stall 50ms after 1 chunk; cut after 2 chunks"
    got = asked.open(faults, _chat(stream=True), connection="close").read_all()
    role, first, second, nothing = _plain(_merged(cut)).split(b"\n\n")
    assert (_plain(_merged(got)), nothing) == (b"\n\n: ping\n\n".join((role, first, second)) + b"\n\n", b"")
    assert asked.truth()[0]["fault"] == faults
    status, headers, body = asked.open("status 500; malformed; connection close", _chat()).read_response()
    assert (status, headers["connection"]) == (500, "close")
    with pytest.raises(json.JSONDecodeError):
        json.loads(body)


def test_what_cannot_be_seen_is_not_named(asked: Asked) -> None:
    """A stream's fault on a whole body, a cut after more chunks than there are, and all of it on a refusal."""
    assert asked.open("no done; split; comments; error event", _chat()).read_response()[0] == 200
    assert asked.truth()[0]["fault"] is None
    without = asked.stream(None)
    assert asked.stream("cut after 5 chunks; content length too long") == without
    assert asked.truth()[0]["fault"] is None
    assert asked.open("status 500; cut; malformed", _chat(max_tokens=0)).read_response()[0] == 400
    assert asked.truth()[0]["fault"] is None


def test_several_choices(asked: Asked) -> None:
    """A chunk is one token of each choice, whose events come together."""
    without = asked.stream(None, n=2)
    events = without.count(b'"content"')
    assert events == 8
    got = asked.stream("cut after 2 chunks", n=2)
    assert without.startswith(got)
    assert got.count(b'"content"') == 4
    got = asked.stream("malformed after 1 chunk", n=2)
    assert got.count(b"finish_reason") == without.count(b"finish_reason") - 1


def test_a_head_and_options(asked: Asked) -> None:
    """A head alone can be late, or the last of its connection, and has the true length; OPTIONS meets no faults."""
    fault = "content length too long; cut; stall 30ms before headers; connection close"
    wire = asked.open(fault, None, method="HEAD", path="/v1/models")
    head = wire.read_all()
    assert head.endswith(b"\r\n\r\n")
    assert b"connection: close\r\n" in head
    whole = asked.open(None, None, method="GET", path="/v1/models").read_response()[2]
    assert f"content-length: {len(whole)}\r\n".encode() in head
    assert asked.open(fault, None, method="OPTIONS", path="/v1/models").read_response()[0] == 204
    assert asked.truth()[0]["fault"] is None
    arrivals = [line["fault"] for line in asked.simulator.truth() if line["event"] == "arrival"]
    assert arrivals[-3] == "stall 30ms before headers; connection close"


def test_http_1_0(asked: Asked) -> None:
    """Where only the end of the connection ends a body there are no chunks of HTTP's, with or without faults."""
    wire = asked.open("comments; error event after 1 chunk", _chat(stream=True), version="1.0")
    head, _, rest = wire.read_all().partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head
    events = rest.split(b"\n\n")
    assert [event[:7] for event in events] == [b"data: {", b": ping", b"data: {", b"data: {", b""]
    assert "error" in json.loads(events[3][6:])


def test_a_client_that_does_not_read(asked: Asked) -> None:
    """A cut waits for what was sent before it: all of that comes, also to a client that reads late."""
    tokens = 30_000
    simulator = asked.simulator
    simulator.change(between_tokens="0s")
    try:
        wire = asked.open(f"cut after {tokens} chunks", _chat(stream=True, max_tokens=tokens))
        _wait_until_idle(simulator)
        got, ended = _read_to_end(wire)
    finally:
        simulator.change(between_tokens="1ms")
    assert (got.count(b'"content"'), b"[DONE]" in got, ended) == (tokens, False, "end")
    _, end = asked.truth()
    assert end["ended"] == "cut"
    assert end["blocked"] > 0


def _wait_until_idle(simulator: Simulator) -> None:
    """Until everything is made, and stands in the kernel's buffers or before them."""
    seen: list[tuple[str, ...]] = []
    deadline = time.monotonic() + 10
    while len(seen) < 4 or len(set(seen[-4:])) > 1:
        assert time.monotonic() < deadline
        # The times that it has computed, of `proc(5)`.
        seen.append(tuple(Path(f"/proc/{simulator.pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
        time.sleep(0.05)


# who is asked


def test_a_wrong_header_is_refused(asked: Asked) -> None:
    """400 whose message names the kinds, and nothing is charged."""
    status, _, body = asked.open("sabotage", _chat()).read_response()
    error = json.loads(body)["error"]
    assert (status, error["code"], error["param"]) == (400, "invalid_fault", "x-simulator-fault")
    assert "'sabotage' is no fault: write one of status 503; out of credit; refuse" in error["message"]
    assert asked.open("refuse", _chat()).read_response()[0] == 400


def test_the_header_can_be_switched_off(
    start: Callable[..., Simulator], connect: Callable[[Simulator], Wire], wire_request: Callable[..., bytes]
) -> None:
    """Then it is a header like any other."""
    asked = Asked(start(fault_header=False), connect, wire_request)
    assert asked.open("status 500", _chat()).read_response()[0] == 200
    assert asked.open("sabotage; slow reading 1 bytes/s", _chat()).read_response()[0] == 200


# the table that the official client and the load client are held to, too


@pytest.mark.parametrize("row", _ROWS, ids=lambda row: f"{row['ask']}, {row['fault']}")
def test_how_the_bytes_begin_and_end(asked: Asked, row: dict[str, str]) -> None:
    """The status, and whether the connection ends in order, by a reset or not at all."""
    request: dict[str, Any] = {"connection": "close"}
    body = _chat(stream=row["ask"] == "stream")
    if row["ask"] == "models":
        wire = asked.open(row["fault"], None, method="GET", path="/v1/models", **request)
    else:
        wire = asked.open(row["fault"], body, **request)
    # An end is waited for however busy the machine is; silence begins behind the first bytes, where there are any.
    wire.socket.settimeout(60)
    if row["wire"].endswith("silence"):
        if not row["wire"].startswith("0 "):
            wire.socket.recv(1, socket.MSG_PEEK)
        wire.socket.settimeout(0.25)
    got, ended = _read_to_end(wire)
    # What is still to come are at most comments.
    assert f"{int(got[9:12] or 0)} {ended}" == row["wire"]
    wire.socket.close()
    if got:
        arrival, _ = asked.truth()
        assert str(arrival["status"]) == row["wire"].split()[0]
