"""One request over a connection of its own: what goes out, what is kept of what comes back, and the stamps."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import socket
import threading
import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from tensorix_api import Secret
from tensorix_api.errors import SettingsError
from tensorix_probes.exchange.answer import Answer
from tensorix_probes.exchange.exchange import Exchange
from tensorix_probes.settings import Target, Timeouts
from tensorix_simulator import Simulator

if TYPE_CHECKING:
    from tests.probes.conftest import Peer

Serve = Callable[..., int]
TargetAt = Callable[..., Target]

_BODY = {"model": "m", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
_EVENT = b'data: {"id":"1","model":"m","choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}\n\n'
_KEY = "sk-test-of-the-probes"


def _at(port: int) -> str:
    return f"http://127.0.0.1:{port}/v1"


def _said(answer: Answer) -> tuple[Any, ...]:
    failure = answer.failure
    return (answer.status, *((str(failure.kind), str(failure.phase)) if failure else ()))


def test_what_goes_out(serve: Serve, target_at: TargetAt) -> None:
    """One request with the key, ids that the answer knows too, our name and the extra headers; the body as JSON."""
    requests: list[bytes] = []

    def handler(peer: Peer) -> None:
        requests.append(peer.request())
        peer.answer(200, b"{}")

    target = target_at(_at(serve(handler)), extra_headers={"X-Team": Secret("blue team")})
    exchange = Exchange(target)
    answer = exchange.ask("POST", "/chat/completions", kind="chat", body=_BODY, trace=("ab" * 16, "cd" * 8))
    head, _, body = requests[0].partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    fields = {name.lower(): text for name, _, text in (line.partition(": ") for line in lines)}
    assert first == "POST /v1/chat/completions HTTP/1.1"
    assert json.loads(body) == _BODY
    assert fields["authorization"] == f"Bearer {_KEY}"
    assert fields["x-team"] == "blue team"
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", answer.request_id)
    assert fields["x-request-id"] == answer.request_id
    assert fields["traceparent"] == f"00-{'ab' * 16}-{answer.span_id}-01"
    assert answer.trace_id == "ab" * 16
    assert re.fullmatch(r"tensorix-probe/\d+\.\d+\S*", fields["user-agent"])
    assert "cookie" not in fields
    second = exchange.ask("GET", "/models", kind="models", key=Secret("sk-another"))
    assert b"Bearer sk-another\r\n" in requests[1]
    assert _KEY.encode() not in requests[1]
    assert len({answer.request_id, second.request_id}) == len({answer.span_id, second.span_id}) == 2
    assert len(requests) == 2


def test_an_extra_header_takes_the_place_of_ours(serve: Serve, target_at: TargetAt) -> None:
    """Authorization and User-Agent can be set, once each; a key that is asked for goes before."""
    requests: list[bytes] = []

    def handler(peer: Peer) -> None:
        requests.append(peer.request().lower())
        peer.answer(200, b"{}", set_cookie="session=1")

    extra = {"Authorization": Secret("Basic abc"), "user-agent": Secret("mine")}
    exchange = Exchange(target_at(_at(serve(handler)), extra_headers=extra))
    exchange.ask("GET", "/models", kind="models")
    exchange.ask("GET", "/models", kind="models", key=Secret("sk-bad"))
    assert [re.findall(rb"authorization: (.*)\r", request) for request in requests] == [
        [b"basic abc"],
        [b"bearer sk-bad"],
    ]
    assert [re.findall(rb"user-agent: (.*)\r", request) for request in requests] == [[b"mine"], [b"mine"]]
    assert b"cookie" not in requests[1]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("extra_headers", {"x y": Secret("a")}),
        ("extra_headers", {"x": Secret("a\r\nb: c")}),
        ("extra_headers", {"x": Secret("")}),
        ("api_key", Secret("sk-with\nline")),
    ],
)
def test_what_no_header_can_carry(target_at: TargetAt, field: str, value: Any) -> None:
    """It is refused when the exchange is made, by the target's name and without the value."""
    with pytest.raises(SettingsError, match="'here'") as caught:
        Exchange(target_at("http://127.0.0.1:1/v1", **{field: value}))
    assert "with" not in str(caught.value)
    assert "b: c" not in str(caught.value)


