"""What a chat completion's body may hold, checked as OpenAI does: a wrong one is refused and its parameter named.

Ranges are those of OpenAI's reference for `POST /chat/completions`. A few parameters that other servers of this kind
know (vLLM's `top_k`, `min_p`, …) are checked and accepted too. What is accepted either does what it says or could not
be seen in random text (`temperature`, the penalties, `user`, …); what would change the reply in a way that the
simulator cannot show (`logprobs`, `logit_bias`, `prediction`, `audio`, …) is refused rather than ignored.

- `stop`: the text ends before the sequence. `response_format`, `tools`, `tool_choice`, `functions`: see `tools`.
- `temperature: 0` and `seed`: the same request gets the same text each time, not the same times.
- `reasoning_effort`: scales the reasoning's length (`REASONING`); `none`, and the chat template's `enable_thinking` or
  `thinking` if false, leave it out. `verbosity`: scales a drawn length (`VERBOSITY`).
- `ignore_eos`: as many tokens as `max_tokens` says. `min_tokens`: not fewer than these.
- Of a name that comes twice in an object, the last counts, as in most servers. NaN and infinities are no JSON.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from tensorix_simulator.chat.checks import (
    BadParameter,
    Check,
    RefusedError,
    flag,
    known_names,
    missing,
    mistyped,
    nothing_but,
    number,
    one_of,
    out_of_range,
    text,
    typed,
    whole,
)
from tensorix_simulator.chat.messages import characters_of, check_messages, last_question, mentions_json, tokens_for
from tensorix_simulator.chat.schemas import Schema
from tensorix_simulator.chat.tool_parameters import (
    check_format,
    check_functions,
    check_tools,
    format_schema,
    tool_use,
)
from tensorix_simulator.chat.tools import ToolUse
from tensorix_simulator.settings import SimulatorSettings

__all__ = ["REASONING", "VERBOSITY", "BadParameter", "ChatRequest", "read_chat_request"]

REASONING: Mapping[str, float] = {
    "none": 0.0, "minimal": 0.25, "low": 0.5, "medium": 1.0, "high": 2.0, "xhigh": 3.0, "max": 4.0,
}  # fmt: skip
"""By how much `reasoning_effort` lengthens the reasoning that is drawn: chosen, not measured."""

VERBOSITY: Mapping[str, float] = {"low": 0.5, "medium": 1.0, "high": 2.0}
"""By how much `verbosity` lengthens a reply whose length is drawn: chosen, not measured."""

_MOST_N = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """What the simulator needs of a valid body."""

    model: str
    stream: bool
    include_usage: bool
    n: int
    max_tokens: int | None
    prompt_tokens: int
    digest: bytes = b""
    """Of all that decides the reply: the body as JSON less `stream` and `stream_options`."""
    room: int = 10**6
    """The tokens that the context has left after the prompt."""
    question: str | None = None
    """The last message, where a user wrote it."""
    after_call: bool = False
    """The last message is what a tool gave."""
    tools: ToolUse | None = None
    """None where no call may be made."""
    schema: Schema | None = None
    """What the reply has to satisfy, as JSON; None for text."""
    stops: tuple[str, ...] = ()
    repeatable: bool = False
    """The same request gets the same text each time."""
    reasoning_scale: float = 1.0
    length_scale: float = 1.0
    min_tokens: int = 0
    ignore_eos: bool = False


def _stop(param: str, value: Any) -> None:
    texts = value if isinstance(value, list) else [value]
    if not all(isinstance(one, str) for one in texts):
        raise mistyped(param, "a string or an array of strings")
    if len(texts) > 4:
        raise out_of_range(param, "at most 4 sequences")
    if "" in texts:
        raise RefusedError(f"Invalid '{param}': a sequence cannot be empty.", param)


def _metadata(param: str, value: Any) -> None:
    typed(dict, "an object")(param, value)
    if len(value) > 16:
        raise out_of_range(param, "at most 16 pairs")
    for name, one in value.items():
        text(64)(f"{param}.{name[:100]}", name)
        text(512)(f"{param}.{name}", one)


def _modalities(param: str, value: Any) -> None:
    typed(list, "an array")(param, value)
    nothing_but(["text"], why="this model makes text only")(param, value)


def _service_tier(param: str, value: Any) -> None:
    one_of("auto", "default", "flex", "scale", "priority", "fast")(param, value)
    nothing_but("auto", "default", why="there is no other tier")(param, value)


def _logprobs(param: str, value: Any) -> None:
    flag(param, value)
    nothing_but(False, why="this model returns no log probabilities")(param, value)


def _logit_bias(param: str, value: Any) -> None:
    typed(dict, "an object")(param, value)
    for token, bias in value.items():
        number(-100, 100)(f"{param}.{token[:100]}", bias)
    nothing_but({}, why="this model's tokens have no ids")(param, value)


def _template(param: str, value: Any) -> None:
    typed(dict, "an object")(param, value)
    known_names(param, value, ("enable_thinking", "thinking"))
    for name, one in value.items():
        flag(f"{param}.{name}", one)


def _cache_options(param: str, value: Any) -> None:
    typed(dict, "an object")(param, value)
    known_names(param, value, ("mode", "ttl"))
    for name, one in value.items():
        one_of(*(("implicit", "explicit") if name == "mode" else ("30m",)))(f"{param}.{name}", one)


_PLAIN: Mapping[str, Check] = {
    "model": text(),
    "stream": flag,
    "n": whole(1, _MOST_N),
    "temperature": number(0, 2),
    "top_p": number(0, 1),
    "presence_penalty": number(-2, 2),
    "frequency_penalty": number(-2, 2),
    "stop": _stop,
    "seed": whole(-(2**63), 2**63 - 1),
    "user": text(),
    "safety_identifier": text(128),
    "metadata": _metadata,
    # What these two may be depends on the tools.
    "tool_choice": typed(object, "a string or an object"),
    "function_call": typed(object, "a string or an object"),
    "parallel_tool_calls": flag,
    "reasoning_effort": one_of(*REASONING),
    "verbosity": one_of(*VERBOSITY),
    "service_tier": _service_tier,
    "prompt_cache_key": text(),
    "prompt_cache_retention": one_of("in_memory", "24h"),
    "prompt_cache_options": _cache_options,
    # What would show, and cannot be shown.
    "logprobs": _logprobs,
    "top_logprobs": whole(0, 20),
    "logit_bias": _logit_bias,
    "store": nothing_but(False, why="replies are not kept"),
    "modalities": _modalities,
    "audio": nothing_but(why="this model makes text only"),
    "prediction": nothing_but(why="this model takes no predicted output"),
    "web_search_options": nothing_but(why="this model does not search"),
    "moderation": nothing_but(why="replies are not moderated"),
    # Not OpenAI's: what vLLM, SGLang and llama.cpp take besides.
    "top_k": whole(-1, 2**31),
    "min_p": number(0, 1),
    "repetition_penalty": number(0, 10),
    "ignore_eos": flag,
    "min_tokens": whole(0, 10**6),
    "chat_template_kwargs": _template,
}


def _stream_options(param: str, value: Any, strict: bool) -> None:
    typed(dict, "an object")(param, value)
    if strict:
        known_names(param, value, ("include_usage", "include_obfuscation"))
    for name in ("include_usage", "include_obfuscation"):
        if value.get(name) is not None:
            flag(f"{param}.{name}", value[name])


_LENGTHS = ("max_tokens", "max_completion_tokens")
_NESTED = {
    "messages": check_messages,
    "stream_options": _stream_options,
    "tools": check_tools,
    "functions": check_functions,
    "response_format": check_format,
}


def _check(param: str, value: Any, settings: SimulatorSettings) -> None:
    """One parameter; null is as good as none, if there is such a parameter."""
    strict = settings.unknown_parameters == "refuse"
    known = param in _NESTED or param in _PLAIN or param in _LENGTHS
    if not known and strict:
        raise RefusedError(f"Unknown parameter: '{param[:100]}'.", param[:100], "unknown_parameter")
    if value is None or not known:
        return
    if param in _NESTED:
        _NESTED[param](param, value, strict)
    elif param in _LENGTHS:
        whole(1, settings.context_tokens)(param, value)
    else:
        _PLAIN[param](param, value)


def _no_number(name: str) -> NoReturn:
    raise ValueError(name)


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        _no_number(digits)
    return value


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        data = json.loads(body, parse_constant=_no_number, parse_float=_finite)
    except (ValueError, RecursionError):
        raise RefusedError("The body of the request is not valid JSON.", None, "invalid_json") from None
    if not isinstance(data, dict):
        raise RefusedError("The body of the request must be a JSON object.", None, "invalid_type")
    return data


def _given(data: Mapping[str, Any], *names: str) -> list[str]:
    return [name for name in names if data.get(name) is not None]


def _check_together(data: Mapping[str, Any]) -> None:
    """What is wrong only in company."""
    if _given(data, "stream_options") and not data.get("stream"):
        raise RefusedError("Invalid 'stream_options': only allowed when 'stream' is true.", "stream_options")
    if _given(data, "top_logprobs"):
        raise RefusedError("Invalid 'top_logprobs': only allowed when 'logprobs' is true.", "top_logprobs")
    if len(_given(data, *_LENGTHS)) == 2:
        message = "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported."
        raise RefusedError(message, "max_tokens", "invalid_parameter_combination")
    form = data.get("response_format")
    if form and form["type"] == "json_object" and not mentions_json(data["messages"]):
        message = (
            "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'."
        )
        raise RefusedError(message, "messages")


def _check_length(data: Mapping[str, Any], tools: ToolUse | None, most: int | None) -> None:
    """What sets a length cannot be set beside what has a length of its own."""
    param = "ignore_eos" if data.get("ignore_eos") else "min_tokens"
    if not data.get(param):
        return
    if param == "min_tokens" and most is not None and data[param] > most:
        raise out_of_range(param, f"must not be more than 'max_tokens', {most}")
    if (tools is not None and tools.must) or (data.get("response_format") or {}).get("type", "text") != "text":
        message = f"'{param}' is not supported beside a tool call or a response format that is asked for."
        raise RefusedError(message, param, "invalid_parameter_combination")


def _check_room(data: Mapping[str, Any], prompt: int, most: int | None, context: int) -> None:
    wanted = most or 1
    if prompt + wanted > context:
        message = (
            f"This model's maximum context length is {context} tokens. However, you requested {prompt + wanted} tokens "
            f"({prompt} in the messages, {wanted} in the completion). Please reduce the length of the messages or "
            "completion."
        )
        raise RefusedError(message, "messages", "context_length_exceeded")


def _prompt_tokens(data: Mapping[str, Any]) -> int:
    """Messages, and the definitions of tools and of the reply's form, which models are shown as text."""
    characters = characters_of(data["messages"])
    for name in _given(data, "tools", "functions"):
        characters += len(json.dumps(data[name], separators=(",", ":"), ensure_ascii=False))
    if form := (data.get("response_format") or {}).get("json_schema"):
        characters += len(json.dumps(form, separators=(",", ":"), ensure_ascii=False))
    return max(1, tokens_for(characters))


