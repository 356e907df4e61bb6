"""What the probes of a key have used, and what they may use: a share of its limits, and a cap a day."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tensorix_api.budget import Budget, Cap, Denied, Held, Spend, share_of
from tensorix_api.limiters import Cost
from tensorix_probes.result import Spent

__all__ = ["Ledger", "Refusal", "Reservation", "Standing"]

_ENDLESS = 10**40
"""No sum of what is spent comes near it."""
_MOST = 10**9
"""Of one spend, in requests, tokens and money: more is nonsense that a server told, and would be no sum any more."""
_MANY = 50_000
"""Rows that are known at most: so many come only where the history was not read for long."""
_RESOURCES = ("requests", "tokens")
_COUNTS = 11 / 12
"""The part of a window for which a spend counts: 55 s of a minute. Else of rounds that are a minute apart one that
comes some ms early would be refused what the last one used."""


@dataclass(frozen=True, slots=True)
class Reservation:
    """What was set aside, until it is settled."""

    number: int
    cost: Cost
    money: float | None = None
    held: Held | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a check has to be skipped."""

    reason: str
    """One line."""
    until_unix_ns: int | None = None
    """When the same could be had; None where not before it is configured otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a ledger stands, with what is set aside; None where there is no such limit."""

    requests_a_minute: int
    requests_allowed: int | None
    tokens_a_minute: int
    tokens_allowed: int | None
    tokens_today: int
    tokens_a_day: int | None
    cost_today: float | None
    cost_a_day: float | None


@dataclass(slots=True)
class _Known:
    """Which rows of a history are counted: those that may be read again, and no others."""

    rows: Counter[tuple[int, Spent]] = field(default_factory=Counter)
    forgotten_unix_ns: int = 0
    """All that is older is counted, and forgotten."""
    read_unix_ns: int | None = None

    def forget(self, before_unix_ns: int) -> None:
        for row in [row for row in self.rows if row[0] < before_unix_ns]:
            del self.rows[row]
        self.forgotten_unix_ns = before_unix_ns


