"""What one run found, for Prometheus: a file for node exporter's textfile collector, or a push to a Pushgateway.

Each run is a process of its own, whose counters would all begin at 0: so they go on from those of the run before,
which the file or the gateway holds.
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterator, Mapping
from http.client import HTTPException
from pathlib import Path
from typing import TypeAlias
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

from prometheus_client import CollectorRegistry, generate_latest, push_to_gateway
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from tensorix_probes.metrics import Metrics
from tensorix_probes.outputs.replacing import replace_file

__all__ = ["Counts", "check_gateway", "counts_of_file", "counts_of_gateway", "going_on", "push", "write_textfile"]

Counts: TypeAlias = Mapping[str, tuple[str, Sample]]
"""The counters of a run: by name and labels the metric's name and the sample."""

_COUNTED = ("counter", "histogram")
_MOST_BYTES = 32 * 2**20


def _series(sample: Sample) -> str:
    """Name and labels; one that is empty is the same as none."""
    labels = ",".join(f"{name}={value!r}" for name, value in sorted(sample.labels.items()) if value)
    return f"{sample.name}{{{labels}}}"


def _counts(text: str) -> Iterator[tuple[str, Sample]]:
    for family in text_string_to_metric_families(text):
        if family.type in _COUNTED:
            yield from ((family.name, sample) for sample in family.samples)


def counts_of_file(path: Path) -> Counts:
    """The counters of a text file; none where it is not there, is none, or is longer than any that a run writes."""
    try:
        if not path.is_file() or path.stat().st_size > _MOST_BYTES:
            return {}
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES).decode()
        return {_series(sample): (name, sample) for name, sample in _counts(text)}
    except (OSError, ValueError, KeyError, IndexError):
        return {}


def counts_of_gateway(gateway: str, *, job: str, location: str | None, timeout_s: float = 10.0) -> Counts:
    """The counters that a Pushgateway has of this job, instance and location; none where it cannot be read."""
    group = {"job": job, **_group(location)}
    found: dict[str, tuple[str, Sample]] = {}
    try:
        with urlopen(f"{_address(gateway)}/metrics", timeout=timeout_s) as answer:  # noqa: S310 - http, see _address
            text = answer.read(_MOST_BYTES).decode("utf-8", "replace")
        for name, sample in _counts(text):
            if all(sample.labels.get(label) == value for label, value in group.items()):
                labels = {label: value for label, value in sample.labels.items() if label not in ("job", "instance")}
                mine = sample._replace(labels=labels)
                found[_series(mine)] = name, mine
    except (OSError, HTTPException, ValueError, KeyError, IndexError):
        return {}
    return found


class _GoingOn(Collector):
    def __init__(self, metrics: Metrics, before: Counts, targets: Collection[str]) -> None:
        self._metrics, self._before, self._targets = metrics, before, targets

    def collect(self) -> Iterator[Metric]:
        for family in self._metrics.collect():
            if family.type in _COUNTED:
                family.samples = list(self._going_on(family))
            yield family

    def _going_on(self, family: Metric) -> Iterator[Sample]:
        seen = set()
        for sample in family.samples:
            series = _series(sample)
            seen.add(series)
            _, before = self._before.get(series, (None, None))
            yield sample if before is None else sample._replace(value=sample.value + before.value)
        # What this run had nothing to add to stays as it was, as long as its target is there.
        for series, (name, sample) in self._before.items():
            if name == family.name and series not in seen and sample.labels.get("target") in self._targets:
                yield sample


def going_on(metrics: Metrics, before: Counts, targets: Collection[str]) -> CollectorRegistry:
    """The metrics of a run of these targets, with counters that go on from `before`."""
    registry = CollectorRegistry()
    registry.register(_GoingOn(metrics, before, targets))
    return registry


def write_textfile(registry: CollectorRegistry, path: Path) -> None:
    """Write the file, all or nothing. Raises OSError."""
    with replace_file(path) as file:
        file.write(generate_latest(registry))


def _address(gateway: str) -> str:
    """The address with its scheme. Raises ValueError, without repeating it, where it is none."""
    address = (gateway if "://" in gateway else f"http://{gateway}").rstrip("/")
    parts = urlsplit(address)
    # A bare word is rather a file or an option that slipped than a host.
    if (
        ("://" not in gateway and not parts.port)
        or parts.scheme not in ("http", "https")
        or not parts.hostname
        or parts.port == 0
        or "@" in parts.netloc
    ):
        raise ValueError("it is no http(s) address without user and password: write it like http://127.0.0.1:9091")
    return address


def check_gateway(gateway: str) -> None:
    """Raises ValueError where nothing can be pushed to such an address."""
    _address(gateway)


def _group(location: str | None) -> dict[str, str]:
    return {"instance": socket.gethostname(), **({"location": location} if location else {})}


def push(registry: CollectorRegistry, gateway: str, *, job: str, location: str | None, timeout_s: float = 10.0) -> None:
    """Replace what a Pushgateway has of this job, instance (this machine's name) and location. Raises OSError."""
    try:
        push_to_gateway(_address(gateway), job=job, registry=registry, grouping_key=_group(location), timeout=timeout_s)
    except HTTPError as error:
        error.close()
        raise OSError(f"it answered {error.code} {error.reason}") from None
    except URLError as error:
        raise OSError(str(getattr(error.reason, "strerror", None) or error.reason)) from None
    except HTTPException as error:
        raise OSError(f"it answered no HTTP ({type(error).__name__})") from None
