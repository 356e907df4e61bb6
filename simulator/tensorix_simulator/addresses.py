"""Where the simulator listens, and who can reach it there."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass

__all__ = ["CONTROL_HOST", "Addresses", "addresses_of"]

CONTROL_HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the simulator listens. `base_url` is what `TENSORIX_BASE_URL` is set to."""

    host: str
    port: int
    control_port: int
    base_url: str
    control_url: str
    loopback: bool
    """Whether only this machine reaches it."""
    tls: str | None
    """The kind of its certificate, a name of `http.certificates.CERTIFICATES`; None: plain HTTP."""
    ca_path: str | None
    """The certificate of the authority that clients are to trust, as PEM."""

    @property
    def warning(self) -> str | None:
        """What to say aloud where others than this machine reach it."""
        if self.loopback:
            return None
        clear = "" if self.tls else ", and keys that are sent to it travel in clear (no TLS)"
        return (
            f"WARNING: listening on {self.host} port {self.port}, not on loopback only: "
            f"everybody who reaches this machine can use it{clear}"
        )


def _url(host: str, port: int, scheme: str = "http") -> str:
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def addresses_of(
    public: socket.socket, private: socket.socket, *, host: str, prefix: str, tls: str | None, ca_path: str | None
) -> Addresses:
    """The addresses of two listening sockets, the first of which was bound to `host`."""
    bound, port = public.getsockname()[:2]
    address = ipaddress.ip_address(bound.partition("%")[0])
    # Nobody can be sent to a wildcard address; who is here reaches it by loopback.
    here = ("::1" if address.version == 6 else "127.0.0.1") if address.is_unspecified else host
    control_port = private.getsockname()[1]
    return Addresses(
        host=host,
        port=port,
        control_port=control_port,
        base_url=_url(here, port, "https" if tls else "http") + prefix,
        control_url=_url(CONTROL_HOST, control_port),
        loopback=address.is_loopback,
        tls=tls,
        ca_path=ca_path,
    )
