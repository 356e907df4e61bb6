"""Distributions as a person writes them: `lognormal(250ms, 0.4)`, `uniform(10, 50)`, `20ms`.

Times carry a unit (`durations`) and are sampled in ns; counts carry none. Whoever samples brings the generator, so
that a seed decides everything.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from tensorix_api.durations import UNITS, nanoseconds
from tensorix_api.errors import SettingsError

__all__ = ["FORMS", "Distribution", "Quantity"]

Quantity: TypeAlias = Literal["time", "count"]

FORMS = (
    "constant(x) or just x",
    "uniform(low, high)",
    "normal(mean, sd), cut at 0",
    "lognormal(median, sigma)",
    "exponential(mean)",
    "gamma(mean, shape)",
)
"""What may be written; x, low, high, mean, sd and median have a unit where a time is meant, sigma and shape never."""

_SPEC = re.compile(r"\s*(?:(?P<kind>[a-z]+)\s*\((?P<arguments>[^()]*)\)|(?P<plain>[^()]+))\s*")
_NUMBER = re.compile(r"\d+(?:\.\d*)?|\.\d+")
# For each kind, which of its arguments have the unit of what is sampled.
_ARGUMENTS: dict[str, tuple[bool, ...]] = {
    "constant": (True,),
    "uniform": (True, True),
    "normal": (True, True),
    "lognormal": (True, False),
    "exponential": (True,),
    "gamma": (True, False),
}
_LONGEST_NS = 3600e9


@dataclass(frozen=True, slots=True)
class Distribution:
    """A distribution with its numbers, times in ns."""

    kind: str
    first: float
    second: float = 0.0

    @classmethod
    def parse(cls, text: str, quantity: Quantity) -> Distribution:
        """Read one of `FORMS`. Raises SettingsError that says what may be written."""
        match = _SPEC.fullmatch(text)
        kind = (match["kind"] or "constant") if match else ""
        wanted = _ARGUMENTS.get(kind)
        if match is None or wanted is None:
            raise _wrong(text, quantity)
        written = [match["plain"]] if match["plain"] else match["arguments"].split(",")
        if len(written) != len(wanted):
            raise _wrong(text, quantity)
        parts = zip(written, wanted, strict=True)
        numbers = [_number(part, quantity == "time" and has_unit, text, quantity) for part, has_unit in parts]
        distribution = cls(kind, *numbers)
        distribution._check(text, quantity)
        return distribution

    def _check(self, text: str, quantity: Quantity) -> None:
        disordered = self.kind == "uniform" and self.second < self.first
        shapeless = self.kind == "gamma" and self.second == 0
        not_lognormal = self.kind == "lognormal" and (self.first == 0 or self.second > 10)
        if disordered or shapeless or not_lognormal or max(self.first, self.second) > _LONGEST_NS:
            raise _wrong(text, quantity)

    @property
    def constant(self) -> float | None:
        """The one value that it can take, None where there are several."""
        if self.kind == "constant" or (self.kind in ("normal", "lognormal") and self.second == 0):
            return self.first
        return None

    def sampler(self, generator: random.Random) -> Callable[[], float]:
        """A function that draws the next value, at least 0."""
        first, second = self.first, self.second
        if (value := self.constant) is not None:
            return lambda: value
        if self.kind == "uniform":
            return lambda: generator.uniform(first, second)
        if self.kind == "normal":
            return lambda: max(0.0, generator.gauss(first, second))
        if self.kind == "lognormal":
            mu = math.log(first)
            # Bounded, so that a far tail does not overflow the arithmetic of times.
            return lambda: min(math.exp(mu + second * generator.gauss(0.0, 1.0)), _LONGEST_NS)
        if self.kind == "exponential":
            return (lambda: generator.expovariate(1.0 / first)) if first else (lambda: 0.0)
        return lambda: generator.gammavariate(second, first / second)


def _number(text: str, unit_wanted: bool, whole: str, quantity: Quantity) -> float:
    text = text.strip()
    if _NUMBER.fullmatch(text):
        value = float(text)
        # A bare 0 needs no unit; any other time without one could mean anything.
        if not unit_wanted or value == 0:
            return value
    elif unit_wanted and (time_ns := nanoseconds(text)) is not None:
        return float(time_ns)
    raise _wrong(whole, quantity)


def _wrong(text: str, quantity: Quantity) -> SettingsError:
    times = f"with a unit ({UNITS}) and at most 1h, as in 'lognormal(250ms, 0.4)'"
    example = times if quantity == "time" else "as in 'uniform(10, 50)'"
    return SettingsError(f"{text!r} is no distribution: write one of {'; '.join(FORMS)}; {example}")
