"""The load client as a program for tests: a case a line on standard input (JSON), what came of it a line on output.

A case: `base_url`, `calls` (each `{"models": true}` or keywords of `Call.chat`), and optionally `key`, `timeouts`,
`headers`, `ca_bundle`, `environment`, `keep_gaps`, `addresses` (what every name resolves to), `signal_port` with
`on_signal`. On a byte from the signal port the sending greenlet is killed (`kill`) or the event loop stalls for 0.3 s
(`stall`), after a byte back.
"""

from gevent import monkey

monkey.patch_all()

import dataclasses  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import socket  # noqa: E402
import sys  # noqa: E402
import traceback  # noqa: E402
from collections.abc import Callable  # noqa: E402
from contextlib import nullcontext  # noqa: E402
from typing import Any  # noqa: E402
from unittest.mock import patch  # noqa: E402

import gevent  # noqa: E402

from tensorix_api.errors import SettingsError  # noqa: E402
from tensorix_api.secret import Secret  # noqa: E402
from tensorix_api.settings import Settings  # noqa: E402
from tensorix_loadtests import _connection  # noqa: E402
from tensorix_loadtests._call import Call  # noqa: E402
from tensorix_loadtests._client import LoadClient  # noqa: E402
from tensorix_loadtests._recording import Result  # noqa: E402
from tensorix_loadtests._session import Session  # noqa: E402
from tensorix_loadtests._target import Target  # noqa: E402
from tensorix_loadtests.plan import Timeouts  # noqa: E402

STALL_S = 0.3
_sleep_for_real = monkey.get_original("time", "sleep")


def _call(keywords: dict[str, Any]) -> Call:
    if keywords.get("models"):
        return Call.list_models()
    defaults: dict[str, Any] = {"model": "m", "stream": True, "max_tokens": 8}
    return Call.chat([{"role": "user", "content": "hello"}], **(defaults | keywords))


def _watch_signal(port: int, what: str, sender: Any) -> None:
    with socket.create_connection(("127.0.0.1", port)) as signal:
        signal.recv(1)
        if what == "kill":
            sender.kill(block=False)
        else:
            signal.sendall(b".")
            _sleep_for_real(STALL_S)


def _addresses(hosts: list[str]) -> Any:
    """A resolver that knows these addresses, in this order, for every name."""

    def resolve(_name: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET6 if ":" in host else socket.AF_INET, 0, 0, "", (host, port)) for host in hosts]

    return resolve


def run(case: dict[str, Any]) -> dict[str, Any]:
    """One case. `results` are those that `on_result` had; `returned` counts the calls that came back."""
    key = case.get("key")
    settings = Settings(base_url=case["base_url"], api_key=Secret(key) if key else None)
    session = Session(
        settings,
        Target.of(settings, case.get("ca_bundle")),
        Timeouts(**case.get("timeouts", {})),
        {name: Secret(value) for name, value in case.get("headers", {}).items()},
        keep_gaps=case.get("keep_gaps", False),
    )
    seen: list[Result] = []
    returned = 0
    client = LoadClient(session, on_result=seen.append)

    def send_all() -> None:
        nonlocal returned
        for keywords in case["calls"]:
            client.send(_call(keywords))
            returned += 1

    resolver = patch.object(_connection, "resolve", _addresses(case["addresses"])) if "addresses" in case else None
    with resolver or nullcontext():
        _send(case, send_all)
    usable = client._connection is not None and client._connection.usable
    client.close()
    return {
        "results": [
            {
                "record": dataclasses.asdict(result.record),
                "chunk_unix_ns": list(result.chunk_unix_ns),
                "models": result.models,
            }
            for result in seen
        ],
        "returned": returned,
        "usable": usable,
        "offset_ns": session.clock.offset_ns,
    }


def _send(case: dict[str, Any], send_all: Callable[[], None]) -> None:
    sender = gevent.spawn(send_all)
    watcher = None
    if port := case.get("signal_port"):
        watcher = gevent.spawn(_watch_signal, port, case["on_signal"], sender)
    sender.join()
    if watcher is not None:
        watcher.kill()
    if sender.exception is not None:
        raise sender.exception


def main() -> None:
    """Answer until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        case = json.loads(line)
        environment = case.get("environment", {})
        os.environ.update(environment)
        try:
            answer = run(case)
        except SettingsError as error:
            answer = {"refused": str(error)}
        except BaseException:
            answer = {"defect": traceback.format_exc()}
        for name in environment:
            del os.environ[name]
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
