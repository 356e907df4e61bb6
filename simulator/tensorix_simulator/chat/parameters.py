"""What a chat completion's body may hold, checked as OpenAI does: a wrong one is refused and its parameter named.

Ranges are those of OpenAI's reference for `POST /chat/completions`. A few parameters that other servers of this kind
know (vLLM's `top_k`, `min_p`, …) are checked and accepted too. What would change the reply in a way that the simulator
cannot show (`logprobs`) is refused rather than ignored.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tensorix_simulator.settings import SimulatorSettings

__all__ = ["BadParameter", "ChatRequest", "prompt_tokens_of", "read_chat_request"]

_MAX_N = 128
_ROLES = ("system", "developer", "user", "assistant", "tool", "function")


@dataclass(frozen=True, slots=True)
class BadParameter:
    """Why a body is refused: the message, the parameter (None for the body as a whole) and a code."""

    message: str
    param: str | None
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """What the simulator needs of a valid body."""

    model: str
    stream: bool
    include_usage: bool
    n: int
    max_tokens: int | None
    prompt_tokens: int


class _RefusedError(Exception):
    def __init__(self, message: str, param: str | None, code: str = "invalid_value") -> None:
        super().__init__(message)
        self.reason = BadParameter(message, param, code)


def _mistyped(param: str, wanted: str) -> _RefusedError:
    return _RefusedError(f"Invalid type for '{param}': expected {wanted}.", param, "invalid_type")


_Check = Callable[[str, Any], None]


def _whole(low: int, high: int) -> _Check:
    def check(param: str, value: Any) -> None:
        if not isinstance(value, int) or isinstance(value, bool):
            raise _mistyped(param, "an integer")
        if not low <= value <= high:
            raise _RefusedError(f"Invalid '{param}': must be from {low} to {high}.", param, "out_of_range")

    return check


def _number(low: float, high: float) -> _Check:
    def check(param: str, value: Any) -> None:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise _mistyped(param, "a number")
        if not low <= value <= high:
            raise _RefusedError(f"Invalid '{param}': must be from {low:g} to {high:g}.", param, "out_of_range")

    return check


def _typed(kind: type, wanted: str) -> _Check:
    def check(param: str, value: Any) -> None:
        if not isinstance(value, kind):
            raise _mistyped(param, wanted)

    return check


def _stop(param: str, value: Any) -> None:
    texts = value if isinstance(value, list) else [value]
    if not all(isinstance(text, str) for text in texts):
        raise _mistyped(param, "a string or an array of strings")
    if len(texts) > 4:
        raise _RefusedError(f"Invalid '{param}': at most 4 sequences.", param, "out_of_range")


def _string_or_object(param: str, value: Any) -> None:
    if not isinstance(value, str | dict):
        raise _mistyped(param, "a string or an object")


def _no_logprobs(param: str, value: Any) -> None:
    _typed(bool, "a boolean")(param, value)
    if value:
        raise _RefusedError("Invalid 'logprobs': this model returns no log probabilities.", param, "unsupported_value")


def _stream_options(param: str, value: Any) -> None:
    _typed(dict, "an object")(param, value)
    for name, option in value.items():
        if name not in ("include_usage", "include_obfuscation"):
            raise _RefusedError(f"Unknown parameter: '{param}.{name}'.", f"{param}.{name}", "unknown_parameter")
        _typed(bool, "a boolean")(f"{param}.{name}", option)


def _message(param: str, value: Any) -> None:
    _typed(dict, "an object")(param, value)
    role = value.get("role")
    if role is None:
        raise _RefusedError(
            f"Missing required parameter: '{param}.role'.", f"{param}.role", "missing_required_parameter"
        )
    if role not in _ROLES:
        raise _RefusedError(f"Invalid '{param}.role': one of {', '.join(_ROLES)}.", f"{param}.role")
    content = value.get("content")
    if content is None:
        if role == "assistant" and ("tool_calls" in value or "function_call" in value or "refusal" in value):
            return
        where = f"{param}.content"
        raise _RefusedError(f"Missing required parameter: '{where}'.", where, "missing_required_parameter")
    if isinstance(content, list):
        for index, part in enumerate(content):
            if not isinstance(part, dict) or not isinstance(part.get("type"), str):
                raise _mistyped(f"{param}.content[{index}]", "an object with a type")
            if part["type"] == "text" and not isinstance(part.get("text"), str):
                raise _mistyped(f"{param}.content[{index}].text", "a string")
    elif not isinstance(content, str):
        raise _mistyped(f"{param}.content", "a string or an array of parts")


def _messages(param: str, value: Any) -> None:
    _typed(list, "an array")(param, value)
    if not value:
        raise _RefusedError(f"Invalid '{param}': at least one message.", param, "empty_array")
    for index, message in enumerate(value):
        _message(f"{param}[{index}]", message)


_CHECKS: dict[str, _Check] = {
    "model": _typed(str, "a string"),
    "messages": _messages,
    "stream": _typed(bool, "a boolean"),
    "stream_options": _stream_options,
    "n": _whole(1, _MAX_N),
    "temperature": _number(0, 2),
    "top_p": _number(0, 1),
    "presence_penalty": _number(-2, 2),
    "frequency_penalty": _number(-2, 2),
    "stop": _stop,
    "seed": _whole(-(2**63), 2**63 - 1),
    "user": _typed(str, "a string"),
    "logprobs": _no_logprobs,
    "top_logprobs": _whole(0, 20),
    "logit_bias": _typed(dict, "an object"),
    "response_format": _typed(dict, "an object"),
    "tools": _typed(list, "an array"),
    "tool_choice": _string_or_object,
    "parallel_tool_calls": _typed(bool, "a boolean"),
    "functions": _typed(list, "an array"),
    "function_call": _string_or_object,
    "metadata": _typed(dict, "an object"),
    "store": _typed(bool, "a boolean"),
    "service_tier": _typed(str, "a string"),
    "reasoning_effort": _typed(str, "a string"),
    "verbosity": _typed(str, "a string"),
    "prompt_cache_key": _typed(str, "a string"),
    "safety_identifier": _typed(str, "a string"),
    "modalities": _typed(list, "an array"),
    "prediction": _typed(dict, "an object"),
    # Not OpenAI's: what vLLM, SGLang and llama.cpp take besides.
    "top_k": _whole(-1, 2**31),
    "min_p": _number(0, 1),
    "repetition_penalty": _number(0, 10),
    "ignore_eos": _typed(bool, "a boolean"),
    "min_tokens": _whole(0, 10**6),
    "chat_template_kwargs": _typed(dict, "an object"),
}


def prompt_tokens_of(messages: list[dict[str, Any]]) -> int:
    """An estimate that needs no tokenizer: a token for every four characters of text, rounded up, and at least one."""
    characters = 0
    for message in messages:
        content = message.get("content")
        if isinstance(content, str):
            characters += len(content)
        elif isinstance(content, list):
            characters += sum(len(part["text"]) for part in content if part["type"] == "text")
    return max(1, -(-characters // 4))


def _read(body: bytes, settings: SimulatorSettings) -> ChatRequest:
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        raise _RefusedError("The body of the request is not valid JSON.", None, "invalid_json") from None
    if not isinstance(data, dict):
        raise _RefusedError("The body of the request must be a JSON object.", None, "invalid_type")
    for required in ("model", "messages"):
        if data.get(required) is None:
            raise _RefusedError(f"Missing required parameter: '{required}'.", required, "missing_required_parameter")
    tokens = _whole(1, settings.context_tokens)
    for param, value in data.items():
        check = tokens if param in ("max_tokens", "max_completion_tokens") else _CHECKS.get(param)
        if check is None and settings.unknown_parameters == "refuse":
            raise _RefusedError(f"Unknown parameter: '{param[:100]}'.", param[:100], "unknown_parameter")
        if check is not None and value is not None:
            check(param, value)
    if data["model"] not in settings.models:
        raise _RefusedError(f"The model '{data['model'][:200]}' does not exist.", "model", "model_not_found")
    stream, options = data.get("stream") or False, data.get("stream_options")
    if options is not None and not stream:
        raise _RefusedError("Invalid 'stream_options': only allowed when 'stream' is true.", "stream_options")
    limits = [data[name] for name in ("max_completion_tokens", "max_tokens") if data.get(name) is not None]
    return ChatRequest(
        model=data["model"],
        stream=stream,
        include_usage=bool(options and options.get("include_usage")),
        n=data.get("n") or 1,
        max_tokens=min(limits) if limits else None,
        prompt_tokens=prompt_tokens_of(data["messages"]),
    )


def read_chat_request(body: bytes, settings: SimulatorSettings) -> ChatRequest | BadParameter:
    """A body read and checked; what is wrong with it where it is refused. Never raises."""
    try:
        return _read(body, settings)
    except _RefusedError as refused:
        return refused.reason
