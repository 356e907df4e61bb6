"""Metrics to a collector: OTLP over HTTP, as OpenTelemetry's own variables say.

Only `http/protobuf`: gRPC's own threads and poller do not go with an event loop that has replaced the standard
library's sockets. The SDK's periodic reader is a greenlet here, and while it waits for the collector others run.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

import gevent
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    MetricExporter,
    MetricExportResult,
    MetricsData,
    PeriodicExportingMetricReader,
)

from tensorix_api.errors import SettingsError

__all__ = ["Sender"]

_PROTOCOL = "OTEL_EXPORTER_OTLP_PROTOCOL"
_INTERVAL = "OTEL_METRIC_EXPORT_INTERVAL"
_END_S = 5.0
# Whose lines, one for each attempt, become one warning.
_LOGGERS = ("opentelemetry.exporter.otlp", "opentelemetry.sdk.metrics._internal.export")


def _number(text: str) -> float | None:
    """What is no number the SDK itself passes over."""
    try:
        return float(text)
    except ValueError:
        return None


class _FirstLine(logging.Handler):
    """Keeps the first of what the SDK says of a failure, which names the cause, and is where it ends."""

    text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text = self.text or " ".join(record.getMessage().split())[:300]


class _Telling(MetricExporter):
    """An exporter that tells of each export whether it was one."""

    def __init__(self, inner: MetricExporter, done: Callable[[bool], None]) -> None:
        super().__init__(inner._preferred_temporality, inner._preferred_aggregation)
        self._inner = inner
        self._done = done

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_: Any) -> MetricExportResult:
        try:
            result = self._inner.export(metrics_data, timeout_millis)
        except Exception:  # noqa: BLE001  whatever a collector, a proxy or a variable brings about
            result = MetricExportResult.FAILURE
        self._done(result is MetricExportResult.SUCCESS)
        return result

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return self._inner.force_flush(timeout_millis)

    def shutdown(self, timeout_millis: float = 30_000, **_: Any) -> None:
        self._inner.shutdown(timeout_millis)


class Sender:
    """Sends metrics now and then. Raises SettingsError where the environment names what there is not."""

    def __init__(self) -> None:
        for name in ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", _PROTOCOL):
            protocol = os.environ.get(name, "").strip()
            if protocol and protocol != "http/protobuf":
                raise SettingsError(f"{name} is {protocol!r}: a load test sends its metrics by http/protobuf only")
            if protocol:
                break
        if (interval := _number(os.environ.get(_INTERVAL, ""))) is not None and not 1 <= interval < 1e10:
            raise SettingsError(f"{_INTERVAL} is {interval:g}: write milliseconds, from 1")
        self.warn: Callable[[str], None] = lambda _: None
        self._told = False
        self._line = _FirstLine()
        for logger in map(logging.getLogger, _LOGGERS):
            logger.propagate = False
            logger.addHandler(self._line)
        try:
            self._exporter = OTLPMetricExporter()
        except Exception as error:  # noqa: BLE001  what OpenTelemetry does not take of its variables, or its files
            self.close_log()
            said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise SettingsError(f"OpenTelemetry does not take what one of the variables OTEL_* says ({said})") from None

    def reader(self) -> PeriodicExportingMetricReader:
        """What looks at the metrics now and then: made when there are some, since it begins at once."""
        return PeriodicExportingMetricReader(_Telling(self._exporter, self._exported))

    def _exported(self, well: bool) -> None:
        if well:
            self._line.text = ""
        elif not self._told:
            self._told = True
            why = f" ({self._line.text})" if self._line.text else ""
            self.warn(f"metrics could not be sent to the collector{why}; the run goes on, and this is said once")

    def end(self, provider: MeterProvider) -> None:
        """Send the last of it, for five seconds at most."""
        ending = gevent.spawn(provider.shutdown)
        # Where it failed before, nobody waits for it to fail once more.
        ending.join(_END_S if not self._told else 0.5)
        if not ending.ready():
            ending.kill(block=False)
            self._exported(False)
        self.close_log()

    def close_log(self) -> None:
        """The SDK's own lines go where they went before."""
        for logger in map(logging.getLogger, _LOGGERS):
            logger.removeHandler(self._line)
            logger.propagate = True
