"""What a load test is asked to do, as one value that travels from the command line to the engine.

Importing this module starts no Locust and patches nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from tensorix_api.errors import SettingsError
from tensorix_api.settings import Settings

__all__ = [
    "CHAT_STREAMED",
    "CHAT_UNSTREAMED",
    "DEFAULT_PROMPT",
    "KINDS",
    "MODELS",
    "Limits",
    "LoadPlan",
    "Timeouts",
    "check_body",
    "users_by_kind",
]

CHAT_STREAMED = "chat-streamed"
CHAT_UNSTREAMED = "chat-unstreamed"
MODELS = "models"
KINDS = (CHAT_STREAMED, CHAT_UNSTREAMED, MODELS)
"""The kinds of user that a mix can hold."""

DEFAULT_PROMPT = "Tell me, in a few sentences, why the sky is blue."

# What this client says itself; a user's header of such a name would break the request's framing, show the key or leave
# the record with another identity than the server was told.
_OWN_HEADERS = {
    "authorization",
    "host",
    "content-length",
    "content-type",
    "transfer-encoding",
    "connection",
    "accept-encoding",
    "x-request-id",
}
_OWN_BODY = {"model", "messages", "stream"}
_CHARACTERS_PER_TOKEN = 2.5
# A key's limits in a minute, by the overview of Tensorix's API.
_DOCUMENTED = {"requests": 60, "tokens": 2_000_000}


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long to wait, in seconds, for each phase of a request."""

    connect_s: float = 10.0
    """DNS, TCP and TLS together."""
    first_token_s: float = 60.0
    """From the start to the first token of a stream, or to the end of a list of models. A chat reply that is not
    streamed is as late as its last token, so only `total_s` bounds it."""
    chunk_s: float = 30.0
    """Between two reads of a stream."""
    total_s: float = 300.0
    """The whole request, connection set-up included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the key is allowed, as far as it is known before the run; None where it is not.

    `told` names the fields that the user gave. The rest is what Tensorix documents, for its own address, and unknown
    for any other server, but for the window: such limits are counted by the minute until something says otherwise.
    """

    requests: int | None = None
    tokens: int | None = None
    window_s: float = 60.0
    told: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, base_url: str, *, requests: int | None = None, tokens: int | None = None, window_s: float | None = None
    ) -> Limits:
        """The limits of a server, with what the user told (None where nothing). Raises SettingsError for no address."""
        given = {"requests": requests, "tokens": tokens, "window_s": window_s}
        known = {name: value for name, value in given.items() if value is not None}
        documented = Settings(base_url=base_url).host == Settings().host
        defaults: dict[str, Any] = dict(_DOCUMENTED) if documented else {}
        return cls(**(defaults | known), told=tuple(known))


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """A closed-loop load test: so many users, each waiting for its answer before it asks again.

    It ends after `requests` requests or `duration_s` seconds, whichever comes first; at least one is given, unless it
    is `endless`.
    Raises SettingsError, in one line, for a value that cannot be used.
    """

    base_url: str
    model: str | None = None
    """None: the first that the server lists."""
    users: int = 1
    spawn_rate: float = 1.0
    """Users started a second."""
    requests: int | None = None
    duration_s: float | None = None
    endless: bool = False
    """Neither need be given: the run lasts until somebody ends it."""
    mix: dict[str, float] = field(default_factory=lambda: {CHAT_STREAMED: 1.0})
    """Share of users of each kind (`KINDS`)."""
    max_tokens: int | None = 64
    temperature: float | None = None
    prompts: tuple[str, ...] = (DEFAULT_PROMPT,)
    """Taken in turn."""
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    """Extra request headers; their values may be secrets and are never written down."""
    body: dict[str, Any] = field(default_factory=dict)
    """Extra fields of the chat request's body."""
    include_usage: bool = True
    """Ask streams for a usage chunk (`stream_options.include_usage`)."""
    timeouts: Timeouts = field(default_factory=Timeouts)
    ca_bundle: str | None = None
    """A file of PEM certificates to trust instead of the system's."""
    limits: Limits = field(default_factory=Limits)
    keep_gaps: bool = False
    """Keep every gap between chunks in the record."""
    label: str | None = None
    """A few words for the report's title."""

    def __post_init__(self) -> None:
        Settings(base_url=self.base_url)
        _positive_int("users", self.users)
        _positive("spawn rate", self.spawn_rate)
        if self.requests is None and self.duration_s is None and not self.endless:
            raise SettingsError("neither a number of requests nor a duration is given: give at least one")
        if self.requests is not None:
            _positive_int("number of requests", self.requests)
        if self.duration_s is not None:
            _positive("duration", self.duration_s)
        if self.max_tokens is not None:
            _positive_int("max_tokens", self.max_tokens)
        if self.temperature is not None and not 0 <= self.temperature <= 2:
            raise SettingsError(f"temperature {self.temperature} is not between 0 and 2")
        _check_mix(self.mix, self.users)
        if not self.prompts or any(not isinstance(prompt, str) or not prompt for prompt in self.prompts):
            raise SettingsError("there is an empty prompt, or none: give some text")
        for what, text in (("model", self.model), ("label", self.label), *(("prompt", each) for each in self.prompts)):
            _check_text(what, text)
        _check_headers(self.headers)
        check_body(self.body)
        for timeout in fields(Timeouts):
            _positive(f"timeout {timeout.name}", getattr(self.timeouts, timeout.name))
        _positive("limit's window", self.limits.window_s)
        for name in ("requests", "tokens"):
            if getattr(self.limits, name) is not None:
                _positive_int(f"limit of {name}", getattr(self.limits, name))
        if self.ca_bundle is not None and not Path(self.ca_bundle).is_file():
            raise SettingsError(f"the CA bundle {self.ca_bundle!r} is no file: give the path of a PEM file")

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> LoadPlan:
        """The plan that `to_dict` wrote. Raises SettingsError for an unknown field or a value of a wrong type."""
        known = {item.name for item in fields(cls)}
        for name in data:
            if name not in known:
                raise SettingsError(f"the plan holds an unknown field {name!r}: known are {', '.join(sorted(known))}")
        values = dict(data)
        try:
            if isinstance(values.get("timeouts"), Mapping):
                values["timeouts"] = Timeouts(**values["timeouts"])
            if isinstance(values.get("limits"), Mapping):
                values["limits"] = Limits(**(values["limits"] | {"told": tuple(values["limits"].get("told", ()))}))
            if "prompts" in values:
                values["prompts"] = tuple(values["prompts"])
            return cls(**values)
        except (AttributeError, TypeError) as error:
            raise SettingsError(f"the plan holds a value of a wrong type: {error}") from None

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it, header values included: for the engine's standard input only."""
        data = asdict(self)
        data["prompts"] = list(self.prompts)
        return data

    def public_dict(self) -> dict[str, Any]:
        """As `to_dict`, with the values of the extra headers left out: for the manifest."""
        return self.to_dict() | {"headers": sorted(self.headers)}

    def most_requests(self) -> int | None:
        """The most requests that this plan can send (one to list the models among them); None: only time bounds it."""
        return None if self.requests is None else self.requests + 1

    def most_tokens_a_request(self) -> int | None:
        """A generous bound on the tokens of one chat request, prompt and answer; None where nothing bounds the answer.

        Prompts are taken at 2.5 characters a token, fewer than any common tokenizer gives for prose, and at two
        tokens for every character outside ASCII. The extra body's own bounds and `n` count.
        """
        bounds = [self.max_tokens, self.body.get("max_tokens"), self.body.get("max_completion_tokens")]
        known = [bound for bound in bounds if isinstance(bound, int)]
        if not known:
            return None
        # Tools, schemas and the like in the extra body are read by the model too.
        prompt = max(_prompt_tokens(prompt) for prompt in self.prompts)
        texts = {name: value for name, value in self.body.items() if isinstance(value, str | list | dict)}
        prompt += _prompt_tokens(json.dumps(texts, ensure_ascii=False)) if texts else 0
        answers = self.body.get("n", 1)
        return prompt + max(known) * (answers if isinstance(answers, int) and answers > 1 else 1)


