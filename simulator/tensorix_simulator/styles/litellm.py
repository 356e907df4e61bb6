"""As a LiteLLM gateway (1.106.2) answers that has OpenAI's API behind it: what was recorded of one, not its code.

`tests/simulator/gateway/` holds the recording and the command that makes it. What the gateway refuses itself and what
the provider behind it refused look different, and so do the replies of its own mocks: here those of models that are
named `…-mock`. All models are priced, and described, as the deployment in that recording is.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from tensorix_api.limiters import Charging, Cost, Resource
from tensorix_simulator.chat.parameters import BadParameter, ChatRequest, read_chat_request
from tensorix_simulator.http.wire import Headers, encode_json
from tensorix_simulator.limits.rate_headers import AnswerKind
from tensorix_simulator.settings import SimulatorSettings
from tensorix_simulator.styles.litellm_events import GatewayEvents
from tensorix_simulator.styles.style import Context, Reading, Refusal

__all__ = ["LiteLLM", "estimate"]

VERSION = "1.106.2"
DEPLOYMENT = "openai/gpt-3.5-turbo"
_LISTED_SINCE = 1_677_610_602
_PROMPT_PRICE, _COMPLETION_PRICE = 5e-07, 1.5e-06
_FLOOR_TOKENS = 1_024
_CHARACTERS_A_TOKEN = 4
_COMPRESSED_FROM_BYTES = 500
_MOST_NAME = 10_000
_MOST_STOPS = 4
_MOCK_PROMPT_TOKENS = 10
_MOCK_LOOKS_AT = ("model", "messages", "stream", "stream_options", "n")

_EVERYWHERE: Headers = [
    ("x-frame-options", "DENY"),
    ("content-security-policy", "frame-ancestors 'none'"),
    ("x-content-type-options", "nosniff"),
]
_ERRORS = {
    400: "BadRequestError",
    401: "AuthenticationError: AuthenticationError",
    404: "NotFoundError: NotFoundError",
    429: "RateLimitError: RateLimitError",
    500: "InternalServerError: InternalServerError",
    502: "BadGatewayError: BadGatewayError",
    503: "ServiceUnavailableError: ServiceUnavailableError",
}
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "throttling_error"}
_OWN = (("missing_required_parameter", "messages"), ("invalid_type", "model"))
_UNROUTED = ("not_found", "not_allowed", "unauthorised", "malformed", "too_large")


class LiteLLM:
    """The gateway's form. Paths and methods are looked at before the key, and `Basic KEY` is a key too."""

    schemes: tuple[str, ...] = ("bearer", "basic")
    routes_first = True

    def methods(self, page: str) -> tuple[str, ...]:
        """What a page below the prefix takes; nothing where there is none."""
        if page == "/chat/completions":
            return ("POST",)
        return ("GET",) if page == "/models" or page.startswith("/models/") else ()

    def read(self, body: bytes, settings: SimulatorSettings) -> Reading:
        """An object is charged first, whatever else is wrong with it; a body that is empty is an empty object."""
        try:
            data = json.loads(body or b"{}")
            if b"\\ud" in body or b"\\uD" in body:
                # Its parser takes no half of a pair.
                json.dumps(data, ensure_ascii=False).encode()
        except (ValueError, RecursionError) as error:
            return Reading(request=_unreadable(error))
        if not isinstance(data, dict):
            # The gateway itself breaks here, with a 500 in plain text.
            return Reading(request=BadParameter("Invalid JSON payload: not an object", None, "invalid_json"))
        model = data.get("model")
        if model is not None and not isinstance(model, str):
            return Reading(request=BadParameter("'model' must be a string.", "model", "invalid_type"))
        cost = Cost(1, estimate(data, settings)) if settings.counting.bad_requests else None
        if data.get("messages") is None:
            message = "Missing required parameter: 'messages'."
            return Reading(request=BadParameter(message, "messages", "missing_required_parameter"), cost=cost)
        if model not in settings.models:
            return Reading(request=BadParameter(f"{model}"[:_MOST_NAME], "model", "model_not_found"), cost=cost)
        if _unwalkable(data["messages"]):
            message = "Invalid request format: 'str' object has no attribute 'get'"
            return Reading(request=BadParameter(message, None, "invalid_format"), cost=cost, model=model)
        request = _read_mock(data, settings) if is_mock(model) else _read_passed_on(data, settings)
        if not isinstance(request, BadParameter):
            cost = Cost(1, estimate(data, settings))
        return Reading(request=request, cost=cost, model=model)

    # Bodies.

    def refusal(self, refusal: Refusal, context: Context) -> tuple[bytes, Headers]:
        """The gateway's own error, or the provider's as it wraps it. `code` is the status, as text."""
        status = refusal.status
        if refusal.decision == "not_found":
            what = f"The model `{refusal.model}` does not exist or is not accessible" if refusal.model else "Not Found"
            return encode_json({"detail": what}), []
        if refusal.decision == "not_allowed":
            return encode_json({"detail": "Method Not Allowed"}), refusal.headers or []
        if refusal.decision == "unauthorised":
            return _error("Invalid API key", "auth_error", "api_key", status), []
        if status == 429 and refusal.decision.startswith("refused"):
            return _over_limit(refusal, context)
        if refusal.code == "invalid_json":
            return _error(refusal.message, "invalid_request_error", "request_body", status), []
        message = f"/chat/completions: {refusal.message}"
        if refusal.code == "model_not_found":
            message = (
                f"/chat/completions: Invalid model name passed in model={refusal.message}. "
                "Call `/v1/models` to view available models for your key."
            )
            return _error(message, "invalid_request_error", None, status, {"error": message}), []
        if refusal.code == "invalid_format":
            return _error(refusal.message, "invalid_request_error", None, status), []
        if refusal.code == "invalid_type" and refusal.param == "model":
            return _error(refusal.message, "bad_request_error", "model", status), []
        if refusal.code == "missing_required_parameter" and refusal.param == "messages":
            return _error(message, "invalid_request_error", "messages", status), []
        return _error(_wrapped(refusal), _type(status), refusal.param, status), refusal.headers or []

    def models(self, names: tuple[str, ...]) -> dict[str, Any]:
        """OpenAI's list, with what the gateway knows of each model."""
        return {"data": [self.model(name) for name in names], "object": "list"}

    def model(self, name: str) -> dict[str, Any]:
        """One model."""
        return {
            "id": name,
            "object": "model",
            "created": _LISTED_SINCE,
            "owned_by": "openai",
            "mode": "chat",
            "max_input_tokens": 16_385,
            "max_output_tokens": 4_096,
        }

    def completion(
        self, *, identity: str, created: int, model: str, choices: list[dict[str, Any]], usage: dict[str, Any]
    ) -> dict[str, Any]:
        """OpenAI's body without its nulls; of a provider's reply it says which fields the provider had besides."""
        return {
            "id": identity,
            "created": created,
            "model": model,
            "object": "chat.completion",
            "choices": [_choice(choice, is_mock(model)) for choice in choices],
            "usage": usage,
        }

    def stream(
        self, *, identity: str, created: int, model: str, n: int, include_usage: bool, chunked: bool
    ) -> GatewayEvents:
        """OpenAI's chunks without their nulls."""
        return GatewayEvents(
            identity=identity, created=created, model=model, n=n, chunked=chunked, mock=is_mock(model), cost=cost_of
        )

    # Headers.

    def headers(self, context: Context) -> Headers:
        """What every response has, and what the gateway says of a chat completion. No `x-request-id`."""
        compressible = (context.body_bytes or 0) >= _COMPRESSED_FROM_BYTES
        headers = [("vary", "Origin, Accept-Encoding" if compressible else "Origin"), *_EVERYWHERE]
        if context.kind is AnswerKind.MODELS or not context.chat:
            return headers
        refusal, settings = context.refusal, context.settings
        if refusal is not None and (refusal.decision in _UNROUTED or refusal.code == "invalid_json"):
            return headers
        whole = context.kind is AnswerKind.COMPLETION
        cost = cost_of(context.usage) if whole else 0.0
        headers.append(("x-litellm-call-id", context.call_id or str(uuid.uuid4())))
        for name, limit in (("tpm", settings.tpm), ("rpm", settings.rpm)):
            if limit is not None:
                headers.append((f"x-litellm-key-{name}-limit", str(limit)))
        headers.append(("x-litellm-key-spend", repr(cost)))
        if refusal is not None:
            headers.append(("x-litellm-response-cost", "0"))
            if _is_providers(refusal):
                headers += [("request-id", context.request_id), ("x-litellm-timeout", "6000.0")]
            return headers
        return headers + _of_deployment(context, cost) + ([] if whole else [("x-accel-buffering", "no")])


