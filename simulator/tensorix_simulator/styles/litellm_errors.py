"""The errors of a LiteLLM gateway: its own, and those of the provider behind it as it wraps them."""

from __future__ import annotations

import hashlib
from typing import Any

from tensorix_simulator.http.wire import Headers, encode_json
from tensorix_simulator.limits.rate_headers import resets_at
from tensorix_simulator.styles.litellm_reading import FORMAT, JSON, MODEL, MODEL_TYPE, NO_MESSAGES
from tensorix_simulator.styles.style import Context, Refusal

__all__ = ["error_of", "is_providers", "is_unread"]

_WRAPPED = {
    400: "BadRequestError",
    401: "AuthenticationError: AuthenticationError",
    404: "NotFoundError: NotFoundError",
    429: "RateLimitError: RateLimitError",
    500: "InternalServerError: InternalServerError",
    502: "BadGatewayError: BadGatewayError",
    503: "ServiceUnavailableError: ServiceUnavailableError",
}
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "throttling_error"}
_OWN: dict[str, tuple[str, str | None, str]] = {
    JSON: ("invalid_request_error", "request_body", ""),
    MODEL_TYPE: ("bad_request_error", "model", ""),
    NO_MESSAGES: ("invalid_request_error", "messages", "/chat/completions: "),
    FORMAT: ("invalid_request_error", None, ""),
}
"""Of what the gateway refuses itself: the type, the parameter and how the message begins."""
_UNREAD = ("not_found", "not_allowed", "unauthorised", "malformed", "too_large")


def is_unread(refusal: Refusal) -> bool:
    """Whether it was refused before the gateway had a chat completion to speak of."""
    return refusal.decision in _UNREAD or refusal.code == JSON


def is_providers(refusal: Refusal) -> bool:
    """Whether the provider refused, as far as the client is told."""
    own = refusal.code == MODEL or refusal.code in _OWN
    return not own and not refusal.decision.startswith("refused") and not is_unread(refusal)


def error_of(refusal: Refusal, context: Context) -> tuple[bytes, Headers]:
    """Body and headers. Of chat completions it is OpenAI's object, whose `code` is the status as text."""
    status, message = refusal.status, refusal.message
    if refusal.decision == "not_found":
        absent = f"The model `{refusal.model}` does not exist or is not accessible" if refusal.model else "Not Found"
        return encode_json({"detail": absent}), []
    if refusal.decision == "not_allowed":
        return encode_json({"detail": "Method Not Allowed"}), refusal.headers or []
    if refusal.decision == "unauthorised":
        return _error("Invalid API key", "auth_error", "api_key", status), []
    if refusal.decision.startswith("refused"):
        return _over_limit(refusal, context)
    if refusal.code == MODEL:
        message = (
            f"/chat/completions: Invalid model name passed in model={message}. "
            "Call `/v1/models` to view available models for your key."
        )
        return _error(message, "invalid_request_error", None, status, {"error": message}), []
    if refusal.code in _OWN:
        kind, param, before = _OWN[refusal.code]
        return _error(before + message, kind, param, status), []
    kind = "internal_server_error" if status >= 500 else _TYPES.get(status, "invalid_request_error")
    return _error(_wrapped(refusal), kind, refusal.param, status), refusal.headers or []


def _error(message: str, kind: str, param: str | None, status: int, fields: dict[str, Any] | None = None) -> bytes:
    error: dict[str, Any] = {"message": message, "type": kind, "param": param, "code": str(status)}
    if fields is not None:
        error["provider_specific_fields"] = fields
    return encode_json({"error": error})


def _wrapped(refusal: Refusal) -> str:
    said = f"litellm.{_WRAPPED.get(refusal.status, 'APIError: APIError')}: OpenAIException - {refusal.message}"
    group = f"LiteLLM: model group '{refusal.model}' failed with the error above. No fallback was attempted."
    return f"{said}\n\n{group}" if refusal.model else said


def _over_limit(refusal: Refusal, context: Context) -> tuple[bytes, Headers]:
    """It says a whole window from now, wherever in the window it is; the headers that go with it are the limits'."""
    over = context.over
    assert over is not None, "only limits refuse so"
    resource = over.resource or "requests"
    # The gateway's hash is of the key, which is not kept here.
    key = hashlib.sha256((context.alias or "").encode()).hexdigest()
    message = (
        f"Rate limit exceeded for api_key: {key}. Limit type: {resource}. Current limit: {over.limit}, "
        f"Remaining: {context.remaining.get(resource, 0)}. Limit resets at: {resets_at(context.settings, over)}"
    )
    return _error(message, "throttling_error", None, refusal.status), refusal.headers or []
