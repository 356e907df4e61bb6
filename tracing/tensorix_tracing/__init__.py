"""Traces and metrics of calls to a chat API, for services in production: one line, and every call is understood."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Literal, TypeVar, overload

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

__all__ = ["configure", "instrument", "uninstrument"]

_Client = TypeVar("_Client")


@overload
def instrument(
    client: _Client,
    *,
    hosts: Iterable[str] | None = ...,
    provider_name: str | None = ...,
    key_alias: str | None = ...,
    tracer_provider: TracerProvider | None = ...,
    meter_provider: MeterProvider | None = ...,
    metric_names: Literal["old", "new", "both"] | None = ...,
    propagate: bool | None = ...,
    capture_content: bool | None = ...,
    content_limit: int | None = ...,
    redact: Callable[[str], str] | None = ...,
    idle_after_s: float | None = ...,
    most_models: int | None = ...,
    chunk_gap_share: float | None = ...,
) -> _Client: ...
@overload
def instrument(
    client: None = ...,
    *,
    hosts: Iterable[str] | None = ...,
    provider_name: str | None = ...,
    key_alias: str | None = ...,
    tracer_provider: TracerProvider | None = ...,
    meter_provider: MeterProvider | None = ...,
    metric_names: Literal["old", "new", "both"] | None = ...,
    propagate: bool | None = ...,
    capture_content: bool | None = ...,
    content_limit: int | None = ...,
    redact: Callable[[str], str] | None = ...,
    idle_after_s: float | None = ...,
    most_models: int | None = ...,
    chunk_gap_share: float | None = ...,
) -> None: ...
def instrument(
    client: _Client | None = None,
    *,
    hosts: Iterable[str] | None = None,
    provider_name: str | None = None,
    key_alias: str | None = None,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    metric_names: Literal["old", "new", "both"] | None = None,
    propagate: bool | None = None,
    capture_content: bool | None = None,
    content_limit: int | None = None,
    redact: Callable[[str], str] | None = None,
    idle_after_s: float | None = None,
    most_models: int | None = None,
    chunk_gap_share: float | None = None,
) -> _Client | None:
    """Trace a client's calls to the API; returns the client. Without one: those of all clients, present and to come.

    `client` is of openai (`OpenAI`, `AsyncOpenAI` and their subclasses), httpx or httpx2. Traced are chat completions
    and the list of models, and only towards `hosts` (`name` or `name:port`): by default where the client's base URL
    points to; for all clients what `TENSORIX_TRACING_HOSTS` lists, else the host of `TENSORIX_BASE_URL`, else
    api.tensorix.ai. Instrumenting a client again replaces the settings.

    - `provider_name` goes to `gen_ai.provider.name` (default `tensorix`), `key_alias` names the key on spans and on
      the gauges of what remains, so that two keys are told apart there: never give the key itself.
    - `tracer_provider`, `meter_provider`: default the global ones, whichever they are at the time of a call.
    - `metric_names`: `old`, `new` or `both` names of the GenAI conventions (default what
      `TENSORIX_TRACING_METRIC_NAMES` says, else `old`).
    - `propagate`: send `traceparent` and baggage on (default true).
    - `capture_content`: messages as attributes (default what `OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT` says,
      else off), each text through `redact` and then cut to `content_limit` characters (default 4,096). Where `redact`
      raises, nothing of the call is captured.
    - `idle_after_s`: a stream that nobody read for so long counts as abandoned (default 300).
    - `most_models`: distinct models in metrics, those beyond are `other` (default 50).
    - `chunk_gap_share`: the share of the gaps between chunks, at random, that the histogram is given (default 0.25).

    Raises `tensorix_api.errors.SettingsError` for what cannot be instrumented, or a setting that is out of range.
    """
    from tensorix_tracing import _instrument

    _instrument.instrument(
        client,
        hosts=hosts,
        provider_name=provider_name,
        key_alias=key_alias,
        tracer_provider=tracer_provider,
        meter_provider=meter_provider,
        metric_names=metric_names,
        propagate=propagate,
        capture_content=capture_content,
        content_limit=content_limit,
        redact=redact,
        idle_after_s=idle_after_s,
        most_models=most_models,
        chunk_gap_share=chunk_gap_share,
    )
    return client


def uninstrument(client: object | None = None) -> None:
    """Leave a client as if it had never been traced; without one, everything.

    A stream that is open goes on being followed to its end.
    """
    from tensorix_tracing import _instrument

    _instrument.uninstrument(client)


def configure(service_name: str | None = None) -> Callable[[], None]:
    """Set OpenTelemetry up in a service that has not: spans and metrics go where the `OTEL_*` variables say.

    Without any they go by OTLP over HTTP to a collector on this machine. `OTEL_TRACES_EXPORTER` and
    `OTEL_METRICS_EXPORTER` name exporters (`otlp`, `console`, `none`, or one that is installed besides, such as
    `prometheus`), `OTEL_EXPORTER_OTLP_PROTOCOL` is `http/protobuf` or `grpc`; the rest is as OpenTelemetry documents
    it. `service_name` goes before what they say.

    What is held is sent when the process ends by itself. One that is ended by a signal runs nothing at its end (uvicorn
    lets SIGTERM end it so): what is returned sends it then. Either waits for a collector that does not answer, up to
    twice as long as `OTEL_EXPORTER_OTLP_TIMEOUT` says (10 s).

    Nothing is traced by this alone: call `instrument` as well. With `OTEL_SDK_DISABLED=true` nothing happens; where a
    provider is set already, a warning is logged and nothing changes.

    Raises `tensorix_api.errors.SettingsError` for a variable that is wrong, or where the extra `tracing` is missing.
    """
    from tensorix_tracing import _configure

    return _configure.configure(service_name)
