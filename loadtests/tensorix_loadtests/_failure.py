"""Why an exchange ended badly: raised inside the client, and always turned into a record."""

from __future__ import annotations

import ssl

from tensorix_api.errors import ErrorKind, Phase

__all__ = ["Failure", "tls_failure"]

# X509_V_ERR_* numbers of OpenSSL's x509_vfy.h.
_NOT_YET_VALID, _EXPIRED, _NAME_MISMATCH, _ADDRESS_MISMATCH = 9, 10, 62, 64


class Failure(Exception):  # noqa: N818 - not an error of the program: it is data on its way into a record
    """What kind of failure, where, and in words that may hold what a server sent (redacted when recorded)."""

    def __init__(self, kind: ErrorKind, phase: Phase, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.phase = phase
        self.message = message


def tls_failure(error: ssl.SSLError | OSError, host: str) -> Failure:
    """Tell apart a bad chain, a wrong name, a date that is over, and a handshake that failed otherwise."""
    if isinstance(error, ssl.SSLCertVerificationError):
        code = error.verify_code
        if code in (_EXPIRED, _NOT_YET_VALID):
            return Failure(ErrorKind.TLS_EXPIRED, Phase.TLS, f"the certificate of {host}: {error.verify_message}")
        if code in (_NAME_MISMATCH, _ADDRESS_MISMATCH):
            # Python's words say the same, with quotation marks and a full stop.
            return Failure(ErrorKind.TLS_NAME, Phase.TLS, f"the certificate is for another server than {host}")
        return Failure(ErrorKind.TLS_CHAIN, Phase.TLS, f"the certificate of {host}: {error.verify_message}")
    if isinstance(error, ssl.SSLError):
        reason = error.reason or str(error)
        return Failure(ErrorKind.TLS_FAILED, Phase.TLS, f"the TLS handshake with {host} failed: {reason}")
    return Failure(ErrorKind.TLS_FAILED, Phase.TLS, f"the connection ended in the TLS handshake with {host}: {error}")
