"""How the simulator behaves: one value with a format version, read from and written to JSON."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

from tensorix_api.errors import SettingsError
from tensorix_api.limiters import Charging, Counting
from tensorix_api.secret import Secret
from tensorix_simulator.distributions import Distribution, Quantity

__all__ = ["FORMAT", "SimulatorSettings", "alias_of"]

FORMAT = 1
"""The version of the settings' form. A file of another version is refused."""

_ALIAS = re.compile(r"key-[0-9a-f]{8}")
_RETRY_AFTER = ("none", "honest", "fixed60")
_UNKNOWN = ("refuse", "accept")


@lru_cache(maxsize=4096)
def alias_of(key: str) -> str:
    """The alias of a key (`Secret.alias`). Takes about 10 ms the first time."""
    return Secret(key).alias


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorSettings:
    """Everything that can be set. The defaults keep what Tensorix documents and guess where it is silent.

    Keys may be given as they are or as aliases; only their aliases are kept, so no settings file, log or page that
    repeats them holds a key. Raises SettingsError that names the setting and what it may be.
    """

    prefix: str = "/v1"
    models: tuple[str, ...] = ("deepseek/deepseek-chat-v3.1", "deepseek/deepseek-r1-0528", "z-ai/glm-5")

    rpm: int | None = 60
    """Requests a window and key; None: no limit and no header."""
    tpm: int | None = 2_000_000
    """Tokens a window and key; None: no limit and no header."""
    window_s: float = 60.0
    """The "minute", from a key's first request."""
    charging: str = "actual"
    """A value of `tensorix_api.limiters.Charging`: which tokens count is not documented."""
    count_refused: bool = False
    """Whether a 429 is charged as a request."""
    count_bad_requests: bool = False
    """Whether a chat completion refused with 400 is charged as a request."""
    count_models: bool = False
    """Whether `GET /models` is charged, and refused when the limit is spent."""
    retry_after: str = "none"
    """On a 429: `none` (as documented), `honest` (whole seconds, rounded up) or `fixed60` (always 60)."""

    valid_keys: tuple[str, ...] | None = None
    """None: every key that is not in one of the next two."""
    invalid_keys: tuple[str, ...] = ("sk-invalid",)
    """Answered with 401."""
    no_credit_keys: tuple[str, ...] = ("sk-no-credit",)
    """Chat completions are answered with 402."""

    seed: int = 0
    """Of texts, lengths, times and injected errors: the same requests get the same, in whatever order they come."""
    error_rate: float = 0.0
    """Share of admitted chat completions that are answered with 500."""
    ttft: str = "lognormal(200ms, 0.3)"
    """From the whole request read to the first token sent."""
    between_tokens: str = "lognormal(20ms, 0.2)"
    """Between two tokens of a reply."""
    reply_tokens: str | None = None
    """Length of a reply, as a distribution, cut at `max_tokens`; None: as long as `max_tokens` allows."""
    default_max_tokens: int = 64
    """Where a request names no `max_tokens`."""
    reasoning_tokens: str = "0"
    """Of a reply's tokens, how many are `reasoning_content` and come first."""

    context_tokens: int = 131_072
    """The most that `max_tokens` may be."""
    unknown_parameters: str = "refuse"
    """`refuse` a body's unknown parameter with 400, or `accept` and ignore it."""
    max_body_bytes: int = 10_485_760
    """A longer request body is answered with 413."""

    def __post_init__(self) -> None:
        for name in ("models", "valid_keys", "invalid_keys", "no_credit_keys"):
            value = getattr(self, name)
            if isinstance(value, list):
                object.__setattr__(self, name, tuple(value))
        for name, (check, allowed) in _CHECKS.items():
            if not check(getattr(self, name)):
                raise SettingsError(f"setting {name!r} must be {allowed}, not {_shown(name, getattr(self, name))}")
        for name, (quantity, optional) in _DISTRIBUTIONS.items():
            self._check_distribution(name, quantity, optional)
        for name in ("valid_keys", "invalid_keys", "no_credit_keys"):
            keys = getattr(self, name)
            if keys is not None:
                object.__setattr__(self, name, tuple(key if _ALIAS.fullmatch(key) else alias_of(key) for key in keys))

    def _check_distribution(self, name: str, quantity: Quantity, optional: bool) -> None:
        value = getattr(self, name)
        if optional and value is None:
            return
        if not isinstance(value, str):
            raise SettingsError(f"setting {name!r} must be the text of a distribution, not {value!r}")
        try:
            Distribution.parse(value, quantity)
        except SettingsError as error:
            raise SettingsError(f"setting {name!r}: {error}") from None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SimulatorSettings:
        """Read what `to_dict` wrote; what is left out keeps its default. Raises SettingsError."""
        return cls().changed(data)

    def changed(self, changes: Mapping[str, Any]) -> SimulatorSettings:
        """These settings with some of them changed. Raises SettingsError, also for a name that is not known."""
        if not isinstance(changes, Mapping):
            raise SettingsError("settings must be a JSON object of names and values")
        names = [field.name for field in fields(self)]
        given = dict(changes)
        version = given.pop("format", FORMAT)
        if version != FORMAT or isinstance(version, bool):
            raise SettingsError(f"settings of format {version!r} cannot be read: this version reads format {FORMAT}")
        for name in given:
            if name not in names:
                raise SettingsError(f"unknown setting {name!r}: one of {', '.join(names)}")
        return replace(self, **given)

    def to_dict(self) -> dict[str, Any]:
        """As JSON writes it, with the format's version."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        listed = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
        return {"format": FORMAT, **listed}

    @property
    def window_ns(self) -> int:
        """The window's length in ns."""
        return round(self.window_s * 1e9)

    @property
    def counting(self) -> Counting:
        """What is charged, as the limiters' policy."""
        return Counting(refused=self.count_refused, bad_requests=self.count_bad_requests, models=self.count_models)


