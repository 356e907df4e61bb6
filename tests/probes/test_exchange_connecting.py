"""From a name to a connection: resolvers that stall, addresses that refuse, servers that take nobody, proxies."""

from __future__ import annotations

import base64
import contextlib
import errno
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tensorix_api.errors import SettingsError
from tensorix_probes.exchange.answer import Answer
from tensorix_probes.exchange.exchange import Exchange
from tensorix_probes.exchange.lookup import Lookup
from tensorix_probes.settings import Target, Timeouts
from tensorix_simulator import Simulator

if TYPE_CHECKING:
    from tests.probes.conftest import Peer

Serve = Callable[..., int]
TargetAt = Callable[..., Target]


def _said(answer: Answer) -> tuple[Any, ...]:
    failure = answer.failure
    return (answer.status, *((str(failure.kind), str(failure.phase)) if failure else ()))


def _models(exchange: Exchange) -> Answer:
    return exchange.ask("GET", "/models", kind="models")


def _taking(peer: Peer) -> None:
    peer.request()
    peer.answer(200, b"{}")


class Stalling:
    """A resolver that hangs until it is let go, and counts how often it was asked."""

    def __init__(self, port: int) -> None:
        self.asked = 0
        self.free = threading.Event()
        self._found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    def __call__(self, host: str, port: int, **_: Any) -> Any:
        self.asked += 1
        self.free.wait(30)
        return self._found


def test_a_resolver_that_stalls(serve: Serve, target_at: TargetAt) -> None:
    """A request waits no longer than `dns_s`; there is one look-up however many wait, and the last has its answer."""
    stalling = Stalling(serve(_taking))
    target = target_at("http://slow.example:9/v1", timeouts=Timeouts(dns_s=0.1))
    exchange = Exchange(target, lookup=Lookup(stalling))
    for _ in range(3):
        began = time.monotonic()
        answer = _models(exchange)
        assert 0.09 < time.monotonic() - began < 4.5
        assert _said(answer) == (None, "timeout", "dns")
        assert answer.phases.dns_ns is None
    assert stalling.asked == 1
    threading.Timer(0.02, stalling.free.set).start()
    patient = Exchange(target_at("http://slow.example:9/v1"), lookup=exchange._lookup)
    answer = _models(patient)
    assert (answer.status, stalling.asked) == (200, 1)
    assert answer.phases.dns_ns is not None
    assert answer.phases.dns_ns > 10_000_000
    # What hung is over: the next request looks up anew.
    assert _models(exchange).status == 200
    assert stalling.asked == 2


def test_a_resolver_that_stalls_harms_no_other_exchange(
    serve: Serve, target_at: TargetAt, borrow: Callable[..., Simulator]
) -> None:
    """Other targets go on meanwhile, and `cancel` ends the one that waits."""
    stalling = Stalling(0)
    hanging = Exchange(target_at("http://slow.example:9/v1"), lookup=Lookup(stalling))
    seen: list[Answer] = []
    thread = threading.Thread(target=lambda: seen.append(_models(hanging)))
    thread.start()
    other = Exchange(target_at(borrow().base_url.replace("127.0.0.1", "localhost")))
    assert _models(other).status == 200
    hanging.cancel()
    thread.join(5)
    assert [_said(answer) for answer in seen] == [(None, "cancelled", "dns")]
    stalling.free.set()


@pytest.mark.parametrize(
    "error", [socket.gaierror(socket.EAI_NONAME, "Name or service not known"), UnicodeError("label too long")]
)
def test_a_name_that_is_none(target_at: TargetAt, error: Exception) -> None:
    """It is `dns`, with the resolver's reason and the name."""

    def fail(*_: Any, **__: Any) -> Any:
        raise error

    answer = _models(Exchange(target_at("http://nowhere.example/v1"), lookup=Lookup(fail)))
    assert _said(answer) == (None, "dns", "dns")
    assert answer.failure is not None
    assert "nowhere.example" in answer.failure.text


