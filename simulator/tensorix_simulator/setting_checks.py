"""What each setting may be: a check, and the words that say so to whoever wrote something else."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from tensorix_api.errors import SettingsError
from tensorix_api.limiters import Charging
from tensorix_simulator.distributions import Distribution, Quantity
from tensorix_simulator.limits.limit_text import FORMS, KINDS, read_limit

__all__ = ["CHECKS", "DISTRIBUTIONS", "Check"]

Check: TypeAlias = Callable[[Any], bool]

DISTRIBUTIONS: dict[str, tuple[Quantity, bool]] = {
    "ttft": ("time", False),
    "between_tokens": ("time", False),
    "reply_tokens": ("count", True),
    "reasoning_tokens": ("count", False),
}


def _whole(low: int, high: int) -> Check:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _number(low: float, high: float) -> Check:
    return lambda value: isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _limit(value: object) -> bool:
    return value is None or _whole(0, 10**12)(value)


def _optional(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _one_of(*allowed: str | None) -> tuple[Check, str]:
    named = ", ".join("null" if value is None else value for value in allowed)
    return lambda value: any(value is one or value == one for one in allowed), f"one of {named}"


def _texts_by_name(value: object) -> bool:
    return isinstance(value, Mapping) and all(isinstance(text, str) for pair in value.items() for text in pair)


def _time(value: object) -> bool:
    try:
        return isinstance(value, str) and Distribution.parse(value, "time").constant is not None
    except SettingsError:
        return False


def _flag(value: object) -> bool:
    return isinstance(value, bool)


def _texts(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(item, str) and item for item in value)


def _limits(value: object) -> bool:
    """Raises SettingsError that says what is wrong with a limit's text."""
    if not _texts(value):
        return False
    assert isinstance(value, tuple)
    for text in value:
        try:
            read_limit(text)
        except SettingsError as error:
            raise SettingsError(f"setting 'more_limits': {error}") from None
    return True


def _path(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"(/[A-Za-z0-9._~-]+)*", value) is not None


_LIMIT = "a whole number from 0 to 10**12, or null for no limit"
CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "prefix": (_path, "a path such as '/v1', or empty"),
    "models": (lambda value: _texts(value) and bool(value), "a list of at least one model's name"),
    "rpm": (_limit, _LIMIT),
    "tpm": (_limit, _LIMIT),
    "window_s": (_number(0.001, 1e6), "a number of seconds from 0.001 to 1000000"),
    "charging": _one_of(*(value.value for value in Charging)),
    "count_refused": (_flag, "true or false"),
    "count_bad_requests": (_flag, "true or false"),
    "count_models": (_flag, "true or false"),
    "limiter": _one_of(*KINDS),
    "burst": (_optional(_whole(1, 10**12)), "a whole number from 1 to 10**12, or null for rpm"),
    "burst_tokens": (_optional(_whole(1, 10**12)), "a whole number from 1 to 10**12, or null for tpm"),
    "more_limits": (_limits, f"a list of limits: {', '.join(FORMS)}"),
    "over_limit": _one_of("refuse", "delay"),
    "longest_delay_s": (_number(0.0, 1e6), "a number of seconds from 0 to 1000000"),
    "retry_after": _one_of("none", "honest", "fixed60"),
    "headers": _one_of("documented", "litellm", "openai", "none"),
    "header_lie": _one_of("late", "negative", "stuck", None),
    "style": _one_of("tensorix", "litellm"),
    "valid_keys": (lambda value: value is None or _texts(value), "a list of keys, or null for any"),
    "invalid_keys": (_texts, "a list of keys"),
    "no_credit_keys": (_texts, "a list of keys"),
    "credit_tokens": (_optional(_whole(0, 10**15)), "a whole number of tokens from 0 to 10**15, or null for endless"),
    "latency": _one_of("independent", "batch"),
    "slots": (_optional(_whole(1, 10**6)), "a whole number from 1 to 1000000, or null for no bound"),
    "queue": (_optional(_whole(0, 10**6)), "a whole number from 0 to 1000000, or null for no bound"),
    "step": (_time, "a time such as '20ms'"),
    "step_per_sequence": (_time, "a time such as '200us'"),
    "prompt_tokens_per_step": (_whole(1, 10**9), "a whole number from 1 to 10**9"),
    "prompt_tokens_per_s": (_number(1e-3, 1e12), "a number from 0.001 to 10**12"),
    "step_noise": (_number(0.0, 10.0), "a number from 0 to 10"),
    "seed": (_whole(0, 2**63), "a whole number from 0 to 2**63"),
    "error_rate": (_number(0.0, 1.0), "a number from 0 to 1"),
    "faults": (_texts, "a list of faults, each as 'status 503, rate 5%'"),
    "fault_header": (_flag, "true or false"),
    "answers": (_texts_by_name, "an object of questions and their answers"),
    "tool_call_rate": (_number(0.0, 1.0), "a number from 0 to 1"),
    "default_max_tokens": (_whole(1, 10**6), "a whole number from 1 to 1000000"),
    "context_tokens": (_whole(1, 10**6), "a whole number from 1 to 1000000"),
    "unknown_parameters": _one_of("refuse", "accept"),
    "idle_s": (_optional(_number(0.001, 1e6)), "a number of seconds from 0.001 to 1000000, or null for never"),
    "max_body_bytes": (_whole(1, 2**30), "a whole number of bytes from 1 to 2**30"),
}
