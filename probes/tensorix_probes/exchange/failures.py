"""What ends a request before its time, in the words and kinds that the load client has for the same."""

from __future__ import annotations

import os
import ssl

from tensorix_api.errors import ErrorKind, Phase

__all__ = ["Ended", "HandshakeDone", "tls_failure", "words"]

# X509_V_ERR_* of OpenSSL's x509_vfy.h: not yet valid, expired; another name, another address.
_KIND_OF_VERIFY_CODE = {
    9: ErrorKind.TLS_EXPIRED,
    10: ErrorKind.TLS_EXPIRED,
    62: ErrorKind.TLS_NAME,
    64: ErrorKind.TLS_NAME,
}


class Ended(Exception):  # noqa: N818 - no error of the program: it becomes data in an Answer
    """Raised inside an exchange only. The text may hold what a server sent: redacted when it is kept."""

    def __init__(self, kind: ErrorKind, phase: Phase, text: str) -> None:
        super().__init__(text)
        self.kind = kind
        self.phase = phase
        self.text = text


class HandshakeDone(Exception):  # noqa: N818 - the end that was wanted
    """The connection stands, and no request is to go over it."""


def words(error: OSError) -> str:
    """The system's reason."""
    return error.strerror or (os.strerror(error.errno) if error.errno else str(error) or type(error).__name__)


def tls_failure(error: OSError, host: str) -> Ended:
    """Why a handshake failed: the certificate's date, name or chain, or something else."""
    if isinstance(error, ssl.SSLCertVerificationError):
        kind = _KIND_OF_VERIFY_CODE.get(error.verify_code, ErrorKind.TLS_CHAIN)
        if kind is ErrorKind.TLS_NAME:
            return Ended(kind, Phase.TLS, f"the certificate is not for {host}")
        # An authority of one's own is the usual reason for a chain that is not known.
        hint = "" if kind is not ErrorKind.TLS_CHAIN else "; for an authority of your own give --ca-bundle (ca_bundle)"
        return Ended(kind, Phase.TLS, f"the certificate of {host} is not accepted: {error.verify_message}{hint}")
    reason = getattr(error, "reason", None) or error.strerror or str(error) or "the server closed the connection"
    # What OpenSSL says, by its version, of bytes that are none of TLS's.
    hint = (
        ": does it speak http?" if reason in ("WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST") else ""
    )
    return Ended(ErrorKind.TLS_FAILED, Phase.TLS, f"no TLS handshake with {host}: {reason}{hint}")
