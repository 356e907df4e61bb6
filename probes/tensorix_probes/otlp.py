"""Results of probes as spans and metrics for an OpenTelemetry collector; needs the extra `otlp`.

A round is a span, each of its checks one below it, and each request one below its check: under the ids that went out in
`traceparent`, so that what a traced server does with a request hangs below it.

`OTEL_EXPORTER_OTLP_*` say where to and how, as the specification has them; the protocol is `http/protobuf` unless they
say `grpc`. `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_BSP_*` and `OTEL_METRIC_EXPORT_*` hold, too.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExporter, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import Span, SpanKind, StatusCode, set_span_in_context

from tensorix_api.errors import SettingsError
from tensorix_probes.result import ProbeResult, Request, Round, State
from tensorix_probes.settings import Target

__all__ = ["Otlp"]

_NAME = "tensorix-probe"
_PROTOCOL = "OTEL_EXPORTER_OTLP_PROTOCOL"


class _Ids(IdGenerator):
    """Gives spans the ids that were made before they were: the next span's are put here."""

    trace_id = ""
    span_id = ""

    def generate_trace_id(self) -> int:
        return int(self.trace_id, 16)

    def generate_span_id(self) -> int:
        return int(self.span_id, 16)


class Otlp:
    """Sends rounds on. Nothing here waits for the collector but `close`, and nothing raises when that is gone.

    Raises SettingsError where the environment names a protocol that there is not.
    """

    def __init__(self) -> None:
        spans, metrics = _exporters()
        resource = Resource.create({"service.name": _NAME, "service.version": version("tensorix-toolkit")})
        # What the environment says goes before.
        resource = resource.merge(OTELResourceDetector().detect())
        self._lock = threading.Lock()
        self._ids = _Ids()
        # Ended by `close`, within its bound; the SDK's own hook at the end of the process has another.
        self._traces = TracerProvider(resource=resource, id_generator=self._ids, shutdown_on_exit=False)
        self._traces.add_span_processor(BatchSpanProcessor(spans))
        self._tracer = self._traces.get_tracer(_NAME)
        self._metrics = MeterProvider([PeriodicExportingMetricReader(metrics)], resource, shutdown_on_exit=False)
        meter = self._metrics.get_meter(_NAME)
        self._rounds = meter.create_counter("tensorix.probe.rounds", "{round}", "Rounds of a target by their state")
        self._results = meter.create_counter("tensorix.probe.results", "{check}", "Checks of a target by their state")
        self._spent = meter.create_counter("tensorix.probe.spent", description="Requests and tokens used by the probes")
        self._cost = meter.create_counter("tensorix.probe.cost", description="What the tokens cost")
        self._durations = meter.create_histogram("tensorix.probe.duration", "s", "How long a phase of a check took")
        self._success = meter.create_gauge("tensorix.probe.success", description="1 up or degraded, 0 down")
        self._expiry = meter.create_gauge("tensorix.probe.certificate.expiry", "s", "When it runs out, in Unix time")

    def see(self, round_: Round, target: Target) -> None:
        """Take over what a round found; it goes out later. Any thread may call it."""
        if round_.trace_id is None:
            return
        with self._lock:
            self._trace(round_, target, round_.trace_id)
        self._measure(round_)

    def close(self, within_s: float = 5.0) -> bool:
        """Send what is left, for no longer than this, and stop. Whether all of it was tried in that time."""
        deadline = time.monotonic() + within_s
        # A collector that hangs holds its exporter for longer: those threads end with the process.
        threads = [
            threading.Thread(target=shutdown, name="end of OTLP", daemon=True)
            for shutdown in (self._traces.shutdown, self._metrics.shutdown)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in threads)

    # spans

    def _trace(self, round_: Round, target: Target, trace_id: str) -> None:
        self._ids.trace_id = trace_id
        attributes = {
            "round_id": round_.round_id,
            "target": round_.target,
            "location": round_.location,
            "state": str(round_.state),
            "reason": round_.reason,
            "cause.check": round_.cause_check,
            "cause.assertion": round_.cause,
            "maintenance": round_.maintenance,
            "spent.requests": round_.spent.requests,
            "spent.tokens": round_.spent.tokens,
        }
        span = self._begin(f"probe {round_.target}", round_.round_id[:16], round_.started_unix_ns, _own(attributes))
        for result in round_.results:
            self._trace_check(result, target, span)
        _end(span, round_.state, round_.reason, round_.started_unix_ns + round_.duration_ns)

    def _trace_check(self, result: ProbeResult, target: Target, parent: Span) -> None:
        if result.span_id is None:
            return
        end_ns = result.started_unix_ns + result.duration_ns
        attributes = {
            "target": result.target,
            "check": result.check,
            "location": result.location,
            "state": str(result.state),
            "reason": result.reason,
            "model": result.model,
            "key_alias": result.key_alias,
            **{f"figure.{name}": value for name, value in result.figures.items()},
        }
        span = self._begin(
            f"check {result.check}", result.span_id, result.started_unix_ns, _own(attributes), parent=parent
        )
        for one in result.failed:
            failed = {"assertion": one.name, "detail": one.detail, "otherwise": str(one.otherwise)}
            span.add_event("assertion failed", _own(failed), end_ns)
        for request in result.requests:
            self._trace_request(request, target, span)
        _end(span, result.state, result.reason, end_ns)

    def _trace_request(self, request: Request, target: Target, parent: Span) -> None:
        server = target.server
        attributes: dict[str, Any] = {
            "server.address": server.host,
            "server.port": server.port,
            **_own({"request_id": request.request_id, "error_phase": request.error_phase}),
            **_own({f"phase.{name}_s": seconds for name, seconds in request.phases.seconds().items()}),
        }
        if request.method is not None:
            attributes |= {"http.request.method": request.method, "url.full": server.base_url + request.path}
        if request.status is not None:
            attributes["http.response.status_code"] = request.status
        if request.error_kind is not None:
            attributes["error.type"] = request.error_kind
        name = f"{request.method} {request.path}" if request.method else "handshake"
        start_ns = request.started_unix_ns
        span = self._begin(name, request.span_id, start_ns, attributes, parent=parent, kind=SpanKind.CLIENT)
        if request.error_kind is not None:
            span.set_status(StatusCode.ERROR, request.error_kind)
        span.end(start_ns + (request.phases.total_ns or 0))

    def _begin(
        self,
        name: str,
        span_id: str,
        start_ns: int,
        attributes: dict[str, Any],
        *,
        parent: Span | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
    ) -> Span:
        self._ids.span_id = span_id
        # Never the context of whoever calls: a span of theirs would be the parent.
        context = set_span_in_context(parent, Context()) if parent is not None else Context()
        return self._tracer.start_span(name, context, kind, attributes, start_time=start_ns)

    # metrics

    def _measure(self, round_: Round) -> None:
        where = {"target": round_.target, "location": round_.location or ""}
        maintenance = "true" if round_.maintenance else "false"
        self._rounds.add(1, {**where, "state": str(round_.state), "maintenance": maintenance})
        if round_.state.conclusive:
            self._success.set(0 if round_.state is State.DOWN else 1, where)
        for result in round_.results:
            self._results.add(1, {**where, "check": result.check, "state": str(result.state)})
            for phase, seconds in result.phases.seconds().items():
                self._durations.record(seconds, {**where, "check": result.check, "phase": phase})
            key = {"key": result.key_alias or ""}
            self._spent.add(result.spent.requests, {**key, "resource": "requests"})
            self._spent.add(result.spent.tokens, {**key, "resource": "tokens"})
            if result.spent.cost is not None:
                self._cost.add(result.spent.cost, key)
            if (expiry := result.figures.get("certificate_not_after_unix_s")) is not None:
                self._expiry.set(expiry, where)


