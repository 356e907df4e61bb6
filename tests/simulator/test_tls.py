"""The simulator over TLS: four kinds of certificate, and connections that hold what they hold without it."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import stat
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import trustme
from cryptography import x509

from tensorix_api.errors import SettingsError
from tensorix_simulator import Simulator
from tensorix_simulator.http import connection
from tensorix_simulator.http.certificates import certified
from tensorix_simulator.http.listening import Listener, listen

Body = Callable[..., dict[str, Any]]
WireRequest = Callable[..., bytes]
Start = Callable[..., Simulator]


@pytest.fixture(scope="module")
def secure() -> Iterator[Simulator]:
    """A quick simulator without limits with a certificate that is as it should be."""
    with Simulator(rpm=None, tpm=None, ttft="1ms", between_tokens="1ms", tls="valid") as simulator:
        yield simulator
        assert simulator.complaints() == ""


def trusting(simulator: Simulator) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=simulator.ca_path)


def connected(simulator: Simulator, context: ssl.SSLContext | None = None) -> ssl.SSLSocket:
    """A connection whose handshake is through."""
    sock = socket.create_connection(("127.0.0.1", simulator.port), timeout=10)
    try:
        return (context or trusting(simulator)).wrap_socket(sock, server_hostname="localhost")
    except BaseException:
        sock.close()
        raise


def read_to_the_end(sock: socket.socket) -> bytes:
    data = b""
    while piece := sock.recv(65_536):
        data += piece
    return data


def open_files(simulator: Simulator) -> int:
    return len(list(Path(f"/proc/{simulator.pid}/fd").iterdir()))


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_valid_certificate_is_trusted(secure: Simulator, body: Body, host: str) -> None:
    """By the address and by the name, streamed and not; without its authority it is not."""
    url = f"https://{host}:{secure.port}/v1/chat/completions"
    headers = {"authorization": "Bearer sk-a"}
    with httpx.Client(verify=trusting(secure), headers=headers, trust_env=False) as client:
        assert client.post(url, json=body()).json()["usage"]["completion_tokens"] == 3
        streamed = client.post(url, json=body(stream=True))
        assert streamed.content.endswith(b"data: [DONE]\n\n")
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(url, trust_env=False)


def test_the_openai_client_over_tls(secure: Simulator, body: Body) -> None:
    """Sync and async, with nothing changed but address, key and the authority."""
    with openai.DefaultHttpxClient(verify=trusting(secure), trust_env=False) as http_client:
        client = openai.OpenAI(base_url=secure.base_url, api_key="sk-a", http_client=http_client, max_retries=0)
        ask: Any = client.chat.completions.create
        assert ask(**body()).usage.completion_tokens == 3
        assert [*ask(**body(stream=True))][-1].choices[0].finish_reason == "length"

    async def ask_twenty_at_once() -> list[int]:
        async with openai.DefaultAsyncHttpxClient(verify=trusting(secure), trust_env=False) as http_client:
            client = openai.AsyncOpenAI(
                base_url=secure.base_url, api_key="sk-a", http_client=http_client, max_retries=0
            )
            ask: Any = client.chat.completions.create
            answers = await asyncio.gather(*(ask(**body()) for _ in range(20)))
            return [answer.usage.completion_tokens for answer in answers]

    assert asyncio.run(ask_twenty_at_once()) == [3] * 20


@pytest.mark.parametrize(
    ("kind", "code", "words"),
    [
        ("expired", 10, "certificate has expired"),
        ("wrong_name", 62, "Hostname mismatch"),
        ("unknown_chain", 20, "unable to get local issuer certificate"),
    ],
)
def test_each_kind_is_refused_for_its_own_reason(start: Start, kind: str, code: int, words: str) -> None:
    """OpenSSL's own number and words; and the authority that is given out is no reason of its own."""
    simulator = start(tls=kind)
    assert simulator.base_url.startswith("https://127.0.0.1:")
    with pytest.raises(ssl.SSLCertVerificationError) as caught:
        connected(simulator)
    assert caught.value.verify_code == code
    assert words in caught.value.verify_message
    with openai.DefaultHttpxClient(verify=trusting(simulator), trust_env=False) as http_client:
        client = openai.OpenAI(base_url=simulator.base_url, api_key="sk-a", http_client=http_client, max_retries=0)
        with pytest.raises(openai.APIConnectionError) as failed:
            client.models.list()
    assert "CERTIFICATE_VERIFY_FAILED" in str(failed.value.__cause__)
    # Nothing else is wrong: who does not look gets answers.
    careless = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    careless.check_hostname, careless.verify_mode = False, ssl.CERT_NONE
    answer = httpx.get(f"{simulator.base_url}/models", verify=careless, trust_env=False)
    assert answer.status_code == 401


