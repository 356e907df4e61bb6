"""What is probed, how, and at what price: the configuration as values. `configuration` reads it from TOML.

Lengths of time are seconds. Everything has a default but a target's name and address.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from tensorix_api import Secret, Settings
from tensorix_api.settings import DEFAULT_BASE_URL

__all__ = [
    "BUILT_IN_CHECKS",
    "Alerts",
    "Budget",
    "Canary",
    "Configuration",
    "Headers",
    "HistorySettings",
    "Maintenance",
    "Objective",
    "Prices",
    "Serve",
    "Slow",
    "Target",
    "Timeouts",
]

BUILT_IN_CHECKS = ("tls", "models", "chat", "stream", "auth", "errors", "ratelimit")
"""In the order in which they run: of those on which the availability rests the cheap ones first, then those that must
not take the budget from them, and the one that reads what the others got last."""

RESPONSE_KINDS = ("chat", "stream", "models", "bad_request", "unauthorised", "throttled")
"""The kinds of response whose rate-limit headers are looked at one by one."""

_DAY_NS = 86_400 * 10**9
_WEEKDAY_OF_1970 = 3
"""The first of January was a Thursday."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Seconds after which a part of a request has failed; `total_s` bounds all of them together."""

    dns_s: float = 5.0
    connect_s: float = 5.0
    tls_s: float = 5.0
    first_byte_s: float = 20.0
    first_token_s: float = 30.0
    chunk_s: float = 15.0
    total_s: float = 45.0

    def within(self, total_s: float) -> Timeouts:
        """The same, none of them longer than `total_s`."""
        return Timeouts(**{name: min(getattr(self, name), total_s) for name in self.__slots__} | {"total_s": total_s})


