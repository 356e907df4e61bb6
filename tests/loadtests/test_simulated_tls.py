"""The load client and a simulator's four kinds of certificate: each ends as a kind of error of its own."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tensorix_simulator import Simulator

if TYPE_CHECKING:
    from tests.loadtests.conftest import Client

QUICK: dict[str, Any] = {"rpm": None, "tpm": None, "ttft": "1ms", "between_tokens": "1ms"}
CALL = {"model": "z-ai/glm-5"}


def test_a_valid_certificate_is_success(client: Client) -> None:
    """With its authority as CA bundle every call succeeds, streamed or not, on one connection."""
    with Simulator(**QUICK, tls="valid") as simulator:
        seen = client.send(
            simulator.base_url,
            CALL,
            {**CALL, "stream": False},
            {"models": True},
            key="sk-a",
            ca_bundle=simulator.ca_path,
        )
    assert [record.outcome for record in seen.records] == ["success"] * 3
    assert [record.connection_reused for record in seen.records] == [False, True, True]
    assert seen.records[0].tls_done_at_ns is not None
    assert seen.records[0].stamp_source == "kernel"


def test_the_four_cases_are_four_kinds_of_error(client: Client) -> None:
    """Trusted by nobody, over, for another server, of another authority; and a server that speaks no TLS is a fifth.

    The authority of the valid and of the unknown chain is missing in the same way: the kind is the same, and what was
    sent is nothing.
    """
    kinds: dict[str, Any] = {}
    for kind in ("valid", "expired", "wrong_name", "unknown_chain"):
        with Simulator(**QUICK, tls=kind) as simulator:
            record = client.send(simulator.base_url, CALL, key="sk-a", ca_bundle=simulator.ca_path).record
            kinds[kind] = record.error_kind
            if kind != "valid":
                assert (record.outcome, record.error_phase) == ("failed", "tls")
                assert record.request_sent_at_ns is None
                assert not simulator.truth("arrival")
    assert kinds == {
        "valid": None, "expired": "tls_expired", "wrong_name": "tls_name", "unknown_chain": "tls_chain",
    }  # fmt: skip


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_valid_certificate_of_an_authority_that_is_not_known(client: Client, host: str) -> None:
    """Without the CA bundle it is the chain that is wrong, by address and by name."""
    with Simulator(**QUICK, tls="valid") as simulator:
        url = simulator.base_url.replace("127.0.0.1", host)
        assert client.send(url, CALL, key="sk-a").record.error_kind == "tls_chain"
        assert client.send(url, CALL, key="sk-a", ca_bundle=simulator.ca_path).record.outcome == "success"


def test_no_tls_at_all_is_another_kind(client: Client) -> None:
    """HTTPS to a port that speaks plain HTTP is `tls_failed`; plain HTTP to a port that speaks TLS is no TLS error."""
    with Simulator(**QUICK) as plain, Simulator(**QUICK, tls="valid") as secure:
        record = client.send(plain.base_url.replace("http:", "https:"), CALL, key="sk-a").record
        assert (record.error_kind, record.error_phase) == ("tls_failed", "tls")
        record = client.send(secure.base_url.replace("https:", "http:"), CALL, key="sk-a").record
        assert (record.outcome, record.error_phase) == ("failed", "headers")
        assert not (record.error_kind or "").startswith("tls")


_TABLE = Path(__file__).parents[1] / "simulator" / "fault_table.toml"
_FAULTS = [row for row in tomllib.loads(_TABLE.read_text())["cases"] if " timeout " not in row["client"]]


def test_faults_are_told_apart_under_tls_too(client: Client) -> None:
    """Each fault that ends by itself is recorded as it is without TLS: encryption hides no kind of error."""
    assert len(_FAULTS) > 30
    recorded: dict[tuple[str, str], str] = {}
    with Simulator(**QUICK, tls="valid") as simulator:
        for row in _FAULTS:
            call = (
                {"models": True}
                if row["ask"] == "models"
                else {**CALL, "max_tokens": 4, "stream": row["ask"] == "stream"}
            )
            seen = client.send(
                simulator.base_url,
                call,
                key="sk-a",
                headers={"x-simulator-fault": row["fault"]},
                ca_bundle=simulator.ca_path,
            )
            record = seen.record
            words: list[object] = [record.outcome, record.status or "-"]
            if record.error_kind is not None or record.stream_outcome is not None:
                words += [record.error_kind or "-", record.error_phase or "-"]
            if record.stream_outcome is not None:
                words += [record.stream_outcome, record.chunks, record.done_seen]
            recorded[row["ask"], row["fault"]] = " ".join(map(str, words))
        assert simulator.complaints() == ""
    assert recorded == {(row["ask"], row["fault"]): row["client"] for row in _FAULTS}
