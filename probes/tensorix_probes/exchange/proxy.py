"""The HTTP proxy that the environment names for a server."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from tensorix_api import Secret, Settings
from tensorix_api.errors import SettingsError

__all__ = ["Proxy"]


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy, and who may use it."""

    url: str
    user: Secret | None = None
    password: Secret | None = None

    @property
    def hidden(self) -> list[Secret]:
        """What of it is not to be shown."""
        if not self.user or not self.password:
            return []
        return [self.password, Secret(b64encode(f"{self.user.reveal()}:{self.password.reveal()}".encode()).decode())]

    @classmethod
    def of(cls, server: Settings) -> Proxy | None:
        """By `HTTPS_PROXY` or `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, in capitals or not; None: go direct.

        Raises SettingsError where it cannot be used.
        """
        scheme = "https" if server.secure else "http"
        proxies = getproxies_environment()
        name, address = next(((name, proxies[name]) for name in (scheme, "all") if proxies.get(name)), ("", ""))
        if not address or any(proxy_bypass(host) for host in (server.host, f"{server.host}:{server.port}")):
            return None
        wrong = f"{name.upper()}_PROXY is no http:// proxy, the only kind supported: write http://proxy.example:3128"
        try:
            parts = urlsplit(address if "://" in address else f"http://{address}")
            port = parts.port or 80
        except ValueError:
            raise SettingsError(wrong) from None
        if parts.scheme != "http" or not parts.hostname:
            raise SettingsError(wrong)
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        if parts.username is None:
            return cls(f"http://{host}:{port}")
        return cls(f"http://{host}:{port}", Secret(unquote(parts.username)), Secret(unquote(parts.password or "")))