def _read_mock(data: Mapping[str, Any], settings: SimulatorSettings) -> ChatRequest | BadParameter:
    """A mock looks at little, and says of every prompt that it has 10 tokens unless the reply is streamed."""
    body = {name: value for name, value in data.items() if name in _MOCK_LOOKS_AT}
    request = _read_passed_on(body, settings)
    if isinstance(request, BadParameter):
        request = _read_passed_on({**body, "messages": [{"role": "user", "content": "-"}]}, settings)
    if isinstance(request, BadParameter) or request.stream:
        return request
    return replace(request, prompt_tokens=_MOCK_PROMPT_TOKENS)


def _read_passed_on(data: Mapping[str, Any], settings: SimulatorSettings) -> ChatRequest | BadParameter:
    """What the provider says of a body as the gateway passes it on, without what it mends in silence."""
    body = dict(data)
    body["stream"] = body.get("stream") is True
    if not body["stream"]:
        body.pop("stream_options", None)
    if isinstance(body.get("stop"), list):
        body["stop"] = body["stop"][:_MOST_STOPS]
    return read_chat_request(encode_json(body), settings)


def _unwalkable(messages: object) -> bool:
    """Whether the gateway breaks on the messages before it passes them on."""
    return isinstance(messages, str) or (
        isinstance(messages, list) and any(isinstance(message, str) for message in messages)
    )


