"""Settings that belong together, by name: kinds of model, and servers that are imitated.

The figures of the models are chosen to look like such models under load; none was measured on any.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tensorix_api.errors import SettingsError

__all__ = ["PRESETS", "preset_settings"]

PRESETS: dict[str, Mapping[str, Any]] = {
    # Each has a knee, where all slots are busy: with prompts of 500 tokens at 19, 2.3 and 0.73 requests a second (the
    # last is below the 60 a minute of a key). Beyond it the queue fills, up to a wait of some 6, 27 and 43 s.
    "fast-chat": {
        "latency": "batch",
        "slots": 64,
        "queue": 128,
        "step": "8ms",
        "step_per_sequence": "100us",
        "prompt_tokens_per_s": 40_000.0,
        "reply_tokens": "lognormal(150, 0.6)",
        "default_max_tokens": 2_048,
    },
    "large-chat": {
        "latency": "batch",
        "slots": 32,
        "queue": 64,
        "step": "25ms",
        "step_per_sequence": "500us",
        "prompt_tokens_per_s": 8_000.0,
        "reply_tokens": "lognormal(250, 0.6)",
        "default_max_tokens": 2_048,
    },
    "reasoning": {
        "latency": "batch",
        "slots": 32,
        "queue": 32,
        "step": "25ms",
        "step_per_sequence": "500us",
        "prompt_tokens_per_s": 8_000.0,
        # Far enough apart that hardly any reply is all reasoning.
        "reply_tokens": "lognormal(1000, 0.25)",
        "reasoning_tokens": "lognormal(400, 0.25)",
        "default_max_tokens": 8_192,
    },
    "litellm": {
        "style": "litellm",
        "headers": "litellm",
        "limiter": "gateway_window",
        "charging": "reserve",
        "count_refused": True,
        "count_bad_requests": True,
    },
    "openai": {
        "headers": "openai",
        "limiter": "token_bucket",
        "charging": "reserve",
        "retry_after": "honest",
    },
}
"""What each preset sets; a preset that comes later goes first."""


def preset_settings(names: object) -> dict[str, Any]:
    """The settings of these presets together. Raises SettingsError for a name that is not known."""
    if not isinstance(names, list | tuple):
        raise SettingsError(f"'presets' must be a list of names: {', '.join(PRESETS)}")
    together: dict[str, Any] = {}
    for name in names:
        if not isinstance(name, str) or name not in PRESETS:
            raise SettingsError(f"unknown preset {name!r}: one of {', '.join(PRESETS)}")
        together |= PRESETS[name]
    return together
