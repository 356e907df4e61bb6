"""Servers whose every byte is a test's own, and the load client and the engine as processes of their own."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import selectors
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from tensorix_records import RequestRecord

_DRIVER = Path(__file__).with_name("client_driver.py")
_PATIENCE_S = 30.0


class Peer:
    """The server's end of one connection; what it sends is exactly what a test says."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        connection.settimeout(_PATIENCE_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._rest = b""
        self.arrived_ns = 0
        """When the last request was read, monotonic ns."""

    def request(self) -> tuple[bytes, bytes]:
        """The next request: its head and its body. Raises ConnectionError where none comes any more."""
        while b"\r\n\r\n" not in self._rest:
            self._read_more()
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        while len(self._rest) < length:
            self._read_more()
        self.arrived_ns = time.monotonic_ns()
        body, self._rest = self._rest[:length], self._rest[length:]
        return head, body

    def _read_more(self) -> None:
        data = self.socket.recv(65_536)
        if not data:
            raise ConnectionError("the client is gone")
        self._rest += data

    def send(self, data: bytes) -> tuple[int, int]:
        """Send; the monotonic stamps just before and just after."""
        before = time.monotonic_ns()
        self.socket.sendall(data)
        return before, time.monotonic_ns()

    def answer(self, status: int, body: bytes | dict[str, Any] = b"", **headers: str) -> None:
        """A whole answer with a content length; header names are written with underscores for dashes."""
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        fields = {"content-type": "application/json", "content-length": str(len(data))}
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [f"HTTP/1.1 {status} Some Reason", *(f"{name}: {value}" for name, value in fields.items())]
        self.send("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + data)

    def reply(self, text: str = "hi") -> None:
        """A chat completion that is not streamed."""
        self.answer(200, self.completion(text))

    @staticmethod
    def completion(text: str = "hi") -> dict[str, Any]:
        """The body of a chat completion."""
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
        return {"id": "chatcmpl-1", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage}

    def begin_stream(self, **headers: str) -> None:
        """The head of a streamed answer that lasts until the connection closes."""
        fields = {"content-type": "text/event-stream"} | {k.replace("_", "-"): v for k, v in headers.items()}
        self.send("\r\n".join(["HTTP/1.1 200 OK", *(f"{k}: {v}" for k, v in fields.items())]).encode() + b"\r\n\r\n")

    @staticmethod
    def event(delta: dict[str, Any], finish: str | None = None) -> bytes:
        """The bytes of one chunk of a streamed chat completion."""
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "m", "choices": [choice]}
        return b"data: " + json.dumps(chunk).encode() + b"\n\n"

    def stream(self, *texts: str, done: bool = True) -> bytes:
        """The bytes of a whole stream of these texts: role, texts, finish, `[DONE]`."""
        events = [self.event({"role": "assistant"}), *(self.event({"content": text}) for text in texts)]
        return b"".join(events) + self.event({}, "stop") + (b"data: [DONE]\n\n" if done else b"")

    @staticmethod
    def chunked(data: bytes, size: int = 2**20) -> bytes:
        """`data` in the chunked transfer coding, its end included."""
        pieces = [data[at : at + size] for at in range(0, len(data), size)]
        return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"

    def wait_for_end(self) -> None:
        """Until the client has closed its end."""
        with contextlib.suppress(OSError):
            while self.socket.recv(65_536):
                pass

    def close(self) -> None:
        """End the connection in order (FIN)."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()

    def reset(self) -> None:
        """End the connection at once (RST)."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


Handler = Callable[[Peer], None]


