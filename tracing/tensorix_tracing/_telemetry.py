"""OpenTelemetry's side: which provider is in force, what its spans begin with, what its metrics are given and when."""

from __future__ import annotations

import logging
import os
import time
import weakref
from collections import deque
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from opentelemetry import metrics, trace
from opentelemetry.metrics import CallbackOptions, NoOpMeter, Observation

from tensorix_api import semantic_names as names
from tensorix_tracing._attributes import model_name
from tensorix_tracing._instruments import Attributes, Instruments
from tensorix_tracing._measures import Note, measure
from tensorix_tracing._remaining import Remaining, newest
from tensorix_tracing._watch import end_at_exit

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter as OpenTelemetryMeter
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Tracer, TracerProvider

    from tensorix_tracing._call import Call
    from tensorix_tracing._errors import Ending
    from tensorix_tracing._settings import MetricNames, TracingSettings

__all__ = ["Begin", "Collected", "Measurements", "Meter", "Server", "Telemetry", "operation_of", "server_of"]

log = logging.getLogger("tensorix_tracing")

SCOPE = "tensorix_tracing"
_MOST_NOTES = 2048
_MOST_BYTES = 2**20
_MOST_REMEMBERED = 200
_as_tuple = tuple.__new__


class Measurements:
    """What is to be recorded: measured in a call, given to OpenTelemetry later, many together.

    A histogram of the SDK takes its time, several times as long where the processor has just done something else; so a
    call only notes what it measured. The notes are passed on when metrics are collected, so none is missing then, and
    when there are many.
    """

    def __init__(self) -> None:
        self._notes: deque[Note] = deque()
        self._bytes = 0

    def note(self, call: Call, ending: Ending, duration_ns: int) -> None:
        """Take a note of a call that has ended."""
        reply, whole, attempts = call.known_reply, call.whole, call.attempts
        # Made as the tuple that it is: its own way to be made is a function in Python.
        note = _as_tuple(
            Note,
            (
                call.telemetry,
                call.begin,
                call.meter,
                call.span.get_span_context() if call.recording else None,
                ending,
                duration_ns,
                call.begun_ns,
                call.first_chunk_ns,
                call.gaps_ns,
                call.last_gap_ns,
                reply.usage if reply is not None else None,
                call.kept,
                whole,
                call.reading,
                attempts[:-1] if len(attempts) > 1 else (),
            ),
        )
        self._notes.append(note)
        if whole is not None:
            self._bytes += len(whole)
        if len(self._notes) >= _MOST_NOTES or self._bytes >= _MOST_BYTES:
            self.pass_on()

    def pass_on(self) -> None:
        """Record every note. Never raises."""
        notes = self._notes
        self._bytes = 0
        while notes:
            try:
                note = notes.popleft()
            except IndexError:
                return
            try:
                measure(note)
            except Exception:  # telemetry that fails stays its own problem
                log.debug("a call could not be measured", exc_info=True)

    def clear(self) -> None:
        """In a child after a fork: the notes are the parent's."""
        self._notes.clear()
        self._bytes = 0


class Collected:
    """What all that is instrumented shares of one provider, under whichever names: its gauges, and the notes."""

    def __init__(self) -> None:
        self.measurements = Measurements()
        self.remaining: weakref.WeakSet[Remaining] = weakref.WeakSet()
        self.models: set[str] = set()
        self.meters: dict[MetricNames, Meter] = {}
        self._fresh: list[Remaining] = []
        """A client may be gone while what remains of its key's minute is still to be told."""
        self._gauges = [None]

    def make_gauges(self, meter: OpenTelemetryMeter) -> None:
        """Once: a callback that comes second to a gauge is not called, and one that is cannot be taken back."""
        try:
            # The one operation that only one thread can succeed in.
            self._gauges.pop()
        except IndexError:
            return
        # Requests or tokens, as the attribute `limit` says: so no unit, and 1 would be a ratio to Prometheus.
        meter.create_observable_gauge(
            "tensorix.ratelimit.remaining", [self._collected], "", "What the last response said is left of the minute."
        )
        meter.create_observable_gauge(
            "tensorix.ratelimit.limit", [self._limits], "", "What the last response said may be used in a minute."
        )

    def _collected(self, _: CallbackOptions) -> Iterable[Observation]:
        """Metrics are collected: the notes first, then what remains."""
        # Before the notes, which may be all that holds what belongs to a client that is gone.
        known = list(self.remaining)
        self.measurements.pass_on()
        for remaining in known:
            remaining.read()
        now_ns = time.perf_counter_ns()
        self._fresh = [remaining for remaining in known if remaining.fresh(now_ns)]
        return newest(self._fresh, now_ns)

    def _limits(self, _: CallbackOptions) -> Iterable[Observation]:
        return newest([remaining.limits for remaining in list(self.remaining)], time.perf_counter_ns())


