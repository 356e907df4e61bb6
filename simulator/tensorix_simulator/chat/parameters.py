"""What a chat completion's body may hold, checked as OpenAI does: a wrong one is refused and its parameter named.

Ranges are those of OpenAI's reference for `POST /chat/completions`. Of what only other servers know, `min_tokens` and
`ignore_eos` are taken too; the rest (`top_k`, …) is unknown. What is accepted either does what it says or could not be
seen in random text (`temperature`, the penalties, `user`, …); what would change the reply in a way that the
simulator cannot show (`logprobs`, `logit_bias`, `prediction`, `audio`, …) is refused rather than ignored.

- `stop`: the text ends before the sequence. `response_format`, `tools`, `tool_choice`, `functions`: see `tools`.
- `temperature: 0` and `seed`: the same request gets the same text each time, not the same times.
- `reasoning_effort`: scales the reasoning's length (`accepted.REASONING`); `none` leaves it out. `verbosity`: scales a
  drawn length (`accepted.VERBOSITY`).
- `ignore_eos`: as many tokens as `max_tokens` says. `min_tokens`: not fewer than these.
- Of a name that comes twice in an object, the last counts, as in most servers. NaN and infinities are no JSON; 1e999
  is, but no parameter can be so large.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from tensorix_simulator.chat.accepted import LENGTHS, REASONING, VERBOSITY, check_parameter
from tensorix_simulator.chat.checks import BadParameter, RefusedError, missing, out_of_range
from tensorix_simulator.chat.messages import characters_of, last_question, mentions_json, tokens_for
from tensorix_simulator.chat.schemas import Schema
from tensorix_simulator.chat.tool_parameters import format_schema, tool_use
from tensorix_simulator.chat.tools import ToolUse
from tensorix_simulator.settings import SimulatorSettings

__all__ = ["BadParameter", "ChatRequest", "read_chat_request"]

_HUGE = 10**400
"""More than a float can be."""


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


def _no_number(name: str) -> NoReturn:
    raise ValueError(name)


class _Numbers:
    """Reads numbers, and notes whether one is larger than can be reckoned with: 1e999, or 5,000 digits."""

    def __init__(self) -> None:
        self.too_large = False

    def real(self, digits: str) -> float:
        value = float(digits)
        self.too_large |= math.isinf(value)
        return value

    def whole(self, digits: str) -> int:
        try:
            return int(digits)
        except ValueError:
            self.too_large = True
            return -_HUGE if digits.startswith("-") else _HUGE


def _parsed(body: bytes, settings: SimulatorSettings) -> dict[str, Any]:
    numbers = _Numbers()
    try:
        data = json.loads(body, parse_constant=_no_number, parse_float=numbers.real, parse_int=numbers.whole)
    except (ValueError, RecursionError):
        raise RefusedError("The body of the request is not valid JSON.", None, "invalid_json") from None
    if not isinstance(data, dict):
        raise RefusedError("The body of the request must be a JSON object.", None, "invalid_type")
    if numbers.too_large:
        for param, value in data.items():
            if isinstance(value, int | float) and abs(value) >= _HUGE:
                check_parameter(param, value, settings)
        # Deeper, or in what is ignored.
        raise RefusedError("The body of the request has a number that is too large.", None)
    return data


def _given(data: Mapping[str, Any], *names: str) -> list[str]:
    return [name for name in names if data.get(name) is not None]


def _check_together(data: Mapping[str, Any]) -> None:
    """What is wrong only in company."""
    if _given(data, "stream_options") and not data.get("stream"):
        raise RefusedError("Invalid 'stream_options': only allowed when 'stream' is true.", "stream_options")
    if _given(data, "top_logprobs"):
        raise RefusedError("Invalid 'top_logprobs': only allowed when 'logprobs' is true.", "top_logprobs")
    if len(_given(data, *LENGTHS)) == 2:
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


def _read(body: bytes, settings: SimulatorSettings) -> ChatRequest:
    data = _parsed(body, settings)
    for name in ("model", "messages"):
        if data.get(name) is None:
            raise missing(name)
    for param, value in data.items():
        check_parameter(param, value, settings)
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
        reasoning_scale=REASONING[effort],
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
