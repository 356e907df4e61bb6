"""Rounds as spans and metrics: what a collector gets over real sockets, and that one that fails harms nothing."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import grpc  # type: ignore[import-untyped]
import pytest
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tensorix_api.errors import SettingsError
from tensorix_probes.exchange.exchange import Exchange
from tensorix_probes.limits.key_memory import KeyMemory
from tensorix_probes.limits.ledger import Ledger
from tensorix_probes.memory import TargetMemory
from tensorix_probes.otlp import Otlp
from tensorix_probes.result import Round
from tensorix_probes.round import run_round
from tensorix_probes.serve.service import Service
from tensorix_probes.settings import Configuration, Prices, Serve, Target
from tensorix_simulator import Simulator

if TYPE_CHECKING:
    from tests.probes.conftest import Peer

TargetAt = Callable[..., Target]


class Collector:
    """What came to a collector."""

    def __init__(self) -> None:
        self.traces: list[ExportTraceServiceRequest] = []
        self.metrics: list[ExportMetricsServiceRequest] = []
        self.headers: list[dict[str, str]] = []

    @property
    def all_spans(self) -> list[Any]:
        """As they came."""
        resources = [resource for request in self.traces for resource in request.resource_spans]
        return [span for resource in resources for scope in resource.scope_spans for span in scope.spans]

    @property
    def spans(self) -> dict[str, Any]:
        """By name, the last of each."""
        return {span.name: span for span in self.all_spans}

    def points(self, name: str) -> list[tuple[dict[str, str], Any]]:
        """The attributes and the point of each series of a metric, as it came last."""
        found: dict[Any, tuple[dict[str, str], Any]] = {}
        for request in self.metrics:
            for resource in request.resource_metrics:
                for metric in (metric for scope in resource.scope_metrics for metric in scope.metrics):
                    if metric.name == name:
                        kind: Any = getattr(metric, metric.WhichOneof("data") or "")
                        for point in kind.data_points:
                            attributes = _plain(point.attributes)
                            found[tuple(sorted(attributes.items()))] = attributes, point
        return list(found.values())


def _plain(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets standard variables, by their names without `OTEL_`."""

    def set_it(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(f"OTEL_{name}", value)

    return set_it


@pytest.fixture
def collector(environment: Callable[..., None]) -> Iterator[Collector]:
    """A collector that speaks OTLP over HTTP, named by the standard variables."""
    seen = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            seen.headers.append({name.lower(): value for name, value in self.headers.items()})
            if self.path == "/v1/traces":
                seen.traces.append(ExportTraceServiceRequest.FromString(body))
            else:
                assert self.path == "/v1/metrics"
                seen.metrics.append(ExportMetricsServiceRequest.FromString(body))
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
        environment(EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{server.server_port}")
        yield seen
        server.shutdown()
        thread.join()


def _round(target: Target, **more: Any) -> Round:
    key = KeyMemory(Ledger(requests=None, tokens=None))
    return run_round(target, exchange=Exchange(target), key=key, memory=TargetMemory(), key_alias="key-1", **more)


def _hex(data: bytes) -> str:
    return data.hex()


def test_the_spans_of_a_round(
    collector: Collector, borrow: Callable[..., Simulator], target_at: TargetAt, environment: Callable[..., None]
) -> None:
    """A span each for the round, its checks and their requests, whose ids are those that the server was sent."""
    environment(EXPORTER_OTLP_HEADERS="authorization=secret-of-the-collector", RESOURCE_ATTRIBUTES="deployment=here")
    simulator = borrow()
    target = target_at(simulator.base_url, checks=("tls", "models", "chat"))
    otlp = Otlp()
    made = _round(target, location="cellar")
    otlp.see(made, target)
    assert otlp.close()
    spans = collector.spans
    assert set(spans) == {
        "probe here", "check tls", "check models", "check chat", "handshake", "GET /models", "POST /chat/completions",
    }  # fmt: skip
    assert {_hex(span.trace_id) for span in spans.values()} == {made.trace_id}
    parents = {name: _hex(span.parent_span_id) for name, span in spans.items()}
    assert parents["probe here"] == ""
    for result in made.results:
        assert _hex(spans[f"check {result.check}"].span_id) == result.span_id
        assert parents[f"check {result.check}"] == _hex(spans["probe here"].span_id)
    for name, check in (("handshake", "tls"), ("GET /models", "models"), ("POST /chat/completions", "chat")):
        result = next(result for result in made.results if result.check == check)
        (request,) = result.requests
        assert parents[name] == result.span_id
        assert _hex(spans[name].span_id) == request.span_id
        assert spans[name].kind == spans[name].SPAN_KIND_CLIENT
        assert spans[name].start_time_unix_nano == request.started_unix_ns
        assert spans[name].end_time_unix_nano - request.started_unix_ns == request.phases.total_ns
        check_span = spans[f"check {check}"]
        assert check_span.start_time_unix_nano <= request.started_unix_ns
        assert spans[name].end_time_unix_nano <= check_span.end_time_unix_nano + 5_000_000
    sent = {line["request_id"] for line in simulator.truth("arrival")}
    said = _plain(spans["POST /chat/completions"].attributes)
    assert said["tensorix.probe.request_id"] in sent
    assert said["http.response.status_code"] == 200
    assert said["http.request.method"] == "POST"
    assert said["url.full"] == f"{simulator.base_url}/chat/completions"
    assert said["tensorix.probe.phase.first_byte_s"] > 0
    assert _plain(spans["probe here"].attributes)["tensorix.probe.location"] == "cellar"
    resource = _plain(collector.traces[0].resource_spans[0].resource.attributes)
    assert (resource["service.name"], resource["deployment"]) == ("tensorix-probe", "here")
    assert {headers["authorization"] for headers in collector.headers} == {"secret-of-the-collector"}
    everything = str(collector.traces) + str(collector.metrics)
    assert "sk-test-of-the-probes" not in everything


def test_the_ids_go_out_with_the_request(collector: Collector, serve: Callable[..., int], target_at: TargetAt) -> None:
    """What the server reads in `traceparent` is the trace and the span that the collector gets."""
    requests: list[bytes] = []

    def handler(peer: Peer) -> None:
        requests.append(peer.request())
        peer.answer(500, b"{}")

    target = target_at(f"http://127.0.0.1:{serve(handler)}/v1", checks=("models",))
    otlp = Otlp()
    otlp.see(_round(target), target)
    otlp.close()
    spans = collector.spans
    request = spans["GET /models"]
    assert f"traceparent: 00-{_hex(request.trace_id)}-{_hex(request.span_id)}-01\r\n".encode() in requests[0].lower()
    assert request.status.code == spans["check models"].status.code == spans["probe here"].status.code == 2
    assert _plain(request.attributes)["error.type"] == "server_error"
    events = {_plain(event.attributes)["tensorix.probe.assertion"] for event in spans["check models"].events}
    assert "status_is_200" in events
    assert "500" in spans["probe here"].status.message


def test_the_metrics_of_rounds(collector: Collector, borrow: Callable[..., Simulator], target_at: TargetAt) -> None:
    """Counts of rounds and checks by state, lengths by phase, what was spent; down is 0 and inconclusive is nothing."""
    simulator = borrow()
    target = target_at(simulator.base_url, checks=("models", "chat"), prices=Prices(prompt_per_million=1_000.0))
    otlp = Otlp()
    ups = [_round(target) for _ in range(2)]
    simulator.change(faults=["status 500"])
    down = _round(target, maintenance="tonight")
    for made in (*ups, down):
        otlp.see(made, target)
    otlp.close()
    rounds = {
        (said["state"], said["maintenance"]): point.as_int for said, point in collector.points("tensorix.probe.rounds")
    }
    assert rounds == {("up", "false"): 2, ("down", "true"): 1}
    results = {
        (said["check"], said["state"]): point.as_int for said, point in collector.points("tensorix.probe.results")
    }
    assert results == {("models", "up"): 2, ("chat", "up"): 2, ("models", "down"): 1, ("chat", "inconclusive"): 1}
    assert [point.as_int for _, point in collector.points("tensorix.probe.success")] == [0]
    spent = {said["resource"]: point.as_int for said, point in collector.points("tensorix.probe.spent")}
    assert spent["tokens"] == sum(made.spent.tokens for made in ups) > 0
    durations = {(said["check"], said["phase"]): point for said, point in collector.points("tensorix.probe.duration")}
    whole = durations["chat", "total"]
    assert (whole.count, whole.sum) == (
        2,
        pytest.approx(sum(made.results[1].phases.seconds()["total"] for made in ups)),
    )


def test_over_grpc(environment: Callable[..., None], borrow: Callable[..., Simulator], target_at: TargetAt) -> None:
    """With the protocol `grpc` the same goes to a collector that speaks that."""
    seen = Collector()

    class Traces(trace_service_pb2_grpc.TraceServiceServicer):
        def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
            seen.traces.append(request)
            return trace_service_pb2.ExportTraceServiceResponse()

    class Metrics(metrics_service_pb2_grpc.MetricsServiceServicer):
        def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
            seen.metrics.append(request)
            return metrics_service_pb2.ExportMetricsServiceResponse()

    server = grpc.server(futures.ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Traces(), server)  # type: ignore[no-untyped-call]
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(Metrics(), server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        environment(EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}", EXPORTER_OTLP_PROTOCOL="grpc")
        target = target_at(borrow().base_url, checks=("models",))
        otlp = Otlp()
        otlp.see(_round(target), target)
        assert otlp.close()
    finally:
        server.stop(None).wait()
    assert set(seen.spans) == {"probe here", "check models", "GET /models"}
    assert [point.as_int for _, point in seen.points("tensorix.probe.rounds")] == [1]


@pytest.mark.parametrize("what", ["refuses", "hangs", "answers with 503"])
def test_a_collector_that_fails(
    environment: Callable[..., None], serve: Callable[..., int], target_at: TargetAt, what: str
) -> None:
    """Taking rounds over never waits, and the end comes within its bound."""

    def handler(peer: Peer) -> None:
        peer.request()
        if what == "hangs":
            peer.wait_for_end()
        peer.answer(503, b"")

    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    environment(
        EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port if what == 'refuses' else serve(handler)}",
        EXPORTER_OTLP_TIMEOUT="2",
        BSP_SCHEDULE_DELAY="10",
        METRIC_EXPORT_INTERVAL="50",
    )
    target = target_at("http://127.0.0.1:9/v1", checks=("tls",))
    made = _round(target)
    otlp = Otlp()
    began = time.monotonic()
    for _ in range(50):
        otlp.see(made, target)
    # One that waited would take the two seconds of the timeout, fifty times.
    assert time.monotonic() - began < 10
    began = time.monotonic()
    otlp.close(0.3)
    assert time.monotonic() - began < 1.9


def test_serve_sends_them_where_it_is_told_to(
    collector: Collector, borrow: Callable[..., Simulator], target_at: TargetAt
) -> None:
    """With `serve.otlp` the rounds of the service go out, the last at its end; without it nothing does."""
    simulator = borrow()
    target = target_at(simulator.base_url, checks=("models",), interval_s=0.2)
    for wanted in (False, True):
        before = {line["request_id"] for line in simulator.truth("arrival")}
        service = Service(Configuration(targets=(target,), serve=Serve(otlp=wanted)), lambda line: None)
        service.start()
        deadline = time.monotonic() + 20
        while len(simulator.truth("arrival")) < len(before) + 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        service.stop()
        spans = [span for span in collector.all_spans if span.name == "GET /models"]
        arrived = {line["request_id"] for line in simulator.truth("arrival")} - before
        assert len(arrived) >= 2
        assert {_plain(span.attributes)["tensorix.probe.request_id"] for span in spans} == (
            arrived if wanted else set()
        )


@pytest.mark.parametrize("name", ["PROTOCOL", "TRACES_PROTOCOL", "METRICS_PROTOCOL"])
def test_a_protocol_that_there_is_not(environment: Callable[..., None], name: str) -> None:
    """It is refused with the variable's name and what it may be."""
    environment(**{f"EXPORTER_OTLP_{name}": "http/json"})
    with pytest.raises(
        SettingsError, match=rf"OTEL_EXPORTER_OTLP_{name} is 'http/json': it may be grpc or http/protobuf"
    ):
        Otlp()


def test_nothing_of_it_is_imported_unasked() -> None:
    """The probes' service does without the SDK and the exporters."""
    code = (
        "import sys, tensorix_probes.serve.service\n"
        "unasked = ('opentelemetry.sdk', 'opentelemetry.exporter', 'grpc')\n"
        "print([name for name in sys.modules if name.startswith(unasked)])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout.strip() == "[]"
