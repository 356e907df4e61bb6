"""What a LiteLLM gateway says in the headers of every response, and of a chat completion's."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from typing import Any

from tensorix_simulator.http.wire import Headers
from tensorix_simulator.limits.rate_headers import AnswerKind
from tensorix_simulator.styles.litellm_errors import is_providers, is_unread
from tensorix_simulator.styles.litellm_reading import is_mock
from tensorix_simulator.styles.style import Context

__all__ = ["VERSION", "cost_of", "headers_of"]

VERSION = "1.106.2"
_DEPLOYMENT = "openai/gpt-3.5-turbo"
_PROVIDER = "https://api.openai.com"
_PROMPT_PRICE, _COMPLETION_PRICE = 5e-07, 1.5e-06
_COMPRESSED_FROM_BYTES = 500
_EVERYWHERE: Headers = [
    ("x-frame-options", "DENY"),
    ("content-security-policy", "frame-ancestors 'none'"),
    ("x-content-type-options", "nosniff"),
]


def headers_of(context: Context) -> Headers:
    """All but those of the limits. There is no `x-request-id`: the client may send its own `x-litellm-call-id`."""
    compressible = (context.body_bytes or 0) >= _COMPRESSED_FROM_BYTES
    headers = [("vary", "Origin, Accept-Encoding" if compressible else "Origin"), *_EVERYWHERE]
    refusal = context.refusal
    if not context.chat or (refusal is not None and is_unread(refusal)):
        return headers
    usage = context.usage if context.kind is AnswerKind.COMPLETION else {}
    headers.append(("x-litellm-call-id", context.call_id or str(uuid.uuid4())))
    for name, limit in (("tpm", context.settings.tpm), ("rpm", context.settings.rpm)):
        if limit is not None:
            headers.append((f"x-litellm-key-{name}-limit", str(limit)))
    headers.append(("x-litellm-key-spend", repr(cost_of(usage))))
    if refusal is None:
        return headers + _of_deployment(context, usage)
    headers.append(("x-litellm-response-cost", "0"))
    if is_providers(refusal):
        headers += [("request-id", context.request_id), ("x-litellm-timeout", "6000.0")]
    return headers


def cost_of(usage: Mapping[str, Any]) -> float:
    """Dollars, in the arithmetic of the gateway: the header shows its rounding errors."""
    return _price(usage, "prompt_tokens", _PROMPT_PRICE) + _price(usage, "completion_tokens", _COMPLETION_PRICE)


def _price(usage: Mapping[str, Any], tokens: str, price: float) -> float:
    return int(usage.get(tokens, 0)) * price


def _of_deployment(context: Context, usage: Mapping[str, Any]) -> Headers:
    """`usage` is empty for a stream, whose head goes out before there is any cost."""
    cost, reasoning = repr(cost_of(usage)), _price(usage, "reasoning_tokens", _COMPLETION_PRICE)
    headers: Headers = [
        ("x-litellm-model-id", hashlib.sha256(context.model.encode("utf-8", "replace")).hexdigest()),
        ("x-litellm-model-name", _DEPLOYMENT),
        ("x-litellm-model-api-base", _PROVIDER),
        ("x-litellm-version", VERSION),
        ("x-litellm-response-cost-original", cost),
        ("x-litellm-response-cost-discount-amount", "0.0"),
        ("x-litellm-response-cost-margin-amount", "0.0"),
        ("x-litellm-response-cost-margin-percent", "0.0"),
        ("x-litellm-response-cost-input", repr(_price(usage, "prompt_tokens", _PROMPT_PRICE))),
        ("x-litellm-response-cost-output", repr(_price(usage, "completion_tokens", _COMPLETION_PRICE))),
        ("x-litellm-response-cost-tool-usage", "0.0"),
        ("x-litellm-response-duration-ms", repr(context.elapsed_ns / 1e6)),
        ("x-litellm-callback-duration-ms", "0.0"),
        ("x-litellm-model-group", context.model),
        ("x-litellm-attempted-retries", "0"),
        ("x-litellm-attempted-fallbacks", "0"),
    ]
    if context.kind is AnswerKind.STREAM:
        headers.append(("x-accel-buffering", "no"))
    else:
        headers.append(("x-litellm-response-cost", cost))
    if reasoning:
        headers.append(("x-litellm-response-cost-reasoning", repr(reasoning)))
    if not is_mock(context.model):
        headers += [("x-litellm-overhead-duration-ms", "0.0"), ("request-id", context.request_id)]
    return headers