def test_a_connection_for_each_request(serve: Serve, target_at: TargetAt) -> None:
    """The server sees as many connections as requests, each closed by us once its answer is over."""
    ended: list[bool] = []

    def handler(peer: Peer) -> None:
        peer.request()
        peer.answer(200, b"{}")
        peer.wait_for_end()
        ended.append(True)

    exchange = Exchange(target_at(_at(serve(handler))))
    for _ in range(3):
        assert exchange.ask("GET", "/models", kind="models").status == 200
    deadline = time.monotonic() + 10
    while len(ended) < 3 and time.monotonic() < deadline:
        time.sleep(0.005)
    assert len(ended) == 3


def test_the_rate_limits_of_any_status(serve: Serve, target_at: TargetAt) -> None:
    """They are read from every response that has a head."""

    def handler(peer: Peer) -> None:
        peer.request()
        peer.answer(429, b'{"error":{"message":"slow down"}}', x_ratelimit_remaining_requests="0")

    answer = Exchange(target_at(_at(serve(handler)))).ask("GET", "/models", kind="models")
    assert answer.failure is None
    assert answer.error is not None
    assert (answer.error.kind, answer.error.phase, answer.error.text) == (
        "rate_limited",
        "headers",
        "status 429: rate limited",
    )
    assert (answer.limits.remaining_requests, answer.limits.spelling) == (0, "openai")
    assert dict(answer.headers)["x-ratelimit-remaining-requests"] == "0"


@pytest.mark.parametrize("status", [204, 226, 418, 599, 700])
def test_a_status_that_is_no_success(serve: Serve, target_at: TargetAt, status: int) -> None:
    """Whatever is not 200 has a kind, as the load client has it; a whole answer is no failure all the same."""

    def handler(peer: Peer) -> None:
        peer.request()
        peer.answer(status, b"" if status == 204 else b"{}")

    answer = Exchange(target_at(_at(serve(handler)))).ask("GET", "/models", kind="models")
    assert (answer.status, answer.failure) == (status, None)
    assert answer.error is not None
    kinds = {418: "bad_request", 599: "server_error"}
    assert (str(answer.error.kind), answer.error.phase) == (kinds.get(status, "unexpected_status"), "headers")


def test_the_key_is_in_no_text(serve: Serve, target_at: TargetAt) -> None:
    """A server that repeats the key, in a status or in an event, does not get it into what is kept of it."""
    error = json.dumps({"error": {"message": f"wrong key {_KEY}"}}).encode()

    def handler(peer: Peer) -> None:
        if b'"stream": true' in peer.request():
            peer.answer(200, b"data: " + error + b"\n\n", content_type="text/event-stream")
        else:
            peer.answer(302, b"", location=f"/login?key={_KEY}")

    exchange = Exchange(target_at(_at(serve(handler))))
    event = exchange.ask("POST", "/chat/completions", kind="stream", body={**_BODY, "stream": True})
    moved = exchange.ask("GET", "/models", kind="models")
    for answer in (event, moved):
        assert answer.failure is not None
        assert _KEY not in repr((answer.failure, answer.error))
        assert "[redacted]" in answer.failure.text
    assert _said(event) == (200, "error_event", "first_token")
    assert _said(moved) == (302, "unexpected_status", "headers")


def _plain(head: bytes, *pieces: bytes, reset: bool = False) -> Callable[[Peer], None]:
    def handler(peer: Peer) -> None:
        peer.request()
        for piece in (head, *pieces):
            peer.send(piece)
        if reset:
            peer.reset()

    return handler


_STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
_MANY = b"data: {}\n\n" * 10_000


