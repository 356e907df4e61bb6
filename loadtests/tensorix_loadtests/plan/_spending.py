"""What a run may spend, of which keys, and what it does when it is refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tensorix_api.errors import SettingsError
from tensorix_loadtests.plan._checks import positive, positive_int

__all__ = ["Price", "Spending"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What a model costs, in money for a million tokens. Money in any one currency."""

    prompt: float
    completion: float

    def __post_init__(self) -> None:
        for name, value in (("prompt", self.prompt), ("completion", self.completion)):
            if value != 0:
                positive(f"price of a {name} token", value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """Caps that hold over the whole run, a resumed one included, and the share of the key's limits to stay within."""

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
            if not self.prices:
                raise SettingsError("a cap of money needs prices: give them with --prices")
        if self.limit_share is not None and not 0 < self.limit_share <= 1:
            raise SettingsError(f"the share of the limits is {self.limit_share}: give a number above 0, at most 1")
        if self.most_retries:
            positive_int("number of retries", self.most_retries)
