"""What the tests of the probes share: simulators that answer at once, and targets that point at them."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tensorix_api import Secret
from tensorix_probes.settings import Target
from tensorix_simulator import Simulator

QUICK: dict[str, Any] = {"ttft": "1ms", "between_tokens": "1ms"}


@pytest.fixture
def start() -> Iterator[Callable[..., Simulator]]:
    """Starts simulators of one's own settings, quick unless told otherwise."""
    with ExitStack() as stack:

        def start_one(**settings: Any) -> Simulator:
            return stack.enter_context(Simulator(**{**QUICK, **settings}))

        yield start_one


@pytest.fixture
def target_at() -> Callable[..., Target]:
    """A target at an address (a simulator's `base_url`), with a key and the simulator's first model."""

    def make(base_url: str, **fields: Any) -> Target:
        known: dict[str, Any] = {
            "name": "here",
            "base_url": base_url,
            "api_key": Secret("sk-test-of-the-probes"),
            "model": "deepseek/deepseek-chat-v3.1",
        }
        return Target(**{**known, **fields})

    return make


class Peer:
    """The server's end of a connection; it sends exactly what a test says."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        connection.settimeout(30)

    def request(self) -> bytes:
        """The next request, head and body."""
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._more()
        head, _, body = data.partition(b"\r\n\r\n")
        length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line[:15] == b"content-length:"), 0)
        while len(body) < length:
            body += self._more()
        return head + b"\r\n\r\n" + body

    def _more(self) -> bytes:
        data = self.socket.recv(65_536)
        if not data:
            raise ConnectionError("the client is gone")
        return data

    def send(self, data: bytes) -> None:
        """Send as it is."""
        self.socket.sendall(data)

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        """A whole answer; in the names of headers underscores stand for dashes."""
        fields = {"content-length": str(len(body)), "content-type": "application/json"}
        fields |= {name.replace("_", "-"): text for name, text in headers.items()}
        head = [f"HTTP/1.1 {status} Some Reason", *(f"{name}: {text}" for name, text in fields.items())]
        self.send("\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body)

    def wait_for_end(self) -> None:
        """Until the client has closed its end."""
        with contextlib.suppress(OSError):
            while self.socket.recv(65_536):
                pass

    def reset(self) -> None:
        """End the connection by RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


@pytest.fixture
def serve() -> Iterator[Callable[..., int]]:
    """Serves connections to a handler, each in its thread, on a port of loopback that it gives back."""
    listeners: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def handle(connection: socket.socket, handler: Callable[[Peer], None]) -> None:
        with connection, contextlib.suppress(OSError):
            handler(Peer(connection))

    def accept(listener: socket.socket, handler: Callable[[Peer], None]) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threads.append(threading.Thread(target=handle, args=(connection, handler), daemon=True))
                threads[-1].start()

    def serve_on(handler: Callable[[Peer], None], host: str = "127.0.0.1", port: int = 0) -> int:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family)
        listeners.append(listener)
        threads.append(threading.Thread(target=accept, args=(listener, handler), daemon=True))
        threads[-1].start()
        bound: int = listener.getsockname()[1]
        return bound

    yield serve_on
    for listener in listeners:
        # A close alone would not wake the thread that accepts.
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
