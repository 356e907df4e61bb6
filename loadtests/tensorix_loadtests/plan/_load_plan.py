"""What a load test is asked to do, as one value that travels from the command line to the engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from dacite import Config, DaciteError, from_dict

from tensorix_api.errors import SettingsError
from tensorix_api.settings import Settings
from tensorix_loadtests.plan._arrivals import Arrivals, ThinkTime
from tensorix_loadtests.plan._checks import check_body, check_headers, check_mix, check_text, positive, positive_int
from tensorix_loadtests.plan._goals import Goals
from tensorix_loadtests.plan._kinds import CHAT_STREAMED, CHAT_UNSTREAMED
from tensorix_loadtests.plan._limits import Limits
from tensorix_loadtests.plan._machines import Machines
from tensorix_loadtests.plan._prompting import Prompting
from tensorix_loadtests.plan._spending import Spending, bounds_in, check_bounded, check_priced
from tensorix_loadtests.plan._timeouts import Timeouts
from tensorix_loadtests.plan._watching import Watching

__all__ = ["DEFAULT_PROMPT", "LoadPlan"]

DEFAULT_PROMPT = "Tell me, in a few sentences, why the sky is blue."


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """A load test. Closed loop: so many users, each waiting for its answer before it asks again. With `arrivals` open
    loop: requests at times of their own, and `users` is how many are there from the start.

    It ends after `requests` requests, `duration_s` seconds or the last arrival, whichever comes first; at least one is
    given, unless it is `endless`.
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
    arrivals: Arrivals | None = None
    """Open loop; None: closed."""
    think_time: ThinkTime | None = None
    models: dict[str, float] = field(default_factory=dict)
    """Share of requests of each model, where there are several; `model` is then not given."""
    prompting: Prompting = field(default_factory=Prompting)
    spending: Spending = field(default_factory=Spending)
    goals: Goals = field(default_factory=Goals)
    watching: Watching = field(default_factory=Watching)
    machines: Machines = field(default_factory=Machines)
    options: dict[str, Any] = field(default_factory=dict)
    """How it was written on the command line or in a file, without headers: what repeats the run."""

    def __post_init__(self) -> None:
        Settings(base_url=self.base_url)
        positive_int("users", self.users)
        positive("spawn rate", self.spawn_rate)
        if self.requests is None and self.duration_s is None and self.arrivals is None and not self.endless:
            raise SettingsError("neither a number of requests nor a duration is given: give at least one")
        if self.requests is not None:
            positive_int("number of requests", self.requests)
        if self.duration_s is not None:
            positive("duration", self.duration_s)
        if self.max_tokens is not None:
            positive_int("max_tokens", self.max_tokens)
        if self.temperature is not None and not 0 <= self.temperature <= 2:
            raise SettingsError(f"temperature {self.temperature} is not between 0 and 2")
        # In open loop each arrival is of a kind, and any user takes it.
        check_mix(self.mix, self.users if self.arrivals is None else len(self.mix))
        if not self.prompts or any(not isinstance(prompt, str) or not prompt for prompt in self.prompts):
            raise SettingsError("there is an empty prompt, or none: give some text")
        for what, text in (("model", self.model), ("label", self.label), *(("prompt", each) for each in self.prompts)):
            check_text(what, text)
        check_headers(self.headers)
        check_body(self.body)
        _check_models(self.model, self.models)
        for timeout in fields(Timeouts):
            positive(f"timeout {timeout.name}", getattr(self.timeouts, timeout.name))
        positive("limit's window", self.limits.window_s)
        for name in ("requests", "tokens"):
            if getattr(self.limits, name) is not None:
                positive_int(f"limit of {name}", getattr(self.limits, name))
        if self.ca_bundle is not None and not Path(self.ca_bundle).is_file():
            raise SettingsError(f"the CA bundle {self.ca_bundle!r} is no file: give the path of a PEM file")
        if self.mix.get(CHAT_STREAMED) or self.mix.get(CHAT_UNSTREAMED):
            check_bounded(self.spending, (self.max_tokens, self.prompting.answer_tokens, *bounds_in(self.body)))
            check_priced(self.spending, [model for model in (self.model, *self.models) if model])

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> LoadPlan:
        """The plan that `to_dict` wrote. Raises SettingsError for an unknown field or a value of a wrong type."""
        known = {item.name for item in fields(cls)}
        for name in data:
            if name not in known:
                raise SettingsError(f"the plan holds an unknown field {name!r}: known are {', '.join(sorted(known))}")
        try:
            return from_dict(cls, data, Config(cast=[tuple], strict=True, check_types=False))
        except (DaciteError, AttributeError, TypeError, ValueError) as error:
            raise SettingsError(f"the plan holds a value of a wrong type: {error}") from None

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it, header values included: for the engine's standard input only."""
        return asdict(self)

    def public_dict(self) -> dict[str, Any]:
        """As `to_dict`, with the values of the extra headers left out: for the manifest."""
        return self.to_dict() | {"headers": sorted(self.headers)}

    def most_requests(self) -> int | None:
        """The most requests that this plan can send (one to list the models among them); None: only time bounds it."""
        return None if self.requests is None else self.requests + 1

    def most_tokens_a_request(self) -> int | None:
        """A generous bound on the tokens of one chat request, prompt and answer; None where nothing bounds the answer.

        Prompts are taken at 2.5 characters a token, fewer than any common tokenizer gives for prose, and at two
        tokens for every character outside ASCII; made-up ones at two tokens a word. The extra body's own bounds and `n`
        count, and in a conversation the answers before. Raises SettingsError for a file of prompts that is wrong.
        """
        # Not above: prompts are made of plans.
        from tensorix_loadtests.prompts import survey

        return survey(self).most_tokens_a_request


def _check_models(model: str | None, models: Mapping[str, float]) -> None:
    for name, share in models.items():
        check_text("model", name)
        positive(f"share of the model {name!r}", share)
    if model is not None and models:
        raise SettingsError("a model is given, and several with shares: give one or the other")
