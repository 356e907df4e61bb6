"""Regression gates: `ttft_p95 +10%`, `error_rate +1pp`, `successful -5%`, and what became of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import expm1
from typing import Literal, TypeAlias

from tensorix_api.durations import nanoseconds
from tensorix_api.errors import SettingsError
from tensorix_records.judging import Standing
from tensorix_records.objectives import QUANTITIES, Objective, read_objective
from tensorix_reports.comparison._draws import Interval

__all__ = ["RULES", "Gate", "Rule", "gate_key", "gate_standing", "read_gate"]

Rule: TypeAlias = Literal["shown", "estimate", "certain"]
RULES: tuple[Rule, ...] = ("shown", "estimate", "certain")

_FORM = re.compile(r"\s*([A-Za-z][\w.]*)\s+([+-])\s*(\S.*?)\s*")
_NUMBER = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?|\.[0-9]{1,9})\s*(%|pp|/\s*(?:s|sec|second|m|min|minute|h|hour))?")
_ANY_BOUND = {"time": "1s", "share": "50%", "rate": "1/s"}


@dataclass(frozen=True, slots=True)
class Gate:
    """The change of a figure that is not accepted."""

    text: str
    objective: Objective
    """The figure; its bound means nothing."""
    more: bool
    """Whether more than this is the fault, or less."""
    amount: float
    relative: bool
    """A share of the baseline's figure; else ns, a share or a number a second."""


def read_gate(text: str) -> Gate:
    """The gate `ttft_p95 +10%`. Raises SettingsError, in one line that names what is allowed."""
    whole = " ".join(text.split())
    found = _FORM.fullmatch(text)
    if found is None:
        raise SettingsError(
            f"the gate {whole!r} is not of the form 'ttft_p95 +10%' (a figure, a blank, + or -, and by how much)"
        )
    name, sign, amount = found[1], found[2], found[3]
    kind = QUANTITIES[name].kind if name in QUANTITIES else "time"
    objective = read_objective(f"{name} < {_ANY_BOUND[kind]}")
    if objective.statistic == "max":
        raise SettingsError(f"the gate {whole!r} asks for a maximum, which has no interval: choose a percentile")
    number = _NUMBER.fullmatch(amount)
    unit = number[2] if number else None
    if number and unit == "%":
        return Gate(whole, objective, sign == "+", float(number[1]) / 100, True)
    if number and unit == "pp" and objective.kind == "share":
        return Gate(whole, objective, sign == "+", float(number[1]) / 100, False)
    if number and unit and unit.startswith("/") and objective.kind == "rate":
        seconds = {"s": 1, "m": 60, "h": 3600}[unit.lstrip("/ ")[0]]
        return Gate(whole, objective, sign == "+", float(number[1]) / seconds, False)
    if objective.kind == "time" and (time_ns := nanoseconds(amount)) is not None:
        return Gate(whole, objective, sign == "+", float(time_ns), False)
    units = {"time": "+10% or +50ms", "share": "+10% (of the baseline's) or +1pp", "rate": "-10% or -2/s"}
    raise SettingsError(f"{amount!r} in the gate {whole!r} is no change of it: write it like {units[objective.kind]}")


def gate_key(gate: Gate) -> tuple[str, str]:
    """The name of the quantity and of the statistic."""
    one = gate.objective
    if one.kind == "time":
        return one.name, "mean" if one.statistic == "mean" else f"p{one.statistic:g}"
    return one.name, "share" if one.kind == "share" else "a second"


def _changes(interval: Interval, baseline: float, relative: bool) -> tuple[float, float, float] | None:
    """The change and its interval in the gate's terms."""
    values = (interval.difference, interval.low, interval.high)
    if interval.relative:
        by = 1.0 if relative else baseline
        return by * expm1(values[0]), by * expm1(values[1]), by * expm1(values[2])
    if not relative:
        return values
    return None if baseline == 0 else (values[0] / baseline, values[1] / baseline, values[2] / baseline)


def gate_standing(gate: Gate, interval: Interval, baseline: float, rule: Rule) -> tuple[Standing, str]:
    """Whether a change is accepted, and why, in a few words."""
    changes = _changes(interval, baseline, gate.relative)
    if changes is None:
        return "unknown", "not enough data: the baseline is 0, and no share of it can be told"
    change, low, high = changes
    if not gate.more:
        change, low, high = -change, -high, -low
    beyond, may = change > gate.amount, high > gate.amount
    if rule == "estimate":
        return ("broken", "beyond the bound") if beyond else ("met", "within the bound")
    if rule == "certain":
        if low > gate.amount:
            return "broken", "the whole interval is beyond the bound"
        return ("unknown", "not enough data: the interval holds the bound") if may else ("met", "within the bound")
    if beyond and low > 0:
        return "broken", "beyond the bound, and more than chance"
    if low > 0 or not may:
        return "met", "within the bound" + (", but the interval holds it" if may else "")
    return "unknown", "not enough data: these cannot show a change, nor that it keeps within the bound"