def users_by_kind(mix: Mapping[str, float], users: int) -> dict[str, int]:
    """How many of `users` are of each kind: by share, every kind with a share at least one, all of them in sum.

    Rounded by the largest remainder. There are at least as many users as kinds (`LoadPlan` holds it).
    """
    shares = {kind: share for kind, share in mix.items() if share > 0}
    exact = {kind: users * share / sum(shares.values()) for kind, share in shares.items()}
    counts = {kind: int(number) for kind, number in exact.items()}
    left = users - sum(counts.values())
    for kind in sorted(shares, key=lambda kind: exact[kind] % 1, reverse=True)[:left]:
        counts[kind] += 1
    for kind in counts:
        if not counts[kind]:
            counts[max(counts, key=lambda other: counts[other])] -= 1
            counts[kind] = 1
    return counts


def _prompt_tokens(prompt: str) -> int:
    """A generous estimate, with 16 for the roles and marks around a prompt."""
    ascii_characters = sum(map(str.isascii, prompt))
    return math.ceil(ascii_characters / _CHARACTERS_PER_TOKEN) + 2 * (len(prompt) - ascii_characters) + 16


def _positive(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not (0 < value < math.inf):
        raise SettingsError(f"the {name} is {value!r}: give a number above 0")


def _positive_int(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise SettingsError(f"the {name} is {value!r}: give a whole number from 1")


def _check_mix(mix: Mapping[str, float], users: int) -> None:
    for kind, weight in mix.items():
        if kind not in KINDS:
            raise SettingsError(f"the mix names {kind!r}: known kinds are {', '.join(KINDS)}")
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
            raise SettingsError(f"the share of {kind} in the mix is {weight!r}: give a number from 0")
    wanted = sum(1 for weight in mix.values() if weight > 0)
    if not wanted:
        raise SettingsError("the mix is empty: give at least one kind a share above 0")
    if wanted > users:
        raise SettingsError(f"the mix has {wanted} kinds of user but there are only {users} users: give more users")


def _check_text(what: str, text: str | None) -> None:
    try:
        (text or "").encode()
    except UnicodeEncodeError:
        # Not repeated: what cannot be sent cannot be printed either.
        raise SettingsError(f"the {what} holds a character that UTF-8 cannot carry: write it as UTF-8 text") from None


def check_body(body: Mapping[str, Any]) -> None:
    """Raises SettingsError, in one line, where further fields of a chat request's body cannot be sent."""
    for name in body:
        if name in _OWN_BODY:
            raise SettingsError(f"the extra body holds {name!r}, which has an option of its own: use that")
    try:
        json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        raise SettingsError("the extra body holds a character that UTF-8 cannot carry: write it as UTF-8") from None
    except (ValueError, TypeError, RecursionError) as error:
        raise SettingsError(f"the extra body cannot be written as JSON: {error}") from None


def _check_headers(headers: Mapping[str, str]) -> None:
    for name, value in headers.items():
        if name.lower() in _OWN_HEADERS:
            hint = "give the key in TENSORIX_API_KEY" if name.lower() == "authorization" else "leave it out"
            raise SettingsError(f"the extra header {name!r} is set by the client itself: {hint}")
        token = name.isascii() and name and all(char.isalnum() or char in "!#$%&'*+-.^_`|~" for char in name)
        if not token or any(not (0x20 <= ord(char) <= 0x7E or char == "\t") for char in value):
            # The value may be a secret and is not repeated.
            raise SettingsError(f"the extra header {name!r} holds a character that no header can carry")
