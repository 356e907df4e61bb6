"""Oracles of the limiters: they keep the history and work everything out anew from it at each question.

Written from the limiters' description and apart from their code: nothing is imported from them, nothing is kept but
what came and when, sums are brute force, shares are fractions. `trim` drops what can no longer matter, so
that 10,000 arrivals are walked in time; that it changes no answer is a test of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from math import floor

import pytest


@dataclass(slots=True, eq=False)
class Charge:
    """Something that came: when, how much, and how much it turned out to be."""

    at_ns: int
    amount: int


@dataclass(slots=True, kw_only=True)
class History:
    """One limited resource of one kind, with everything that was charged."""

    kind: str
    """`first` (a window from its first charge), `clock`, `log`, `counter` or `bucket`."""
    limit: int
    window_ns: int
    phase_ns: int = 0
    burst: int | None = None
    charges: list[Charge] = field(default_factory=list)
    arrivals: list[tuple[int, int]] = field(default_factory=list)
    """For the bucket: (time, units taken or given back), in order."""
    tat: int = 0
    """For the bucket: the theoretical arrival time before the first of `arrivals`, in 1 / limit ns: there the emission
    interval T, window_ns / limit, is whole."""
    known: dict[int, int] = field(default_factory=dict)
    """Answers that were worked out since something last came, by time: a question asked twice is walked once."""
    known_tat: int | None = None

    def charge(self, now_ns: int, amount: int) -> Charge:
        """Put down a charge."""
        self.charges.append(Charge(now_ns, amount))
        self.arrivals.append((now_ns, amount))
        self._forget()
        return self.charges[-1]

    def settle(self, now_ns: int, charge: Charge, amount: int) -> None:
        """Put down what a charge turned out to be."""
        # No time is looked at: a charge that lies outside of what counts is not looked at either.
        self.arrivals.append((now_ns, amount - charge.amount))
        self._forget()
        charge.amount = amount

    def _forget(self) -> None:
        self.known.clear()
        self.known_tat = None

    def change(self, now_ns: int, limit: int, burst: int | None) -> None:
        """From now on another limit. What was used stays, in units."""
        if self.kind == "bucket":
            # As many emission intervals ahead as before; one is window_ns by either limit's measure of time.
            self.tat = now_ns * limit + max(self._tat() - now_ns * self.limit, 0)
            self.burst = burst
            self.arrivals.clear()
        self.limit = limit
        self._forget()

    @property
    def most(self) -> int:
        """What is left when nothing was charged."""
        return self.limit if self.burst is None else self.burst

    def left(self, now_ns: int) -> int:
        """Whole units left at `now_ns`, below 0 where overdrawn, if nothing came after what is known."""
        if now_ns not in self.known:
            self.known[now_ns] = self._left(now_ns)
        return self.known[now_ns]

    def _left(self, now_ns: int) -> int:
        match self.kind:
            case "first":
                return self.limit - sum([charge.amount for charge in self._opened(now_ns)])
            case "clock":
                return self.limit - self._counted(self._window_of(now_ns))
            case "log":
                over_ns = now_ns - self.window_ns
                return self.limit - sum([charge.amount for charge in self.charges if charge.at_ns > over_ns])
            case "counter":
                window = self._window_of(now_ns)
                left_ns = self.phase_ns + (window + 1) * self.window_ns - now_ns
                share = Fraction(self._counted(window - 1) * left_ns, self.window_ns)
                return floor(self.limit - self._counted(window) - share)
            case _:
                # GCRA: n units conform if max(TAT, now) + n T <= now + burst T; the most that do are left.
                now = now_ns * self.limit
                return (now + self.most * self.window_ns - max(self._tat(), now)) // self.window_ns

    def passes(self, now_ns: int, amount: int) -> bool:
        """Whether `amount` passes; one unit must be left where it is 0."""
        return self.left(now_ns) >= max(1, amount)

    def _opened(self, now_ns: int) -> list[Charge]:
        """The charges of the window that is open, found by walking from the very first charge."""
        inside: list[Charge] = []
        for charge in self.charges:
            if inside and charge.at_ns - inside[0].at_ns >= self.window_ns:
                inside = []
            inside.append(charge)
        return inside if inside and now_ns - inside[0].at_ns < self.window_ns else []

    def _window_of(self, at_ns: int) -> int:
        return (at_ns - self.phase_ns) // self.window_ns

    def _counted(self, window: int) -> int:
        start_ns = self.phase_ns + window * self.window_ns
        end_ns = start_ns + self.window_ns
        return sum([charge.amount for charge in self.charges if start_ns <= charge.at_ns < end_ns])

    def _tat(self) -> int:
        if self.known_tat is None:
            tat = self.tat
            for at_ns, amount in self.arrivals:
                # What is given back lowers it, but never into the past.
                at = at_ns * self.limit
                tat = max(max(tat, at) + amount * self.window_ns, at)
            self.known_tat = tat
        return self.known_tat

    def trim(self, now_ns: int) -> None:
        """Drop charges that no later question can reach."""
        self.known.clear()
        if self.kind == "bucket":
            self.tat = self._tat()
            self.charges.clear()
        elif self.kind == "first":
            # Charges of a window that is over; the last one's first charge says where the next may open.
            self.charges[:] = self._opened(now_ns)
        else:
            windows = 2 if self.kind == "counter" else 1
            start_ns = self._window_of(now_ns) * self.window_ns + self.phase_ns
            oldest_ns = now_ns - self.window_ns + 1 if self.kind == "log" else start_ns - (windows - 1) * self.window_ns
            if self.charges and self.charges[0].at_ns < oldest_ns:
                self.charges[:] = [charge for charge in self.charges if charge.at_ns >= oldest_ns]
        self.arrivals.clear()


@pytest.fixture(scope="session")
def history() -> Callable[..., History]:
    """Makes an oracle: `history(kind=..., limit=..., window_ns=..., phase_ns=0, burst=None)`."""
    return History
