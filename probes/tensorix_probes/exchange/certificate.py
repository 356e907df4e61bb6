"""What a server's certificate says, once it was verified."""

from __future__ import annotations

import ssl
from typing import Any

from tensorix_probes.exchange.answer import Certificate

__all__ = ["certificate_of"]


def certificate_of(tls: ssl.SSLSocket) -> Certificate | None:
    """The certificate at the other end; None where there is none that was verified."""
    fields: Any = tls.getpeercert()
    if not fields:
        return None

    def name(field: str) -> str:
        return ", ".join(f"{key}={value}" for part in fields.get(field, ()) for key, value in part)

    return Certificate(ssl.cert_time_to_seconds(fields["notAfter"]), name("subject"), name("issuer"), tls.version())