def is_mock(model: str) -> bool:
    """Whether the gateway answers for a model by itself."""
    return model.endswith("-mock")


def estimate(data: Mapping[str, Any], settings: SimulatorSettings) -> int:
    """The tokens that the gateway reserves: one for four characters, rounded down, and the most that is asked for.

    Without `max_tokens` it is 1,024 or the prompt once more if that is longer; but never more than a quarter of the
    limit where that is less. Each of `n` replies counts. At least one token.
    """
    charging = Charging(settings.charging)
    characters = _characters(data.get("messages"))
    prompt = max(1, characters // _CHARACTERS_A_TOKEN) if characters else 0
    if charging is not Charging.RESERVE:
        return charging.reserved(prompt, 0)
    given = [_whole(data.get(name)) for name in ("max_tokens", "max_completion_tokens")]
    most = max((tokens for tokens in given if tokens is not None), default=None)
    if most is None:
        quarter = _FLOOR_TOKENS if settings.tpm is None else max(1, settings.tpm // 4)
        # Where the quarter is the less, the gateway writes it into the request as its `max_tokens`.
        most = quarter if quarter < _FLOOR_TOKENS else max(_FLOOR_TOKENS, prompt) if characters else 0
    replies = _whole(data.get("n")) or 1
    return max(1, prompt + most * max(1, replies))


def _characters(messages: object) -> int:
    count = 0
    for message in messages if isinstance(messages, list) else ():
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, str):
            count += len(content)
        elif isinstance(content, list):
            texts = (part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text")
            count += sum(len(text) for text in texts if isinstance(text, str))
    return count


def _whole(value: object) -> int | None:
    """A number that the gateway can make of a value; numbers as text too."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return int(float(value))
    except (ValueError, OverflowError):
        return None


def cost_of(usage: Mapping[str, Any]) -> float:
    """Dollars, in the arithmetic of the gateway: the header shows its rounding errors."""
    prompt, completion = (int(usage.get(name, 0)) for name in ("prompt_tokens", "completion_tokens"))
    return prompt * _PROMPT_PRICE + completion * _COMPLETION_PRICE


def _of_deployment(context: Context, cost: float) -> Headers:
    usage, whole = context.usage, context.kind is AnswerKind.COMPLETION
    # A stream's head goes out before there is any cost.
    prompt = usage.get("prompt_tokens", 0) * _PROMPT_PRICE if whole else 0.0
    completion = usage.get("completion_tokens", 0) * _COMPLETION_PRICE if whole else 0.0
    reasoning = usage.get("reasoning_tokens", 0) * _COMPLETION_PRICE if whole else 0.0
    headers: Headers = [
        ("x-litellm-model-id", hashlib.sha256(context.model.encode("utf-8", "replace")).hexdigest()),
        ("x-litellm-model-name", DEPLOYMENT),
        ("x-litellm-model-api-base", "https://api.openai.com"),
        ("x-litellm-version", VERSION),
    ]
    if whole:
        headers.append(("x-litellm-response-cost", repr(cost)))
    headers += [
        ("x-litellm-response-cost-original", repr(cost)),
        ("x-litellm-response-cost-discount-amount", "0.0"),
        ("x-litellm-response-cost-margin-amount", "0.0"),
        ("x-litellm-response-cost-margin-percent", "0.0"),
        ("x-litellm-response-cost-input", repr(prompt)),
        ("x-litellm-response-cost-output", repr(completion)),
        *([("x-litellm-response-cost-reasoning", repr(reasoning))] if reasoning else []),
        ("x-litellm-response-cost-tool-usage", "0.0"),
        ("x-litellm-response-duration-ms", repr(context.elapsed_ns / 1e6)),
        ("x-litellm-callback-duration-ms", "0.0"),
        ("x-litellm-model-group", context.model),
        ("x-litellm-attempted-retries", "0"),
        ("x-litellm-attempted-fallbacks", "0"),
    ]
    if not is_mock(context.model):
        headers += [("x-litellm-overhead-duration-ms", "0.0"), ("request-id", context.request_id)]
    return headers


def _error(message: str, kind: str, param: str | None, status: int, fields: dict[str, Any] | None = None) -> bytes:
    error: dict[str, Any] = {"message": message, "type": kind, "param": param, "code": str(status)}
    if fields is not None:
        error["provider_specific_fields"] = fields
    return encode_json({"error": error})


def _type(status: int) -> str:
    return "internal_server_error" if status >= 500 else _TYPES.get(status, "invalid_request_error")


def _is_providers(refusal: Refusal) -> bool:
    own = refusal.code in ("model_not_found", "invalid_format") or (refusal.code, refusal.param) in _OWN
    return not own and not refusal.decision.startswith("refused")


def _wrapped(refusal: Refusal) -> str:
    error = _ERRORS.get(refusal.status, "APIError: APIError")
    return (
        f"litellm.{error}: OpenAIException - {refusal.message}\n\n"
        f"LiteLLM: model group '{refusal.model}' failed with the error above. No fallback was attempted."
    )


def _over_limit(refusal: Refusal, context: Context) -> tuple[bytes, Headers]:
    """It says a whole window from now, wherever in the window it is."""
    settings = context.settings
    resource: Resource = "tokens" if refusal.decision == "refused_tokens" else "requests"
    limit = settings.tpm if resource == "tokens" else settings.rpm
    at = (datetime.now(UTC) + timedelta(seconds=settings.window_s)).strftime("%Y-%m-%d %H:%M:%S UTC")
    left = context.remaining.get(resource, 0)
    # The gateway's hash is of the key, which is not kept here.
    key = hashlib.sha256((context.alias or "").encode()).hexdigest()
    message = (
        f"Rate limit exceeded for api_key: {key}. Limit type: {resource}. "
        f"Current limit: {limit}, Remaining: {left}. Limit resets at: {at}"
    )
    headers = [
        (name, f"{settings.window_s:.0f}" if settings.retry_after == "fixed60" and name == "retry-after" else value)
        for name, value in refusal.headers or []
    ]
    headers += [("rate_limit_type", resource), ("reset_at", at)]
    return _error(message, "throttling_error", None, refusal.status), headers


def _choice(choice: Mapping[str, Any], mock: bool) -> dict[str, Any]:
    message = dict(choice["message"])
    kept: dict[str, Any] = {"finish_reason": choice["finish_reason"], "index": choice["index"], "message": message}
    if not mock:
        message["provider_specific_fields"] = {"refusal": None}
        kept["provider_specific_fields"] = {}
    return kept


def _unreadable(error: Exception) -> BadParameter:
    """Roughly in the words of the gateway's parser."""
    if not isinstance(error, json.JSONDecodeError):
        return BadParameter("Invalid JSON payload: invalid string", None, "invalid_json")
    if not error.doc.strip():
        where = "input data is empty: line 1 column 1 (char 0)"
    else:
        what = "unexpected end of data" if error.pos >= len(error.doc) else "unexpected character"
        where = f"{what}: line {error.lineno} column {error.colno} (char {error.pos})"
    return BadParameter(f"Invalid JSON payload: {where}", None, "invalid_json")
