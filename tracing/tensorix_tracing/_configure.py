"""An SDK for a service that has none: providers and exporters as OpenTelemetry's own variables say.

The SDK reads most of them by itself (sampler, resource, batches, intervals, endpoints, headers); which exporters there
are to be is read here, by the same entry points as `opentelemetry-instrument` does.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Literal

from opentelemetry import metrics, trace

from tensorix_api.errors import SettingsError
from tensorix_tracing._watch import OPEN, end_at_exit

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import MetricReader
    from opentelemetry.sdk.trace import TracerProvider

__all__ = ["configure"]

log = logging.getLogger("tensorix_tracing")

_INSTALL = "pip install 'tensorix-toolkit[tracing]', or in a clone pip install '.[tracing]'"
_PROTOCOLS = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}
_Signal = Literal["traces", "metrics"]


def configure(service_name: str | None = None) -> Callable[[], None]:
    """See `tensorix_tracing.configure`."""
    if service_name is not None and (not isinstance(service_name, str) or not service_name.strip()):
        raise SettingsError(f"service_name is {service_name!r}: write the name that your service shall have in traces")
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return _nothing
    try:
        if (there := _already_there()) is not None:
            log.warning("a %s provider is there already: configure() changes nothing", there)
            return _nothing
        tracer_provider, meter_provider = _providers(service_name)
    except SettingsError:
        raise
    except ImportError:
        raise SettingsError(f"OpenTelemetry's SDK is not installed: {_INSTALL}") from None
    except Exception as error:  # noqa: BLE001
        # Much that its variables may not be the SDK lets pass with a warning, and some of it not.
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise SettingsError(f"OpenTelemetry does not take what one of the variables OTEL_* says ({said})") from None
    trace.set_tracer_provider(tracer_provider)
    metrics.set_meter_provider(meter_provider)
    # The providers send what they hold when the process ends. What is open then has to end before: last in, first out.
    end_at_exit()

    def shut_down() -> None:
        OPEN.abandon_all()
        tracer_provider.shutdown()
        meter_provider.shutdown()

    return shut_down


def _nothing() -> None:
    """What there is to shut down where nothing was set up."""


def _providers(service_name: str | None) -> tuple[TracerProvider, MeterProvider]:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create({"service.name": service_name} if service_name is not None else None)
    tracer_provider = TracerProvider(resource=resource)
    for exporter in _chosen("traces"):
        tracer_provider.add_span_processor(BatchSpanProcessor(exporter()))
    return tracer_provider, MeterProvider(_metric_readers(), resource)


def _already_there() -> str | None:
    """Which provider somebody has set before; None where there is none."""
    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return "tracer"
    # The API exports no name for the placeholder of meters, which is a class of its own.
    if type(metrics.get_meter_provider()).__name__ != "_ProxyMeterProvider":
        return "meter"
    return None


def _metric_readers() -> list[MetricReader]:
    """A reader for each exporter; some, such as Prometheus's, are readers themselves."""
    from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader

    readers: list[MetricReader] = []
    for exporter in _chosen("metrics"):
        made = exporter()
        readers.append(made if isinstance(made, MetricReader) else PeriodicExportingMetricReader(made))
    return readers


def _chosen(signal: _Signal) -> list[Callable[[], Any]]:
    """The kinds of exporter that the environment names: `otlp` unless it says otherwise."""
    variable = f"OTEL_{signal.upper()}_EXPORTER"
    names = [name.strip() for name in os.environ.get(variable, "").split(",") if name.strip()] or ["otlp"]
    if names == ["none"]:
        return []
    return [_loaded(variable, name, signal) for name in names]


def _loaded(variable: str, name: str, signal: _Signal) -> Callable[[], Any]:
    entry = name
    if name == "otlp":
        protocol_variable, protocol = "OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"
        for candidate in (protocol_variable, f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL"):
            if said := os.environ.get(candidate, "").strip():
                protocol_variable, protocol = candidate, said
        if protocol not in _PROTOCOLS:
            raise SettingsError(f"{protocol_variable} is {protocol!r}: write {' or '.join(_PROTOCOLS)}")
        entry = _PROTOCOLS[protocol]
    found: EntryPoint | None = next(iter(entry_points(group=f"opentelemetry_{signal}_exporter", name=entry)), None)
    try:
        if found is not None:
            kind: Callable[[], Any] = found.load()
            return kind
    except ImportError as error:
        if name != "otlp":
            raise SettingsError(f"{variable} names {name!r}, whose package is not whole ({error})") from None
    if name == "otlp":
        raise SettingsError(f"the exporter {name!r} is not installed: {_INSTALL}")
    raise SettingsError(
        f"{variable} names {name!r}, and no exporter of that name is installed: write otlp, console or none"
    )
