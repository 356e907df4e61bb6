"""What each check says of each fault: the rows of `check_table.toml`, over the simulator and over written answers."""

from __future__ import annotations

import json
import time
import tomllib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tensorix_api import Secret
from tensorix_probes.checks._promises import Promise
from tensorix_probes.exchange.exchange import Exchange
from tensorix_probes.limits.key_memory import KeyMemory
from tensorix_probes.limits.ledger import Ledger
from tensorix_probes.memory import TargetMemory
from tensorix_probes.result import ProbeResult, State
from tensorix_probes.round import run_round
from tensorix_probes.settings import Canary, Slow, Target, Timeouts
from tensorix_simulator import Simulator

Row = dict[str, Any]
Written = dict[str, tuple[int, str, bytes, bool]]

_TABLE = tomllib.loads((Path(__file__).parent / "check_table.toml").read_text(encoding="utf-8"))
_CHECKS = ("models", "auth", "chat", "stream", "errors")
_MODEL = "deepseek/deepseek-chat-v3.1"
_KEY = "sk-0123456789abcdef-of-the-table"
_USAGE = {"prompt_tokens": 12, "completion_tokens": 1, "total_tokens": 13}


def _name(row: Row) -> str:
    told = [row[part] for part in ("check", "fault", "settings", "tls", "key", "status", "set", "drop") if part in row]
    return " ".join(map(str, [*told, "->", *(row.get("failed") or [row["state"]])]))[:150]


def _target(base_url: str, row: Row, **fields: Any) -> Target:
    """The target of a row."""
    wanted = {**row.get("target", {})}
    key = row.get("key", _KEY)
    if "canary" in wanted:
        canary = {**wanted["canary"]}
        if canary.pop("any", False):
            canary["expect"] = None
        wanted["canary"] = Canary(**canary)
    for name, made in (("slow", Slow), ("timeouts", Timeouts)):
        if name in wanted:
            wanted[name] = made(**wanted[name])
    return Target(
        **{
            "name": "table",
            "base_url": base_url,
            "api_key": Secret(key) if key else None,
            "checks": (*([row["with"]] if "with" in row else []), row["check"]),
            **fields,
            **wanted,
            "model": wanted.get("model", _MODEL) or None,
        }
    )


def _run(target: Target, check: str) -> ProbeResult:
    exchange, key = Exchange(target), KeyMemory(Ledger(requests=None, tokens=None))
    try:
        found = run_round(target, exchange=exchange, key=key, memory=TargetMemory())
    finally:
        exchange.close()
    # Whatever a server says, no key comes back.
    assert _KEY not in json.dumps(found.to_dict())
    return next(result for result in found.results if result.check == check)


def _judge(row: Row, result: ProbeResult) -> None:
    assert [one.name for one in result.failed] == row.get("failed", []), result.reason
    assert result.state == row["state"], result.reason
    unjudged = [one for one in result.assertions if one.held is None and one.detail]
    assert [one.name for one in unjudged] == row.get("unjudged", [])
    assert row.get("says", "") in (result.reason or "")
    for one in result.failed:
        assert one.detail
        assert one.detail.isprintable()
        assert len(one.detail) < 600


@pytest.mark.parametrize("row", _TABLE["simulated"], ids=_name)
def test_by_the_simulator(
    row: Row,
    borrow: Callable[..., Simulator],
    start: Callable[..., Simulator],
) -> None:
    """Each fault of the simulator has the state and the named assertions that its row says."""
    fields: dict[str, Any] = {}
    if "tls" in row:
        simulator = start(tls=row["tls"])
        fields["ca_bundle"] = Path(simulator.ca_path)
    else:
        simulator = borrow(**row.get("settings", {}))
    if "fault" in row:
        fields["extra_headers"] = {"x-simulator-fault": Secret(row["fault"])}
    _judge(row, _run(_target(simulator.base_url, row, **fields), row["check"]))