_DISTRIBUTIONS: dict[str, tuple[Quantity, bool]] = {
    "ttft": ("time", False),
    "between_tokens": ("time", False),
    "reply_tokens": ("count", True),
    "reasoning_tokens": ("count", False),
}


def _shown(name: str, value: object) -> str:
    return "what was given" if name.endswith("_keys") else repr(value)


def _whole(low: int, high: int) -> Callable[[object], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _number(low: float, high: float) -> Callable[[object], bool]:
    return lambda value: isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _limit(value: object) -> bool:
    return value is None or _whole(0, 10**12)(value)


def _flag(value: object) -> bool:
    return isinstance(value, bool)


def _texts(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(item, str) and item for item in value)


def _path(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"(/[A-Za-z0-9._~-]+)*", value) is not None


_LIMIT = "a whole number from 0 on, or null for no limit"
_CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "prefix": (_path, "a path such as '/v1', or empty"),
    "models": (lambda value: _texts(value) and bool(value), "a list of at least one model's name"),
    "rpm": (_limit, _LIMIT),
    "tpm": (_limit, _LIMIT),
    "window_s": (_number(0.001, 1e6), "a number of seconds from 0.001 to 1000000"),
    "charging": (lambda value: value in tuple(Charging), f"one of {', '.join(Charging)}"),
    "count_refused": (_flag, "true or false"),
    "count_bad_requests": (_flag, "true or false"),
    "count_models": (_flag, "true or false"),
    "retry_after": (lambda value: value in _RETRY_AFTER, f"one of {', '.join(_RETRY_AFTER)}"),
    "valid_keys": (lambda value: value is None or _texts(value), "a list of keys, or null for any"),
    "invalid_keys": (_texts, "a list of keys"),
    "no_credit_keys": (_texts, "a list of keys"),
    "seed": (_whole(0, 2**63), "a whole number from 0 on"),
    "error_rate": (_number(0.0, 1.0), "a number from 0 to 1"),
    "default_max_tokens": (_whole(1, 10**6), "a whole number from 1 to 1000000"),
    "context_tokens": (_whole(1, 10**6), "a whole number from 1 to 1000000"),
    "unknown_parameters": (lambda value: value in _UNKNOWN, f"one of {', '.join(_UNKNOWN)}"),
    "max_body_bytes": (_whole(1, 2**30), "a whole number of bytes from 1 to 2**30"),
}
