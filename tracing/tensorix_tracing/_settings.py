"""What is traced and how: the arguments of `instrument`, with the environment for what they leave open."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias
from urllib.parse import urlsplit

from tensorix_api.errors import SettingsError

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

__all__ = ["CAPTURE_VARIABLE", "MetricNames", "TracingSettings", "host_and_port", "settings_from"]

MetricNames: TypeAlias = Literal["old", "new", "both"]

CAPTURE_VARIABLE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
HOSTS_VARIABLE = "TENSORIX_TRACING_HOSTS"
NAMES_VARIABLE = "TENSORIX_TRACING_METRIC_NAMES"
_DEFAULT_HOST = "api.tensorix.ai"
_METRIC_NAMES: tuple[MetricNames, ...] = ("old", "new", "both")
# What OpenTelemetry's instrumentations understand; those that capture to events only leave the spans bare.
_CAPTURE_WORDS = {
    "true": True,
    "1": True,
    "span_only": True,
    "span_and_event": True,
    "false": False,
    "0": False,
    "": False,
    "no_content": False,
    "event_only": False,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TracingSettings:
    """What was asked of `instrument`, checked and whole.

    `hosts` are `name` or `name:port`, in small letters; empty means that whoever instruments decides by the client.
    """

    hosts: frozenset[str] = frozenset()
    provider_name: str = "tensorix"
    key_alias: str | None = None
    tracer_provider: TracerProvider | None = None
    meter_provider: MeterProvider | None = None
    metric_names: MetricNames = "old"
    propagate: bool = True
    capture_content: bool = False
    content_limit: int = 4096
    """Characters of each text."""
    redact: Callable[[str], str] | None = None
    idle_after_s: float = 300.0
    """A stream that nobody read for so long counts as abandoned."""
    most_models: int = 50
    """Distinct names of models in metrics; those beyond are `other`."""
    chunk_gap_share: float = 0.25
    """The share of the gaps between chunks, taken at random, that the histogram is given."""

    def __post_init__(self) -> None:
        if self.metric_names not in _METRIC_NAMES:
            raise SettingsError(f"metric_names is {self.metric_names!r}: write 'old', 'new' or 'both'")
        if not self.provider_name:
            raise SettingsError("provider_name is empty: name who serves the models, such as 'tensorix'")
        if self.content_limit < 1:
            raise SettingsError(f"content_limit is {self.content_limit}: write the characters of a text to keep, 1 or more")
        if not self.idle_after_s > 0:
            raise SettingsError(f"idle_after_s is {self.idle_after_s}: write seconds above 0")
        if self.most_models < 1:
            raise SettingsError(f"most_models is {self.most_models}: write 1 or more")
        if not 0 <= self.chunk_gap_share <= 1:
            raise SettingsError(f"chunk_gap_share is {self.chunk_gap_share}: write a share from 0 to 1")

    def touches(self, host: str, port: int | None) -> bool:
        """Whether calls to this server are ours to trace."""
        return host in self.hosts or f"{host}:{port}" in self.hosts


def host_and_port(text: str) -> str:
    """A host as `TracingSettings` holds it, from `name`, `name:port` or a whole URL. Raises SettingsError."""
    text = text.strip().lower()
    try:
        parts = urlsplit(text if "//" in text else f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or (host != host.strip()) or "*" in host or " " in host:
        raise SettingsError(f"{text!r} names no host to trace: write it like api.tensorix.ai or localhost:8000")
    return host if port is None else f"{host}:{port}"


def _hosts_from(environ: Mapping[str, str]) -> frozenset[str]:
    """The hosts that the environment names: the list of its own, else where the API is."""
    listed = [part for part in environ.get(HOSTS_VARIABLE, "").split(",") if part.strip()]
    if listed:
        return frozenset(host_and_port(part) for part in listed)
    address = environ.get("TENSORIX_BASE_URL", "").strip()
    return frozenset([host_and_port(address) if address else _DEFAULT_HOST])


def _capture_from(environ: Mapping[str, str]) -> bool:
    word = environ.get(CAPTURE_VARIABLE, "").strip().lower()
    if word not in _CAPTURE_WORDS:
        # In doubt for privacy: what cannot be understood captures nothing.
        return False
    return _CAPTURE_WORDS[word]


def _metric_names_from(environ: Mapping[str, str]) -> MetricNames:
    word = environ.get(NAMES_VARIABLE, "").strip().lower() or "old"
    for name in _METRIC_NAMES:
        if word == name:
            return name
    raise SettingsError(f"{NAMES_VARIABLE} is {word!r}: write old, new or both")


def settings_from(
    *,
    client_host: str | None = None,
    hosts: Iterable[str] | None = None,
    capture_content: bool | None = None,
    metric_names: MetricNames | None = None,
    environ: Mapping[str, str] | None = None,
    **others: object,
) -> TracingSettings:
    """The settings of one `instrument`: arguments first, then the environment, then the client's own address.

    `client_host` is where the instrumented client sends (`name:port`), None where it may send anywhere. Raises
    SettingsError.
    """
    if environ is None:
        environ = os.environ
    if isinstance(hosts, str):
        raise SettingsError(f"hosts is a text: write a list, such as [{hosts!r}]")
    if hosts is not None:
        chosen = frozenset(host_and_port(host) for host in hosts)
    elif client_host is not None:
        chosen = frozenset([client_host])
    else:
        chosen = _hosts_from(environ)
    return TracingSettings(
        hosts=chosen,
        capture_content=_capture_from(environ) if capture_content is None else capture_content,
        metric_names=_metric_names_from(environ) if metric_names is None else metric_names,
        **{name: value for name, value in others.items() if value is not None},  # type: ignore[arg-type]
    )
