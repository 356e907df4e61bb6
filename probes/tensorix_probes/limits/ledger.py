"""What the probes of a key have used, and what they may use: a share of its limits, and a cap a day."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass

from tensorix_api.limiters import Cost
from tensorix_probes.result import Spent

__all__ = ["Ledger", "Refusal", "Reservation", "Standing"]


@dataclass(frozen=True, slots=True)
class Reservation:
    """What was set aside, until it is settled."""

    number: int
    cost: Cost
    money: float | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a check has to be skipped."""

    reason: str
    """One line."""
    until_unix_ns: int | None = None
    """When the same could be had; None where not before it is configured otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a ledger stands; None where there is no such limit."""

    requests_a_minute: int
    requests_allowed: int | None
    tokens_a_minute: int
    tokens_allowed: int | None
    tokens_today: int
    tokens_a_day: int | None
    cost_today: float | None
    cost_a_day: float | None


class Ledger:
    """The ledger of one key, shared by all targets that use it, in any number of threads.

    Times are ns of Unix time, and may jump: a jump back never gives a budget twice.
    """

    def __init__(
        self,
        *,
        requests: int | None,
        tokens: int | None,
        window_s: float = 60.0,
        share: float = 0.05,
        tokens_a_day: int | None = None,
        cost_a_day: float | None = None,
    ) -> None:
        self._lock = threading.Lock()
        self._spends: list[tuple[int, Spent]] = []
        self._number = 0

    def restore(self, spends: Iterable[tuple[int, Spent]]) -> None:
        """Take over what was used before this process was there, by its time."""
        self._spends.extend(spends)

    def reserve(self, now_unix_ns: int, cost: Cost, money: float | None = None) -> Reservation | Refusal:
        """Set the most that a check can be charged aside, or say why not."""
        with self._lock:
            self._number += 1
            return Reservation(self._number, cost, money)

    def settle(self, now_unix_ns: int, reservation: Reservation, spent: Spent) -> None:
        """Put what was used in place of what was set aside."""
        with self._lock:
            self._spends.append((now_unix_ns, spent))

    def standing(self, now_unix_ns: int) -> Standing:
        """What was used and is left."""
        raise NotImplementedError
