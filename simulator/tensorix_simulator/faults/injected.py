"""The errors that come instead of an answer."""

from __future__ import annotations

from http import HTTPStatus

from tensorix_simulator.http.wire import Headers
from tensorix_simulator.styles.style import Refusal

__all__ = ["INJECTED_ERROR", "injected_refusal"]

_SAID = {
    400: ("The request is invalid.", "invalid_request"),
    401: ("Invalid API key provided", "invalid_api_key"),
    402: ("Insufficient credits: top up your account.", "insufficient_credits"),
    404: ("The model does not exist.", "model_not_found"),
    429: ("Rate limit exceeded. Please try again later.", "rate_limit_exceeded"),
    500: ("The server had an error: try again later.", "internal_error"),
    503: ("The server is overloaded: try again later.", "overloaded"),
}


def injected_refusal(status: int, retry_after: str, model: str | None = None) -> Refusal:
    """An error of this status; a 429 says when to try again only where that is set to be always 60 s."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = f"Status {status}"
    message, code = _SAID.get(status, (f"{phrase}.", phrase.lower().replace(" ", "_").replace("-", "_")))
    headers: Headers = [("retry-after", "60")] if status == 429 and retry_after == "fixed60" else []
    return Refusal(
        decision="injected_error", status=status, message=message, code=code, headers=headers or None, model=model
    )


INJECTED_ERROR = injected_refusal(500, "none")
"""The error of `error_rate`, and of an error event."""
