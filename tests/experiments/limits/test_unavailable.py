"""The experiment on servers that answer 503: a limiter that refuses so, and one that is down."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tensorix_api.secret import Secret
from tensorix_api.settings import Settings
from tensorix_experiments.limits import Bounds, Ended, LimitsExperiment, run_limits
from tensorix_reports.limits import LimitsReport, limits_report

_MODELS = json.dumps({"object": "list", "data": [{"id": "small", "object": "model"}]}).encode()
_REPLY = json.dumps(
    {
        "id": "1",
        "object": "chat.completion",
        "model": "small",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "OK"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }
).encode()


@pytest.fixture
def found_out(tmp_path: Path) -> Iterator[Callable[..., tuple[Ended, LimitsReport]]]:
    """Runs the experiment on a server that answers 503, with a page as proxies do, to each chat that may not pass."""
    servers = []

    def run(passes: Callable[[], bool], window_s: float) -> tuple[Ended, LimitsReport]:
        lock = threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Else an answer waits for the client to acknowledge the one before.
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                self._answer(200, _MODELS)

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                with lock:
                    ok = passes()
                self._answer(200, _REPLY) if ok else self._answer(503, b"<h1>503 Service Temporarily Unavailable</h1>")

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - so it is called there
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        asked = LimitsExperiment(
            settings=Settings(base_url=f"http://127.0.0.1:{server.server_port}/v1", api_key=Secret("sk-unavailable")),
            bounds=Bounds(requests=300, seconds=60.0, tokens=20_000),
            window_s=window_s,
            beside=False,
        )
        ended = run_limits(asked, tmp_path / "run")
        return ended, limits_report(tmp_path / "run")

    yield run
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_limiter_that_refuses_with_503_is_found_out(found_out: Any, limit_req: Any) -> None:
    """As nginx does unless it is told another status: 503 is what it refuses with, and no reason to stop."""
    limiter = limit_req(10.0, 9)
    ended, report = found_out(lambda: limiter.passes(time.monotonic()), 1.0)
    assert (ended.reason, report.main.key.refused_with) == ("completed", 503)
    best = report.main.fit.ranked[0]
    assert (report.main.fit.verdict, best.kind) == ("named", "token_bucket")
    assert best.burst.value == pytest.approx(10, abs=1)
    assert best.window_s.value / best.limit.value == pytest.approx(0.1, rel=0.1)


def test_a_server_that_goes_down_is_not_taken_for_a_limiter(found_out: Any) -> None:
    """After 503 alone for longer than a window it is left alone, and no limit is named."""
    left = iter(range(12))
    ended, report = found_out(lambda: next(left, None) is not None, 1.0)
    assert (ended.reason, ended.wrong) == ("stopped", False)
    assert "503" in ended.why
    assert report.main.fit.verdict == "no limit reached"
    assert report.main.key.refused_with == 429


def test_a_server_that_is_down_from_the_start_is_left_alone_at_once(found_out: Any) -> None:
    """What never answered anything else than 503 has shown no limit."""
    ended, _ = found_out(lambda: False, 1.0)
    assert (ended.reason, ended.requests) == ("stopped", 1 + 5)
