"""Budgets: what may be spent, of a limit that others use too or of somebody's money. Pure: the time is an argument.

A limiter says what passes; a budget sets the worst case aside before a request is sent and puts what it was in place of
that afterwards, so that what is under way can never overspend together::

    held = budget.reserve(now_ns, worst)         # or a `Denied`, which takes nothing
    budget.settle(now_ns, held, actual)          # what was really used; or
    budget.release(now_ns, held)                 # it was never sent

A cap holds over a sliding window, over each day of UTC, or for as long as the budget lives. Money is kept in whole
billionths, so that a million settlements leave no dust behind.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import floor
from typing import Literal, Protocol

__all__ = ["DAY_NS", "NOTHING", "Budget", "Cap", "Denied", "Held", "Spend", "share_of"]

DAY_NS = 86_400 * 10**9
_MONEY = 10**9


@dataclass(frozen=True, slots=True)
class Spend:
    """An amount of all that can be spent. Money in any one currency."""

    requests: int = 0
    tokens: int = 0
    money: float = 0.0

    def __post_init__(self) -> None:
        if not (self.requests >= 0 and self.tokens >= 0 and 0 <= self.money < float("inf")):
            raise ValueError(f"what is spent is never negative: {self}")

    def units(self, what: str) -> int:
        """The amount of one kind; money in billionths."""
        match what:
            case "requests":
                return self.requests
            case "tokens":
                return self.tokens
            case _:
                return round(self.money * _MONEY)


NOTHING = Spend()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cap:
    """The most that may be spent of one kind: in any `window_ns`, `daily` (by UTC), or in all where it is neither."""

    what: Literal["requests", "tokens", "money"]
    amount: float
    window_ns: int | None = None
    daily: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.amount < float("inf"):
            raise ValueError("a cap is a number, at least 0")
        if self.window_ns is not None and (self.daily or self.window_ns <= 0):
            raise ValueError("a cap holds over a window longer than 0 ns or over a day, not both")

    @property
    def units(self) -> int:
        """The cap in whole units; money in billionths."""
        return floor(self.amount * _MONEY + 0.5) if self.what == "money" else floor(self.amount)


@dataclass(frozen=True, slots=True)
class Denied:
    """Why nothing was set aside: the cap that holds longest."""

    cap: Cap
    used: float
    """Of it, what is set aside included."""
    wait_ns: int | None
    """Until the same would fit if nothing else came; None: waiting alone never lets it."""


@dataclass(slots=True, eq=False)
class _Entry:
    """What one spend takes of one cap."""

    at_ns: int
    day: int
    units: int
    counts: bool = True
    """False: its window is over."""


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """What was set aside, until it is settled or released, once."""

    spend: Spend
    entries: tuple[_Entry, ...] = field(default=(), repr=False)


class _Account(Protocol):
    """What was spent of one cap."""

    def put(self, entry: _Entry) -> None: ...
    def change(self, entry: _Entry, units: int) -> None: ...
    def used(self, now_ns: int, unix_ns: int) -> int: ...
    def wait_ns(self, now_ns: int, unix_ns: int, units: int, most: int) -> int | None: ...


class _Window:
    """A spend counts for exactly a window from its time."""

    def __init__(self, window_ns: int) -> None:
        self.window_ns = window_ns
        self._entries: list[_Entry] = []
        self._used = 0

    def put(self, entry: _Entry) -> None:
        insort(self._entries, entry, key=lambda one: one.at_ns)
        self._used += entry.units

    def change(self, entry: _Entry, units: int) -> None:
        if entry.counts:
            self._used += units - entry.units
        entry.units = units

    def used(self, now_ns: int, unix_ns: int) -> int:
        over = bisect_right(self._entries, now_ns - self.window_ns, key=lambda one: one.at_ns)
        for entry in self._entries[:over]:
            entry.counts = False
            self._used -= entry.units
        del self._entries[:over]
        return self._used

    def wait_ns(self, now_ns: int, unix_ns: int, units: int, most: int) -> int | None:
        over = self.used(now_ns, unix_ns) + units - most
        for entry in self._entries:
            over -= entry.units
            if over <= 0:
                return entry.at_ns + self.window_ns - now_ns
        return None


class _Days:
    """A spend counts on the day of UTC on which it was begun: a clock that jumps gives no day's cap twice."""

    def __init__(self) -> None:
        self._used: defaultdict[int, int] = defaultdict(int)

    def put(self, entry: _Entry) -> None:
        self._used[entry.day] += entry.units

    def change(self, entry: _Entry, units: int) -> None:
        self._used[entry.day] += units - entry.units
        entry.units = units

    def used(self, now_ns: int, unix_ns: int) -> int:
        return self._used.get(unix_ns // DAY_NS, 0)

    def wait_ns(self, now_ns: int, unix_ns: int, units: int, most: int) -> int | None:
        return DAY_NS - unix_ns % DAY_NS if units <= most else None


class _Ever:
    """A spend counts for good."""

    def __init__(self) -> None:
        self._used = 0

    def put(self, entry: _Entry) -> None:
        self._used += entry.units

    def change(self, entry: _Entry, units: int) -> None:
        self._used += units - entry.units
        entry.units = units

    def used(self, now_ns: int, unix_ns: int) -> int:
        return self._used

    def wait_ns(self, now_ns: int, unix_ns: int, units: int, most: int) -> int | None:
        return None


class Budget:
    """Some caps that hold together. Not for several threads at once.

    `now_ns` is of any clock that never runs backwards; `unix_ns`, which may jump, only says which day it is. What is
    asked for in vain of a kind costs nothing of the others, and a spend of 0 of a kind passes whatever is left of it.
    """

    def __init__(self, caps: Iterable[Cap] = ()) -> None:
        self._accounts: list[tuple[Cap, _Account]] = [(cap, _account(cap)) for cap in caps]

    def reserve(self, now_ns: int, spend: Spend, *, unix_ns: int = 0) -> Held | Denied:
        """Set the worst case aside, of all caps or of none."""
        denied: Denied | None = None
        for cap, account in self._accounts:
            units, used = spend.units(cap.what), account.used(now_ns, unix_ns)
            if units and used + units > cap.units:
                one = Denied(cap, _amount(cap, used), account.wait_ns(now_ns, unix_ns, units, cap.units))
                if denied is None or _longer(one.wait_ns, denied.wait_ns):
                    denied = one
        return denied or self.charge(now_ns, spend, unix_ns=unix_ns)

    def charge(self, now_ns: int, spend: Spend, *, unix_ns: int = 0) -> Held:
        """Take it whether it fits or not: what others spent. Here `now_ns` may lie in the past."""
        entries = tuple(_Entry(now_ns, unix_ns // DAY_NS, spend.units(cap.what)) for cap, _ in self._accounts)
        for (_, account), entry in zip(self._accounts, entries, strict=True):
            account.put(entry)
        return Held(spend, entries)

    def settle(self, now_ns: int, held: Held, actual: Spend) -> None:
        """Put what was really used in place of what was set aside, at its time and on its day."""
        for (cap, account), entry in zip(self._accounts, held.entries, strict=True):
            account.change(entry, actual.units(cap.what))

    def release(self, now_ns: int, held: Held) -> None:
        """Give back what was set aside."""
        self.settle(now_ns, held, NOTHING)

    def used(self, now_ns: int, *, unix_ns: int = 0) -> list[tuple[Cap, float]]:
        """Of each cap, in their order, what is used and set aside."""
        return [(cap, _amount(cap, account.used(now_ns, unix_ns))) for cap, account in self._accounts]

    def change(self, nth: int, amount: float) -> None:
        """From now on the nth cap is another amount. What was used stays."""
        cap, account = self._accounts[nth]
        self._accounts[nth] = replace(cap, amount=amount), account

    def take_over(self, before: Budget) -> None:
        """Go on with what another budget, of as many caps of the same kinds, has counted; it is not used any more."""
        for nth, (_, account) in enumerate(before._accounts):
            cap, _ = self._accounts[nth]
            if isinstance(account, _Window) and cap.window_ns is not None:
                account.window_ns = cap.window_ns
            self._accounts[nth] = cap, account


def share_of(limit: int, share: float) -> int:
    """The whole units that a share of a limit is, at least 1 of a limit that lets anything pass.

    The share is taken as it is written: 0.29 of 100 is 29, though the nearest binary fraction is a little less.
    """
    return min(limit, max(1, floor(limit * Fraction(repr(float(share))))))


def _account(cap: Cap) -> _Account:
    if cap.window_ns is not None:
        return _Window(cap.window_ns)
    return _Days() if cap.daily else _Ever()


def _amount(cap: Cap, units: int) -> float:
    return units / _MONEY if cap.what == "money" else units


def _longer(one: int | None, other: int | None) -> bool:
    return other is not None and (one is None or one > other)
