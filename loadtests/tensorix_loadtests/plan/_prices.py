"""What tokens cost: a file of prices, and the money of a request."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from tensorix_api.errors import SettingsError

__all__ = ["ANY_MODEL", "Price", "price_of", "read_prices"]

ANY_MODEL = "*"
"""The name of the prices of every model that has none of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What a model costs, in money for a million tokens. Money in any one currency."""

    prompt: float
    completion: float
    cached: float | None = None
    """Of prompt tokens that the server had in its cache; None: as `prompt`."""
    reasoning: float | None = None
    """Of completion tokens that are reasoning; None: as `completion`."""

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if value is None and item.default is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise SettingsError(f"the price of {item.name} tokens is {value!r}: give money for a million, from 0")

    def most(self, prompt_tokens: int, completion_tokens: int) -> float:
        """The money of so many tokens, of whichever kind they turn out to be."""
        prompt = max(self.prompt, self.cached or 0.0)
        completion = max(self.completion, self.reasoning or 0.0)
        return (prompt_tokens * prompt + completion_tokens * completion) / 1e6

    def money(self, prompt: int, completion: int, *, cached: int = 0, reasoning: int = 0) -> float:
        """The money of what was used; `cached` are among the prompt's tokens, `reasoning` among the completion's."""
        cached, reasoning = min(cached, prompt), min(reasoning, completion)
        price_cached = self.prompt if self.cached is None else self.cached
        price_reasoning = self.completion if self.reasoning is None else self.reasoning
        total = (prompt - cached) * self.prompt + cached * price_cached
        total += (completion - reasoning) * self.completion + reasoning * price_reasoning
        return total / 1e6


def price_of(prices: Mapping[str, Price], model: str | None) -> Price | None:
    """The price of a model, or that of any other; None where neither is known."""
    return prices.get(model or ANY_MODEL) or prices.get(ANY_MODEL)


def read_prices(path: str | Path) -> dict[str, Price]:
    """The prices in a file of TOML or JSON: a table a model, with `prompt`, `completion`, `cached` and `reasoning`.

    Money for a million tokens; the model `*` stands for any other. Raises SettingsError, in one line.
    """
    data = _parsed(Path(path))
    if not data:
        raise SettingsError(f'the price file {path} names no model: write ["*"], prompt = … and completion = …')
    prices = {}
    known = [item.name for item in fields(Price)]
    for model, table in data.items():
        where = f"the price file {path}, model {model!r}"
        if not isinstance(table, dict):
            raise SettingsError(f"{where}: give a table of {', '.join(known)}")
        for name in table:
            if name not in known:
                raise SettingsError(f"{where}: unknown price {name!r}; known are {', '.join(known)}")
        for name in ("prompt", "completion"):
            if name not in table:
                raise SettingsError(f"{where}: the price of {name} tokens is missing; give money for a million")
        try:
            prices[model] = Price(**table)
        except SettingsError as error:
            raise SettingsError(f"{where}: {error}") from None
    return prices


def _parsed(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is no UTF-8 text"
        raise SettingsError(f"the price file {str(path)!r} cannot be read: {reason}") from None
    try:
        # JSON begins with a brace, which begins no line of TOML.
        data = json.loads(text) if text.lstrip().startswith("{") else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        said = " ".join(str(error).split())
        raise SettingsError(f"the price file {path} is neither TOML nor JSON: {said}") from None
    if not isinstance(data, dict):
        raise SettingsError(f"the price file {path} holds no table of models")
    return data
