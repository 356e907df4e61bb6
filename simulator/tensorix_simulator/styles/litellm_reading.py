"""How a LiteLLM gateway reads a chat completion's body, and what it reserves for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tensorix_api.limiters import Charging, Cost
from tensorix_simulator.chat.parameters import BadParameter, ChatRequest, read_chat_request
from tensorix_simulator.http.wire import encode_json
from tensorix_simulator.settings import SimulatorSettings
from tensorix_simulator.styles.style import Reading

__all__ = ["FORMAT", "JSON", "MODEL", "MODEL_TYPE", "NO_MESSAGES", "estimate", "is_mock", "read_body"]

JSON = "gateway_json"
MODEL_TYPE = "gateway_model_type"
NO_MESSAGES = "gateway_no_messages"
MODEL = "gateway_model"
FORMAT = "gateway_format"
"""The codes of what the gateway refuses itself; all other reasons are the provider's."""

_FLOOR_TOKENS = 1_024
_CHARACTERS_A_TOKEN = 4
_MOST_NAME = 10_000
_MOST_STOPS = 4
_MOCK_PROMPT_TOKENS = 10
_MOCK_LOOKS_AT = ("model", "messages", "stream", "stream_options", "n")


def is_mock(model: str) -> bool:
    """Whether the gateway answers for a model by itself."""
    return model.endswith("-mock")


def read_body(body: bytes, settings: SimulatorSettings) -> Reading:
    """An object with a model is charged first, whatever else is wrong with it. No body at all is an empty object."""
    try:
        data = json.loads(body or b"{}")
        if b"\\ud" in body or b"\\uD" in body:
            # Its parser takes no half of a pair.
            json.dumps(data, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        return Reading(request=_unreadable(error))
    if not isinstance(data, dict):
        # The gateway itself breaks here, with a 500 in plain text.
        return Reading(request=BadParameter("Invalid JSON payload: not an object", None, JSON))
    model = data.get("model")
    if model is not None and not isinstance(model, str):
        return Reading(request=BadParameter("'model' must be a string.", "model", MODEL_TYPE))
    reserved = Cost(1, estimate(data, settings))
    cost = reserved if settings.counting.bad_requests else None
    if data.get("messages") is None:
        return Reading(
            request=BadParameter("Missing required parameter: 'messages'.", "messages", NO_MESSAGES), cost=cost
        )
    if model not in settings.models:
        return Reading(request=BadParameter(f"{model}"[:_MOST_NAME], None, MODEL), cost=cost)
    if _unwalkable(data["messages"]):
        message = "Invalid request format: 'str' object has no attribute 'get'"
        return Reading(request=BadParameter(message, None, FORMAT), cost=cost, model=model)
    request = _read_mock(data, settings) if is_mock(model) else _read_passed_on(data, settings)
    return Reading(request=request, cost=cost if isinstance(request, BadParameter) else reserved, model=model)


def _unreadable(error: Exception) -> BadParameter:
    """Roughly in the words of the gateway's parser."""
    if not isinstance(error, json.JSONDecodeError):
        return BadParameter("Invalid JSON payload: invalid string", None, JSON)
    if not error.doc.strip():
        where = "input data is empty: line 1 column 1 (char 0)"
    else:
        what = "unexpected end of data" if error.pos >= len(error.doc) else "unexpected character"
        where = f"{what}: line {error.lineno} column {error.colno} (char {error.pos})"
    return BadParameter(f"Invalid JSON payload: {where}", None, JSON)


def _unwalkable(messages: object) -> bool:
    """Whether the gateway breaks on the messages before it passes them on."""
    return isinstance(messages, str) or (
        isinstance(messages, list) and any(isinstance(message, str) for message in messages)
    )


def _read_passed_on(data: Mapping[str, Any], settings: SimulatorSettings) -> ChatRequest | BadParameter:
    """What the provider says of a body as the gateway passes it on, without what it mends in silence."""
    body = dict(data)
    body["stream"] = body.get("stream") is True
    if not body["stream"]:
        body.pop("stream_options", None)
    if isinstance(body.get("stop"), list):
        body["stop"] = body["stop"][:_MOST_STOPS]
    return read_chat_request(encode_json(body), settings)


def _read_mock(data: Mapping[str, Any], settings: SimulatorSettings) -> ChatRequest | BadParameter:
    """A mock looks at little, and says of every prompt that it has 10 tokens unless the reply is streamed."""
    body = {name: value for name, value in data.items() if name in _MOCK_LOOKS_AT}
    request = _read_passed_on(body, settings)
    if isinstance(request, BadParameter):
        request = _read_passed_on({**body, "messages": [{"role": "user", "content": "-"}]}, settings)
    if isinstance(request, BadParameter) or request.stream:
        return request
    return replace(request, prompt_tokens=_MOCK_PROMPT_TOKENS)


def estimate(data: Mapping[str, Any], settings: SimulatorSettings) -> int:
    """The tokens that the gateway reserves: one for four characters, rounded down, and the most that is asked for.

    Where nothing is asked for it is a quarter of the limit, and above that 1,024 or, if it is longer, the prompt once
    more. Each of `n` replies counts. At least one token.
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
        most = quarter if quarter < _FLOOR_TOKENS else max(_FLOOR_TOKENS, prompt) if characters else 0
    return max(1, prompt + most * max(1, _whole(data.get("n")) or 1))


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
