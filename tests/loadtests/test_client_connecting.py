"""How a connection comes about, or does not: addresses, refusals, timeouts, proxies."""

from __future__ import annotations

import base64
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.loadtests.conftest import Certificates, Client, Peer, Server

Serve = Callable[..., "Server"]
UNSTREAMED = {"stream": False}


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that nobody listens on and nobody else can take meanwhile."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@pytest.fixture
def full_port() -> Iterator[int]:
    """A port that drops every new SYN: its listener's queue is full and nobody accepts."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
            waiting.append(filler)
        yield listener.getsockname()[1]
        for filler in waiting:
            filler.close()


def test_refused(client: Client, closed_port: int) -> None:
    """A port without a listener is `connection_refused`, with stamps for no more than what took place."""
    record = client.send(f"http://127.0.0.1:{closed_port}/v1").record
    assert (record.outcome, record.error_kind, record.error_phase) == ("failed", "connection_refused", "connect")
    assert str(closed_port) in (record.error_message or "")
    assert record.status is record.headers_at_ns is record.request_sent_at_ns is record.connection_reused is None
    # Nothing was sent: the record starts with the attempt, and its end says how long that took.
    assert record.connect_start_at_ns is not None
    assert record.connect_start_at_ns >= 0
    assert (record.end_at_ns or 0) >= record.connect_start_at_ns


def test_a_name_that_does_not_exist(client: Client) -> None:
    """A host under .invalid, which never resolves, is a failure of DNS that names the host."""
    record = client.send("http://nobody.invalid/v1", timeouts={"connect_s": 20.0}).record
    assert (record.outcome, record.error_kind, record.error_phase) == ("failed", "dns", "dns")
    assert "nobody.invalid" in (record.error_message or "")


def test_a_name_that_cannot_be_one(client: Client) -> None:
    """A host with a label of over 63 characters is a failure of DNS, not of the program."""
    record = client.send(f"http://{'a' * 64}.example/v1").record
    assert (record.error_kind, record.error_phase) == ("dns", "dns")


def test_a_name_with_several_addresses(answer: Serve, client: Client) -> None:
    """`localhost` is reached though one of its addresses (::1) may refuse."""
    server = answer(lambda peer: peer.reply())
    record = client.send(f"http://localhost:{server.port}/v1", UNSTREAMED).record
    assert record.outcome == "success"
    assert record.connect_start_at_ns is not None
    assert record.dns_done_at_ns is not None
    assert record.tcp_done_at_ns is not None
    assert record.connect_start_at_ns <= record.dns_done_at_ns <= record.tcp_done_at_ns <= 0


def test_ipv6(serve: Serve, client: Client) -> None:
    """An IPv6 address is spoken to, and stands in brackets in the Host header."""
    heads = []

    def handle(peer: Peer) -> None:
        heads.append(peer.request()[0])
        peer.reply()

    server = serve(handle, host="::1")
    assert client.send(server.base_url, UNSTREAMED).record.outcome == "success"
    assert f"Host: [::1]:{server.port}".encode() in heads[0].split(b"\r\n")


def test_connecting_takes_too_long(client: Client, full_port: int) -> None:
    """A server that does not take the connection is a timeout in the phase `connect`, after the time set for it."""
    record = client.send(f"http://127.0.0.1:{full_port}/v1", timeouts={"connect_s": 0.3}).record
    assert (record.outcome, record.error_kind, record.error_phase) == ("failed", "timeout", "connect")
    assert record.user_ready_at_ns is None
    assert record.tcp_done_at_ns is None
    assert (record.connect_start_at_ns or 0) < 200_000_000
    assert (record.end_at_ns or 0) >= 300_000_000


def test_the_whole_request_is_bounded_while_connecting(client: Client, full_port: int) -> None:
    """The bound on the whole request holds while it connects, too."""
    timeouts = {"connect_s": 60.0, "total_s": 0.3}
    record = client.send(f"http://127.0.0.1:{full_port}/v1", timeouts=timeouts).record
    assert (record.error_kind, record.error_phase) == ("timeout", "connect")


def test_a_request_that_is_not_read(serve: Serve, client: Client) -> None:
    """A server that reads nothing of a large request is a timeout in the phase `send`."""
    through = threading.Event()

    def handle(peer: Peer) -> None:
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        through.wait(30)

    large = {"stream": False, "extra": {"filler": "x" * 2**25}}
    record = client.send(serve(handle).base_url, large, timeouts={"total_s": 0.5}).record
    through.set()
    assert (record.error_kind, record.error_phase) == ("timeout", "send")


# proxies


def _pass_on(peer: Peer, port: int) -> None:
    """Carry bytes both ways until one end closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as onward:

        def back() -> None:
            try:
                while data := onward.recv(65_536):
                    peer.socket.sendall(data)
            except OSError:
                pass
            peer.close()

        thread = threading.Thread(target=back, daemon=True)
        thread.start()
        try:
            while data := peer.socket.recv(65_536):
                onward.sendall(data)
        except OSError:
            pass
        onward.shutdown(socket.SHUT_RDWR)
        thread.join(30)


