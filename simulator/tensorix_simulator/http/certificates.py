"""Certificates of the simulator's own making: one that is as it should be, and the ways in which others are not.

`valid`          for localhost, 127.0.0.1, ::1 and the address listened on, signed by the authority that is given out
`expired`        the same, but over since yesterday
`wrong_name`     the same, but for another server
`unknown_chain`  signed by another authority than the one that is given out
"""

from __future__ import annotations

import ipaddress
import re
import socket
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tensorix_api.errors import SettingsError

__all__ = ["CERTIFICATES", "TlsServer", "certified", "check_kind"]

CERTIFICATES = ("valid", "expired", "wrong_name", "unknown_chain")
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
# .invalid is a name that no server will ever have (RFC 2606).
_SOMEBODY_ELSE = "another-server.invalid"


@dataclass(frozen=True, slots=True)
class TlsServer:
    """What a listener needs to speak TLS, and the certificate (PEM) of the authority that clients are to trust."""

    context: ssl.SSLContext
    authority_pem: bytes

    def write_authority(self, path: Path) -> None:
        """Write the authority's certificate, which is no secret. Raises SettingsError where it cannot be."""
        try:
            path.write_bytes(self.authority_pem)
        except OSError as error:
            raise SettingsError(f"the certificate cannot be written to {path}: {error.strerror}") from None


def check_kind(kind: str) -> None:
    """Raises SettingsError for a kind that there is not."""
    if kind not in CERTIFICATES:
        raise SettingsError(f"tls must be one of {', '.join(CERTIFICATES)}, not {kind!r}")


def certified(kind: str, host: str) -> TlsServer:
    """A server's TLS with a new certificate of this kind. Takes about 50 ms.

    The private key is in a file, of mode 0600, only while OpenSSL reads it from there. Raises SettingsError for a kind
    that there is not, and where trustme, which makes certificates, is not installed.
    """
    check_kind(kind)
    try:
        import trustme
    except ImportError:
        raise SettingsError(
            "trustme is not installed, which TLS needs: pip install 'tensorix-toolkit[simulator]'"
        ) from None
    authority = trustme.CA()
    signer = trustme.CA() if kind == "unknown_chain" else authority
    names = (_SOMEBODY_ELSE,) if kind == "wrong_name" else _names(host)
    now = datetime.now(UTC)
    over = now - timedelta(days=1) if kind == "expired" else now + timedelta(days=365)
    leaf = signer.issue_cert(*names, not_before=now - timedelta(days=30), not_after=over)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    leaf.configure_cert(context)
    return TlsServer(context, authority.cert_pem.bytes())


def _names(host: str) -> tuple[str, ...]:
    """What clients may call the server: a wildcard address is none of its names, this machine's is."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
        own = socket.gethostname() if address.is_unspecified else str(address)
    except ValueError:
        own = host
    # A machine may have a name that no certificate can hold, with an underscore for instance.
    return tuple(dict.fromkeys((*_LOOPBACK, own) if ":" in own or _NAME.fullmatch(own) else _LOOPBACK))
