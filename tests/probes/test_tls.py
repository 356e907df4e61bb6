"""The check `tls`: each thing that can be wrong before a request, by the name of its assertion; nothing is asked."""

from __future__ import annotations

import datetime
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from tensorix_api.errors import SettingsError
from tensorix_probes.exchange.exchange import Exchange
from tensorix_probes.exchange.lookup import Lookup
from tensorix_probes.limits.key_memory import KeyMemory
from tensorix_probes.limits.ledger import Ledger
from tensorix_probes.memory import Clock, TargetMemory
from tensorix_probes.result import ProbeResult, State
from tensorix_probes.round import run_round
from tensorix_probes.settings import Slow, Target, Timeouts
from tensorix_simulator import Simulator

if TYPE_CHECKING:
    from tests.probes.conftest import Peer

Serve = Callable[..., int]
TargetAt = Callable[..., Target]

_STEPS = ("name_resolves", "connects", "handshake_succeeds")
_CERTIFICATE = ("certificate_chain_is_trusted", "certificate_name_matches", "certificate_is_in_date")
_DAY_NS = 86_400 * 10**9


def _check(target: Target, exchange: Exchange | None = None, clock: Clock | None = None) -> ProbeResult:
    exchange = exchange or Exchange(target)
    key = KeyMemory(Ledger(requests=None, tokens=None))
    (result,) = run_round(target, exchange=exchange, key=key, memory=TargetMemory(), clock=clock).results
    return result


def _held(result: ProbeResult) -> dict[str, bool | None]:
    return {assertion.name: assertion.held for assertion in result.assertions}


@pytest.fixture
def tls_at(target_at: TargetAt) -> TargetAt:
    """A target of which only `tls` is checked."""

    def make(base_url: str, **fields: Any) -> Target:
        return target_at(base_url, checks=("tls",), **fields)

    return make


def test_all_is_well_until_the_certificate_runs_out(start: Callable[..., Simulator], tls_at: TargetAt) -> None:
    """Up, with the days that are left; degraded once they are fewer than wanted; no request was made."""
    simulator = start(tls="valid")
    target = tls_at(simulator.base_url.replace("127.0.0.1", "localhost"), ca_bundle=simulator.ca_path)
    result = _check(target)
    assert (result.state, result.reason) == (State.UP, None)
    assert _held(result) == dict.fromkeys((*_STEPS, *_CERTIFICATE, "certificate_lasts"), True)
    assert {"dns", "connect", "tls", "total"} == set(result.phases.seconds())
    end_s = result.figures["certificate_not_after_unix_s"]
    assert result.figures["certificate_days_left"] == pytest.approx((end_s - time.time()) / 86_400, abs=0.01)
    for days, state in ((14.1, State.UP), (13.9, State.DEGRADED)):
        now_ns = int(end_s * 1e9) - int(days * _DAY_NS)
        later = _check(target, clock=Clock(unix_ns=lambda now_ns=now_ns: now_ns))  # type: ignore[misc]
        assert later.state is state
        assert later.figures["certificate_days_left"] == pytest.approx(days, abs=0.001)
    assert [one.name for one in later.failed] == ["certificate_lasts"]
    assert later.reason is not None
    assert "13.9 days are left" in later.reason
    assert simulator.truth("arrival") == []


@pytest.mark.parametrize(
    ("kind", "name", "error"),
    [
        ("expired", "certificate_is_in_date", "tls_expired"),
        ("wrong_name", "certificate_name_matches", "tls_name"),
        ("unknown_chain", "certificate_chain_is_trusted", "tls_chain"),
    ],
)
def test_a_certificate_that_is_wrong(
    start: Callable[..., Simulator], tls_at: TargetAt, kind: str, name: str, error: str
) -> None:
    """Down by the assertion that names what is wrong with it; of the rest of it nothing is known."""
    simulator = start(tls=kind)
    result = _check(tls_at(simulator.base_url, ca_bundle=simulator.ca_path))
    assert (result.state, result.error_kind, result.error_phase) == (State.DOWN, error, "tls")
    expected = dict.fromkeys(_STEPS[:2], True) | dict.fromkeys(("handshake_succeeds", *_CERTIFICATE), None)
    assert _held(result) == expected | {name: False}
    assert result.figures == {}
    assert result.phases.total_ns is not None
    assert simulator.truth("arrival") == []


def test_the_authorities_that_are_trusted_without_a_bundle(start: Callable[..., Simulator], tls_at: TargetAt) -> None:
    """A private authority is not among them."""
    assert _check(tls_at(start(tls="valid").base_url)).error_kind == "tls_chain"


@pytest.fixture
def secure(serve: Serve, tmp_path: Path) -> Callable[..., tuple[int, Path]]:
    """Serves TLS with a certificate as it is told, and gives the port and the authority's file."""

    def serve_it(name: str = "127.0.0.1", prepare: Callable[[ssl.SSLContext], None] | None = None, **dates: Any) -> Any:
        authority = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(name, **dates).configure_cert(context)
        if prepare is not None:
            prepare(context)
        bundle = tmp_path / "ca.pem"
        authority.cert_pem.write_to_path(str(bundle))

        def handler(peer: Peer) -> None:
            with context.wrap_socket(peer.socket, server_side=True) as connection:
                connection.recv(1)

        return serve(handler), bundle

    return serve_it


