"""What a run may spend, of which keys, and what it does when it is refused."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tensorix_api.errors import SettingsError
from tensorix_loadtests.plan._checks import positive, positive_int
from tensorix_loadtests.plan._prices import ANY_MODEL, Price, price_of

__all__ = ["Spending", "bounds_in", "check_bounded", "check_priced", "parse_key_variables", "parse_money"]

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """Caps that hold over the whole run, a resumed one included, and the share of the key's limits to stay within.

    In a run of several processes each has its part of every cap.
    """

    most_requests: int | None = None
    most_tokens: int | None = None
    most_money: float | None = None
    prices: dict[str, Price] = field(default_factory=dict)
    """By the name of the model; `*` for any other."""
    limit_share: float | None = None
    """Stay within this share of the requests and tokens that the key may use."""
    key_variables: tuple[str, ...] = ()
    """The environment variables of the keys; none: TENSORIX_API_KEY. The keys themselves are never part of a plan."""
    keys: Literal["spread", "pinned"] = "spread"
    """Each request takes the key with the most left, or each user keeps to one."""
    most_retries: int = 0
    """How often a request that got a 429 is tried again, each time an attempt and record of its own."""

    def __post_init__(self) -> None:
        for name, value in (("requests", self.most_requests), ("tokens", self.most_tokens)):
            if value is not None:
                positive_int(f"cap of {name}", value)
        if self.most_money is not None:
            positive("cap of money", self.most_money)
            if self.most_money * 1e9 < 1:
                raise SettingsError(f"the cap of money is {self.most_money!r}: less than a billionth is not counted")
            if not self.prices:
                raise SettingsError("a cap of money needs prices: give them with --prices")
        if self.limit_share is not None and not 0 < self.limit_share <= 1:
            raise SettingsError(f"the share of the limits is {self.limit_share}: give a number above 0, at most 1")
        for name in self.key_variables:
            if not isinstance(name, str) or not _VARIABLE.fullmatch(name):
                # Not repeated: it may be a key that somebody took for the name.
                raise SettingsError("the key's variable is no name of an environment variable: give the name, no key")
        if len(set(self.key_variables)) < len(self.key_variables):
            raise SettingsError("a key's variable is named twice: name each once")
        if self.keys not in ("spread", "pinned"):
            raise SettingsError(f"the keys are {self.keys!r}: give 'spread' or 'pinned'")
        if self.most_retries:
            positive_int("number of retries", self.most_retries)

    @property
    def bounds_tokens(self) -> bool:
        """Whether each answer needs a bound, so that its worst case is known."""
        return self.most_tokens is not None or self.most_money is not None

    @property
    def capped(self) -> bool:
        """Whether there is a cap at all."""
        return self.bounds_tokens or self.most_requests is not None


def check_bounded(spending: Spending, answer_bounds: Iterable[object]) -> None:
    """Refuse a plan whose chat requests leave their answers open under a cap of tokens or money.

    `answer_bounds` are all that may bound them: one that is given is enough.
    """
    if spending.bounds_tokens and all(bound is None for bound in answer_bounds):
        cap = "money" if spending.most_money is not None else "tokens"
        raise SettingsError(f"under a cap of {cap} each answer needs a bound: give --max-tokens")


def check_priced(spending: Spending, models: Iterable[str]) -> None:
    """Refuse a model without a price under a cap of money."""
    if spending.most_money is None:
        return
    for model in models:
        if price_of(spending.prices, model) is None:
            known = ", ".join(repr(name) for name in spending.prices)
            raise SettingsError(
                f"no price is given for the model {model!r} (only for {known}): add it, or {ANY_MODEL!r}"
            )


def parse_money(text: str) -> float:
    """An amount of money, such as `0.50`. Raises SettingsError."""
    try:
        value = float(text)
    except ValueError:
        raise SettingsError(f"{text!r} is no amount of money: give a number such as 0.50") from None
    positive("amount of money", value)
    return value


def parse_key_variables(texts: Iterable[str]) -> tuple[str, ...]:
    """Names of environment variables, one or several with commas a text. Raises SettingsError."""
    names = tuple(name.strip() for text in texts for name in text.split(",") if name.strip())
    Spending(key_variables=names)
    return names


def bounds_in(body: Mapping[str, Any]) -> tuple[object, ...]:
    """What bounds an answer in the extra fields of a request's body."""
    return body.get("max_tokens"), body.get("max_completion_tokens")