def test_a_name_without_addresses(target_at: TargetAt) -> None:
    """A resolver that answers with nothing is `dns` too."""
    answer = _models(Exchange(target_at("http://empty.example/v1"), lookup=Lookup(lambda *_, **__: [])))
    assert _said(answer) == (None, "dns", "dns")


def test_the_first_address_refuses(serve: Serve, target_at: TargetAt) -> None:
    """::1 that refuses is followed by 127.0.0.1, and the request succeeds."""
    port = serve(_taking)
    found = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
    ]
    answer = _models(Exchange(target_at("http://two.example/v1"), lookup=Lookup(lambda *_, **__: found)))
    assert _said(answer) == (200,)


@pytest.fixture
def full() -> Iterator[int]:
    """A port whose queue is full: who connects there waits."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    waiting = []
    for _ in range(4):
        client = socket.socket()
        client.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            client.connect(listener.getsockname())
        waiting.append(client)
    yield listener.getsockname()[1]
    for one in [*waiting, listener]:
        one.close()


def test_a_server_that_takes_nobody(full: int, target_at: TargetAt) -> None:
    """It is a timeout of `connect` after `connect_s`, and `total_s` bounds that too."""
    for timeouts in (Timeouts(connect_s=0.2), Timeouts(total_s=0.2)):
        began = time.monotonic()
        answer = _models(Exchange(target_at(f"http://127.0.0.1:{full}/v1", timeouts=timeouts)))
        assert _said(answer) == (None, "timeout", "connect")
        assert 0.19 < time.monotonic() - began < 4.5


def test_an_address_that_does_not_answer_leaves_time_for_the_next(full: int, serve: Serve, target_at: TargetAt) -> None:
    """Half of `connect_s` is the first's, and the second succeeds."""
    port = serve(_taking)
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", number)) for number in (full, port)]
    target = target_at("http://two.example/v1", timeouts=Timeouts(connect_s=1.0))
    answer = _models(Exchange(target, lookup=Lookup(lambda *_, **__: found)))
    assert _said(answer) == (200,)
    assert answer.phases.connect_ns is not None
    assert 490_000_000 < answer.phases.connect_ns < 1_000_000_000


def test_cancel_while_connecting(full: int, target_at: TargetAt) -> None:
    """A connection that is being made ends at once, too."""
    exchange = Exchange(target_at(f"http://127.0.0.1:{full}/v1"))
    threading.Timer(0.1, exchange.cancel).start()
    began = time.monotonic()
    assert _said(_models(exchange)) == (None, "cancelled", "connect")
    assert time.monotonic() - began < 4.5


