"""A small server of a key with a limit, which counts for itself what it was asked, and can be told to misbehave."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol

import pytest

from tensorix_api.limiters import Cost, FixedWindow
from tensorix_api.secret import Secret
from tensorix_api.settings import Settings
from tensorix_experiments.limits import Bounds, Ended, LimitsExperiment, run_limits
from tensorix_reports.limits import LimitsReport, limits_report


class Passing(Protocol):
    """Whether a request passes, asked in the order of time."""

    def passes(self, now_s: float) -> bool: ...


@dataclass
class LimitReq:
    """nginx's `limit_req` with `nodelay`: an excess over the rate that runs off, and refuses above the burst."""

    rate: float
    burst: int
    excess: float = 0.0
    last_s: float | None = None

    def passes(self, now_s: float) -> bool:
        excess = 0.0
        if self.last_s is not None:
            excess = max(0.0, self.excess - self.rate * (now_s - self.last_s) + 1)
        if excess > self.burst:
            return False
        self.excess, self.last_s = excess, now_s
        return True


@dataclass
class FrequencyCounter:
    """haproxy's rates: periods that begin with the first request after a silence, the last one's count fading.

    What it makes of both is cut to a whole number before it is compared.
    """

    limit: int
    period_s: float
    counts_refused: bool
    begin_s: float | None = None
    this: int = 0
    last: int = 0

    def passes(self, now_s: float) -> bool:
        if self.begin_s is None or now_s - self.begin_s >= 2 * self.period_s:
            self.begin_s, self.this, self.last = now_s, 0, 0
        elif now_s - self.begin_s >= self.period_s:
            self.begin_s, self.this, self.last = self.begin_s + self.period_s, 0, self.this
        rest = 1 - (now_s - self.begin_s) / self.period_s
        passes = int(self.this + self.last * rest) < self.limit
        self.this += passes or self.counts_refused
        return passes


@pytest.fixture(scope="session")
def limit_req() -> Callable[..., LimitReq]:
    """nginx's."""
    return LimitReq


@pytest.fixture(scope="session")
def frequency_counter() -> Callable[..., FrequencyCounter]:
    """haproxy's."""
    return FrequencyCounter


WINDOW_S = 1.0
_LEFT = "x-ratelimit-api_key-remaining-requests"


class Limited:
    """A fixed window from the first request; what is set may be changed while it serves."""

    def __init__(self) -> None:
        self.asked = self.chats = 0
        """What it was asked: the judge of what an experiment sent."""
        self.limit: int | None = 12
        self.token_limit: int | None = None
        self.told: Callable[[int], list[tuple[str, str]]] = lambda left: [(_LEFT, str(left))]
        self.fails: Callable[[int], bool] = lambda number: False
        """Whether the chat of this number is answered with a 500, after it was counted."""
        self.resets: Callable[[int], bool] = lambda number: False
        """Whether its connection is reset, before it is counted."""
        self.stalls: Callable[[int], bool] = lambda number: False
        self.changes: dict[int, int] = {}
        """The limit from this chat on."""
        self.used = 2
        """Tokens of each answer, prompt and all."""
        self.done = threading.Event()
        self._lock = threading.Lock()
        self._limiter: FixedWindow | None = None

    def decide(self) -> tuple[int, int | None, str]:
        """Number of the chat, what is left (None: refused), and what for."""
        with self._lock:
            self.chats += 1
            number = self.chats
            if self.resets(number):
                return number, 0, ""
            if number in self.changes:
                self.limit, self._limiter = self.changes[number], None
            if self.token_limit is not None and number * self.used > self.token_limit:
                return number, None, "tokens"
            if self.limit is None:
                return number, 0, ""
            self._limiter = self._limiter or FixedWindow("requests", self.limit, round(WINDOW_S * 1e9))
            decision = self._limiter.admit(time.time_ns(), Cost(1, 0))
            return number, decision.remaining["requests"] if decision.admitted else None, "requests"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body leave together: an answer takes a millisecond, and not the forty that two small packets take.
    wbufsize = -1
    disable_nagle_algorithm = True
    key: Limited

    def log_message(self, *_: Any) -> None:
        """Nothing goes to the terminal."""

    def do_GET(self) -> None:
        self.key.asked += 1
        self._answer(200, {"object": "list", "data": [{"id": "m", "object": "model"}]})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        key = self.key
        key.asked += 1
        number, left, why = key.decide()
        if key.resets(number):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            # Both files hold the socket open; the reset goes out with the last of them.
            self.close_connection = True
            return
        if key.stalls(number):
            key.done.wait(30)
        headers = key.told(left or 0)
        if left is None:
            error = {"message": f"Rate limit on {why} reached", "type": "rate_limit", "code": None}
            self._answer(429, {"error": error}, headers)
        elif key.fails(number):
            self._answer(500, {"error": {"message": "no", "type": "server_error"}}, headers)
        else:
            message = {"index": 0, "message": {"role": "assistant", "content": "OK"}, "finish_reason": "stop"}
            usage = {"prompt_tokens": key.used - 1, "completion_tokens": 1, "total_tokens": key.used}
            self._answer(200, {"id": "c", "choices": [message], "usage": usage, "model": "m"}, headers)

    def _answer(self, status: int, body: dict[str, Any], headers: list[tuple[str, str]] | None = None) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in (("content-type", "application/json"), ("content-length", str(len(data))), *(headers or [])):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no error."""


@pytest.fixture
def limited() -> Iterator[Limited]:
    """The server's side of a key."""
    key = Limited()
    yield key
    key.done.set()


@pytest.fixture
def base_url(limited: Limited) -> Iterator[str]:
    """Where it is."""
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"key": limited}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    limited.done.set()
    server.shutdown()
    thread.join()
    server.server_close()


Experiment = Callable[..., tuple[Ended, LimitsReport]]


@pytest.fixture
def experiment(base_url: str, limited: Limited, tmp_path: Path) -> Experiment:
    """Make the experiment within bounds, see that they were kept by the server's own count, and read its run."""

    def make(
        *, requests: int = 150, seconds: float = 30.0, tokens: int = 7_500, **more: Any
    ) -> tuple[Ended, LimitsReport]:
        settings = Settings(base_url=base_url, api_key=Secret("sk-test-of-limits-0001"), model="m")
        bounds = Bounds(requests=requests, seconds=seconds, tokens=tokens)
        asked = LimitsExperiment(settings=settings, bounds=bounds, **({"window_s": WINDOW_S, "beside": False} | more))
        began_s = time.monotonic()
        ended = run_limits(asked, tmp_path / "run")
        assert limited.asked <= requests
        assert limited.asked == ended.requests
        assert time.monotonic() - began_s < seconds + 5
        assert ended.tokens <= tokens
        return ended, limits_report(tmp_path / "run")

    return make
