"""What an exception or a status means, in the closed list of `error.type`. Exceptions are told by the names of classes:

httpx, httpx2 and openai need not be there, nor asyncio, trio or gevent.
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = [
    "COMPLETED",
    "ERROR_EVENT",
    "MALFORMED",
    "OTHER",
    "Ending",
    "bounded_code",
    "error_of_exception",
    "is_cancellation",
]

OTHER = "_OTHER"
"""What the conventions name everything that has no name."""

_CANCELLED = {"CancelledError", "Cancelled", "GreenletExit"}
_TIMEOUT = {"TimeoutException", "APITimeoutError", "TimeoutError"}
_TLS = {"SSLError"}
_MALFORMED = {"JSONDecodeError", "UnicodeDecodeError", "ValidationError", "APIResponseValidationError", "DecodingError"}
# NetworkError and ProtocolError are httpx's; APIConnectionError is openai's for both.
_CONNECTION = {"NetworkError", "ProtocolError", "ProxyError", "APIConnectionError", "OSError"}
_CODE = re.compile(r"[A-Za-z0-9_.:\-]{1,64}\Z")
_LONGEST_CHAIN = 10
_MOST_CODES = 30
_codes: set[str] = set()


class Ending(NamedTuple):
    """How a call ended: of a stream its outcome; `error.type`, None for none; whether the span is an error."""

    outcome: str | None
    error_type: str | None = None
    is_error: bool = False


COMPLETED = Ending("completed")
MALFORMED = Ending("malformed", "malformed", is_error=True)
ERROR_EVENT = Ending("error_event", "error_event", is_error=True)


def _names(error: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}


def is_cancellation(error: BaseException) -> bool:
    """Whether somebody ended the work from outside: a cancelled task, a killed greenlet, Ctrl-C, the process's end.

    A generator that is closed is none.
    """
    if isinstance(error, GeneratorExit):
        return False
    return not isinstance(error, Exception) or bool(_names(error) & _CANCELLED)


def error_of_exception(error: BaseException, *, answered: bool) -> str:
    """`error.type` of an exception. `answered`: the headers had come, so that a lost connection is a cut."""
    if is_cancellation(error):
        return "cancelled"
    chain: list[set[str]] = []
    at: BaseException | None = error
    while at is not None and len(chain) < _LONGEST_CHAIN:
        chain.append(_names(at))
        at = at.__cause__ or at.__context__
    if any(found & _TIMEOUT for found in chain):
        return "timeout"
    if any(found & _TLS for found in chain):
        return "cut" if answered else "tls_error"
    if chain[0] & _MALFORMED:
        return "malformed"
    if chain[0] & _CONNECTION:
        return "cut" if answered else "connection_error"
    return OTHER


def bounded_code(code: str | None) -> str | None:
    """A server's error code if it looks like one: short and of plain characters; else None.

    A process tells so many distinct ones; those beyond are `_OTHER`.
    """
    if code is None or not _CODE.match(code):
        return None
    if code not in _codes:
        if len(_codes) >= _MOST_CODES:
            return OTHER
        _codes.add(code)
    return code