class Meter(Instruments):
    """The instruments of one provider under the names that were asked for."""

    def __init__(self, meter: OpenTelemetryMeter, metric_names: MetricNames, collected: Collected) -> None:
        super().__init__(meter, metric_names)
        collected.make_gauges(meter)
        self.measurements = collected.measurements
        self.note = self.measurements.note
        self.remaining = collected.remaining
        self.models = collected.models
        self.silent = isinstance(meter, NoOpMeter)
        """Nobody is there to be told: nothing is noted."""


@lru_cache(maxsize=1)
def _version() -> str | None:
    """Which release of the toolkit tells: looked up once, at the first call, and None where it is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("tensorix-toolkit")
    except PackageNotFoundError:
        return None


_collected: weakref.WeakKeyDictionary[MeterProvider, Collected] = weakref.WeakKeyDictionary()


def _meter_of(provider: MeterProvider, metric_names: MetricNames) -> Meter:
    """Never raises: a provider that cannot give a meter is told nothing."""
    # The API's proxy would make its instruments, gauges too, once more for the provider that is set in the end; until
    # then nobody collects.
    if type(provider).__name__ != "_ProxyMeterProvider":
        try:
            collected = _collected.setdefault(provider, Collected())
            if metric_names not in collected.meters:
                collected.meters[metric_names] = Meter(provider.get_meter(SCOPE, _version()), metric_names, collected)
            return collected.meters[metric_names]
        except Exception:
            log.debug("there is no meter", exc_info=True)
    return Meter(metrics.NoOpMeterProvider().get_meter(SCOPE), metric_names, Collected())


def _tracer_of(provider: TracerProvider) -> Tracer:
    """Never raises: a provider that cannot give a tracer is told nothing."""
    # It may have been made after `instrument`, and asked the interpreter later to shut it down.
    end_at_exit()
    try:
        return provider.get_tracer(SCOPE, _version())
    except Exception:
        log.debug("there is no tracer", exc_info=True)
        return trace.NoOpTracer()


def _clear_all() -> None:
    for collected in list(_collected.values()):
        collected.measurements.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_clear_all)


class Server(NamedTuple):
    """Where a call goes."""

    host: str
    port: int


class Begin(NamedTuple):
    """What is the same for all calls of one kind to one model of a server."""

    name: str
    """Of the span."""
    attributes: Mapping[str, str | int]
    """That the span is begun with, so that samplers see them."""
    model: str | None
    """As it is told, None where none was named."""
    operation: str
    server: Server


@lru_cache(maxsize=256)
def operation_of(method: str, path: str) -> str | None:
    """What a request asks of the API; None for what is not traced."""
    method = method.upper()
    if method == "POST" and path.endswith("/chat/completions"):
        return "chat"
    if method == "GET" and path.endswith("/models"):
        return "models.list"
    return None


def server_of(url: Any, settings: TracingSettings) -> Server | None:
    """The server of an httpx or httpx2 URL, None for one that is not to be traced."""
    port = url.port or (443 if url.scheme == "https" else 80)
    return Server(url.host, port) if settings.touches(url.host, port) else None


def _remember(known: dict[Any, Any], key: Any, value: Any) -> None:
    """Keep what was made, of names that a client may choose freely: never more than so many."""
    if len(known) >= _MOST_REMEMBERED:
        known.clear()
    known[key] = value


class Telemetry:
    """The tracer and meter of one `instrument`, renewed when the global providers are replaced."""

    def __init__(self, settings: TracingSettings) -> None:
        self.settings = settings
        self.active = True
        """Not after `uninstrument`: a hook that somebody hooked in on top of cannot be taken out, and does nothing."""
        self.remaining = Remaining(settings)
        self.idle_after_ns = int(settings.idle_after_s * 1e9)
        self.begins: dict[tuple[int, str, str, object], tuple[Any, Begin | None]] = {}
        """By the identity of a client's base URL, which is kept as well so that it stays its own, method, path and
        model: `begin_of_client` fills it."""
        self._begins: dict[tuple[str, Server, object], Begin] = {}
        self._labels: dict[tuple[str, Server, str | None], Attributes] = {}
        self._tracer_provider: TracerProvider | None = None
        self._meter_provider: MeterProvider | None = None
        self._tracer: Tracer | None = None
        self._meter: Meter | None = None

    @property
    def tracer(self) -> Tracer:
        """Of the given provider, or of whichever is the global one now."""
        return self.providers()[0]

    @property
    def meter(self) -> Meter:
        """Of the given provider, or of whichever is the global one now."""
        return self.providers()[1]

    def providers(self) -> tuple[Tracer, Meter]:
        """The tracer and the meter."""
        settings = self.settings
        provider = settings.tracer_provider or trace.get_tracer_provider()
        tracer = self._tracer
        if tracer is None or provider is not self._tracer_provider:
            self._tracer_provider = provider
            tracer = self._tracer = _tracer_of(provider)
        meters = settings.meter_provider or metrics.get_meter_provider()
        meter = self._meter
        if meter is None or meters is not self._meter_provider:
            self._meter_provider = meters
            meter = self._meter = _meter_of(meters, settings.metric_names)
            meter.remaining.add(self.remaining)
        return tracer, meter

    def begin_of_client(self, url: Any, method: str, path: str, model: object) -> tuple[Any, Begin | None]:
        """What a call of a client with this base URL begins with, None for one that is not to be traced."""
        operation, server = operation_of(method, path), server_of(url, self.settings)
        begin = None if operation is None or server is None else self.begin_of(operation, server, model)
        _remember(self.begins, (id(url), method, path, model), (url, begin))
        return url, begin

    def begin_of(self, operation: str, server: Server, model: object) -> Begin:
        """What a call begins with, of the model that its body names; anything but a text is none."""
        if not isinstance(model, str):
            model = None
        known = self._begins.get((operation, server, model))
        if known is None:
            attributes: Attributes = {
                names.PROVIDER: self.settings.provider_name,
                names.SERVER_ADDRESS: server.host,
                names.SERVER_PORT: server.port,
            }
            if operation == "chat":
                attributes[names.OPERATION] = operation
            name, told = operation, None
            if model:
                told = attributes[names.REQUEST_MODEL] = model_name(model)
                name = f"{operation} {told}"
            known = Begin(name, attributes, told, operation, server)
            _remember(self._begins, (operation, server, model), known)
        return known

    def labels_of(self, operation: str, server: Server, model: str | None) -> Attributes:
        """The attributes of metrics, a closed list: nothing of a single call but its model, whose names are bounded."""
        known = self._labels.get((operation, server, model))
        if known is None:
            known = {
                names.OPERATION: operation,
                names.PROVIDER: self.settings.provider_name,
                names.SERVER_ADDRESS: server.host,
                names.SERVER_PORT: server.port,
            }
            if model is not None:
                known[names.REQUEST_MODEL] = self._model_label(model)
            _remember(self._labels, (operation, server, model), known)
        return known

    def _model_label(self, model: str) -> str:
        """The model's name as metrics carry it: beyond so many distinct ones, `other`."""
        # Counted for the provider: who instruments a client for each request has no more of them.
        models = self.meter.models
        if model not in models and len(models) >= self.settings.most_models:
            return "other"
        models.add(model)
        return model

    def forget(self) -> None:
        """After `uninstrument`: what was noted is passed on, and the gauge tells nothing more."""
        self.active = False
        if self._meter is not None:
            self._meter.measurements.pass_on()
        self.remaining.clear()
