"""The load client against each fault of the simulator: the right kind of error in the right phase, and no hang."""

from __future__ import annotations

import time
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import pytest

from tensorix_records import RequestRecord
from tensorix_simulator import Simulator

Row = dict[str, str]

# The same table that the simulator's own tests and the official client are held to.
_TABLE = Path(__file__).parents[1] / "simulator" / "fault_table.toml"
_ROWS: list[Row] = tomllib.loads(_TABLE.read_text())["cases"]
_QUICK = {"first_token_s": 0.3, "chunk_s": 0.3, "total_s": 0.6}


class Seen(Protocol):
    """What the client of conftest made of a case."""

    records: list[RequestRecord]
    record: RequestRecord
    answer: dict[str, Any]


class Client(Protocol):
    """The load client of conftest."""

    def send(self, base_url: str, *calls: dict[str, Any], **case: Any) -> Seen: ...


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    """One for all: faults are asked for by a header."""
    with Simulator(rpm=None, tpm=None, ttft="1ms", between_tokens="1ms") as simulator:
        yield simulator
        assert simulator.complaints() == ""


def _call(ask: str, **parameters: Any) -> dict[str, Any]:
    if ask == "models":
        return {"models": True}
    return {"model": "z-ai/glm-5", "max_tokens": 4, "stream": ask == "stream", **parameters}


def _said(record: RequestRecord) -> str:
    """As the table writes it."""
    words: list[object] = [record.outcome, record.status or "-"]
    if record.error_kind is not None or record.stream_outcome is not None:
        words += [record.error_kind or "-", record.error_phase or "-"]
    if record.stream_outcome is not None:
        words += [record.stream_outcome, record.chunks, record.done_seen]
    return " ".join(map(str, words))


@pytest.mark.parametrize("row", _ROWS, ids=lambda row: f"{row['ask']}, {row['fault']}")
def test_what_the_client_records(simulator: Simulator, client: Client, row: Row) -> None:
    """As the table says; it waits no longer than it was told to, and its next request is not harmed."""
    waits = " timeout " in row["client"]
    seen = client.send(
        simulator.base_url,
        _call(row["ask"]),
        key="sk-load",
        headers={"x-simulator-fault": row["fault"]},
        **({"timeouts": _QUICK} if waits else {}),
    )
    record = seen.record
    assert _said(record) == row["client"]
    assert record.end_at_ns is not None
    # Of the two bounds the longer, and what a busy machine may take.
    assert record.end_at_ns < (600_000_000 if waits else 0) + 5_000_000_000
    whole = [line for line in simulator.truth() if line.get("request_id") == record.request_id]
    assert whole[0]["event"] == "arrival" if whole else row["fault"].startswith("slow reading")


def test_the_next_request_of_a_connection(simulator: Simulator, client: Client) -> None:
    """What is wrong with one answer does not reach the next: an understated length leaves bytes on the connection."""
    for fault in (
        "content length too short",
        "malformed",
        "error event",
        "no done",
        "cut",
        "split",
        "connection close",
    ):
        for ask in ("chat", "stream"):
            # The seed and the order decide who is hit.
            simulator.reset()
            seen = client.send(
                simulator.base_url,
                *[_call(ask)] * 12,
                key="sk-load",
                headers={"x-simulator-fault": f"{fault}, rate 50%"},
            )
            hit = [line["fault"] is not None for line in _arrivals(simulator, seen.records)]
            assert set(hit) == ({True, False} if ask in _seen_by(fault) else {False})
            harmless = fault in ("no done", "split", "connection close") or ask not in _seen_by(fault)
            wanted = ["failed" if was_hit and not harmless else "success" for was_hit in hit]
            assert [record.outcome for record in seen.records] == wanted, (fault, ask)


def _seen_by(fault: str) -> tuple[str, ...]:
    only = {"content length too short": "chat", "error event": "stream", "no done": "stream", "split": "stream"}
    return (only[fault],) if fault in only else ("chat", "stream")


def _arrivals(simulator: Simulator, records: list[RequestRecord]) -> list[dict[str, Any]]:
    arrivals = {line["request_id"]: line for line in simulator.truth() if line["event"] == "arrival"}
    return [arrivals[record.request_id] for record in records]


def test_a_large_body_that_is_read_slowly(simulator: Simulator, client: Client) -> None:
    """The client's send blocks, and its bound on the whole request ends that."""
    record = client.send(
        simulator.base_url,
        _call("chat", extra={"user": "x" * 8_000_000}),
        key="sk-load",
        headers={"x-simulator-fault": "slow reading 1000 bytes/s"},
        timeouts={"total_s": 0.8},
    ).record
    assert (record.outcome, record.error_kind, record.error_phase) == ("failed", "timeout", "send")


def test_a_server_that_refuses(client: Client) -> None:
    """A refused connection is told from one that breaks, also in an outage."""
    with Simulator(ttft="1ms") as simulator:
        for fault in ("refuse", "outage"):
            simulator.change(faults=[fault])
            record = client.send(simulator.base_url, key="sk-load").record
            assert _said(record) == "failed - connection_refused connect"
        simulator.change(faults=[])
        assert client.send(simulator.base_url, _call("stream"), key="sk-load").record.outcome == "success"


def test_an_outage_in_mid_stream(client: Client) -> None:
    """Streams that are under way are cut, the requests after them are refused."""
    with Simulator(ttft="1ms", between_tokens="5ms") as simulator, ThreadPoolExecutor(1) as threads:
        begun = threads.submit(_begin_outage, simulator)
        seen = client.send(simulator.base_url, *[_call("stream", max_tokens=10_000)] * 2, key="sk-load")
        begun.result()
        first, second = seen.records
        assert _said(first).startswith("failed 200 cut stream cut ")
        assert first.chunks
        assert _said(second) == "failed - connection_refused connect"
        ends = [line for line in simulator.truth() if line["event"] == "end"]
        assert [end["ended"] for end in ends] == ["reset"]


def _begin_outage(simulator: Simulator) -> None:
    """As soon as a stream is under way."""
    deadline = time.monotonic() + 20
    while not any(line["event"] == "arrival" for line in simulator.truth()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.05)
    simulator.change(faults=["outage"])


def test_models_that_vanish(client: Client) -> None:
    """A model that is gone is a bad request."""
    with Simulator(ttft="1ms", faults=["vanish z-ai/glm-5"]) as simulator:
        record = client.send(simulator.base_url, _call("stream"), key="sk-load").record
        assert (_said(record), record.error_code) == ("failed 400 bad_request headers", "model_not_found")