def test_the_names_and_dates_of_the_certificate(secure: Simulator) -> None:
    """It is for this machine, and over in a year."""
    with connected(secure) as sock:
        der = sock.getpeercert(binary_form=True)
        assert sock.selected_alpn_protocol() is None
    assert der is not None
    certificate = x509.load_der_x509_certificate(der)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in names] == ["localhost", "127.0.0.1", "::1"]
    assert 364 <= (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days - 30 <= 365


@pytest.mark.parametrize(
    ("host", "hostname", "names"),
    [
        ("127.0.0.1", "box", []),
        ("192.0.2.7", "box", ["192.0.2.7"]),
        ("fe80::1%eth0", "box", ["fe80::1"]),
        ("api.example", "box", ["api.example"]),
        ("0.0.0.0", "box.example", ["box.example"]),
        ("::", "box", ["box"]),
        ("0.0.0.0", "my_box", []),
        ("0.0.0.0", "-box-", []),
        ("0.0.0.0", "", []),
    ],
)
def test_the_certificate_is_for_what_is_listened_on(
    monkeypatch: pytest.MonkeyPatch, host: str, hostname: str, names: list[str]
) -> None:
    """Besides loopback; a machine's name that no certificate can hold is left out."""
    monkeypatch.setattr(socket, "gethostname", lambda: hostname)
    asked: list[tuple[str, ...]] = []
    real = trustme.CA.issue_cert

    def issue(authority: trustme.CA, *identities: str, **rest: Any) -> trustme.LeafCert:
        asked.append(identities)
        return real(authority, *identities, **rest)

    monkeypatch.setattr(trustme.CA, "issue_cert", issue)
    certified("valid", host)
    assert asked == [("localhost", "127.0.0.1", "::1", *names)]


@pytest.mark.parametrize(
    ("offered", "chosen"), [(["h2", "http/1.1"], "http/1.1"), (["http/1.1"], "http/1.1"), (["h2"], None)]
)
def test_http11_is_agreed_on(secure: Simulator, offered: list[str], chosen: str | None) -> None:
    """Where a client asks by ALPN; one that speaks HTTP/2 only is let in, and not understood."""
    context = trusting(secure)
    context.set_alpn_protocols(offered)
    with connected(secure, context) as sock:
        assert sock.selected_alpn_protocol() == chosen


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_versions_of_tls(secure: Simulator, wire_request: WireRequest, version: ssl.TLSVersion) -> None:
    """1.2 and 1.3 carry the same answer, and end it with a goodbye of their own before the end of the connection."""
    context = trusting(secure)
    context.minimum_version = context.maximum_version = version
    with connected(secure, context) as sock:
        assert sock.version() == version.name.replace("_", ".")
        sock.sendall(wire_request(method="GET", path="/v1/models", connection="close"))
        answer = read_to_the_end(sock)
        # The server has said goodbye: this would raise otherwise.
        sock.unwrap().close()
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b'"object":"list"' in answer


def test_a_pipeline_of_requests_in_one_record(secure: Simulator, wire_request: WireRequest, body: Body) -> None:
    """They are answered one after the other, also where the client says goodbye with the last."""
    with connected(secure) as sock:
        requests = wire_request(body()) * 30 + wire_request(body(), connection="close")
        sock.sendall(requests)
        answer = read_to_the_end(sock)
    assert answer.count(b"HTTP/1.1 200 OK\r\n") == 31


def test_large_bodies_both_ways(start: Start, wire_request: WireRequest, body: Body) -> None:
    """2 MB in, and more out to a client that reads slowly: whole, in order, and held back by the client's reading."""
    simulator = start(rpm=None, tpm=None, tls="valid", ttft="0", between_tokens="0", context_tokens=1_000_000)
    large = body(messages=[{"role": "user", "content": "x" * 2_000_000}], max_tokens=300_000, n=2)
    with connected(simulator) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        sock.sendall(wire_request(large, connection="close"))
        head, _, answer = read_to_the_end(sock).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert f"content-length: {len(answer)}".encode() in head.lower()
    assert len(answer) > 2_000_000
    assert json.loads(answer)["usage"]["completion_tokens"] == 600_000


def test_many_connections_at_once(secure: Simulator, wire_request: WireRequest, body: Body) -> None:
    """A hundred handshakes at once, each connection with five answers, and all of them gone afterwards."""
    before = open_files(secure)
    context = trusting(secure)

    def ask(_: int) -> int:
        with connected(secure, context) as sock:
            sock.sendall(wire_request(body(stream=True)) * 4 + wire_request(body(), connection="close"))
            return read_to_the_end(sock).count(b"HTTP/1.1 200 OK\r\n")

    with ThreadPoolExecutor(100) as pool:
        assert list(pool.map(ask, range(100))) == [5] * 100
    wait_until(lambda: open_files(secure) <= before)


def test_stamps_are_those_of_the_kernel(secure: Simulator, wire_request: WireRequest, body: Body) -> None:
    """A request that came while the simulator was held still is stamped when it came; chunks are stamped when sent."""
    with connected(secure) as sock:
        sock.sendall(wire_request(body(stream=True), x_request_id="stamped", connection="close"))
        # The clock of the client before and after lies around every stamp of the simulator's.
        sent_ns = time.monotonic_ns()
        read_to_the_end(sock)
        read_ns = time.monotonic_ns()
    lines = [line for line in secure.truth("arrival", "end") if line["request_id"] == "stamped"]
    arrival, end = lines
    assert arrival["arrival_kernel_ns"] is not None
    assert abs(arrival["arrival_ns"] - sent_ns) < 50_000_000
    assert arrival["arrival_ns"] <= arrival["arrival_read_ns"] <= end["chunk_sent_ns"][0]
    assert len(end["chunk_sent_ns"]) == 3
    assert end["last_sent_ns"] < read_ns


def test_plain_http_on_a_tls_port_ends_in_order(secure: Simulator, wire_request: WireRequest) -> None:
    """An end of the connection and not a byte: no reset, no alert that nobody could read, no hang."""
    with socket.create_connection(("127.0.0.1", secure.port), timeout=5) as sock:
        sock.sendall(wire_request(method="GET", path="/v1/models"))
        assert sock.recv(65_536) == b""
    with pytest.raises(httpx.RemoteProtocolError, match="disconnected without sending a response"):
        httpx.get(secure.base_url.replace("https:", "http:"), trust_env=False, timeout=5)


def test_tls_on_a_plain_port_is_told_apart(quick: Simulator) -> None:
    """A server without TLS is no certificate's fault."""
    with pytest.raises(ssl.SSLError) as caught, socket.create_connection(("127.0.0.1", quick.port), timeout=5) as sock:
        ssl.create_default_context().wrap_socket(sock, server_hostname="localhost")
    assert not isinstance(caught.value, ssl.SSLCertVerificationError)


@pytest.mark.parametrize("said", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01", b"\x00" * 100, b"\x16\x03\x01\xff\xff"])
def test_a_client_that_leaves_in_the_handshake(secure: Simulator, said: bytes) -> None:
    """Whatever it has said by then, nothing stays open, and the simulator has nothing to complain of."""
    before = open_files(secure)
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", secure.port), timeout=5) as sock:
            sock.sendall(said)
    wait_until(lambda: open_files(secure) <= before)
    assert secure.complaints() == ""


def test_a_handshake_that_never_ends_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that goes silent in it is closed after a while; one that got through is not."""
    monkeypatch.setattr(connection, "_HANDSHAKE_S", 0.1)
    server = certified("valid", "127.0.0.1")
    trusted = ssl.create_default_context(cadata=server.authority_pem.decode())

    async def wait_for_both(port: int) -> None:
        through = await asyncio.open_connection("localhost", port, ssl=trusted)
        silent = await asyncio.open_connection("127.0.0.1", port)
        silent[1].write(b"\x16\x03\x01")
        assert await asyncio.wait_for(silent[0].read(), 5) == b""
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(through[0].read(), 0.2)
        for _, writer in (through, silent):
            writer.close()
            await writer.wait_closed()

    with asyncio.Runner() as runner:
        sock = listen("127.0.0.1", 0)
        listener = Listener(runner.get_loop(), sock, lambda *_: None, max_body_bytes=lambda: 1_000, tls=server.context)
        try:
            runner.run(wait_for_both(sock.getsockname()[1]))
        finally:
            listener.stop_accepting()
            listener.close_connections()


def _has_ends(simulator: Simulator, count: int) -> bool:
    return len(simulator.truth("end")) == count


def test_a_client_that_is_gone_in_mid_stream(start: Start, wire_request: WireRequest, body: Body) -> None:
    """With a goodbye of TLS or without one, its stream ends and the truth says so."""
    simulator = start(rpm=None, tpm=None, tls="valid", between_tokens="50ms")
    for count, leave in ((1, ssl.SSLSocket.unwrap), (2, lambda sock: sock.shutdown(socket.SHUT_WR))):
        with connected(simulator) as sock:
            sock.sendall(wire_request(body(stream=True, max_tokens=1_000)))
            assert sock.recv(10)
            try:
                leave(sock)
            except (ssl.SSLError, OSError):
                # Chunks that come before the other side's goodbye.
                pass
            wait_until(partial(_has_ends, simulator, count))
    assert [line["ended"] for line in simulator.truth("end")] == ["client_gone"] * 2


def test_garbage_in_mid_stream_ends_it(start: Start, wire_request: WireRequest, body: Body) -> None:
    """What is no record of TLS is answered with an alert and an end; the truth says that the client was gone."""
    simulator = start(rpm=None, tpm=None, tls="valid", between_tokens="20ms")
    with connected(simulator) as sock:
        sock.sendall(wire_request(body(stream=True, max_tokens=10_000)))
        assert sock.recv(10)
        os.write(sock.fileno(), b"GET / HTTP/1.1\r\n\r\n" * 3)
        with pytest.raises(ssl.SSLError):
            read_to_the_end(sock)
    wait_until(partial(_has_ends, simulator, 1))
    assert simulator.truth("end")[0]["ended"] == "client_gone"


def test_another_kind_is_refused_at_once() -> None:
    """With the kinds there are, before anything is started."""
    with pytest.raises(SettingsError, match="tls must be one of valid, expired, wrong_name, unknown_chain, not 'odd'"):
        Simulator(tls="odd")


def test_the_key_is_nowhere_and_the_certificate_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it serves, no private key is in any of its files; afterwards there is no file of its either."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with Simulator(tls="valid") as simulator:
        there = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert Path(simulator.ca_path).read_bytes().startswith(b"-----BEGIN CERTIFICATE-----")
        assert not [path for path in there if b"PRIVATE KEY" in path.read_bytes()]
    assert simulator.ca_path == ""
    assert [path for path in tmp_path.rglob("*") if path.is_file() and b"CERTIFICATE" in path.read_bytes()] == []


def test_the_key_is_read_by_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file in which OpenSSL finds the key is this user's alone, and gone when the context is made."""
    seen: list[tuple[str, int]] = []
    real = ssl.SSLContext.load_cert_chain

    def load(context: ssl.SSLContext, path: str, *rest: Any) -> None:
        seen.append((path, stat.S_IMODE(Path(path).stat().st_mode)))
        real(context, path, *rest)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", load)
    certified("valid", "127.0.0.1")
    assert seen
    assert {mode for _, mode in seen} == {0o600}
    assert not [path for path, _ in seen if Path(path).exists()]
