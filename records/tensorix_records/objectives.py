"""Objectives as people write them: `ttft_p95 < 800ms`, `error_rate < 1%`; criteria of a good request; brakes.

Only the text forms and the values they become; `tensorix_records.judging` holds a run against them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from tensorix_api.durations import TIME, nanoseconds
from tensorix_api.errors import SettingsError

__all__ = [
    "QUANTITIES",
    "Brake",
    "Criterion",
    "Kind",
    "Objective",
    "Quantity",
    "ReadGoals",
    "read_brake",
    "read_criterion",
    "read_goals",
    "read_objective",
]

Kind: TypeAlias = Literal["time", "share", "rate"]
Statistic: TypeAlias = Literal["mean", "max"] | float | None
"""A float is a percent; None where a quantity is one figure by itself."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """Something that can be asked of a run."""

    kind: Kind
    """`time`: of each request, ns; `share`: 1 is all; `rate`: a second."""
    meaning: str
    of_a_request: bool = False
    """Whether a single request has it, so that `--good` can ask for it."""


QUANTITIES: dict[str, Quantity] = {
    "ttft": Quantity("time", "time to first token of streamed chat", True),
    "ttfo": Quantity("time", "time to the first token that is not reasoning", True),
    "itl": Quantity("time", "(last token - first token) / (completion tokens - 1), of each request", True),
    "e2e": Quantity("time", "start to the last byte of chat", True),
    "from_intended": Quantity("time", "when the schedule wanted it sent to its last byte (open loop)", True),
    "schedule_delay": Quantity("time", "when the schedule wanted it sent to its start (open loop)", True),
    "dispatch_delay": Quantity("time", "the part of the delay that is this client's own doing", True),
    "error_rate": Quantity("share", "failed / (successful + failed)"),
    "throttled_rate": Quantity("share", "429s / (successful + failed + 429s)"),
    "good_share": Quantity("share", "good / successful chat"),
    "offered": Quantity("rate", "requests that the schedule wanted sent (open loop)"),
    "sent": Quantity("rate", "requests sent"),
    "successful": Quantity("rate", "requests that succeeded"),
    "throttled": Quantity("rate", "requests refused with 429"),
    "failed": Quantity("rate", "requests that failed"),
    "goodput": Quantity("rate", "successful chat that met every criterion of a good request"),
    "output_tokens": Quantity("rate", "output tokens as they arrived"),
}
_NEED_GOOD = ("goodput", "good_share")

_COMPARED = re.compile(r"\s*([A-Za-z][\w.]*?)\s*(<=|>=|<|>)\s*(\S.*?)\s*")
_STATISTIC = re.compile(r"(.+)_(?:p([0-9]{1,2}(?:\.[0-9]{1,3})?)|(mean|max))")
_NUMBER = r"([0-9]{1,12}(?:\.[0-9]{1,9})?|\.[0-9]{1,9})"
_SHARE = re.compile(_NUMBER + r"\s*(%?)")
_RATE = re.compile(_NUMBER + r"\s*(?:/\s*(s|sec|second|m|min|minute|h|hour))?")
_SECONDS = {"s": 1, "m": 60, "h": 3600}
_BRAKE = re.compile(rf"\s*(\S.*?)\s+for\s+({TIME})(?:\s+over\s+({TIME}))?\s*")


@dataclass(frozen=True, slots=True)
class Objective:
    """A bound on a figure of a run."""

    text: str
    """As it was written, with single spaces."""
    name: str
    """A name of `QUANTITIES`."""
    statistic: Statistic
    below: bool
    """Whether the figure is to be below the bound, or above it."""
    inclusive: bool
    bound: float
    """ns, a share, or a number a second."""

    @property
    def kind(self) -> Kind:
        """What its bound is: a time, a share or a rate."""
        return QUANTITIES[self.name].kind

    def holds(self, value: float) -> bool:
        """Whether a value keeps to the bound."""
        if value == self.bound:
            return self.inclusive
        return value < self.bound if self.below else value > self.bound


@dataclass(frozen=True, slots=True)
class Criterion:
    """A bound on a quantity of a single request."""

    text: str
    name: str
    below: bool
    inclusive: bool
    bound: float
    """ns."""


@dataclass(frozen=True, slots=True)
class Brake:
    """What ends a run: something true of its last `over_s` seconds, at every look during `for_s` seconds."""

    text: str
    when: Objective | None
    """What is true then; None: that any of the run's objectives is broken."""
    for_s: float
    over_s: float


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _named(names: list[str]) -> str:
    return ", ".join(names)


def _compared(text: str, what: str, example: str) -> tuple[str, str, str]:
    found = _COMPARED.fullmatch(text)
    if found is None:
        raise SettingsError(f"{what} {_one_line(text)!r} is not of the form '{example}' (with <, <=, > or >=)")
    return found[1], found[2], found[3]