@pytest.mark.parametrize("user", ["", "ann:p%40ss@"])
def test_https_proxy(serve: Serve, answer: Serve, client: Client, certificates: Certificates, user: str) -> None:
    """HTTPS goes through a CONNECT tunnel, with the proxy's password only towards the proxy."""
    server = answer(lambda peer: peer.reply(), tls=certificates.server("127.0.0.1"))
    heads = []

    def tunnel(peer: Peer) -> None:
        heads.append(peer.request()[0].decode())
        peer.send(b"HTTP/1.1 200 Connection established\r\nx: y\r\n\r\n")
        _pass_on(peer, server.port)

    proxy = serve(tunnel)
    environment = {"HTTPS_PROXY": f"http://{user}127.0.0.1:{proxy.port}"}
    seen = client.send(server.base_url, UNSTREAMED, environment=environment, ca_bundle=certificates.bundle)
    assert seen.record.outcome == "success"
    lines = heads[0].split("\r\n")
    assert lines[0] == f"CONNECT 127.0.0.1:{server.port} HTTP/1.1"
    credentials = "Proxy-Authorization: Basic " + base64.b64encode(b"ann:p@ss").decode()
    assert (credentials in lines) == bool(user)


@pytest.mark.parametrize("said", [b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", b"SSH-2.0-x\r\n\r\n", b""])
def test_a_proxy_that_refuses(serve: Serve, client: Client, said: bytes) -> None:
    """A proxy that gives no tunnel is a failed connection that names the proxy, not a TLS error."""

    def refuse(peer: Peer) -> None:
        peer.request()
        peer.send(said)

    proxy = serve(refuse)
    environment = {"HTTPS_PROXY": f"http://127.0.0.1:{proxy.port}"}
    record = client.send("https://nobody.invalid/v1", environment=environment).record
    assert (record.error_kind, record.error_phase) == ("connection_failed", "connect")
    assert "the proxy" in (record.error_message or "")
    assert ("407" in (record.error_message or "")) == (b"407" in said)


def test_a_proxy_that_is_silent(serve: Serve, client: Client) -> None:
    """A proxy that never answers is a timeout in the phase `connect`."""
    proxy = serve(lambda peer: peer.wait_for_end())
    environment = {"HTTPS_PROXY": f"http://127.0.0.1:{proxy.port}"}
    timeouts = {"connect_s": 0.3}
    record = client.send("https://nobody.invalid/v1", environment=environment, timeouts=timeouts).record
    assert (record.error_kind, record.error_phase) == ("timeout", "connect")


def test_http_proxy(serve: Serve, client: Client) -> None:
    """Plain HTTP goes to the proxy with the whole address in the request line."""
    heads = []

    def handle(peer: Peer) -> None:
        heads.append(peer.request()[0].decode())
        peer.reply()

    proxy = serve(handle)
    environment = {"http_proxy": f"http://ann:pw@127.0.0.1:{proxy.port}"}
    assert client.send("http://nobody.invalid:81/v1", UNSTREAMED, environment=environment).record.outcome == "success"
    lines = heads[0].split("\r\n")
    assert lines[0] == "POST http://nobody.invalid:81/v1/chat/completions HTTP/1.1"
    assert "Host: nobody.invalid:81" in lines
    assert "Proxy-Authorization: Basic " + base64.b64encode(b"ann:pw").decode() in lines


@pytest.mark.parametrize("exempt", ["127.0.0.1", "*", "127.0.0.1:PORT"])
def test_no_proxy(answer: Serve, client: Client, closed_port: int, exempt: str) -> None:
    """What NO_PROXY names is reached directly."""
    server = answer(lambda peer: peer.reply())
    exempt = exempt.replace("PORT", str(server.port))
    environment = {"HTTP_PROXY": f"http://127.0.0.1:{closed_port}", "NO_PROXY": exempt}
    assert client.send(server.base_url, UNSTREAMED, environment=environment).record.outcome == "success"


@pytest.mark.parametrize("address", ["socks5://127.0.0.1:1080", "https://127.0.0.1:1", "http://127.0.0.1:port"])
def test_a_proxy_of_another_kind(client: Client, address: str) -> None:
    """A proxy that cannot be used is refused before anything is sent, by the name of its variable."""
    assert "HTTPS_PROXY" in client.refusal("https://127.0.0.1:1/v1", environment={"HTTPS_PROXY": address})


def test_an_address_that_does_not_answer_leaves_time_for_the_next(answer: Serve, client: Client) -> None:
    """Of two addresses of a host the first drops every SYN: the second is tried within the time for connecting."""
    server = answer(lambda peer: peer.reply())
    with socket.socket() as silent, ExitStack() as fillers:
        silent.bind(("127.0.0.2", server.port))
        silent.listen(0)
        for _ in range(4):
            filler = fillers.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(silent.getsockname())
        two = ["127.0.0.2", "127.0.0.1"]
        timeouts = {"connect_s": 1.0}
        url = f"http://two.invalid:{server.port}/v1"
        record = client.send(url, UNSTREAMED, timeouts=timeouts, addresses=two).record
    assert (record.outcome, record.error_kind) == ("success", None)
    assert (record.tcp_done_at_ns or 0) - (record.dns_done_at_ns or 0) > 400_000_000