class Ledger:
    """The ledger of one key, shared by all targets that use it, in any number of threads.

    The share is of a window (a minute), at least one request of it. What was used counts for 11/12 of a window,
    so that rounds a minute apart, give or take a jitter, have a share each. The days are those of UTC. Times that are
    given are ns of Unix time and may jump: they only say which day it is. Windows are measured by a clock that does
    not, so that a clock that is set neither freezes a budget nor gives it twice.
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
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """`requests` and `tokens` are the key's limits in a window, None where there is none."""
        self._lock = threading.Lock()
        self._monotonic_ns = monotonic_ns
        self._share, self._window_s = share, window_s
        self._tokens_a_day, self._cost_a_day = tokens_a_day, cost_a_day
        self._limits: tuple[int | None, int | None] = (None, None)
        self._known = _Known()
        self._number = 0
        window_ns = round(window_s * _COUNTS * 1e9)
        self._budget = Budget(
            [
                Cap(what="requests", amount=_ENDLESS, window_ns=window_ns),
                Cap(what="tokens", amount=_ENDLESS, window_ns=window_ns),
                Cap(what="tokens", amount=_ENDLESS if tokens_a_day is None else tokens_a_day, daily=True),
                Cap(what="money", amount=_ENDLESS if cost_a_day is None else cost_a_day, daily=True),
            ]
        )
        self.limit(requests, tokens)

    def limit(self, requests: int | None, tokens: int | None) -> None:
        """From now on the key has these limits. What was used stays."""
        with self._lock:
            self._limits = requests, tokens
            for nth, limit in enumerate(self._limits):
                self._budget.change(nth, _ENDLESS if limit is None else share_of(limit, self._share))

    def take_over(self, before: Ledger) -> None:
        """Go on with what another ledger of the key has counted, what is under way too; it is not asked any more."""
        self._lock = before._lock
        with self._lock:
            self._budget.take_over(before._budget)
            self._known = before._known

    @property
    def restored_unix_ns(self) -> int | None:
        """When `restore` was called last, here or in what was taken over; None: never."""
        return self._known.read_unix_ns

    def own(self, unix_ns: int, spent: Spent) -> None:
        """What is settled here already will come back as a row of a history: `restore` is not to take it."""
        if spent == Spent():
            return
        with self._lock:
            known = self._known
            known.rows[unix_ns, spent] += 1
            if len(known.rows) > _MANY:
                known.forget(sorted(at for at, _ in known.rows)[_MANY // 2])

    def restore(
        self,
        spends: Iterable[tuple[int, Spent]],
        now_unix_ns: int | None = None,
        *,
        since_unix_ns: int | None = None,
    ) -> None:
        """Take over what was used before this process was there, or by others, by its time.

        A row that was given before is not taken twice, nor what `own` was told of. `since_unix_ns` is from when on the
        rows are: older ones are forgotten. Should they be given after all, the clock having been set back, they are
        known again without being counted.
        """
        now = time.time_ns() if now_unix_ns is None else now_unix_ns
        with self._lock:
            known = self._known
            known.read_unix_ns = now
            monotonic = self._monotonic_ns()
            given: Counter[tuple[int, Spent]] = Counter()
            for unix_ns, spent in spends:
                given[unix_ns, spent] += 1
                if given[unix_ns, spent] > known.rows[unix_ns, spent]:
                    known.rows[unix_ns, spent] += 1
                    if unix_ns >= known.forgotten_unix_ns:
                        # What seems to be still to come, the clock having been set back, was just now.
                        self._budget.charge(monotonic - max(0, now - unix_ns), _spend(spent), unix_ns=unix_ns)
            if since_unix_ns is not None:
                known.forget(since_unix_ns)

    def reserve(self, now_unix_ns: int, cost: Cost, money: float | None = None) -> Reservation | Refusal:
        """Set the most that a check can be charged aside, or say why not."""
        spend = Spend(cost.requests, cost.tokens, money or 0.0)
        with self._lock:
            held = self._budget.reserve(self._monotonic_ns(), spend, unix_ns=now_unix_ns)
            if isinstance(held, Denied):
                until = None if held.wait_ns is None else now_unix_ns + held.wait_ns
                return Refusal(self._reason(held, spend), until)
            self._number += 1
            return Reservation(self._number, cost, money, held)

    def settle(self, now_unix_ns: int, reservation: Reservation, spent: Spent) -> None:
        """Put what was used in place of what was set aside; it counts from when it was set aside."""
        if reservation.held is not None:
            with self._lock:
                self._budget.settle(self._monotonic_ns(), reservation.held, _spend(spent))

    def standing(self, now_unix_ns: int) -> Standing:
        """What was used and is left."""
        with self._lock:
            (asked, requests), (taken, tokens), (_, today), (_, cost) = self._budget.used(
                self._monotonic_ns(), unix_ns=now_unix_ns
            )
            return Standing(
                requests_a_minute=round(requests),
                requests_allowed=None if self._limits[0] is None else asked.units,
                tokens_a_minute=round(tokens),
                tokens_allowed=None if self._limits[1] is None else taken.units,
                tokens_today=round(today),
                tokens_a_day=self._tokens_a_day,
                cost_today=cost if cost or self._cost_a_day is not None else None,
                cost_a_day=self._cost_a_day,
            )

    def _reason(self, denied: Denied, spend: Spend) -> str:
        """One line on which cap holds, what it is, and which setting moves it."""
        cap, wait = denied.cap, denied.wait_ns
        amount: float = spend.money if cap.what == "money" else spend.units(cap.what)
        if cap.window_ns is not None:
            limit = self._limits[_RESOURCES.index(cap.what)]
            within = "a minute" if self._window_s == 60 else f"in {self._window_s:g} s"
            share = f"{self._share * 100:.3g} % of {limit:,}, `budget.share`"
            text = f"the probes of this key may use {cap.units:,} {_plural(cap.what, cap.units)} {within} ({share})"
            rest = f"{denied.used:,.0f} used"
        else:
            setting = "cost_a_day" if cap.what == "money" else "tokens_a_day"
            what = "" if cap.what == "money" else " tokens"
            text = f"the probes of this key may use {cap.amount:,.12g}{what} a day (UTC; `budget.{setting}`)"
            rest = f"{denied.used:,.12g} used"
        end = "never enough" if wait is None else f"enough in {max(1, -(-wait // 10**9)):,} s"
        return f"{text}: {rest}, {amount:,.12g} needed, {end}"


def _plural(what: str, amount: int) -> str:
    return what.removesuffix("s") if amount == 1 else what


def _spend(spent: Spent) -> Spend:
    cost = spent.cost or 0.0
    money = min(_MOST, max(0.0, cost)) if math.isfinite(cost) else _MOST
    return Spend(min(_MOST, max(0, spent.requests)), min(_MOST, max(0, spent.tokens)), money)