@dataclass(frozen=True, slots=True, kw_only=True)
class Slow:
    """Beyond these many seconds an answer is `degraded`; None: never."""

    connect_s: float | None = None
    models_s: float | None = 5.0
    chat_s: float | None = 20.0
    first_token_s: float | None = 10.0
    gap_s: float | None = 10.0
    """The longest silence in a stream, between two chunks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """The question whose answer is known."""

    prompt: str = "What is 17 + 25? Answer with the number only."
    expect: str | None = r"\b42\b"
    """A regular expression that the answer has to hold; None: any answer will do."""
    max_tokens: int = 16
    """A model that reasons first needs some hundred."""
    body: Mapping[str, Any] = field(default_factory=dict)
    """Other fields of the request, such as `reasoning_effort`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Headers:
    """What the server is held to about its limits. None: unknown, so learnt from its headers or not judged."""

    requests: int | None = None
    tokens: int | None = None
    window_s: float = 60.0
    expected_on: tuple[str, ...] = tuple(kind for kind in RESPONSE_KINDS if kind != "unauthorised")
    """The kinds of response that have to carry what remains; what is left out is accepted without. The answer to a key
    that nobody knows has nothing to tell of it."""
    judge_remaining: bool = True
    """Whether what remains is compared with the ledger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What the probes of a key may use in all; beyond it they are skipped as inconclusive."""

    share: float = 0.05
    """Of the requests and tokens a minute (of 60: 3 requests)."""
    tokens_a_day: int | None = 250_000
    cost_a_day: float | None = None
    keep_free_requests: int = 0
    """Skipped where the server says that fewer than the check needs and this many remain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """What a million tokens cost, in one currency."""

    prompt_per_million: float = 0.0
    completion_per_million: float = 0.0
    currency: str = "USD"


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """The share of conclusive probes that have to be up or degraded, over a rolling window."""

    availability: float = 0.995
    window_s: float = 30 * 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One server, key and model."""

    name: str
    """In metrics, pages and rows: letters, digits, `-`, `_`, `.` and `/`."""
    base_url: str = DEFAULT_BASE_URL
    api_key: Secret | None = None
    key_source: str | None = None
    """Where the key came from, for messages: `$TENSORIX_API_KEY` or a file's name."""
    model: str | None = None
    """None: the first that the server lists."""
    wanted_models: tuple[str, ...] = ()
    """Have to be listed, besides `model`."""
    interval_s: float = 60.0
    offset_s: float | None = None
    """Of its slots within the interval; None: by its name, so that targets spread."""
    jitter_s: float = 0.0
    """Each slot is moved by up to so much, at random."""
    checks: tuple[str, ...] = BUILT_IN_CHECKS
    every_s: Mapping[str, float] = field(default_factory=dict)
    """By check, how far apart its runs are at least, where that is not each round (`auth`, `errors`: an hour)."""
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By check, the options of checks that are not built in."""
    ca_bundle: Path | None = None
    timeouts: Timeouts = Timeouts()
    slow: Slow = Slow()
    canary: Canary = field(default_factory=Canary)
    headers: Headers = Headers()
    budget: Budget = Budget()
    prices: Prices | None = None
    objective: Objective = Objective()
    accept: tuple[str, ...] = ()
    """Assertions that may fail without any harm, as `check.assertion`: a known deviation."""
    certificate_days: float = 14.0
    """`degraded` where the certificate runs out within so many days."""
    extra_headers: Mapping[str, Secret] = field(default_factory=dict)
    """Sent with each request; their values are kept as secrets."""

    @property
    def server(self) -> Settings:
        """The address taken apart."""
        return Settings(base_url=self.base_url, api_key=self.api_key, model=self.model)

    @property
    def key_alias(self) -> str | None:
        """The name under which its key appears; None without a key. Takes some ms: keep it."""
        return None if self.api_key is None else self.api_key.alias


@dataclass(frozen=True, slots=True, kw_only=True)
class Maintenance:
    """A time in which probes go on, tagged, and alert nobody.

    Once from `start` to `end`, or every week on `days` (0 is Monday) from `from_s` to `to_s` after midnight UTC; where
    `to_s` is not later, it ends on the day after.
    """

    name: str
    targets: tuple[str, ...] = ("*",)
    """Names, or patterns as the shell's."""
    start: datetime | None = None
    end: datetime | None = None
    days: tuple[int, ...] = ()
    from_s: float = 0.0
    to_s: float = 0.0

    def covers(self, target: str, unix_ns: int) -> bool:
        """Whether it holds for a target at a time: from its beginning on, and no longer at its end."""
        if not any(fnmatchcase(target, pattern) for pattern in self.targets):
            return False
        if (
            self.start is not None
            and self.end is not None
            and self.start.timestamp() <= unix_ns / 1e9 < self.end.timestamp()
        ):
            return True
        day, into_ns = divmod(unix_ns, _DAY_NS)
        weekday, into_s = (day + _WEEKDAY_OF_1970) % 7, into_ns / 1e9
        if self.from_s < self.to_s:
            return weekday in self.days and self.from_s <= into_s < self.to_s
        began_yesterday = (weekday - 1) % 7 in self.days and into_s < self.to_s
        return began_yesterday or (weekday in self.days and into_s >= self.from_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class HistorySettings:
    """Where results are kept, and for how long."""

    url: str | None = field(default=None, repr=False)
    """A file's name (SQLite) or `postgresql://…`; None: nowhere. May hold a password: never shown."""
    keep_results_s: float = 30 * 86_400.0
    keep_hours_s: float = 400 * 86_400.0
    """Of the hourly roll-ups."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Serve:
    """The long-running probe."""

    host: str = "127.0.0.1"
    port: int = 9464
    late_s: float = 0.1
    """A slot whose first request could not go out within so much is missed, and counted so."""
    grace_s: float = 10.0
    """How long probes under way may take to end after SIGTERM."""
    otlp: bool = False
    """Send results as spans and metrics to the collector that `OTEL_EXPORTER_OTLP_*` names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alerts:
    """Alerts without Prometheus: burn rates judged in `serve`, told to a webhook."""

    webhook: Secret | None = None
    """The address: often a secret in itself."""
    repeat_s: float = 4 * 3600.0
    """How often what still burns is told again."""
    scale: float = 1.0
    """All windows times this: 0.01 tries the rules out in minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """All of it."""

    targets: tuple[Target, ...]
    location: str | None = None
    maintenance: tuple[Maintenance, ...] = ()
    history: HistorySettings = HistorySettings()
    serve: Serve = Serve()
    alerts: Alerts = Alerts()
    source: Path | None = None
    """The file that it came from."""
    warnings: tuple[str, ...] = ()
    """What is no mistake and should be known, a line each."""
