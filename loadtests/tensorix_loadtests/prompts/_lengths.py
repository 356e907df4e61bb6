"""Lengths drawn from a distribution: the same for the same number and seed."""

from __future__ import annotations

import math
import random
from array import array
from collections.abc import Callable
from pathlib import Path

from tensorix_api.errors import SettingsError
from tensorix_loadtests.plan import Lengths

__all__ = ["Drawn"]

# One normal deviate in a million is farther out.
_FARTHEST = 4.75


def _read(path: str) -> array[int]:
    """The lengths of a file, one a line; empty lines are passed over."""
    values = array("q")
    try:
        with Path(path).open("rb") as file:
            for number, line in enumerate(file, 1):
                text = line.strip()
                if not text:
                    continue
                value = int(text) if text.isdigit() and len(text) < 10 else 0
                if value < 1:
                    said = text[:40].decode(errors="replace")
                    raise SettingsError(
                        f"the file of lengths {path!r}, line {number}: {said!r} is no whole number from 1"
                    )
                values.append(value)
    except OSError as error:
        raise SettingsError(f"the file of lengths {path!r} cannot be read: {error.strerror}") from None
    if not values:
        raise SettingsError(f"the file of lengths {path!r} is empty: write one length a line")
    return values


class Drawn:
    """Lengths as a plan wants them. Raises SettingsError for a file that cannot be used."""

    def __init__(self, lengths: Lengths) -> None:
        self._lengths = lengths
        self._values = _read(lengths.path) if lengths.path is not None else None
        mean, deviation = lengths.mean, lengths.deviation
        # Of the logarithms: the mean is exp(mu + sigma² / 2), the variance (exp(sigma²) - 1) times its square.
        self._sigma = math.sqrt(math.log1p((deviation / mean) ** 2)) if lengths.kind == "lognormal" else 0.0
        self._mu = math.log(mean) - self._sigma**2 / 2 if lengths.kind == "lognormal" else 0.0
        draw: dict[str, Callable[[int, random.Random], float]] = {
            "constant": lambda number, rng: mean,
            "normal": lambda number, rng: rng.normalvariate(mean, deviation),
            "lognormal": lambda number, rng: rng.lognormvariate(self._mu, self._sigma),
            "uniform": lambda number, rng: rng.randint(round(mean - deviation), round(mean + deviation)),
            "file": lambda number, rng: self._nth(number),
        }
        self._draw = draw[lengths.kind]
        self.least = lengths.least
        self.most = min(lengths.most, max(lengths.least, self._highest()))
        """No length is above it."""

    def _nth(self, number: int) -> int:
        values = self._values
        assert values is not None
        return values[number % len(values)]

    def _highest(self) -> int:
        lengths = self._lengths
        match lengths.kind:
            case "normal":
                return math.ceil(lengths.mean + _FARTHEST * lengths.deviation)
            case "lognormal":
                return math.ceil(math.exp(self._mu + _FARTHEST * self._sigma))
            case "file":
                assert self._values is not None
                return max(self._values)
            case _:
                return math.ceil(lengths.mean + lengths.deviation)

    @property
    def mean(self) -> float:
        """Of the lengths, as asked for; of a file, as it holds them."""
        return sum(self._values) / len(self._values) if self._values is not None else self._lengths.mean

    def __call__(self, number: int, rng: random.Random) -> int:
        """The length of the number-th prompt."""
        return min(self.most, max(self._lengths.least, round(self._draw(number, rng))))