@pytest.mark.parametrize(
    ("handler", "said"),
    [
        pytest.param(_plain(b""), (None, "connection_failed", "headers"), id="closed before a byte"),
        pytest.param(_plain(b"", reset=True), (None, "connection_failed", "headers"), id="reset before a byte"),
        pytest.param(_plain(b"HTTP/1.1 200 OK\r\nx: 1"), (None, "cut", "headers"), id="closed in the head"),
        pytest.param(_plain(b"SSH-2.0-OpenSSH_9.6\r\n"), (None, "malformed", "headers"), id="no HTTP, and waits"),
        pytest.param(_plain(b"\x15\x03\x01\x00\x02"), (None, "malformed", "headers"), id="TLS's alert"),
        pytest.param(_plain(b"HTTP/1.1 abc OK\r\n\r\n"), (None, "malformed", "headers"), id="no status"),
        pytest.param(
            _plain(b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 30_000), (None, "malformed", "headers"), id="endless head"
        ),
        pytest.param(_plain(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}"), (200, "cut", "body"), id="too short"),
        pytest.param(
            _plain(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"),
            (200, "malformed", "body"),
            id="no chunk",
        ),
        pytest.param(_plain(b"HTTP/1.1 200 OK\r\n\r\n{}"), (200,), id="ends with the connection"),
        pytest.param(
            _plain(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"), (200,), id="1xx"
        ),
        pytest.param(
            _plain(b"HTTP/1.1 200 OK\r\ncontent-encoding: br\r\ncontent-length: 2\r\n\r\n{}"),
            (200, "malformed", "headers"),
            id="an encoding that was not asked for",
        ),
        pytest.param(
            _plain(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\n{}"),
            (200, "malformed", "body"),
            id="damaged compression",
        ),
        pytest.param(
            _plain(b"HTTP/1.1 302 Found\r\nlocation: http://[bad/\r\ncontent-length: 0\r\n\r\n"),
            (302, "unexpected_status", "headers"),
            id="redirect to no address",
        ),
        pytest.param(
            _plain(b"HTTP/1.1 200 OK\r\n\r\n", *[b"x" * 2**20] * 5), (200, "malformed", "body"), id="endless body"
        ),
    ],
)
def test_what_is_wrong_with_a_whole_answer(
    serve: Serve, target_at: TargetAt, handler: Callable[[Peer], None], said: tuple[Any, ...]
) -> None:
    """Its kind and its phase; the status where there was one; the body never larger than 4 MiB."""
    answer = Exchange(target_at(_at(serve(handler)))).ask("GET", "/models", kind="models")
    assert _said(answer) == said
    assert len(answer.body) <= 4 * 2**20
    assert answer.phases.first_byte_ns is None or answer.phases.first_byte_ns > 0
    assert answer.phases.total_ns is not None


@pytest.mark.parametrize(
    ("handler", "said", "events"),
    [
        pytest.param(_plain(_STREAM, _EVENT), (200, "cut", "stream"), 1, id="no end"),
        pytest.param(_plain(_STREAM, _EVENT, b"data: [DONE]"), (200,), 2, id="[DONE] without a line's end"),
        pytest.param(_plain(_STREAM, _EVENT, b"data: [DONE]\n\n", reset=True), (200,), 2, id="reset after [DONE]"),
        pytest.param(_plain(_STREAM), (200, "cut", "first_token"), 0, id="empty"),
        pytest.param(_plain(_STREAM, *[_MANY] * 11), (200, "malformed", "first_token"), 100_000, id="endless"),
        pytest.param(
            _plain(b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n\r\n<p>hello"),
            (200, "malformed", "body"),
            0,
            id="a page",
        ),
        pytest.param(
            _plain(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{}"),
            (200, "malformed", "body"),
            0,
            id="JSON",
        ),
    ],
)
def test_what_is_wrong_with_a_stream(
    serve: Serve, target_at: TargetAt, handler: Callable[[Peer], None], said: tuple[Any, ...], events: int
) -> None:
    """Its kind and phase, and the events that came before, 100,000 at most."""
    exchange = Exchange(target_at(_at(serve(handler))))
    answer = exchange.ask("POST", "/chat/completions", kind="stream", body={**_BODY, "stream": True})
    assert (_said(answer), len(answer.events)) == (said, events)


def test_compression_is_taken_off(serve: Serve, target_at: TargetAt) -> None:
    """A body in gzip is kept as what it holds."""

    def handler(peer: Peer) -> None:
        peer.request()
        peer.answer(200, gzip.compress(b'{"data": []}'), content_encoding="gzip")

    answer = Exchange(target_at(_at(serve(handler)))).ask("GET", "/models", kind="models")
    assert answer.json() == {"data": []}


@pytest.mark.parametrize(
    ("before", "drip", "phase"),
    [
        (b"", b"H", "headers"),
        (b"HTTP/1.1 200 OK\r\n", b"x: y\r\n", "headers"),
        (b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9999\r\n\r\n", b" ", "body"),
        (_STREAM, b": ping\n\n", "first_token"),
        (_STREAM + _EVENT, b": ping\n\n", "stream"),
    ],
)
def test_a_server_that_drips(serve: Serve, target_at: TargetAt, before: bytes, drip: bytes, phase: str) -> None:
    """Bytes that keep coming hold no request beyond its time, in whichever phase."""
    gone = threading.Event()

    def handler(peer: Peer) -> None:
        peer.request()
        peer.send(before)
        letters = iter(b"HTTP/1.1 200 OK" if drip == b"H" else b"")
        with contextlib.suppress(OSError):
            while not gone.wait(0.02):
                letter = next(letters, None)
                peer.send(drip if letter is None else bytes([letter]))

    stream = before.startswith(_STREAM)
    timeouts = Timeouts(first_byte_s=0.3, first_token_s=0.4, chunk_s=0.3, total_s=0.6)
    exchange = Exchange(target_at(_at(serve(handler)), timeouts=timeouts))
    began = time.monotonic()
    try:
        answer = exchange.ask("POST", "/chat/completions", kind="stream", body={**_BODY, "stream": stream})
    finally:
        gone.set()
    # The bounds that nobody set are of 15 s and more.
    assert 0.25 < time.monotonic() - began < 12
    assert answer.failure is not None
    assert (answer.failure.kind, answer.failure.phase) == ("timeout", phase)
    # Not "no answer": something came.
    assert (" bytes of a head within 0.3 s" in answer.failure.text) is (phase == "headers")
    assert answer.phases.last_byte_ns is None


def test_what_nobody_reads(serve: Serve, target_at: TargetAt) -> None:
    """A request that a server does not take in is a timeout of the sending."""

    def handler(peer: Peer) -> None:
        over.wait(20)

    over = threading.Event()
    exchange = Exchange(target_at(_at(serve(handler)), timeouts=Timeouts(first_byte_s=0.2)))
    answer = exchange.ask("POST", "/chat/completions", kind="chat", body={"prompt": "x" * 20_000_000})
    over.set()
    assert _said(answer) == (None, "timeout", "send")
    assert answer.phases.send_ns is None


def _lags_ns(simulator: Simulator, exchange: Exchange) -> list[int]:
    """By how much our stamps of one stream come after the server's, on the clock that both read."""
    body = {"model": "z-ai/glm-5", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4, "stream": True}
    before_ns, before_unix_ns = time.monotonic_ns(), time.time_ns()
    answer = exchange.ask("POST", "/chat/completions", kind="stream", body=body)
    after_ns = time.monotonic_ns()
    arrival = next(line for line in simulator.truth("arrival") if line["request_id"] == answer.request_id)
    end = next(line for line in simulator.truth("end") if line["request_id"] == answer.request_id)
    phases = answer.phases
    assert phases.dns_ns is not None
    assert phases.connect_ns is not None
    assert phases.total_ns is not None
    assert phases.first_byte_ns is not None
    assert phases.first_token_ns is not None
    assert phases.last_byte_ns is not None
    assert phases.first_token_ns > 55_000_000
    # When the sending began is not told: not before the connection stood, nor later than its arrival.
    assert before_ns + phases.dns_ns + phases.connect_ns <= arrival["arrival_ns"] + 2_000_000
    assert phases.dns_ns + phases.connect_ns + phases.last_byte_ns <= phases.total_ns <= after_ns - before_ns
    assert abs(answer.started_unix_ns - before_unix_ns) < 1_000_000_000
    assert before_ns <= answer.started_monotonic_ns <= arrival["arrival_ns"]
    tokens = [event.at_ns for event in answer.events if b'"content":"' in event.data][-4:]
    pairs = [
        (phases.first_byte_ns, end["headers_sent_ns"]),
        (phases.first_token_ns, end["first_token_sent_ns"]),
        (phases.last_byte_ns, end["end_ns"]),
        *zip(tokens, end["chunk_sent_ns"], strict=True),
    ]
    return [ours_ns - (theirs_ns - arrival["arrival_ns"]) for ours_ns, theirs_ns in pairs]


def test_the_stamps_agree_with_the_server(borrow: Callable[..., Simulator], target_at: TargetAt) -> None:
    """Each phase and each event lies where the server's own stamps have it, to 5 ms."""
    simulator = borrow(ttft="60ms", between_tokens="30ms")
    exchange = Exchange(target_at(simulator.base_url.replace("127.0.0.1", "localhost")))
    runs: list[list[int]] = []
    apart_ns = 1 << 60
    # Of each stamp the nearest: either process may have had to wait for the machine in the other runs.
    while apart_ns >= 5_000_000 and len(runs) < 30:
        runs.append(_lags_ns(simulator, exchange))
        apart_ns = max(min(map(abs, lags)) for lags in zip(*runs, strict=True))
    assert apart_ns < 5_000_000, runs


def test_phases_of_a_failure(serve: Serve, target_at: TargetAt) -> None:
    """What came about before is there: of a stream that stalls its first token, but no last byte."""

    def handler(peer: Peer) -> None:
        peer.request()
        peer.send(_STREAM + _EVENT)
        peer.wait_for_end()

    exchange = Exchange(target_at(_at(serve(handler)), timeouts=Timeouts(chunk_s=0.2)))
    answer = exchange.ask("POST", "/chat/completions", kind="stream", body={**_BODY, "stream": True})
    assert _said(answer) == (200, "timeout", "stream")
    assert set(answer.phases.seconds()) == {"connect", "send", "first_byte", "first_chunk", "first_token", "total"}
    assert answer.phases.seconds()["total"] > 0.2


def test_cancel_ends_what_is_under_way(serve: Serve, target_at: TargetAt) -> None:
    """Another thread ends a request at once; the next one is none of its business."""
    reached = threading.Event()

    def handler(peer: Peer) -> None:
        peer.request()
        if not reached.is_set():
            reached.set()
            peer.wait_for_end()
        peer.answer(200, b"{}")

    exchange = Exchange(target_at(_at(serve(handler))))
    canceller = threading.Thread(target=lambda: exchange.cancel() if reached.wait(10) else None)
    canceller.start()
    began = time.monotonic()
    answer = exchange.ask("GET", "/models", kind="models")
    canceller.join()
    assert _said(answer) == (None, "cancelled", "headers")
    assert time.monotonic() - began < 15
    assert exchange.ask("GET", "/models", kind="models").status == 200
    exchange.close()
    assert _said(exchange.ask("GET", "/models", kind="models")) == (None, "cancelled", "dns")


def test_cancel_at_any_moment(borrow: Callable[..., Simulator], target_at: TargetAt) -> None:
    """Whenever it comes, a request ends either whole or cancelled, soon, and never in another way."""
    simulator = borrow(ttft="3ms", between_tokens="1ms")
    exchange = Exchange(target_at(simulator.base_url))
    ends: set[Any] = set()
    body = {"model": "z-ai/glm-5", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4, "stream": True}
    for number in range(60):
        timer = threading.Timer(number * 0.0002, exchange.cancel)
        timer.start()
        answer = exchange.ask("POST", "/chat/completions", kind="stream", body=body)
        timer.join()
        ends.add(str(answer.failure.kind) if answer.failure else None)
    assert ends == {"cancelled", None}


@pytest.mark.parametrize("where", ["connect", "send", "recv"])
def test_the_key_is_in_no_traceback(
    serve: Serve, target_at: TargetAt, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Interrupted anywhere, even a traceback that shows all locals holds neither the key nor the other secrets."""

    asking, usual = threading.current_thread(), getattr(socket.socket, where)

    def interrupted(self: socket.socket, *given: Any) -> Any:
        if threading.current_thread() is asking:
            raise KeyboardInterrupt
        return usual(self, *given)

    def handler(peer: Peer) -> None:
        peer.wait_for_end()

    hidden = {name: Secret(f"{name}-of-{'nobody'}") for name in ("key", "team")}
    exchange = Exchange(target_at(_at(serve(handler)), extra_headers={"x-team": hidden["team"]}))
    other = Exchange(target_at(_at(serve(handler)), api_key=hidden["key"]))
    monkeypatch.setattr(socket.socket, where, interrupted)
    shown = ""
    for asks, key in ((exchange, hidden["key"]), (exchange, None), (other, None)):
        with pytest.raises(KeyboardInterrupt) as caught:
            asks.ask("POST", "/chat/completions", kind="chat", body=_BODY, key=key)
        shown += "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    monkeypatch.undo()
    assert shown.count(" wire = ") >= 3
    assert [text for text in ("-of-nobody", _KEY) if text in shown] == []
