"""What is traced and how: the arguments of `instrument`, with the environment for what they leave open."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias
from urllib.parse import urlsplit

from tensorix_api.errors import SettingsError
from tensorix_api.secret import Redactor

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

__all__ = ["CAPTURE_VARIABLE", "MetricNames", "TracingSettings", "host_and_port", "settings_from"]

log = logging.getLogger("tensorix_tracing")

MetricNames: TypeAlias = Literal["old", "new", "both"]

CAPTURE_VARIABLE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
HOSTS_VARIABLE = "TENSORIX_TRACING_HOSTS"
NAMES_VARIABLE = "TENSORIX_TRACING_METRIC_NAMES"
_DEFAULT_HOST = "api.tensorix.ai"
_LONGEST_TEXT = 200
_LONGEST_S = 366 * 86_400
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
            raise SettingsError(f"metric_names is {_shown(self.metric_names)}: write 'old', 'new' or 'both'")
        _check_text("provider_name", self.provider_name, "name who serves the models, such as 'tensorix'")
        if self.key_alias is not None:
            _check_text("key_alias", self.key_alias, "write a name for the key, such as 'production', never the key")
            if Redactor()(self.key_alias, _LONGEST_TEXT) != self.key_alias:
                raise SettingsError("key_alias looks like a key: write a name for it, such as 'production'")
        for name, method in (("tracer_provider", "get_tracer"), ("meter_provider", "get_meter")):
            provider = getattr(self, name)
            if provider is not None and not callable(getattr(provider, method, None)):
                raise SettingsError(f"{name} is {_shown(provider)}: give a provider of OpenTelemetry's")
        for name in ("propagate", "capture_content"):
            if not isinstance(getattr(self, name), bool):
                raise SettingsError(f"{name} is {_shown(getattr(self, name))}: write True or False")
        _check_count("content_limit", self.content_limit, "the characters of a text to keep")
        _check_count("most_models", self.most_models, "how many names of models metrics may have")
        if self.redact is not None and not callable(self.redact):
            raise SettingsError(f"redact is {_shown(self.redact)}: give a function that takes a text and returns one")
        if not (_is_number(self.idle_after_s) and 0 < self.idle_after_s <= _LONGEST_S):
            raise SettingsError(f"idle_after_s is {_shown(self.idle_after_s)}: write seconds, above 0 and up to a year")
        if not (_is_number(self.chunk_gap_share) and 0 <= self.chunk_gap_share <= 1):
            raise SettingsError(f"chunk_gap_share is {_shown(self.chunk_gap_share)}: write a share from 0 to 1")

    def touches(self, host: str, port: int | None) -> bool:
        """Whether calls to this server are ours to trace."""
        return host in self.hosts or f"{host}:{port}" in self.hosts


def _shown(value: object) -> str:
    """A wrong value in an error's one line: short, and without what might be a key."""
    return Redactor()(repr(value), 60)


def _is_number(value: object) -> bool:
    # NaN and infinity are out of every range that is asked for.
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_text(name: str, value: object, advice: str) -> None:
    if not isinstance(value, str) or not value.strip() or not value.isprintable() or len(value) > _LONGEST_TEXT:
        what = "empty" if value == "" else _shown(value)
        raise SettingsError(f"{name} is {what}: {advice}")


def _check_count(name: str, value: object, what: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise SettingsError(f"{name} is {_shown(value)}: write {what}, a whole number from 1 on")


def host_and_port(text: str) -> str:
    """A host as `TracingSettings` holds it, from `name`, `name:port` or a whole URL. Raises SettingsError."""
    if not isinstance(text, str):
        raise SettingsError(f"a host is {_shown(text)}: write a text like api.tensorix.ai or localhost:8000")
    text = text.strip().lower()
    try:
        parts = urlsplit(text if "//" in text else f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or (host != host.strip()) or "*" in host or " " in host:
        raise SettingsError(f"{_shown(text)} names no host to trace: write it like api.tensorix.ai or localhost:8000")
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
        # In doubt for privacy; and no error, for others read this variable too.
        log.warning(
            "%s is %s: nothing is captured; write span_only or no_content",
            CAPTURE_VARIABLE,
            _shown(word),
        )
        return False
    return _CAPTURE_WORDS[word]


def _metric_names_from(environ: Mapping[str, str]) -> MetricNames:
    word = environ.get(NAMES_VARIABLE, "").strip().lower() or "old"
    for name in _METRIC_NAMES:
        if word == name:
            return name
    raise SettingsError(f"{NAMES_VARIABLE} is {_shown(word)}: write old, new or both")


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
        raise SettingsError(f"hosts is a text: write a list, such as [{_shown(hosts)}]")
    if hosts is not None:
        if not isinstance(hosts, Iterable):
            raise SettingsError(f"hosts is {_shown(hosts)}: write a list, such as ['api.tensorix.ai']")
        chosen = frozenset(host_and_port(host) for host in hosts)
        if not chosen:
            raise SettingsError("hosts is empty: write a list, such as ['api.tensorix.ai'], or leave it out")
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
