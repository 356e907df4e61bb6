"""Every parameter that a chat completion may have, and what each may be by itself.

Ranges are those of OpenAI's reference for `POST /chat/completions`, and vLLM's for what only servers of its kind know.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tensorix_simulator.chat.checks import (
    Check,
    RefusedError,
    flag,
    known_names,
    mistyped,
    nothing_but,
    number,
    one_of,
    out_of_range,
    text,
    typed,
    whole,
)
from tensorix_simulator.chat.messages import check_messages
from tensorix_simulator.chat.tool_parameters import check_format, check_functions, check_tools
from tensorix_simulator.settings import SimulatorSettings

__all__ = ["LENGTHS", "PARAMETERS", "REASONING", "VERBOSITY", "check_parameter"]

REASONING: Mapping[str, float] = {
    "none": 0.0, "minimal": 0.25, "low": 0.5, "medium": 1.0, "high": 2.0, "xhigh": 3.0, "max": 4.0,
}  # fmt: skip
"""By how much `reasoning_effort` lengthens the reasoning that is drawn: chosen, not measured."""

VERBOSITY: Mapping[str, float] = {"low": 0.5, "medium": 1.0, "high": 2.0}
"""By how much `verbosity` lengthens a reply whose length is drawn: chosen, not measured."""

LENGTHS = ("max_tokens", "max_completion_tokens")
_MOST_N = 128


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
    # Not OpenAI's, but of vLLM and others; of what these take besides, what can be shown.
    "ignore_eos": flag,
    "min_tokens": whole(0, 10**6),
}


def _stream_options(param: str, value: Any, strict: bool) -> None:
    typed(dict, "an object")(param, value)
    if strict:
        known_names(param, value, ("include_usage", "include_obfuscation"))
    for name in ("include_usage", "include_obfuscation"):
        if value.get(name) is not None:
            flag(f"{param}.{name}", value[name])


_NESTED = {
    "messages": check_messages,
    "stream_options": _stream_options,
    "tools": check_tools,
    "functions": check_functions,
    "response_format": check_format,
}

PARAMETERS = frozenset((*_PLAIN, *_NESTED, *LENGTHS))
"""Their names."""


def check_parameter(param: str, value: Any, settings: SimulatorSettings) -> None:
    """One parameter; null is as good as none, if there is such a parameter."""
    strict = settings.unknown_parameters == "refuse"
    known = param in PARAMETERS
    if not known and strict:
        raise RefusedError(f"Unknown parameter: '{param[:100]}'.", param[:100], "unknown_parameter")
    if value is None or not known:
        return
    if param in _NESTED:
        _NESTED[param](param, value, strict)
    elif param in LENGTHS:
        whole(1, settings.context_tokens)(param, value)
    else:
        _PLAIN[param](param, value)
