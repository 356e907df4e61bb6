"""TLS: whom the client trusts, what it says where it does not, and that its stamps are as true as without."""

from __future__ import annotations

import contextlib
import datetime
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.loadtests.conftest import Certificates, Client, Peer, Server

Serve = Callable[..., "Server"]


def _whole_stream(peer: Peer) -> None:
    peer.begin_stream(transfer_encoding="chunked")
    peer.send(peer.chunked(peer.stream("a", "b")))


def test_a_certificate_of_an_authority_that_was_given(
    answer: Serve, client: Client, certificates: Certificates
) -> None:
    """With the authority's certificate as CA bundle the server is trusted, and the handshake has its stamp."""
    server = answer(_whole_stream, tls=certificates.server("127.0.0.1"))
    record = client.send(server.base_url, ca_bundle=certificates.bundle).record
    assert (record.outcome, record.stream_outcome, record.chunks) == ("success", "completed", 2)
    assert record.tcp_done_at_ns is not None
    assert record.tls_done_at_ns is not None
    assert record.tcp_done_at_ns < record.tls_done_at_ns <= 0
    assert record.stamp_source == "kernel"


def test_an_unknown_authority(answer: Serve, client: Client, certificates: Certificates) -> None:
    """Without the CA bundle the chain is refused, and nothing was sent."""
    record = client.send(answer(_whole_stream, tls=certificates.server("127.0.0.1")).base_url).record
    assert (record.outcome, record.error_kind, record.error_phase) == ("failed", "tls_chain", "tls")
    assert record.request_sent_at_ns is None


@pytest.mark.parametrize("name", ["other.example", "127.0.0.2"])
def test_a_wrong_name(answer: Serve, client: Client, certificates: Certificates, name: str) -> None:
    """A certificate for somebody else is `tls_name`."""
    server = answer(_whole_stream, tls=certificates.server(name))
    record = client.send(server.base_url, ca_bundle=certificates.bundle).record
    assert (record.error_kind, record.error_phase) == ("tls_name", "tls")


def test_a_name_is_checked_too(answer: Serve, client: Client, certificates: Certificates) -> None:
    """A server reached by name must have that name in its certificate."""
    right = answer(_whole_stream, tls=certificates.server("localhost"))
    wrong = answer(_whole_stream, tls=certificates.server("remotehost.example"))
    seen = [
        client.send(f"https://localhost:{server.port}/v1", ca_bundle=certificates.bundle).record
        for server in (right, wrong)
    ]
    assert [record.error_kind for record in seen] == [None, "tls_name"]


@pytest.mark.parametrize("days", [(-2, -1), (1, 2)])
def test_a_date_that_is_over_or_to_come(
    answer: Serve, client: Client, certificates: Certificates, days: tuple[int, int]
) -> None:
    """A certificate outside its dates is `tls_expired`."""
    now = datetime.datetime.now(datetime.UTC)
    first, last = (now + datetime.timedelta(days=day) for day in days)
    server = answer(_whole_stream, tls=certificates.server("127.0.0.1", not_before=first, not_after=last))
    record = client.send(server.base_url, ca_bundle=certificates.bundle).record
    assert (record.error_kind, record.error_phase) == ("tls_expired", "tls")


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x15\x03\x01\x00\x02\x02\x28"])
def test_a_handshake_that_dies(serve: Serve, client: Client, said: bytes) -> None:
    """A server that closes, speaks plain HTTP or sends an alert is `tls_failed`, in words that name the host."""

    def handle(peer: Peer) -> None:
        peer.socket.recv(65_536)
        peer.send(said)

    server = serve(handle)
    record = client.send(f"https://127.0.0.1:{server.port}/v1").record
    assert (record.outcome, record.error_kind, record.error_phase) == ("failed", "tls_failed", "tls")
    assert "127.0.0.1" in (record.error_message or "")


def test_a_handshake_that_is_reset(serve: Serve, client: Client) -> None:
    """A reset in the handshake is `tls_failed` too."""

    def handle(peer: Peer) -> None:
        peer.socket.recv(65_536)
        peer.reset()

    record = client.send(f"https://127.0.0.1:{serve(handle).port}/v1").record
    assert (record.error_kind, record.error_phase) == ("tls_failed", "tls")


