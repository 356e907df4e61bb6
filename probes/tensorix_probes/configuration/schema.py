"""What may stand in a configuration file: a pydantic model a section.

A field is called as in `settings`, and in the file without its unit: `connect_s` is `connect`. Nothing has a default
here: what was not given is left to the values of `settings`.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, ConfigDict, PlainValidator

from tensorix_api import Secret
from tensorix_probes.configuration import outside as files
from tensorix_probes.configuration import values
from tensorix_probes.registry import known_checks
from tensorix_probes.settings import RESPONSE_KINDS

__all__ = ["DefaultsSection", "MaintenanceSection", "Root", "Section", "TargetSection"]

Time: TypeAlias = Annotated[float, PlainValidator(values.duration())]
TimeOrZero: TypeAlias = Annotated[float, PlainValidator(values.duration(least=0.0))]
TimeOrNone: TypeAlias = Annotated[float | None, PlainValidator(values.duration(none=True))]
Flag: TypeAlias = Annotated[bool, PlainValidator(values.flag)]
Text: TypeAlias = Annotated[str, PlainValidator(values.text())]
Name: TypeAlias = Annotated[str, PlainValidator(values.name)]
CheckName: TypeAlias = Annotated[str, PlainValidator(values.choice(known_checks, "check"))]
Key: TypeAlias = files.Found


class Section(BaseModel):
    """A section of the file: nothing that is not named here may stand in it."""

    model_config = ConfigDict(
        extra="forbid", alias_generator=lambda name: name.removesuffix("_s"), arbitrary_types_allowed=True
    )

    def given(self) -> dict[str, Any]:
        """What was written, by the names of `settings`; sections in it as dicts, lists as tuples."""
        return {name: _plain(getattr(self, name)) for name in type(self).model_fields if name in self.model_fields_set}


def _plain(value: Any) -> Any:
    if isinstance(value, Section):
        return value.given()
    return tuple(value) if isinstance(value, list) else value


def _whole(least: int, most: int = 10**12, *, none: bool = False) -> Any:
    return PlainValidator(values.whole(least, most, none=none))


class TimeoutsSection(Section):
    """`[target.timeouts]`."""

    dns_s: Time = 0
    connect_s: Time = 0
    tls_s: Time = 0
    first_byte_s: Time = 0
    first_token_s: Time = 0
    chunk_s: Time = 0
    total_s: Time = 0


class SlowSection(Section):
    """`[target.slow]`."""

    connect_s: TimeOrNone = None
    models_s: TimeOrNone = None
    chat_s: TimeOrNone = None
    first_token_s: TimeOrNone = None
    gap_s: TimeOrNone = None


class CanarySection(Section):
    """`[target.canary]`."""

    prompt: Text = ""
    expect: Annotated[str | None, PlainValidator(values.regex)] = None
    max_tokens: Annotated[int, _whole(1, 1_000_000)] = 0
    body: dict[str, Any] = {}


class HeadersSection(Section):
    """`[target.headers]`."""

    requests: Annotated[int | None, _whole(1, none=True)] = None
    tokens: Annotated[int | None, _whole(1, none=True)] = None
    window_s: Annotated[float, PlainValidator(values.duration(least=1.0))] = 0
    expected_on: list[Annotated[str, PlainValidator(values.choice(lambda: RESPONSE_KINDS, "kind of response"))]] = []
    judge_remaining: Flag = False


class BudgetSection(Section):
    """`[target.budget]`."""

    share: Annotated[float, PlainValidator(values.share())] = 0
    tokens_a_day: Annotated[int | None, _whole(1, none=True)] = None
    cost_a_day: Annotated[float | None, PlainValidator(values.number(above=0, none=True))] = None
    keep_free_requests: Annotated[int, _whole(0)] = 0


class PricesSection(Section):
    """`[target.prices]`."""

    prompt_per_million: Annotated[float, PlainValidator(values.number())] = 0
    completion_per_million: Annotated[float, PlainValidator(values.number())] = 0
    currency: Annotated[str, PlainValidator(values.text(most=10))] = ""


class ObjectiveSection(Section):
    """`[target.objective]`."""

    availability: Annotated[float, PlainValidator(values.share(below_one=True))] = 0
    window_s: Annotated[float, PlainValidator(values.duration(least=3600.0))] = 0


class DefaultsSection(Section):
    """`[defaults]`: what holds for every target that does not say otherwise."""

    base_url: Annotated[str, PlainValidator(values.base_url)] = ""
    key_env: Annotated[Key | None, PlainValidator(files.key_of_environment)] = None
    key_file: Annotated[Key | None, PlainValidator(files.key_of_file)] = None
    model: Annotated[str | None, PlainValidator(values.text(most=300, none=True))] = None
    wanted_models: list[Text] = []
    interval_s: Annotated[float, PlainValidator(values.duration(least=1.0, most=86_400.0))] = 0
    offset_s: Annotated[float | None, PlainValidator(values.duration(least=0.0, none=True))] = None
    jitter_s: TimeOrZero = 0
    checks: list[CheckName] = []
    every_s: dict[str, Time] = {}
    options: dict[str, dict[str, Any]] = {}
    accept: list[Text] = []
    ca_bundle: Annotated[Path | None, PlainValidator(files.ca_bundle)] = None
    timeouts: TimeoutsSection = TimeoutsSection()
    slow: SlowSection = SlowSection()
    canary: CanarySection = CanarySection()
    headers: HeadersSection = HeadersSection()
    budget: BudgetSection = BudgetSection()
    prices: PricesSection = PricesSection()
    objective: ObjectiveSection = ObjectiveSection()
    certificate_days: Annotated[float, PlainValidator(values.number())] = 0
    extra_headers: dict[str, Annotated[Secret, PlainValidator(files.header_value)]] = {}


class TargetSection(DefaultsSection):
    """`[[target]]`."""

    name: Name = ""


class MaintenanceSection(Section):
    """`[[maintenance]]`."""

    name: Annotated[str, PlainValidator(values.text(most=100))] = ""
    targets: list[Text] = []
    start: Annotated[datetime | None, PlainValidator(values.moment)] = None
    end: Annotated[datetime | None, PlainValidator(values.moment)] = None
    days: list[Annotated[int, PlainValidator(values.day)]] = []
    from_s: Annotated[float, PlainValidator(values.clock)] = 0
    to_s: Annotated[float, PlainValidator(values.clock)] = 0


class HistorySection(Section):
    """`[history]`."""

    url: Annotated[Secret | None, PlainValidator(files.history_url)] = None
    password_env: Annotated[Key | None, PlainValidator(files.key_of_environment)] = None
    keep_results_s: Annotated[float, PlainValidator(values.duration(least=3600.0))] = 0
    keep_hours_s: Annotated[float, PlainValidator(values.duration(least=3600.0))] = 0


class ServeSection(Section):
    """`[serve]`."""

    host: Annotated[str, PlainValidator(values.listening_host)] = ""
    port: Annotated[int, _whole(0, 65_535)] = 0
    late_s: Time = 0
    grace_s: TimeOrZero = 0
    otlp: Flag = False


class AlertsSection(Section):
    """`[alerts]`."""

    webhook_env: Annotated[Key | None, PlainValidator(files.webhook_of_environment)] = None
    webhook_file: Annotated[Key | None, PlainValidator(files.webhook_of_file)] = None
    repeat_s: Time = 0
    scale: Annotated[float, PlainValidator(values.number(above=0))] = 0


class Root(Section):
    """The whole file. Targets, what they share, and maintenance are read one by one."""

    location: Annotated[str | None, PlainValidator(values.name)] = None
    history: HistorySection = HistorySection()
    serve: ServeSection = ServeSection()
    alerts: AlertsSection = AlertsSection()
    defaults: Any = None
    target: Any = None
    maintenance: Any = None
