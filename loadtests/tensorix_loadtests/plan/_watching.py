"""Who may look on while a run goes on."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from importlib.util import find_spec

from tensorix_api.errors import SettingsError

__all__ = ["Watching", "is_loopback", "read_address"]

_HERE = "127.0.0.1"
_WEB_PORT = 8089


@dataclass(frozen=True, slots=True, kw_only=True)
class Watching:
    """Ways to watch a run besides the terminal; all off unless asked for. In a run of several processes the master
    shows and sends what all of them saw.

    Raises SettingsError, in one line, for what is no address, and where something that is needed is not installed.
    """

    web: str | None = None
    """`host:port` of Locust's web page with a tab of ours (see `read_address`); `on` is 127.0.0.1:8089."""
    prometheus: str | None = None
    """`host:port` of a page of metrics for Prometheus."""
    otlp: bool = False
    """Send metrics to a collector, by the standard OTEL_* variables."""

    def __post_init__(self) -> None:
        addresses = [address for address in (self.web_address, self.prometheus_address) if address and address[1]]
        if len(set(addresses)) < len(addresses):
            raise SettingsError(f"--web and --prometheus want the same {self.prometheus}: give each its own port")
        if self.prometheus is not None:
            _need("--prometheus", "prometheus", "opentelemetry.sdk", "opentelemetry.exporter.prometheus")
        if self.otlp:
            _need("--otlp", "otlp", "opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")

    @property
    def web_address(self) -> tuple[str, int] | None:
        """Host and port of the web page."""
        if self.web is None:
            return None
        return (_HERE, _WEB_PORT) if self.web == "on" else read_address("--web", self.web)

    @property
    def prometheus_address(self) -> tuple[str, int] | None:
        """Host and port of the page of metrics."""
        return None if self.prometheus is None else read_address("--prometheus", self.prometheus)


def read_address(option: str, text: str) -> tuple[str, int]:
    """The host and port of `HOST:PORT`, `[IPV6]:PORT` or `PORT`; without a host it is this machine only.

    Port 0 is any that is free. Raises SettingsError, which names the option, for anything else.
    """
    host, _, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    odd = any(char.isspace() or char in "/@[]" for char in bare) or (":" in bare and bare == host)
    if odd or not (port.isascii() and port.isdigit()) or int(port) > 65_535:
        raise SettingsError(f"{option} {text!r} is no address to listen on: write HOST:PORT, as 127.0.0.1:{_WEB_PORT}")
    return bare or _HERE, int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there; an empty host is every address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _need(option: str, extra: str, *modules: str) -> None:
    missing = [module for module in modules if not _is_there(module)]
    if missing:
        raise SettingsError(
            f"{option} needs {', '.join(missing)}, which is not installed: pip install 'tensorix-toolkit[{extra}]', "
            f"or in a clone pip install '.[{extra}]'"
        )


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False
