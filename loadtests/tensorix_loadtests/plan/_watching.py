"""Who may look on while a run goes on."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Watching"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Watching:
    """Ways to watch a run besides the terminal; all off unless asked for."""

    web: str | None = None
    """`host:port` of Locust's web page with a tab of ours; `127.0.0.1:8089` where only `on` was asked for."""
    prometheus: str | None = None
    """`host:port` of a page of metrics for Prometheus."""
    otlp: bool = False
    """Send metrics to a collector, by the standard OTEL_* variables."""