def _bound(kind: Kind, text: str, whole: str) -> float:
    """The bound in the unit of its kind."""
    if kind == "time":
        time_ns = nanoseconds(text)
        if time_ns is None:
            raise SettingsError(f"{text!r} in {whole!r} is no length of time: write it like 800ms or 1.5s")
        return float(time_ns)
    if kind == "share":
        share = _SHARE.fullmatch(text)
        value = float(share[1]) / (100 if share[2] else 1) if share else 2.0
        # A bare 1 can be meant as one in a hundred or as all.
        if share is None or value > 1 or (value == 1 and not share[2]):
            raise SettingsError(f"{text!r} in {whole!r} is no share: write it like 1% or 0.01")
        return value
    rate = _RATE.fullmatch(text)
    if rate is None:
        raise SettingsError(f"{text!r} in {whole!r} is no rate: write it like 10/s or 300/min")
    return float(rate[1]) / _SECONDS[(rate[2] or "s")[0]]


def read_objective(text: str) -> Objective:
    """The objective `ttft_p95 < 800ms`. Raises SettingsError, in one line that names what is allowed."""
    whole = _one_line(text)
    name, operator, bound = _compared(text, "the objective", "ttft_p95 < 800ms")
    statistic: Statistic = None
    if part := _STATISTIC.fullmatch(name):
        name, statistic = part[1], float(part[2]) if part[2] else "max" if part[3] == "max" else "mean"
    quantity = QUANTITIES.get(name)
    if quantity is None:
        raise SettingsError(f"the objective {whole!r} is on {name!r}: known are {_named(list(QUANTITIES))}")
    if quantity.kind == "time" and statistic is None:
        raise SettingsError(f"the objective {whole!r} lacks a statistic: write {name}_p95, {name}_mean or {name}_max")
    if quantity.kind != "time" and statistic is not None:
        raise SettingsError(
            f"the objective {whole!r} asks for a statistic of {name}, which is one figure: leave it out"
        )
    if statistic == 0:
        raise SettingsError(f"the objective {whole!r} asks for p0: a percentile lies between 0 and 100")
    return Objective(
        whole, name, statistic, operator[0] == "<", operator.endswith("="), _bound(quantity.kind, bound, whole)
    )


def read_criterion(text: str) -> Criterion:
    """The criterion `ttft < 800ms` of a good request. Raises SettingsError, in one line that names what is allowed."""
    whole = _one_line(text)
    name, operator, bound = _compared(text, "the criterion", "ttft < 800ms")
    known = [one for one, quantity in QUANTITIES.items() if quantity.of_a_request]
    if name not in known:
        raise SettingsError(f"the criterion {whole!r} is on {name!r}: of a single request there are {_named(known)}")
    return Criterion(whole, name, operator[0] == "<", operator.endswith("="), _bound("time", bound, whole))


DEFAULT_OVER_S = 10.0


def read_brake(text: str) -> Brake:
    """The brake `error_rate > 20% for 10s`, `ttft_p95 > 5s for 10s over 30s` or `slo for 30s`.

    Without `over` the figure is that of the last 10 seconds. Raises SettingsError, in one line.
    """
    whole = _one_line(text)
    found = _BRAKE.fullmatch(text)
    if found is None:
        raise SettingsError(
            f"the brake {whole!r} does not say for how long: write it like 'error_rate > 20% for 10s', "
            "'ttft_p95 > 5s for 10s over 30s' or 'slo for 30s'"
        )
    for_ns, over_ns = nanoseconds(found[2]), nanoseconds(found[3]) if found[3] else None
    for_s, over_s = float(for_ns or 0) / 1e9, DEFAULT_OVER_S if over_ns is None else float(over_ns) / 1e9
    if for_s <= 0 or over_s < 1:
        raise SettingsError(f"the brake {whole!r} has no length: give a time above 0, and at least 1s after 'over'")
    when = None if found[1].strip().lower() == "slo" else read_objective(found[1])
    if when is not None and when.name == "offered":
        raise SettingsError(f"the brake {whole!r} is on what the schedule itself does: choose another figure")
    return Brake(whole, when, for_s, over_s)


@dataclass(frozen=True, slots=True)
class ReadGoals:
    """The goals of a run, read."""

    objectives: tuple[Objective, ...]
    good: tuple[Criterion, ...]
    brakes: tuple[Brake, ...]


def read_goals(objectives: Sequence[str], good: Sequence[str], brakes: Sequence[str] = ()) -> ReadGoals:
    """All the goals of a run. Raises SettingsError where one cannot be read, or lacks another that it needs."""
    goals = ReadGoals(
        tuple(map(read_objective, objectives)), tuple(map(read_criterion, good)), tuple(map(read_brake, brakes))
    )
    conditions = [*goals.objectives, *(brake.when for brake in goals.brakes if brake.when is not None)]
    for one in conditions:
        if one.name in _NEED_GOOD and not good:
            raise SettingsError(f"{one.text!r} needs to know what a good request is: say it with --good 'ttft < 800ms'")
    if not objectives and any(brake.when is None for brake in goals.brakes):
        raise SettingsError("a brake on 'slo' needs an objective: give it with --slo 'ttft_p95 < 800ms'")
    return goals
