"""The exchange against each fault of the simulator: the kind and phase that the load client has for it, and no hang."""

from __future__ import annotations

import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tensorix_api import Secret
from tensorix_api.chat import MalformedError, parse_models, parse_reply
from tensorix_probes.exchange.answer import Answer
from tensorix_probes.exchange.exchange import Exchange
from tensorix_probes.settings import Target, Timeouts
from tensorix_simulator import Simulator

Row = dict[str, str]

# What the load client is held to, line by line.
_TABLE = Path(__file__).parents[1] / "simulator" / "fault_table.toml"
_ROWS: list[Row] = tomllib.loads(_TABLE.read_text())["cases"]
_QUICK = Timeouts(first_byte_s=0.2, first_token_s=0.2, chunk_s=0.2, total_s=0.4)
_CHAT: dict[str, Any] = {"model": "z-ai/glm-5", "max_tokens": 4, "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture(scope="module", params=[None, "valid"], ids=["plain", "tls"])
def simulator(request: pytest.FixtureRequest) -> Iterator[Simulator]:
    """One for all: faults are asked for by a header."""
    with Simulator(rpm=None, tpm=None, ttft="1ms", between_tokens="1ms", tls=request.param) as simulator:
        yield simulator
        assert simulator.complaints() == ""


def _ask(exchange: Exchange, what: str) -> Answer:
    if what == "models":
        return exchange.ask("GET", "/models", kind="models")
    return exchange.ask("POST", "/chat/completions", kind="chat", body={**_CHAT, "stream": what == "stream"})


def _said(answer: Answer, what: str) -> str:
    """As the table writes it. Whether a whole body is a reply is for the checks: here as they read it."""
    words: list[object] = [answer.status or "-"]
    if answer.error is not None:
        words += [answer.error.kind, answer.error.phase]
    elif what != "stream":
        try:
            _ = parse_models(answer.body) if what == "models" else parse_reply(answer.body)
        except MalformedError:
            words += ["malformed", "body"]
    return " ".join(map(str, words))


def _expected(row: Row) -> str:
    """The status, kind and phase of the load client's words: `failed 200 cut stream cut 2 False`."""
    _, status, *rest = row["client"].split()
    return " ".join([status, *[word for word in rest[:2] if word != "-"]])


@pytest.mark.parametrize("row", _ROWS, ids=lambda row: f"{row['ask']}, {row['fault']}")
def test_it_agrees_with_the_load_client(simulator: Simulator, target_at: Callable[..., Target], row: Row) -> None:
    """The same kind of error in the same phase, its chunks and [DONE] kept, no later than the timeouts allow."""
    waits = " timeout " in row["client"]
    target = target_at(
        simulator.base_url,
        ca_bundle=simulator.ca_path,
        extra_headers={"x-simulator-fault": Secret(row["fault"])},
        timeouts=_QUICK if waits else Timeouts(),
    )
    began = time.monotonic()
    answer = _ask(Exchange(target), row["ask"])
    # Of the bounds the longest, and what a busy machine may take.
    assert time.monotonic() - began < (0.4 if waits else 0) + 14
    assert _said(answer, row["ask"]) == _expected(row)
    told = row["client"].split()
    if len(told) == 7:
        contents = [
            event for event in answer.events if b'"content":' in event.data and b'"content":""' not in event.data
        ]
        done = any(event.data == b"[DONE]" for event in answer.events)
        assert (len([one for one in contents if b'"role"' not in one.data]), str(done)) == (int(told[5]), told[6])


def test_a_server_that_refuses(start: Callable[..., Simulator], target_at: Callable[..., Target]) -> None:
    """A refused connection is told from one that breaks, and what was asked first leaves nothing behind."""
    simulator = start()
    exchange = Exchange(target_at(simulator.base_url))
    for fault in ("refuse", "outage"):
        simulator.change(faults=[fault])
        answer = _ask(exchange, "chat")
        assert answer.failure is not None
        assert (answer.status, answer.failure.kind, answer.failure.phase) == (None, "connection_refused", "connect")
        assert answer.phases.connect_ns is None
    simulator.change(faults=[])
    assert _ask(exchange, "chat").failure is None