def _digest(data: Mapping[str, Any]) -> bytes:
    decisive = {name: value for name, value in data.items() if name not in ("stream", "stream_options")}
    return hashlib.blake2b(json.dumps(decisive, sort_keys=True).encode(), digest_size=16).digest()


def _thinks(data: Mapping[str, Any]) -> bool:
    return all((data.get("chat_template_kwargs") or {}).values())


def _read(body: bytes, settings: SimulatorSettings) -> ChatRequest:
    data = _parsed(body)
    for name in ("model", "messages"):
        if data.get(name) is None:
            raise missing(name)
    for param, value in data.items():
        _check(param, value, settings)
    if data["model"] not in settings.models:
        raise RefusedError(f"The model '{data['model'][:200]}' does not exist.", "model", "model_not_found")
    _check_together(data)
    tools = tool_use(data)
    most = data.get("max_completion_tokens") or data.get("max_tokens")
    _check_length(data, tools, most)
    prompt = _prompt_tokens(data)
    _check_room(data, prompt, most, settings.context_tokens)
    stop, options = data.get("stop") or (), data.get("stream_options") or {}
    effort = data.get("reasoning_effort") or "medium"
    return ChatRequest(
        model=data["model"],
        stream=data.get("stream") or False,
        include_usage=bool(options.get("include_usage")),
        n=data.get("n") or 1,
        max_tokens=most,
        prompt_tokens=prompt,
        digest=_digest(data),
        room=settings.context_tokens - prompt,
        question=last_question(data["messages"]),
        after_call=data["messages"][-1]["role"] in ("tool", "function"),
        tools=tools,
        schema=format_schema(data.get("response_format")),
        stops=(stop,) if isinstance(stop, str) else tuple(stop),
        repeatable=data.get("seed") is not None or data.get("temperature") == 0,
        reasoning_scale=REASONING[effort] if _thinks(data) else 0.0,
        length_scale=VERBOSITY[data.get("verbosity") or "medium"],
        min_tokens=data.get("min_tokens") or 0,
        ignore_eos=data.get("ignore_eos") or False,
    )


def read_chat_request(body: bytes, settings: SimulatorSettings) -> ChatRequest | BadParameter:
    """A body read and checked; what is wrong with it where it is refused. Never raises."""
    try:
        return _read(body, settings)
    except RefusedError as refused:
        return refused.reason
    except RecursionError:
        return BadParameter("The body of the request is nested too deeply.", None, "invalid_json")
