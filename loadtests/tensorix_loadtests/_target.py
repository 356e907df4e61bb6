"""Where to connect and how: the server, a proxy from the environment, the certificates that are trusted."""

from __future__ import annotations

import base64
import ssl
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from tensorix_api.errors import SettingsError
from tensorix_api.secret import Secret
from tensorix_api.settings import Settings

__all__ = ["Proxy", "Target"]


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy. `authorization` is the value of a Proxy-Authorization header, `hidden` what that is made of."""

    host: str
    port: int
    authorization: Secret | None = None
    hidden: tuple[Secret, ...] = ()


@dataclass(frozen=True, slots=True)
class Target:
    """A server as a connection needs it. `tls` None means plain HTTP; `path` is what stands before `/models`."""

    host: str
    port: int
    path: str
    tls: ssl.SSLContext | None
    proxy: Proxy | None = None

    @classmethod
    def of(cls, settings: Settings, ca_bundle: str | None = None) -> Target:
        """The target of a base URL, with `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` as the environment has them.

        Raises SettingsError where the proxy or the CA bundle cannot be used.
        """
        context = _trusting(ca_bundle) if settings.secure else None
        proxy = _proxy_for("https" if settings.secure else "http", settings.host, settings.port)
        return cls(settings.host, settings.port, settings.path, context, proxy)

    @property
    def authority(self) -> str:
        """`host` or `host:port`, as the Host header has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    @property
    def request_prefix(self) -> str:
        """What stands before a path in the request line: a plain HTTP proxy wants the whole address."""
        return f"http://{self.authority}{self.path}" if self.proxy and not self.tls else self.path


def _trusting(ca_bundle: str | None) -> ssl.SSLContext:
    try:
        # Verifies chain, name and dates, and takes TLS 1.2 or newer.
        context = ssl.create_default_context(cafile=ca_bundle)
    except (OSError, ssl.SSLError):
        raise SettingsError(f"the CA bundle {ca_bundle!r} cannot be read: give a file of PEM certificates") from None
    context.set_alpn_protocols(["http/1.1"])
    return context


def _proxy_for(scheme: str, host: str, port: int) -> Proxy | None:
    proxies: Mapping[str, str] = urllib.request.getproxies_environment()
    name, address = f"{scheme.upper()}_PROXY", proxies.get(scheme)
    if not address:
        name, address = "ALL_PROXY", proxies.get("all")
    bare = host.strip("[]")
    if not address or urllib.request.proxy_bypass(f"{bare}:{port}") or urllib.request.proxy_bypass(bare):
        return None
    try:
        parts = urlsplit(address if "://" in address else f"http://{address}")
        port = parts.port or 80
    except ValueError:
        raise SettingsError(f"{name} cannot be read: write it like http://proxy.example:3128") from None
    if parts.scheme != "http" or not parts.hostname:
        raise SettingsError(f"{name} is not an http:// proxy, which is the only kind supported here")
    authorization: Secret | None = None
    hidden: tuple[Secret, ...] = ()
    if parts.username is not None:
        password = unquote(parts.password or "")
        coded = base64.b64encode(f"{unquote(parts.username)}:{password}".encode()).decode()
        authorization, hidden = Secret(f"Basic {coded}"), (Secret(coded), Secret(password))
    return Proxy(parts.hostname, port, authorization, hidden)
