"""A real collector (rotel) in a process of its own, and behind it a receiver that keeps what the collector sent on."""

from __future__ import annotations

import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


def plain(attributes: Any) -> dict[str, Any]:
    """Attributes as protobuf has them, as a dict."""
    return {one.key: _value(one.value) for one in attributes}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    return getattr(value, kind)


class Received:
    """What arrived behind the collector. Waiting is for the collector's batches, which end after some ms."""

    def __init__(self) -> None:
        self._traces: list[ExportTraceServiceRequest] = []
        self._metrics: list[ExportMetricsServiceRequest] = []
        self._news = threading.Condition()

    def add(self, path: str, body: bytes) -> None:
        with self._news:
            if path == "/v1/traces":
                self._traces.append(ExportTraceServiceRequest.FromString(body))
            else:
                assert path == "/v1/metrics"
                self._metrics.append(ExportMetricsServiceRequest.FromString(body))
            self._news.notify_all()

    def forget(self) -> None:
        """What came so far."""
        with self._news:
            self._traces.clear()
            self._metrics.clear()

    def _wait(self, look: Callable[[], Any], what: str) -> Any:
        with self._news:
            assert self._news.wait_for(lambda: bool(look()), 30), f"never came: {what}"
            return look()

    def _spans(self) -> list[Any]:
        resources = [resource for request in self._traces for resource in request.resource_spans]
        return [span for resource in resources for scope in resource.scope_spans for span in scope.spans]

    def spans(self, count: int = 1, *, where: Callable[[Any], bool] = lambda _: True) -> list[Any]:
        """At least so many spans for which `where` holds, in their order of time."""

        def look() -> list[Any] | None:
            found = sorted(filter(where, self._spans()), key=lambda span: span.start_time_unix_nano)
            return found if len(found) >= count else None

        found: list[Any] = self._wait(look, f"{count} spans")
        return found

    def resource(self) -> dict[str, Any]:
        """The attributes of the resource of the last spans that came."""
        self.spans()
        return plain(self._traces[-1].resource_spans[-1].resource.attributes)

    def metric(self, name: str) -> Any:
        """A metric as it came last."""

        def look() -> Any:
            found = [
                metric
                for request in self._metrics
                for resource in request.resource_metrics
                for scope in resource.scope_metrics
                for metric in scope.metrics
                if metric.name == name
            ]
            return found[-1] if found else None

        return self._wait(look, name)


@pytest.fixture(scope="session")
def plain_attributes() -> Callable[[Any], dict[str, Any]]:
    """`plain`, for the tests."""
    return plain


@pytest.fixture(scope="module")
def _receiver() -> Iterator[tuple[Received, int]]:
    received = Received()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            received.add(self.path, body)
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield received, server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture
def received(_receiver: tuple[Received, int]) -> Received:
    """What comes out of the collector during this test."""
    _receiver[0].forget()
    return _receiver[0]


class Collector(NamedTuple):
    """Where the collector takes OTLP in."""

    grpc: str
    http: str

    def variables(self, protocol: str) -> dict[str, str]:
        """The standard variables for a service that sends its spans there soon, and its metrics once, at its end."""
        return {
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.grpc if protocol == "grpc" else self.http,
            "OTEL_METRIC_EXPORT_INTERVAL": "600000",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
        }


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def listens(port: int, process: subprocess.Popen[Any], log: Path, seconds: float = 30.0) -> None:
    """Wait until somebody takes connections at a port; the process that shall has to be alive meanwhile."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)


@pytest.fixture(scope="module")
def collector(_receiver: tuple[Received, int], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    """Rotel, which sends on what it gets."""
    found = find_spec("rotel")
    assert found is not None
    assert found.origin is not None
    folder = tmp_path_factory.mktemp("rotel")
    grpc, http = _free_ports(2)
    command = [
        str(Path(found.origin).with_name("rotel-agent")),
        "start",
        *("--otlp-grpc-endpoint", f"127.0.0.1:{grpc}", "--otlp-http-endpoint", f"127.0.0.1:{http}"),
        *("--exporter", "otlp", "--otlp-exporter-protocol", "http"),
        *("--otlp-exporter-endpoint", f"http://127.0.0.1:{_receiver[1]}", "--batch-timeout", "50ms"),
        *("--pid-file", str(folder / "pid"), "--log-file", str(folder / "log")),
    ]
    log = folder / "output"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
    try:
        for port in (grpc, http):
            listens(port, process, log)
        yield Collector(f"http://127.0.0.1:{grpc}", f"http://127.0.0.1:{http}")
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture
def run_service(
    subprocess_environment: dict[str, str], tmp_path: Path
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a program in a process of its own to its end: its code, the words before `-c`, variables of its own."""

    def run(
        code: str, *, variables: dict[str, str] | None = None, command: tuple[str, ...] = (sys.executable,)
    ) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in subprocess_environment.items() if not name.startswith("OTEL_")}
        return subprocess.run(
            [*command, "-c", code],
            env={**environment, "OPENAI_API_KEY": "sk-of-the-service", **(variables or {})},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    return run


@pytest.fixture
def start_service(
    subprocess_environment: dict[str, str], tmp_path: Path
) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts a program that goes on (its words, a port that it shall listen at, variables); SIGTERM ends it."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*words: str, port: int, variables: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        environment = {name: value for name, value in subprocess_environment.items() if not name.startswith("OTEL_")}
        log = tmp_path / f"service{len(started)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                words,
                env={**environment, **(variables or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=tmp_path,
            )
        started.append(process)
        listens(port, process, log)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture
def free_port() -> Callable[[], int]:
    """A port that nobody has."""
    return lambda: _free_ports(1)[0]


@pytest.fixture
def as_json() -> Callable[[Any], str]:
    """A value as Python code that is its own literal."""
    return json.dumps
