"""What one run found, for Prometheus: a file for node exporter's textfile collector, or a push to a Pushgateway.

Each run is a process of its own, whose counters would all begin at 0: so they go on from those of the run before,
which the file or the history holds.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeAlias
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry, generate_latest, push_to_gateway
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from tensorix_probes.metrics import Metrics
from tensorix_probes.outputs.replacing import replace_file

__all__ = ["Counts", "counts_of", "counts_of_file", "going_on", "push", "write_textfile"]

Counts: TypeAlias = Mapping[str, float]
"""The counters of a run, by their name and labels as in the text format."""

_COUNTED = ("counter", "histogram")


def _series(sample: Sample) -> str:
    labels = ",".join(f"{name}={value!r}" for name, value in sorted(sample.labels.items()))
    return f"{sample.name}{{{labels}}}"


def counts_of(registry: CollectorRegistry) -> dict[str, float]:
    """The counters of a registry."""
    return {
        _series(sample): sample.value
        for family in registry.collect()
        if family.type in _COUNTED
        for sample in family.samples
    }


def counts_of_file(path: Path) -> dict[str, float]:
    """The counters of a text file; none where it is not there, or cannot be read."""
    try:
        families = list(text_string_to_metric_families(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, IndexError):
        return {}
    return {_series(sample): sample.value for family in families for sample in family.samples}


class _GoingOn(Collector):
    def __init__(self, metrics: Metrics, before: Counts) -> None:
        self._metrics, self._before = metrics, before

    def collect(self) -> Iterator[Metric]:
        for family in self._metrics.collect():
            if family.type in _COUNTED:
                family.samples = [
                    sample._replace(value=sample.value + self._before.get(_series(sample), 0.0))
                    for sample in family.samples
                ]
            yield family


def going_on(metrics: Metrics, before: Counts) -> CollectorRegistry:
    """The metrics of a run, with counters that go on from `before`."""
    registry = CollectorRegistry()
    registry.register(_GoingOn(metrics, before))
    return registry


def write_textfile(registry: CollectorRegistry, path: Path) -> None:
    """Write the file, all or nothing. Raises OSError."""
    with replace_file(path) as file:
        file.write(generate_latest(registry))


def push(registry: CollectorRegistry, gateway: str, *, job: str, location: str | None, timeout_s: float = 10.0) -> None:
    """Replace what a Pushgateway has of this job, instance (this machine's name) and location.

    Raises OSError with one line that names no user and password of the address.
    """
    grouping = {"instance": socket.gethostname(), **({"location": location} if location else {})}
    try:
        push_to_gateway(gateway, job=job, registry=registry, grouping_key=grouping, timeout=timeout_s)
    except HTTPError as error:
        error.close()
        raise OSError(f"it answered {error.code} {error.reason}") from None
    except URLError as error:
        raise OSError(f"{error.reason}") from None
    except ValueError:
        raise OSError(f"{urlsplit(gateway).hostname or 'this'} is no address of a Pushgateway") from None
