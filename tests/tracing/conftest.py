"""What the tests of the tracing share: where spans and metrics go, a simulator, a server that sends raw bytes."""

from __future__ import annotations

import gc
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trustme
from opentelemetry.context import Context
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import Sampler

from tensorix_simulator import Simulator
from tensorix_tracing import _errors, uninstrument


@pytest.fixture(scope="module", autouse=True)
def quick_collections() -> Iterator[None]:
    """What was there before the tests is not looked at again by each of their many collections of garbage."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def nothing_left_instrumented() -> Iterator[None]:
    """No test sees the hooks of another, nor a stream that another dropped, nor its errors' codes."""
    yield
    gc.collect()
    uninstrument()
    _errors._codes.clear()


@pytest.fixture(scope="session")
def one_certificate(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file with an authority that nobody uses: to load all that there are takes long for each client."""
    path = tmp_path_factory.mktemp("authority") / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture(autouse=True)
def few_certificates(one_certificate: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients are quick to make: no test of the tracing trusts anybody but a server of its own."""
    monkeypatch.setenv("SSL_CERT_FILE", one_certificate)


class _Kept(SpanProcessor):
    """Keeps spans, and counts each start and each end: a span that ends twice or never shows."""

    def __init__(self) -> None:
        self.started: list[Span] = []
        self.ended: list[ReadableSpan] = []
        self.news = threading.Condition()

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        self.started.append(span)

    def on_end(self, span: ReadableSpan) -> None:
        with self.news:
            self.ended.append(span)
            self.news.notify_all()


class Told:
    """What was told: to be given to `instrument` as `**told.providers`."""

    def __init__(self, sampler: Sampler | None = None) -> None:
        self.kept = _Kept()
        self.tracer_provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        self.tracer_provider.add_span_processor(self.kept)
        self.reader = InMemoryMetricReader()
        self.meter_provider = MeterProvider([self.reader], shutdown_on_exit=False)

    @property
    def providers(self) -> dict[str, Any]:
        """Options for `instrument`."""
        return {"tracer_provider": self.tracer_provider, "meter_provider": self.meter_provider}

    @property
    def spans(self) -> list[ReadableSpan]:
        """The spans that ended, in that order."""
        return list(self.kept.ended)

    @property
    def open(self) -> int:
        """How many spans began and have not ended."""
        return len(self.kept.started) - len(self.kept.ended)

    def span(self, name: str | None = None) -> ReadableSpan:
        """The only span, or the only one of that name; nothing is left open."""
        found = [span for span in self.spans if name is None or span.name == name]
        assert [len(found), self.open] == [1, 0], (self.spans, self.kept.started)
        return found[0]

    def wait_for(self, count: int, seconds: float = 10.0) -> list[ReadableSpan]:
        """Wait until so many spans have ended."""
        with self.kept.news:
            assert self.kept.news.wait_for(lambda: len(self.kept.ended) >= count, seconds), self.kept.ended
        return self.spans

    def metrics(self) -> dict[str, Any]:
        """Every metric by its name."""
        data = self.reader.get_metrics_data()
        if data is None:
            return {}
        return {
            metric.name: metric
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def points(self, name: str) -> list[Any]:
        """The data points of one metric; none where it has none."""
        metric = self.metrics().get(name)
        return list(metric.data.data_points) if metric is not None else []

    def close(self) -> None:
        self.tracer_provider.shutdown()
        self.meter_provider.shutdown()


@pytest.fixture
def told() -> Iterator[Told]:
    """Providers of this test's own."""
    made = Told()
    yield made
    made.close()


@pytest.fixture
def tell() -> Iterator[Callable[..., Told]]:
    """Makes further ones, with a sampler of one's own."""
    made: list[Told] = []

    def make(sampler: Sampler | None = None) -> Told:
        made.append(Told(sampler))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    """A simulator without limits that answers at once; the tests of a module share it."""
    with Simulator(rpm=None, tpm=None, ttft="1ms", between_tokens="1ms") as simulator:
        yield simulator
        assert simulator.complaints() == ""


MESSAGES = [{"role": "user", "content": "Say something."}]


@pytest.fixture
def asked() -> dict[str, Any]:
    """The parameters of a chat completion."""
    return {"model": "z-ai/glm-5", "messages": MESSAGES, "max_tokens": 5}


def chunk(text: str | None = "word", *, finish: str | None = None, index: int = 0, **more: Any) -> bytes:
    """The data of one event of a stream."""
    delta = {} if text is None else {"role": "assistant", "content": text}
    value = {
        "id": "chatcmpl-raw",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "z-ai/glm-5",
        "choices": [{"index": index, "delta": delta, "finish_reason": finish}],
        **more,
    }
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


@pytest.fixture
def chunk_data() -> Callable[..., bytes]:
    """`chunk`, for the tests."""
    return chunk


class Peer:
    """A connection of the raw server, on which a request has come."""

    def __init__(self, connection: socket.socket, number: int, over: threading.Event) -> None:
        self.socket = connection
        self.number = number
        """How many requests came before, on all connections."""
        self._over = over

    def send(self, *pieces: bytes) -> None:
        """Each piece in a segment of its own, as far as the kernel lets it."""
        for piece in pieces:
            self.socket.sendall(piece)

    def head(self, status: int = 200, content_type: str = "text/event-stream", **headers: str) -> None:
        """A response's head, of a body in HTTP's chunks unless `content_length` is given; `_` for `-` in names."""
        lines = [f"HTTP/1.1 {status} Whatever", f"content-type: {content_type}"]
        if "content_length" not in headers:
            headers["transfer_encoding"] = "chunked"
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.send("\r\n".join(lines).encode() + b"\r\n\r\n")

    def part(self, data: bytes) -> None:
        """One of HTTP's chunks."""
        self.send(b"%x\r\n" % len(data) + data + b"\r\n")

    def events(self, *data: bytes, end: bytes = b"\n\n") -> None:
        """Events of a stream, each in a chunk of HTTP's of its own."""
        for one in data:
            self.part(b"data: " + one + end)

    def last(self) -> None:
        """The end of a body in chunks."""
        self.send(b"0\r\n\r\n")

    def whole(self, status: int, body: bytes, content_type: str = "application/json", **headers: str) -> None:
        """A response that is not streamed."""
        self.head(status, content_type, content_length=str(len(body)), **headers)
        self.send(body)

    def reset(self) -> None:
        """Lose the connection."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def hold(self) -> None:
        """Send no more until the test is over or the client has gone."""
        self.socket.settimeout(0.02)
        while not self._over.is_set():
            try:
                if not self.socket.recv(65_536):
                    return
            except TimeoutError:
                continue
            except OSError:
                return


class RawServer:
    """A server that reads requests and leaves the answers to a function; a connection ends when that returns true."""

    def __init__(self, answer: Callable[[Peer], object]) -> None:
        self.answer = answer
        """May be replaced while it runs."""
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []
        self._connections: list[socket.socket] = []
        self.port: int = self._listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.base_url = f"{self.url}/v1"
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        """Of each: its first line, its headers by their names in small letters, its body."""
        self.seen_at: list[float] = []
        """When each had come, of `time.time`."""
        self._start(self._accept)

    @property
    def connections(self) -> int:
        """How many were made so far."""
        return len(self._connections)

    def _start(self, work: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self._connections.append(connection)
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            with connection, connection.makefile("rb") as reading:
                while first := reading.readline():
                    headers = {}
                    while (line := reading.readline().strip()) and b":" in line:
                        name, _, value = line.decode("latin-1").partition(":")
                        headers[name.lower()] = value.strip()
                    body = reading.read(int(headers.get("content-length", "0")))
                    self.requests.append((first.decode("latin-1").strip(), headers, body))
                    self.seen_at.append(time.time())
                    if self.answer(Peer(connection, len(self.requests) - 1, self._over)):
                        return
        except (OSError, ValueError):
            # The client has gone, or `reset` has closed the connection.
            return

    def close(self) -> None:
        self._over.set()
        # On Linux a shutdown wakes who waits in accept; closing alone does not.
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for connection in self._connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()


@pytest.fixture(scope="module")
def raw() -> Iterator[RawServer]:
    """One for all tests of a module: each sets the `answer` it wants."""
    server = RawServer(lambda _: True)
    yield server
    server.close()


@pytest.fixture
def raw_server() -> Iterator[Callable[[Callable[[Peer], object]], RawServer]]:
    """Starts servers that answer by functions of one's own."""
    started: list[RawServer] = []

    def start(answer: Callable[[Peer], object]) -> RawServer:
        started.append(RawServer(answer))
        return started[-1]

    yield start
    for server in started:
        server.close()
