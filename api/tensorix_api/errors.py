"""What can go wrong: the documented statuses, the kinds of failure a request can have, and our own exceptions.

A failed request is data (an `ErrorKind`); the exceptions are for the caller's mistakes::

    TensorixError
    ├── SettingsError        a setting is missing or wrong
    ├── RunFolderError       a run folder cannot be made, read or written
    │   └── CannotWriteError it was there and in order, and a write failed: a full disk, a read-only file system
    ├── HistoryError         a history of probes cannot be opened, read or written
    └── PreflightError       the server cannot be used as asked (unreachable, wrong key, not OpenAI-compatible)
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

__all__ = [
    "STATUS_MEANING",
    "CannotWriteError",
    "ErrorBody",
    "ErrorKind",
    "HistoryError",
    "Phase",
    "PreflightError",
    "RunFolderError",
    "SettingsError",
    "TensorixError",
    "kind_of_status",
    "parse_error_body",
]

STATUS_MEANING = {
    200: "success",
    400: "bad request: invalid parameters",
    401: "invalid or missing key",
    402: "insufficient credits",
    429: "rate limited",
    500: "server error: try again later",
}
"""The statuses that Tensorix documents."""


class TensorixError(Exception):
    """A mistake of the caller's; the message is one line that says what is wrong and what to do."""


class SettingsError(TensorixError):
    """A setting is missing or wrong."""


class RunFolderError(TensorixError):
    """A run folder cannot be made, read or written."""


class CannotWriteError(RunFolderError):
    """A write into a run folder failed: not what was asked for is wrong, but the disk or its permissions."""


class HistoryError(TensorixError):
    """A history of probes cannot be opened, read or written."""


class PreflightError(TensorixError):
    """The server cannot be used as asked."""


class Phase(StrEnum):
    """Where in a request's life something happened."""

    DNS = "dns"
    CONNECT = "connect"
    TLS = "tls"
    SEND = "send"
    HEADERS = "headers"
    FIRST_TOKEN = "first_token"  # noqa: S105 - a phase, no password
    STREAM = "stream"
    BODY = "body"


class ErrorKind(StrEnum):
    """Why a request did not succeed. Statuses are told apart as documented; the rest by what was seen."""

    BAD_REQUEST = "bad_request"
    """400, and every other 4xx that has no kind of its own."""
    AUTHENTICATION = "authentication"
    """401 (and 403)."""
    PAYMENT = "payment"
    """402: out of credit."""
    RATE_LIMITED = "rate_limited"
    """429."""
    SERVER_ERROR = "server_error"
    """5xx."""
    UNEXPECTED_STATUS = "unexpected_status"
    """A redirect, or any status without a meaning here."""
    DNS = "dns"
    CONNECTION_REFUSED = "connection_refused"
    CONNECTION_FAILED = "connection_failed"
    """Unreachable, reset before a response, no route, a proxy that refused."""
    TLS_CHAIN = "tls_chain"
    TLS_NAME = "tls_name"
    TLS_EXPIRED = "tls_expired"
    TLS_FAILED = "tls_failed"
    """A handshake that failed for another reason than the certificate."""
    TIMEOUT = "timeout"
    """The phase says which: connect, headers, first_token, stream (between chunks), body (whole)."""
    CUT = "cut"
    """The connection ended in the middle of a response."""
    MALFORMED = "malformed"
    """Not HTTP, not JSON where JSON was due, or not a chat completion."""
    ERROR_EVENT = "error_event"
    """An `error` object as an event in the middle of a stream."""
    CANCELLED = "cancelled"
    """Ended by us: the run was stopped hard."""
    INTERNAL = "internal"
    """A defect of this toolkit: please report it."""


def kind_of_status(status: int) -> ErrorKind | None:
    """The kind of error that an HTTP status is; None for a 2xx."""
    if 200 <= status < 300:
        return None
    known = {
        401: ErrorKind.AUTHENTICATION,
        403: ErrorKind.AUTHENTICATION,
        402: ErrorKind.PAYMENT,
        429: ErrorKind.RATE_LIMITED,
    }
    if status in known:
        return known[status]
    if 400 <= status < 500:
        return ErrorKind.BAD_REQUEST
    if 500 <= status < 600:
        return ErrorKind.SERVER_ERROR
    return ErrorKind.UNEXPECTED_STATUS


# Characters of a field that are handed on: many times what is shown, so that a secret near the end of that is whole.
_MOST = 4_000


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """The parts of an error's body, as text of at most 4,000 characters, None where absent.

    Not redacted: that is the holder's duty.
    """

    message: str | None = None
    type: str | None = None
    code: str | None = None
    param: str | None = None


def _text(value: Any) -> str | None:
    """A field as text: servers send `code` as a string, a number or null."""
    if value is None or value == "":
        return None
    if isinstance(value, str):
        return value[:_MOST]
    try:
        return json.dumps(value)[:_MOST]
    except RecursionError:
        # Writing takes a little more of the stack than reading did.
        return "[nested too deeply]"


def parse_error_body(body: bytes | dict[str, Any]) -> ErrorBody:
    """Read `{"error": {message, type, code, param}}` and its common variants; never fails.

    Also taken: `{"error": "text"}`, `{"message": …}`, FastAPI's `{"detail": …}`, and plain text, which becomes the
    message.
    """
    data: Any = body
    if isinstance(body, bytes):
        try:
            data = json.loads(body)
        except (ValueError, RecursionError):
            text = body[:2000].decode("utf-8", "replace").strip()
            return ErrorBody(message=text or None)
    if not isinstance(data, dict):
        return ErrorBody(message=_text(data))
    error = data if data.get("error") is None else data["error"]
    if not isinstance(error, dict):
        return ErrorBody(message=_text(error))
    message = error.get("message") or error.get("detail")
    return ErrorBody(_text(message), _text(error.get("type")), _text(error.get("code")), _text(error.get("param")))
