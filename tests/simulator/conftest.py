"""Simulators as processes of their own, and a client that sees every byte."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tensorix_simulator import Simulator
from tensorix_simulator.chat.parameters import ChatRequest, read_chat_request
from tensorix_simulator.chat.replies import ReplyMaker
from tensorix_simulator.settings import SimulatorSettings

QUICK: dict[str, Any] = {"ttft": "1ms", "between_tokens": "1ms"}


@pytest.fixture(scope="module")
def quick() -> Iterator[Simulator]:
    """A simulator without limits that answers at once; the tests of a module share it."""
    with Simulator(rpm=None, tpm=None, **QUICK) as simulator:
        yield simulator
        assert simulator.complaints() == ""


@pytest.fixture
def start() -> Iterator[Callable[..., Simulator]]:
    """Starts simulators of one's own settings, quick unless told otherwise."""
    with ExitStack() as stack:
        started: list[Simulator] = []

        def start_one(**settings: Any) -> Simulator:
            started.append(stack.enter_context(Simulator(**{**QUICK, **settings})))
            return started[-1]

        yield start_one
        assert [simulator.complaints() for simulator in started] == [""] * len(started)


def since_reset(simulator: Simulator, *events: str) -> list[dict[str, Any]]:
    """The lines of the truth since it was borrowed."""
    lines = simulator.truth()
    last = max((k for k, line in enumerate(lines) if line["event"] == "reset"), default=0)
    return [line for line in lines[last:] if not events or line["event"] in events]


@pytest.fixture
def truth_since() -> Callable[..., list[dict[str, Any]]]:
    """`since_reset`, for the tests."""
    return since_reset


def chat_body(**parameters: Any) -> dict[str, Any]:
    """A valid chat completion."""
    body = {"model": "z-ai/glm-5", "messages": [{"role": "user", "content": "Say something."}], "max_tokens": 3}
    return {**body, **parameters}


class Wire:
    """A connection whose bytes are written and read as they are."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._rest = b""

    def close(self) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read_until(self, mark: bytes) -> bytes:
        """Everything up to `mark` and with it."""
        while mark not in self._rest:
            data = self.socket.recv(65_536)
            assert data, f"closed before {mark!r}; came: {self._rest!r}"
            self._rest += data
        head, _, self._rest = self._rest.partition(mark)
        return head + mark

    def read_all(self) -> bytes:
        """Everything up to the end of the connection."""
        while data := self.socket.recv(65_536):
            self._rest += data
        rest, self._rest = self._rest, b""
        return rest

    def read_all_chunks(self) -> bytes:
        """A long chunked response that is the last to come."""
        parts = [self._rest]
        while not parts[-1].endswith(b"0\r\n\r\n"):
            parts.append(self.socket.recv(1_048_576))
            assert parts[-1]
        self._rest = b""
        return b"".join(parts)

    def read_response(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and raw body of a response with a content length, or in chunks, or without a body."""
        lines = self.read_until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        status = int(lines[0].split()[1])
        if headers.get("transfer-encoding") == "chunked":
            return status, headers, self.read_until(b"\r\n0\r\n\r\n")
        return status, headers, self.read_exactly(int(headers.get("content-length", "0")))

    def read_exactly(self, length: int) -> bytes:
        """So many bytes."""
        while len(self._rest) < length:
            data = self.socket.recv(65_536)
            assert data
            self._rest += data
        body, self._rest = self._rest[:length], self._rest[length:]
        return body


@pytest.fixture
def connect() -> Iterator[Callable[[Simulator], Wire]]:
    """Opens raw connections."""
    opened: list[Wire] = []

    def open_one(simulator: Simulator) -> Wire:
        opened.append(Wire(simulator.port))
        return opened[-1]

    yield open_one
    for wire in opened:
        wire.close()


def raw_request(
    body: dict[str, Any] | bytes | None = None,
    *,
    method: str = "POST",
    path: str = "/v1/chat/completions",
    key: str = "sk-raw",
    version: str = "1.1",
    **headers: str,
) -> bytes:
    """The bytes of a request; header names are written with underscores for dashes."""
    data = json.dumps(body).encode() if isinstance(body, dict) else body or b""
    lines = [f"{method} {path} HTTP/{version}", "host: simulator", f"authorization: Bearer {key}"]
    if data:
        lines.append(f"content-length: {len(data)}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


@pytest.fixture
def wire_request() -> Callable[..., bytes]:
    """`raw_request`, for the tests."""
    return raw_request


@pytest.fixture
def body() -> Callable[..., dict[str, Any]]:
    """`chat_body`, for the tests."""
    return chat_body


@pytest.fixture
def failing_once() -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Settings under which a body gets a 500 when it first comes, and not when it comes again."""

    def settings_for(asked: dict[str, Any]) -> dict[str, Any]:
        request = read_chat_request(json.dumps(asked).encode(), SimulatorSettings())
        assert isinstance(request, ChatRequest)
        for seed in range(1000):
            settings, maker = SimulatorSettings(seed=seed, error_rate=0.5), ReplyMaker()
            if [maker.make(settings, request).fails for _ in range(3)] == [True, False, False]:
                return {"seed": seed, "error_rate": 0.5}
        raise AssertionError("no such seed")

    return settings_for