def test_a_certificate_of_tomorrow(secure: Callable[..., Any], tls_at: TargetAt) -> None:
    """One whose dates are still to come is not in date either."""
    now = datetime.datetime.now(datetime.UTC)
    port, bundle = secure(not_before=now + datetime.timedelta(days=1), not_after=now + datetime.timedelta(days=2))
    result = _check(tls_at(f"https://127.0.0.1:{port}/v1", ca_bundle=bundle))
    assert (result.state, result.error_kind) == (State.DOWN, "tls_expired")
    assert [one.name for one in result.failed] == ["certificate_is_in_date"]


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
def test_an_old_version_of_tls(secure: Callable[..., Any], tls_at: TargetAt) -> None:
    """A server that speaks nothing newer than TLS 1.1 fails the handshake."""

    def old(context: ssl.SSLContext) -> None:
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.maximum_version = ssl.TLSVersion.TLSv1_1

    port, bundle = secure(prepare=old)
    result = _check(tls_at(f"https://127.0.0.1:{port}/v1", ca_bundle=bundle))
    assert (result.state, result.error_kind) == (State.DOWN, "tls_failed")
    assert [one.name for one in result.failed] == ["handshake_succeeds"]


def _closes(peer: Peer) -> None:
    peer.socket.recv(1_000)


def _resets(peer: Peer) -> None:
    peer.socket.recv(1_000)
    peer.reset()


def _speaks_http(peer: Peer) -> None:
    peer.socket.recv(1_000)
    peer.answer(400, b"")


@pytest.mark.parametrize("handler", [_closes, _resets, _speaks_http])
def test_a_handshake_that_fails(serve: Serve, tls_at: TargetAt, handler: Callable[[Peer], None]) -> None:
    """It is no fault of the certificate, which nobody has seen."""
    result = _check(tls_at(f"https://127.0.0.1:{serve(handler)}/v1"))
    assert (result.state, result.error_kind, result.error_phase) == (State.DOWN, "tls_failed", "tls")
    assert _held(result) == dict.fromkeys(_STEPS[:2], True) | {"handshake_succeeds": False} | dict.fromkeys(
        _CERTIFICATE
    )


def test_a_handshake_that_takes_too_long(serve: Serve, tls_at: TargetAt) -> None:
    """A server that says nothing, or a byte now and then, is given up after `tls_s`."""
    over = threading.Event()

    def drips(peer: Peer) -> None:
        peer.send(b"\x16\x03\x03\x10\x00")
        while not over.wait(0.02):
            peer.send(b"\x00")

    for handler in (lambda peer: peer.wait_for_end(), drips):
        began = time.monotonic()
        result = _check(tls_at(f"https://127.0.0.1:{serve(handler)}/v1", timeouts=Timeouts(tls_s=0.3)))
        # Without `tls_s` it would be 45 s.
        assert 0.29 < time.monotonic() - began < 20
        assert (result.state, result.error_kind, result.error_phase) == (State.DOWN, "timeout", "tls")
    over.set()


def test_nobody_listens(start: Callable[..., Simulator], tls_at: TargetAt) -> None:
    """A refused connection leaves everything after it unknown."""
    result = _check(tls_at(start(tls="valid", faults=["refuse"]).base_url))
    assert (result.state, result.error_kind) == (State.DOWN, "connection_refused")
    assert _held(result) == {"name_resolves": True, "connects": False} | dict.fromkeys((_STEPS[2], *_CERTIFICATE))


def test_a_name_that_nobody_knows(tls_at: TargetAt) -> None:
    """Then nothing else is known, and the name stands in the reason."""

    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(-2, "Name or service not known")

    target = tls_at("https://nowhere.example/v1")
    result = _check(target, Exchange(target, lookup=Lookup(fail)))
    assert (result.state, result.error_kind, result.error_phase) == (State.DOWN, "dns", "dns")
    assert _held(result) == {"name_resolves": False} | dict.fromkeys((*_STEPS[1:], *_CERTIFICATE))
    assert result.reason is not None
    assert "nowhere.example" in result.reason


def test_a_target_without_tls(borrow: Callable[..., Simulator], tls_at: TargetAt) -> None:
    """Only the name and the connection are looked at; it is up all the same."""
    simulator = borrow()
    result = _check(tls_at(simulator.base_url))
    assert (result.state, result.phases.tls_ns, dict(result.figures)) == (State.UP, None, {})
    assert _held(result) == dict.fromkeys(_STEPS[:2], True) | dict.fromkeys((_STEPS[2], *_CERTIFICATE))
    assert simulator.truth("arrival") == []


def test_a_slow_connection(borrow: Callable[..., Simulator], tls_at: TargetAt) -> None:
    """Degraded where opening took longer than the configuration wants, and only there."""
    url = borrow().base_url
    slow, quick = (_check(tls_at(url, slow=Slow(connect_s=most_s))) for most_s in (0.000_001, 10.0))
    assert (slow.state, [one.name for one in slow.failed]) == (State.DEGRADED, ["connects_quickly"])
    assert (quick.state, _held(quick)["connects_quickly"]) == (State.UP, True)


def test_one_that_we_ended(tls_at: TargetAt) -> None:
    """What we cancelled says nothing of the server."""
    target = tls_at("https://127.0.0.1:9/v1")
    exchange = Exchange(target)
    exchange.close()
    result = _check(target, exchange)
    assert (result.state, result.error_kind) == (State.INCONCLUSIVE, "cancelled")


@pytest.mark.parametrize("text", [None, "no certificate"])
def test_a_bundle_that_cannot_be_used(tls_at: TargetAt, tmp_path: Path, text: str | None) -> None:
    """A missing file, and one that holds no certificate, are refused by name."""
    bundle = tmp_path / "bundle.pem"
    if text is not None:
        bundle.write_text(text)
    with pytest.raises(SettingsError, match=r"bundle\.pem.*PEM certificates"):
        Exchange(tls_at("https://127.0.0.1:9/v1", ca_bundle=bundle))
