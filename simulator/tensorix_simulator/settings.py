"""How the simulator behaves: one value with a format version, read from and written to JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from typing import Any

from tensorix_api.errors import SettingsError
from tensorix_api.limiters import Counting
from tensorix_api.secret import Secret
from tensorix_simulator.distributions import Distribution, Quantity
from tensorix_simulator.faults.fault_text import parse_fault
from tensorix_simulator.presets import preset_settings
from tensorix_simulator.setting_checks import CHECKS, DISTRIBUTIONS

__all__ = ["FORMAT", "SimulatorSettings", "alias_of"]

FORMAT = 1
"""The version of the settings' form. A file of another version is refused."""

_ALIAS = re.compile(r"key-[0-9a-f]{8}")
_LISTS = ("models", "valid_keys", "invalid_keys", "no_credit_keys", "more_limits", "faults")


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
    """The "minute", which the documentation does not say how to count: see `limiter`."""
    limiter: str = "fixed_window"
    """How rpm and tpm are counted: `fixed_window` (from a key's first request), `clock_window` (on the clock),
    `sliding_log`, `sliding_counter` (two windows weighed), `token_bucket` (GCRA) or `gateway_window` (as LiteLLM)."""
    burst: int | None = None
    """With `token_bucket`, the requests that may come at once; None: rpm."""
    burst_tokens: int | None = None
    """With `token_bucket`, the tokens that may come at once; None: tpm."""
    more_limits: tuple[str, ...] = ()
    """Limits besides: `2 requests/1s`, `10000 requests/1d clock_window`, `8 in flight`, `30 requests/60s per model`,
    `600 requests/60s all keys`, `60 requests/60s burst 5` (a token bucket). The kind is that of `limiter` unless named.
    A request is in flight from when it is admitted until its last token is made or its client has gone."""
    over_limit: str = "refuse"
    """What becomes of a request over the limit: `refuse` (429) or `delay` until it fits, each key's in their order."""
    longest_delay_s: float = 60.0
    """With `delay`: a request is refused after all if it would have to wait longer by what is known when it comes, or
    has waited so long."""
    charging: str = "actual"
    """A value of `tensorix_api.limiters.Charging`: which tokens count is not documented."""
    count_refused: bool = False
    """Whether a 429 is charged as a request."""
    count_bad_requests: bool = False
    """Whether a chat completion refused with 400 is charged as a request."""
    count_models: bool = False
    """Whether `GET /models` is charged, and refused when the limit is spent."""
    retry_after: str = "none"
    """On a 429: `none` (as documented), `honest` (until it would pass, in whole seconds, rounded up; none where too
    many are in flight, of which nobody knows when they end) or `fixed60` (always 60). With `headers` of `litellm`
    `none` is as that gateway has it: the window's length."""
    headers: str = "documented"
    """Rate-limit headers: `documented` (what remains, on every response), `litellm` (as that gateway sends them: what
    remains and the limit on completions that are not streamed; on a 429 `retry-after`, `rate_limit_type`, `reset_at`),
    `openai` (limit, remaining and reset in its spelling) or `none`."""
    header_lie: str | None = None
    """What is wrong with what they say remains: `late` (what the key's response before should have said), `negative`
    (minus what was used, at most -1), `stuck` (for ever what the key's first said), or null."""
    style: str = "tensorix"
    """The bodies: `tensorix` (as documented) or `litellm` (as that gateway writes them)."""

    valid_keys: tuple[str, ...] | None = None
    """None: every key that is not in one of the next two."""
    invalid_keys: tuple[str, ...] = ("sk-invalid",)
    """Answered with 401."""
    no_credit_keys: tuple[str, ...] = ("sk-no-credit",)
    """Chat completions are answered with 402."""
    credit_tokens: int | None = None
    """Tokens that each key has paid for: chat completions are answered with 402 once they are used. None: endless."""

    latency: str = "independent"
    """`independent` (`ttft` and `between_tokens`, whatever the load) or `batch` (`step` and so on: grows with load)."""
    slots: int | None = None
    """Chat completions that are worked on at once; the others wait. None: all."""
    queue: int | None = None
    """How many may wait for a slot; one more is answered with 503. None: any number."""
    step: str = "20ms"
    """With `batch`: the least time of a step, in which each running completion makes a token. Steps follow one another;
    whoever waits starts between two of them: `tensorix_simulator.latency.batch` says all of it."""
    step_per_sequence: str = "200us"
    """With `batch`: what each completion (each choice of one) adds to a step that makes a token of it."""
    prompt_tokens_per_s: float = 20_000.0
    """With `batch`: how fast prompts are read; it adds to the step in which one is."""
    prompt_tokens_per_step: int = 2_048
    """With `batch`: the most that is read of prompts in a step; the rest waits, so that the others' tokens do not."""
    step_noise: float = 0.1
    """With `batch`: by how much steps vary (the sigma of a lognormal factor of mean 1)."""
    ttft: str = "lognormal(200ms, 0.3)"
    """With `independent`: from the whole request read to the first token sent."""
    between_tokens: str = "lognormal(20ms, 0.2)"
    """With `independent`: between two tokens of a reply."""

    seed: int = 0
    """Of texts, lengths, times and injected errors: the same requests get the same, in whatever order they come."""
    error_rate: float = 0.0
    """Share of admitted chat completions that are answered with 500."""
    faults: tuple[str, ...] = ()
    """What goes wrong, as `status 503, rate 5%` or `outage, from 20s to 35s`: `faults/fault_text.py` has all forms."""
    fault_header: bool = True
    """Whether a request may ask for a fault of its own with the header `x-simulator-fault`."""
    reply_tokens: str | None = None
    """Length of a reply, as a distribution, cut at `max_tokens`; None: as long as `max_tokens` allows."""
    default_max_tokens: int = 64
    """Length of a reply where neither `reply_tokens` nor a request's `max_tokens` says it, and its bound where only
    `reply_tokens` does. Known answers, JSON and calls are as long as they are."""
    reasoning_tokens: str = "0"
    """Of a reply's tokens, how many are `reasoning_content` and come first."""

    answers: Mapping[str, str] = field(default_factory=dict)
    """Replies to known questions: a last message that is one of the names is answered with its value. Some are built
    in: `tensorix_simulator.chat.answers`."""
    tool_call_rate: float = 0.0
    """Share of the requests with tools, and free to choose, that are answered with a tool call: never after a tool's
    result."""

    context_tokens: int = 131_072
    """The most that prompt and `max_tokens` may be together."""
    unknown_parameters: str = "refuse"
    """`refuse` a body's unknown parameter with 400, or `accept` and ignore it."""
    max_body_bytes: int = 10_485_760
    """A longer request body is answered with 413."""
    idle_s: float | None = None
    """A connection on which nothing came for so long is closed. None: never."""

    def __post_init__(self) -> None:
        for name in _LISTS:
            value = getattr(self, name)
            if isinstance(value, list):
                object.__setattr__(self, name, tuple(value))
        for name, (check, allowed) in CHECKS.items():
            if not check(getattr(self, name)):
                raise SettingsError(f"setting {name!r} must be {allowed}, not {_shown(name, getattr(self, name))}")
        for name, (quantity, optional) in DISTRIBUTIONS.items():
            self._check_distribution(name, quantity, optional)
        for text in self.faults:
            try:
                parse_fault(text)
            except SettingsError as error:
                raise SettingsError(f"setting 'faults': {error}") from None
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
        """These settings with some of them changed; `presets` (a list of names) are put under the others.

        Raises SettingsError, also for a name that is not known.
        """
        if not isinstance(changes, Mapping):
            raise SettingsError("settings must be a JSON object of names and values")
        names = [known.name for known in fields(self)]
        given = dict(changes)
        version = given.pop("format", FORMAT)
        names_of_presets = given.pop("presets", ())
        if version != FORMAT or isinstance(version, bool):
            raise SettingsError(f"settings of format {version!r} cannot be read: this version reads format {FORMAT}")
        for name in given:
            if name not in names:
                raise SettingsError(f"unknown setting {name!r}: one of {', '.join(names)}")
        return replace(self, **{**preset_settings(names_of_presets), **given})

    def to_dict(self) -> dict[str, Any]:
        """As JSON writes it, with the format's version."""
        values = {known.name: getattr(self, known.name) for known in fields(self)}
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


def _shown(name: str, value: object) -> str:
    return "what was given" if name.endswith("_keys") else repr(value)
