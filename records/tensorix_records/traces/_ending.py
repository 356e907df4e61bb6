"""How a call ended, as its span tells it: our own by what they name exactly, others by the names of exceptions."""

from __future__ import annotations

from dataclasses import dataclass

from tensorix_api import semantic_names as names
from tensorix_api.errors import ErrorKind, Phase, kind_of_status
from tensorix_records.outcome import Outcome, StreamOutcome
from tensorix_records.traces._facts import whole
from tensorix_records.traces._span import Span

__all__ = ["Ending", "ending_of"]

_KINDS = {
    "connection_error": ErrorKind.CONNECTION_FAILED,
    "tls_error": ErrorKind.TLS_FAILED,
    "timeout": ErrorKind.TIMEOUT,
    "cut": ErrorKind.CUT,
    "malformed": ErrorKind.MALFORMED,
    "error_event": ErrorKind.ERROR_EVENT,
    "cancelled": ErrorKind.CANCELLED,
    # As other instrumentations tell: the classes of openai's SDK and of asyncio.
    "APITimeoutError": ErrorKind.TIMEOUT,
    "APIConnectionError": ErrorKind.CONNECTION_FAILED,
    "InternalServerError": ErrorKind.SERVER_ERROR,
    "CancelledError": ErrorKind.CANCELLED,
    "GeneratorExit": ErrorKind.CANCELLED,
}
_STATUSES = {
    "BadRequestError": 400,
    "AuthenticationError": 401,
    "PermissionDeniedError": 403,
    "NotFoundError": 404,
    "ConflictError": 409,
    "UnprocessableEntityError": 422,
    "RateLimitError": 429,
}
_OURS: dict[str, StreamOutcome] = {
    "completed": "completed",
    "closed_early": "closed_early",
    "abandoned": "abandoned",
    "cancelled": "cancelled",
    "cut": "cut",
    "error_event": "error_event",
    "malformed": "malformed",
    "timeout": "timeout",
}
# Its reader ended it: nothing that the server did.
_FROM_THIS_END = {"closed_early", "abandoned", "cancelled"}
_PHASES = {
    ErrorKind.CONNECTION_FAILED: Phase.CONNECT,
    ErrorKind.TLS_FAILED: Phase.TLS,
    ErrorKind.AUTHENTICATION: Phase.HEADERS,
}


@dataclass(frozen=True, slots=True)
class Ending:
    """The columns of a record's result."""

    outcome: Outcome
    stream_outcome: StreamOutcome | None = None
    status: int | None = None
    kind: ErrorKind | None = None
    phase: Phase | None = None


def ending_of(span: Span, *, streamed: bool, token_came: bool) -> Ending:
    """What became of a call or of an attempt."""
    error = span.attributes.get(names.ERROR_TYPE)
    error = error.rpartition(".")[2] if isinstance(error, str) else None
    status = _status(span, error)
    told = span.attributes.get(names.STREAM_OUTCOME)
    stream = _OURS.get(told) if isinstance(told, str) else None
    if status is not None and (kind := kind_of_status(status)) is not None:
        outcome: Outcome = "throttled" if kind is ErrorKind.RATE_LIMITED else "failed"
        return Ending(outcome, stream, status, kind, Phase.HEADERS)
    if error is None and not span.is_error and stream in (None, "completed"):
        # The API has one status of success.
        return Ending("success", stream, 200 if status is None else status)
    kind = _KINDS.get(error or "") or _KINDS.get(stream or "")
    if stream in _FROM_THIS_END or kind is ErrorKind.CANCELLED:
        return Ending("cancelled", stream, status, ErrorKind.CANCELLED, _in_body(status, streamed, token_came))
    phase = _PHASES.get(kind) if kind is not None else None
    return Ending("failed", stream, status, kind, phase or _in_body(status, streamed, token_came))


def _in_body(status: int | None, streamed: bool, token_came: bool) -> Phase | None:
    if status is None and not token_came:
        return None
    if not streamed:
        return Phase.BODY
    return Phase.STREAM if token_came else Phase.FIRST_TOKEN


def _status(span: Span, error: str | None) -> int | None:
    status = whole(span.attributes.get(names.HTTP_STATUS, span.attributes.get("http.status_code")))
    if status is None and error is not None:
        status = int(error) if len(error) == 3 and error.isascii() and error.isdigit() else _STATUSES.get(error)
    return status if status is not None and 100 <= status <= 599 else None