def _good() -> dict[str, Any]:
    """The answers of a server that keeps all its promises; of a stream its chunks."""
    common = {"id": "chatcmpl-1", "created": int(time.time()), "model": _MODEL}
    chunk = {**common, "object": "chat.completion.chunk"}
    message = {"role": "assistant", "content": "42"}
    return {
        "models": {
            "object": "list",
            "data": [{"id": name, "object": "model", "created": 1, "owned_by": "x"} for name in (_MODEL, "z-ai/glm-5")],
        },
        "auth": {"error": {"message": "Invalid", "type": "authentication_error", "code": "invalid_api_key"}},
        "errors": {"error": {"message": "No messages", "type": "invalid_request_error", "code": "missing"}},
        "chat": {
            **common,
            "object": "chat.completion",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": _USAGE,
        },
        "stream": [
            {**chunk, "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]},
            {**chunk, "choices": [{"index": 0, "delta": {"content": "42"}, "finish_reason": None}]},
            {**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
            {**chunk, "choices": [], "usage": {**_USAGE}},
        ],
    }


_STATUS = {"auth": 401, "errors": 400}


def _changed(good: Any, row: Row) -> Any:
    """A good answer with the places that a row names set, or dropped."""
    good = json.loads(json.dumps(good))

    def place(path: str) -> tuple[Any, Any]:
        at, (*steps, last) = good, path.split(".")
        for step in steps:
            at = at[int(step)] if isinstance(at, list) else at[step]
        return at, int(last) if isinstance(at, list) else last

    for path, value in row.get("set", {}).items():
        holder, name = place(path)
        if isinstance(holder, list) and name == len(holder):
            holder.append(value)
        else:
            holder[name] = value
    for path in row.get("drop", []):
        holder, name = place(path)
        del holder[name]
    return good


def _written(row: Row) -> Written:
    """By check: status, content type, body, and whether it is cut short."""
    answers: Written = {}
    for check, good in _good().items():
        own = row if check == row["check"] else {}
        changed = _changed(good, own)
        stream = check == "stream"
        text = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in changed) if stream else json.dumps(changed)
        text = own.get("body", own.get("before", "") + text + (own.get("after", "data: [DONE]\n\n") if stream else ""))
        kind = own.get("type", "text/event-stream" if stream else "application/json")
        status = own.get("status", _STATUS.get(check, 200))
        answers[check] = (status, kind, text.encode(), own.get("cut", False))
    return answers


@pytest.fixture
def serve() -> Iterator[Callable[[Written], str]]:
    """Serves written answers and gives the address; what is asked shows in the request."""
    servers: list[ThreadingHTTPServer] = []

    def serve_it(answers: Written) -> str:
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                """Nothing."""

            def do_GET(self) -> None:
                self._say("auth" if self.headers["authorization"] == "Bearer sk-invalid" else "models")

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                self._say("errors" if "messages" not in body else "stream" if body.get("stream") else "chat")

            def _say(self, check: str) -> None:
                status, kind, body, cut = answers[check]
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(body) + cut))
                self.end_headers()
                self.wfile.write(body)

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        Thread(target=servers[-1].serve_forever, kwargs={"poll_interval": 0.01}).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/v1"

    yield serve_it
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("row", _TABLE["written"], ids=_name)
def test_by_written_answers(row: Row, serve: Callable[[Written], str]) -> None:
    """Each answer that a server could send has the state and the named assertions that its row says."""
    _judge(row, _run(_target(serve(_written(row)), row), row["check"]))


def _promises(check: str) -> tuple[Promise, ...]:
    return tuple(import_module(f"tensorix_probes.checks.{check}").PROMISES)


@pytest.mark.parametrize("check", _CHECKS)
def test_every_promise_is_broken_in_some_row(check: str) -> None:
    """No assertion is declared that no row of the table makes fail; but a changed list of models harms nothing."""
    rows = [row for part in _TABLE.values() for row in part if row["check"] == check]
    broken = {name for row in rows for name in row.get("failed", [])}
    declared = [promise.name for promise in _promises(check) if promise.otherwise is not State.UP]
    assert sorted(set(declared) - broken) == []
    assert len(set(declared)) == len(declared)


@pytest.mark.parametrize("row", [row for part in _TABLE.values() for row in part if row.get("failed")], ids=_name)
def test_states_are_those_that_are_declared(row: Row) -> None:
    """The state of a row is the worst of those that its promises declare, so that the list can be relied on."""
    declared = {promise.name: promise.otherwise for promise in _promises(row["check"])}
    order = list(State)
    assert max((declared[name] for name in row["failed"]), key=order.index) == row["state"]