class Server:
    """Listens on loopback. The n-th connection goes to the n-th handler, further ones to the last."""

    def __init__(self, *handlers: Handler, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self._handlers = handlers
        self._tls = tls
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family)
        self.port: int = self._listener.getsockname()[1]
        named = f"[{host}]" if ":" in host else host
        self.base_url = f"{'https' if tls else 'http'}://{named}:{self.port}/v1"
        self.connections = 0
        self.defects: list[BaseException] = []
        self._peers: list[Peer] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            handler = self._handlers[min(self.connections, len(self._handlers) - 1)]
            self.connections += 1
            thread = threading.Thread(target=self._handle, args=(connection, handler), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _handle(self, connection: socket.socket, handler: Handler) -> None:
        peer: Peer | None = None
        try:
            if self._tls is not None:
                connection.settimeout(_PATIENCE_S)
                connection = self._tls.wrap_socket(connection, server_side=True)
            peer = Peer(connection)
            self._peers.append(peer)
            handler(peer)
        except OSError:
            pass  # the client went away, as it may
        except BaseException as error:
            self.defects.append(error)
        finally:
            if peer is not None:
                peer.close()
            connection.close()

    def stop(self) -> None:
        """End everything; raises what went wrong in a handler."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for peer in self._peers:
            peer.close()
        for thread in self._threads:
            thread.join(_PATIENCE_S)
        for defect in self.defects:
            raise defect


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Starts servers (the arguments are those of `Server`)."""
    servers: list[Server] = []

    def start(*handlers: Handler, **options: Any) -> Server:
        servers.append(Server(*handlers, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def answer(serve: Callable[..., Server]) -> Callable[..., Server]:
    """Starts servers that read one request of a connection, act, and wait until the client is through."""

    def start(act: Callable[[Peer], object], **options: Any) -> Server:
        def handle(peer: Peer) -> None:
            peer.request()
            act(peer)
            peer.wait_for_end()

        return serve(handle, **options)

    return start


@dataclasses.dataclass(frozen=True)
class Seen:
    """What the client made of a case."""

    records: list[RequestRecord]
    answer: dict[str, Any]

    @property
    def record(self) -> RequestRecord:
        """The one record of a case with one call."""
        assert len(self.records) == 1, self.records
        return self.records[0]

    def at(self, column: str, index: int = 0) -> int:
        """A record's stamp on the monotonic clock, in ns; `column` as in the record, `start` among them."""
        record = self.records[index]
        start: int = record.start_unix_ns - self.answer["offset_ns"]
        return start if column == "start" else start + getattr(record, f"{column}_at_ns")


class Client:
    """The load client in a process of its own, which takes one case after the other."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    def send(self, base_url: str, *calls: dict[str, Any], may_be_refused: bool = False, **case: Any) -> Seen:
        """Make these calls one after the other on one client, by default one streamed chat completion."""
        case |= {"base_url": base_url, "calls": calls or ({},)}
        answer = self._ask(json.dumps(case).encode())
        assert "defect" not in answer, answer["defect"]
        assert may_be_refused or "refused" not in answer, answer
        records = [RequestRecord(**result["record"]) for result in answer.get("results", ())]
        return Seen(records, answer)

    def refusal(self, base_url: str, **case: Any) -> str:
        """The message of the SettingsError that such a case gives."""
        message: str = self.send(base_url, may_be_refused=True, **case).answer["refused"]
        return message

    def _ask(self, line: bytes) -> dict[str, Any]:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, str(_DRIVER)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=self._environment,
                bufsize=0,
            )
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(line + b"\n")
        said = b""
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            deadline = time.monotonic() + _PATIENCE_S
            while not said.endswith(b"\n"):
                if not selector.select(max(0, deadline - time.monotonic())):
                    self.stop()
                    pytest.fail("the load client hangs")
                piece = os.read(process.stdout.fileno(), 1 << 20)
                if not piece:
                    self.stop()
                    pytest.fail("the load client's process died")
                said += piece
        answer: dict[str, Any] = json.loads(said)
        return answer

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()
            self._process = None


@pytest.fixture(scope="session")
def client() -> Iterator[Client]:
    """The load client; one process for all tests, since it takes a second to start."""
    hidden = ("tensorix_", "http_proxy", "https_proxy", "all_proxy", "no_proxy", "locust_skip_monkey_patch")
    one = Client({name: value for name, value in os.environ.items() if not name.lower().startswith(hidden)})
    yield one
    one.stop()


class SignalPort:
    """A line to the client's process: `fire` makes it do what its case says (`on_signal`)."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(_PATIENCE_S)
        self.port: int = self._listener.getsockname()[1]
        self._line: socket.socket | None = None

    def fire(self, *, answered: bool = False) -> None:
        """Send the byte; with `answered`, wait for the byte back."""
        self._line, _ = self._listener.accept()
        self._line.settimeout(_PATIENCE_S)
        self._line.sendall(b".")
        if answered:
            assert self._line.recv(1)

    def close(self) -> None:
        """Close both sockets."""
        self._listener.close()
        if self._line is not None:
            self._line.close()


@pytest.fixture
def signal_port() -> Iterator[SignalPort]:
    """See `SignalPort`."""
    port = SignalPort()
    yield port
    port.close()


class Certificates:
    """An authority of our own, and TLS contexts for servers that it vouches for."""

    def __init__(self, folder: Path) -> None:
        self._authority = trustme.CA()
        self.bundle = str(folder / "authority.pem")
        self._authority.cert_pem.write_to_path(self.bundle)

    def server(self, *names: str, **issue: Any) -> ssl.SSLContext:
        """A server's context with a certificate for these names; keywords go to trustme's `issue_cert`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert(*names, **issue).configure_cert(context)
        return context


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """See `Certificates`."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


class Engine:
    """`python -m tensorix_loadtests` with a plan: a process of its own, its run folder, and what it says."""

    def __init__(
        self, plan: dict[str, Any], out: Path, environment: dict[str, str], *, ulimit: str = "", resume: bool = False
    ) -> None:
        self.out = out
        command = [sys.executable, "-m", "tensorix_loadtests", "--out", str(out), *(["--resume"] if resume else [])]
        if ulimit:
            # Set by a shell: limits set between fork and exec are not safe in a process with threads.
            command = ["/bin/sh", "-c", f'ulimit {ulimit} && exec "$@"', "sh", *command]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            text=True,
        )
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(plan))
            self.process.stdin.close()
        self.said: list[str] = []

    def end(self, seconds: float = 60) -> int:
        """Wait until it has ended; its exit status, negative for a signal. `said` holds its lines then."""
        # communicate() would use the standard input that is closed already.
        self.process.stdin = None
        self.said = self.process.communicate(timeout=seconds)[0].splitlines()
        return self.process.returncode

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def stop(self) -> None:
        """Kill it, if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


@pytest.fixture
def start_engine(tmp_path: Path, subprocess_environment: dict[str, str]) -> Iterator[Callable[..., Engine]]:
    """Starts engines: `start_engine(base_url, key=…, out=…, environment=…, ulimit=…, resume=…, **fields of the plan)`.

    Without further words: one user at once, ten streamed requests of three tokens, into `run` in the test's folder.
    """
    engines: list[Engine] = []

    def start(
        base_url: str,
        *,
        key: str | None = "sk-of-a-test-run",
        out: Path | None = None,
        environment: dict[str, str] | None = None,
        ulimit: str = "",
        resume: bool = False,
        **plan: Any,
    ) -> Engine:
        if not {"requests", "duration_s"} & set(plan):
            plan["requests"] = 10
        plan = {"base_url": base_url, "spawn_rate": 100.0, "max_tokens": 3} | plan
        variables = subprocess_environment | ({"TENSORIX_API_KEY": key} if key else {}) | (environment or {})
        engines.append(Engine(plan, out or tmp_path / "run", variables, ulimit=ulimit, resume=resume))
        return engines[-1]

    yield start
    for engine in engines:
        engine.stop()


def wait_until(condition: Callable[[], Any], seconds: float = _PATIENCE_S) -> None:
    """Look again and again until it holds; fails after so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


@pytest.fixture(name="wait_until")
def wait_until_fixture() -> Callable[..., None]:
    """`wait_until`, for the tests."""
    return wait_until