def test_a_handshake_that_takes_too_long(serve: Serve, client: Client) -> None:
    """A server that accepts and says nothing is a timeout in the phase `tls`."""
    server = serve(lambda peer: peer.wait_for_end())
    record = client.send(f"https://127.0.0.1:{server.port}/v1", timeouts={"connect_s": 0.3}).record
    assert (record.error_kind, record.error_phase) == ("timeout", "tls")


def test_old_protocols_are_refused(answer: Serve, client: Client, certificates: Certificates) -> None:
    """A server that knows no newer TLS than 1.1 is not spoken to."""
    context = certificates.server("127.0.0.1")
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1 is deprecated"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    record = client.send(answer(_whole_stream, tls=context).base_url, ca_bundle=certificates.bundle).record
    assert (record.error_kind, record.error_phase) == ("tls_failed", "tls")


def test_stamps_are_the_kernels_under_tls(answer: Serve, client: Client, certificates: Certificates) -> None:
    """Each chunk's stamp lies between the server's own readings before and after its send, under TLS too."""
    sends: list[tuple[int, int]] = []

    def act(peer: Peer) -> None:
        peer.begin_stream()
        sends.extend(peer.send(peer.event({"content": text})) for text in ("a", "b", "c"))
        peer.send(peer.event({}, "stop") + b"data: [DONE]\n\n")
        peer.close()

    server = answer(act, tls=certificates.server("127.0.0.1"))
    seen = client.send(server.base_url, ca_bundle=certificates.bundle, keep_gaps=True)
    assert seen.record.outcome == "success"
    assert seen.record.stamp_source == "kernel"
    # Records that the client reads at once carry the stamp of the newest; the first can be no earlier than sent.
    assert sends[0][0] - 1_000_000 <= seen.at("first_token") <= sends[-1][1] + 20_000_000


def test_a_stream_cut_under_tls(answer: Serve, client: Client, certificates: Certificates) -> None:
    """A TLS connection that ends without a goodbye in mid-stream is a cut stream, its tokens kept."""

    def act(peer: Peer) -> None:
        peer.begin_stream()
        peer.send(peer.event({"content": "a"}))
        peer.close()

    server = answer(act, tls=certificates.server("127.0.0.1"))
    record = client.send(server.base_url, ca_bundle=certificates.bundle).record
    assert (record.outcome, record.stream_outcome, record.error_kind, record.chunks) == ("failed", "cut", "cut", 1)


def test_a_connection_is_used_again_under_tls(serve: Serve, client: Client, certificates: Certificates) -> None:
    """Two requests share one handshake."""

    def handle(peer: Peer) -> None:
        for _ in range(2):
            peer.request()
            peer.reply()
        peer.wait_for_end()

    server = serve(handle, tls=certificates.server("127.0.0.1"))
    seen = client.send(server.base_url, {"stream": False}, {"stream": False}, ca_bundle=certificates.bundle)
    assert [record.connection_reused for record in seen.records] == [False, True]
    assert server.connections == 1


def test_a_ca_bundle_that_is_none(client: Client, tmp_path: object) -> None:
    """A CA bundle that holds no certificate is refused before anything is sent."""
    path = f"{tmp_path}/empty.pem"
    with open(path, "w") as file:  # noqa: PTH123 - the path's type does not matter here
        file.write("no certificate")
    assert "CA bundle" in client.refusal("https://127.0.0.1:1/v1", ca_bundle=path)


def test_the_last_read_keeps_the_stamp_of_the_kernel(answer: Serve, client: Client, certificates: Certificates) -> None:
    """An answer that comes in one read with the end of the TLS session is stamped by the kernel like any other."""

    def act(peer: Peer) -> None:
        peer.begin_stream(transfer_encoding="chunked")
        peer.send(peer.chunked(peer.stream("a", "b")) + b"0\r\n\r\n")
        assert isinstance(peer.socket, ssl.SSLSocket)
        peer.socket.settimeout(0.2)
        with contextlib.suppress(OSError):
            peer.socket.unwrap()

    seen = [
        client.send(answer(act, tls=certificates.server("127.0.0.1")).base_url, ca_bundle=certificates.bundle).record
        for _ in range(5)
    ]
    assert {(record.outcome, record.stamp_source) for record in seen} == {("success", "kernel")}