def _own(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes of ours, by the names that they get, without those that are not known."""
    return {f"tensorix.probe.{name}": value for name, value in attributes.items() if value is not None}


def _end(span: Span, state: State, reason: str | None, end_ns: int) -> None:
    if state is State.DOWN:
        span.set_status(StatusCode.ERROR, reason)
    span.end(end_ns)


def _exporters() -> tuple[SpanExporter, MetricExporter]:
    """What sends spans, and what sends metrics; each may have a protocol of its own."""
    makers: list[Callable[[], Any]] = []
    for signal in ("TRACES", "METRICS"):
        name = f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL"
        name = name if os.environ.get(name, "").strip() else _PROTOCOL
        protocol = os.environ.get(name, "").strip() or "http/protobuf"
        if protocol not in ("grpc", "http/protobuf"):
            raise SettingsError(f"{name} is {protocol!r}: it may be grpc or http/protobuf")
        makers.append(_maker(signal, protocol))
    return makers[0](), makers[1]()


def _maker(signal: str, protocol: str) -> Callable[[], Any]:
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as MetricsOverGrpc
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as SpansOverGrpc

        return SpansOverGrpc if signal == "TRACES" else MetricsOverGrpc
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as MetricsOverHttp
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as SpansOverHttp

    return SpansOverHttp if signal == "TRACES" else MetricsOverHttp