def test_an_address_without_a_route(target_at: TargetAt, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is neither refused nor late is `connection_failed`."""

    def unreachable(self: socket.socket, address: Any) -> None:
        raise OSError(errno.ENETUNREACH, "Network is unreachable")

    monkeypatch.setattr(socket.socket, "connect", unreachable)
    answer = _models(Exchange(target_at("http://127.0.0.1:9/v1")))
    assert _said(answer) == (None, "connection_failed", "connect")


def test_ipv6(serve: Serve, target_at: TargetAt) -> None:
    """A target may be an address of IPv6; then nothing is looked up."""
    try:
        port = serve(_taking, host="::1")
    except OSError:
        pytest.skip("no IPv6 here")
    answer = _models(
        Exchange(target_at(f"http://[::1]:{port}/v1"), lookup=Lookup(lambda *_, **__: pytest.fail("asked")))
    )
    assert _said(answer) == (200,)
    assert answer.phases.dns_ns is None


def _tunnel_to(port: int, heads: list[bytes]) -> Callable[[Peer], None]:
    """A proxy that tunnels whatever it is asked for to a port."""

    def copy(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def handler(peer: Peer) -> None:
        heads.append(peer.request())
        with socket.create_connection(("127.0.0.1", port)) as other:
            peer.send(b"HTTP/1.1 200 Connected\r\n\r\n")
            there = threading.Thread(target=copy, args=(peer.socket, other), daemon=True)
            there.start()
            copy(other, peer.socket)
            there.join(5)

    return handler


def test_a_tunnel_through_a_proxy(serve: Serve, target_at: TargetAt, monkeypatch: pytest.MonkeyPatch) -> None:
    """With HTTPS_PROXY the name goes to the proxy, with its password, and TLS is with the server."""
    heads: list[bytes] = []
    with Simulator(tls="valid") as simulator:
        proxy_port = serve(_tunnel_to(int(simulator.url.rpartition(":")[2]), heads))
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:pass%40word@127.0.0.1:{proxy_port}")
        target = target_at("https://localhost:9/v1", ca_bundle=simulator.ca_path)
        exchange = Exchange(target, lookup=Lookup(lambda *_, **__: pytest.fail("asked")))
        answer = _models(exchange)
        assert _said(answer) == (200,)
        assert {"connect", "tls", "send", "first_byte", "last_byte"} <= set(answer.phases.seconds())
        assert answer.certificate is not None
        shaken = exchange.handshake()
        assert _said(shaken) == (None,)
        assert shaken.certificate == answer.certificate
    assert len(heads) == 2
    assert heads[0].startswith(b"CONNECT localhost:9 HTTP/1.1\r\n")
    assert base64.b64encode(b"me:pass@word") in heads[0]
    assert b"sk-test" not in heads[0]
    assert "pass@word" not in exchange.redact("pass@word " + base64.b64encode(b"me:pass@word").decode())


@pytest.mark.parametrize(
    "says", [b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", b"hello\r\n\r\n", b"", b"HTTP/1.1 200"]
)
def test_a_proxy_that_refuses(serve: Serve, target_at: TargetAt, monkeypatch: pytest.MonkeyPatch, says: bytes) -> None:
    """It is `connection_failed` in the phase `connect`, and the key stays here."""
    heads: list[bytes] = []

    def handler(peer: Peer) -> None:
        heads.append(peer.request())
        peer.send(says)

    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{serve(handler)}")
    answer = _models(Exchange(target_at("https://localhost:9/v1")))
    assert _said(answer) == (None, "connection_failed", "connect")
    assert b"sk-test" not in heads[0]


def test_a_proxy_that_says_nothing(serve: Serve, target_at: TargetAt, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is waited for no longer than for a connection."""
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{serve(lambda peer: peer.wait_for_end())}")
    answer = _models(Exchange(target_at("https://localhost:9/v1", timeouts=Timeouts(connect_s=0.2))))
    assert _said(answer) == (None, "timeout", "connect")


def test_a_proxy_for_plain_http(serve: Serve, target_at: TargetAt, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked for the whole address; hosts of NO_PROXY are reached without it."""
    asked: list[bytes] = []

    def proxy(peer: Peer) -> None:
        asked.append(peer.request())
        peer.answer(200, b"{}")

    monkeypatch.setenv("http_proxy", f"127.0.0.1:{serve(proxy)}")
    target = target_at(f"http://127.0.0.1:{serve(_taking)}/v1")
    assert _said(_models(Exchange(target))) == (200,)
    assert asked[0].startswith(f"GET {target.base_url}/models HTTP/1.1\r\n".encode())
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert _said(_models(Exchange(target))) == (200,)
    assert len(asked) == 1


@pytest.mark.parametrize("proxy", ["https://127.0.0.1:1", "socks5://127.0.0.1:1", "http://:1", "http://a:b"])
def test_a_proxy_that_cannot_be_used(target_at: TargetAt, monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    """It is refused by the variable's name, with what to write."""
    monkeypatch.setenv("all_proxy", proxy)
    with pytest.raises(SettingsError, match=r"ALL_PROXY .*http://proxy\.example:3128"):
        Exchange(target_at("https://localhost/v1"))
