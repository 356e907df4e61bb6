"""Requests over the limit that wait until they fit, instead of being refused."""

from __future__ import annotations

import time
import weakref
from collections import deque
from collections.abc import Callable
from functools import partial

from tensorix_api.limiters import Cost, Limiter
from tensorix_simulator.exchange import Exchange
from tensorix_simulator.latency.pacing import Pacer
from tensorix_simulator.limits.key_limits import KeyLimits
from tensorix_simulator.limits.ledger import Ledger
from tensorix_simulator.limits.outlook import Outlook, Plan, outlook

__all__ = ["Waiting", "WaitingLines"]

_NEVER_NS = 1 << 62
_PLAN_AGE_NS = 1_000_000_000
_AGAIN_NS = 1_000_000
_PATIENCE_NS = 50_000_000


class Waiting:
    """One request that waits."""

    __slots__ = (
        "__weakref__", "alias", "cost", "exchange", "ledger", "model", "order", "over", "passed", "since_ns",
        "until_ns",
    )  # fmt: skip

    def __init__(
        self,
        exchange: Exchange,
        ledger: Ledger,
        cost: Cost,
        model: str | None,
        passed: Callable[[], None],
        now_ns: int,
    ) -> None:
        self.exchange = exchange
        self.ledger = ledger
        self.alias = ledger.alias
        self.cost = cost
        self.model = model
        self.passed = passed
        self.since_ns = now_ns
        self.until_ns = now_ns + round(exchange.settings.longest_delay_s * 1e9)
        self.order = exchange.number
        self.over = False
        """Whether it waits no more."""


class _Line:
    """Those of one key, in the order in which they came; some of them may have left."""

    __slots__ = ("claims", "next_ns", "plan", "queue")

    def __init__(self) -> None:
        self.queue: deque[Waiting] = deque()
        self.next_ns = 0
        """When its first is worth a look; 0: at once, after anything has changed."""
        self.claims: frozenset[Limiter] = frozenset()
        """Limiters of all keys, where its first waits for nothing else: nobody who came later may take from them."""
        self.plan: Plan | None = None

    def first(self) -> Waiting | None:
        """Its first, after those who left are put away."""
        while self.queue and self.queue[0].over:
            self.queue.popleft()
        return self.queue[0] if self.queue else None


class WaitingLines:
    """A line a key, first come, first served; only its first is ever looked at, so a large one is not overtaken.

    Limits of all keys are given in the order of arrival too: whoever is first of its line and waits for them only has
    a claim on all of them, until it has passed. So nothing starves.
    """

    def __init__(
        self,
        pacer: Pacer,
        limits: KeyLimits,
        refuse: Callable[[Waiting, Outlook, int], None],
    ) -> None:
        """`refuse` answers who has waited too long, with what held it and the time."""
        self._pacer = pacer
        self._limits = limits
        self._refuse = refuse
        self._lines: dict[str, _Line] = {}
        self._wake_ns = _NEVER_NS

    def __bool__(self) -> bool:
        return bool(self._lines)

    def must_join(self, alias: str, model: str | None) -> bool:
        """Whether somebody who came before waits for what this request wants."""
        if alias in self._lines:
            return True
        if not self._limits.shared or not self._lines:
            return False
        claimed = frozenset[Limiter]().union(*(line.claims for line in self._lines.values()))
        return not claimed.isdisjoint(self._limits.of(alias, model).limiters)

    def join(self, one: Waiting) -> Outlook | None:
        """Let a request wait; or say what holds it so long, or for ever, that it may not."""
        now_ns = one.since_ns
        line = self._lines.get(one.alias) or _Line()
        if line.plan is None or now_ns - line.plan.made_ns > _PLAN_AGE_NS:
            line.plan = self._planned(line, now_ns)
        planned = line.plan.add(self._limits_of(one), now_ns, one.cost, one.until_ns)
        if planned.at_ns is None or planned.at_ns > one.until_ns:
            return planned
        line.queue.append(one)
        one.exchange.connection.on_gone = lambda: self._leave(one, "client_gone")
        if one.alias not in self._lines:
            self._lines[one.alias] = line
            self._arm(now_ns)
        # Weakly: most have long been answered by then, and are not to be kept in memory for it.
        self._pacer.add(one.until_ns, partial(self._expire, weakref.ref(one)))
        return None

    def _planned(self, line: _Line, now_ns: int) -> Plan:
        plan = Plan(now_ns)
        for one in line.queue:
            if not one.over:
                plan.add(self._limits_of(one), now_ns, one.cost, _NEVER_NS)
        return plan

    def _limits_of(self, one: Waiting) -> tuple[Limiter, ...]:
        return self._limits.of(one.alias, one.model).limiters

    # What lets somebody pass.

    def freed(self, alias: str) -> None:
        """Something of a key's has ended or was given back."""
        if self._limits.shared:
            self.look_again()
        elif (line := self._lines.get(alias)) is not None:
            line.next_ns = 0
            self._arm(time.monotonic_ns())

    def look_again(self) -> None:
        """Other limits hold, or more may be left."""
        for line in self._lines.values():
            line.next_ns = 0
        if self._lines:
            self._arm(time.monotonic_ns())

    def replan(self) -> None:
        """Other limits hold: who comes is told by them how long it would wait."""
        for line in self._lines.values():
            line.plan = None
        self.look_again()

    def _arm(self, at_ns: int) -> None:
        if at_ns < self._wake_ns:
            self._wake_ns = at_ns
            self._pacer.add(at_ns, self._wake)

    def _wake(self, due_ns: int) -> None:
        """Let one pass at most, so that what others are owed meanwhile is not late; then look again."""
        if due_ns != self._wake_ns:
            return
        self._wake_ns = _NEVER_NS
        act = self._next(time.monotonic_ns())
        if act is not None:
            self._arm(time.monotonic_ns())
            act()

    def _heads(self) -> list[tuple[_Line, Waiting]]:
        """Each line and its first, where all keys share a limit in the order of arrival; empty lines are put away."""
        heads, empty = [], []
        for alias, line in self._lines.items():
            first = line.first()
            if first is None:
                empty.append(alias)
            else:
                heads.append((line, first))
        for alias in empty:
            del self._lines[alias]
        if self._limits.shared:
            heads.sort(key=lambda head: head[1].order)
        return heads

    def _next(self, now_ns: int) -> Callable[[], None] | None:
        """What to do with the first request that fits, or never will; else plan when to look again."""
        wake_ns = _NEVER_NS
        claimed: frozenset[Limiter] = frozenset()
        for line, one in self._heads():
            if claimed and not claimed.isdisjoint(self._limits_of(one)):
                # Somebody who came earlier goes first; it is looked at again whenever that one has gone.
                line.next_ns, line.claims = 0, frozenset()
                continue
            if line.next_ns <= now_ns:
                seen = self._look(line, one, now_ns)
                if seen.held_by is None:
                    return self._let_pass(line, one, now_ns)
                if seen.at_ns is None and not seen.is_full:
                    return partial(self._send_away, one, seen, now_ns)
                line.next_ns = seen.at_ns or _NEVER_NS
            if line.claims:
                claimed |= line.claims
            if line.next_ns < wake_ns:
                wake_ns = line.next_ns
        if wake_ns < _NEVER_NS:
            self._arm(wake_ns)
        return None

    def _look(self, line: _Line, one: Waiting, now_ns: int) -> Outlook:
        """What holds the first of a line; once that is nothing of its own any more, it claims what all keys share."""
        line.claims = frozenset()
        limiters, shared = self._limits_of(one), self._limits.shared_of(one.alias, one.model)
        seen = outlook((limiter for limiter in limiters if limiter not in shared), now_ns, one.cost)
        if seen.held_by is None and shared:
            seen, line.claims = outlook(shared, now_ns, one.cost), shared
        return seen

    def _let_pass(self, line: _Line, one: Waiting, now_ns: int) -> Callable[[], None]:
        line.queue.popleft()
        line.next_ns, line.claims = 0, frozenset()
        one.over = True
        one.ledger.limiter = self._limits.of(one.alias, one.model)
        one.ledger.ask(now_ns, one.cost)
        one.ledger.waited_ns = now_ns - one.since_ns
        one.exchange.connection.on_gone = None
        return one.passed

    # What ends the waiting otherwise.

    def _expire(self, waiting: weakref.ref[Waiting], due_ns: int) -> int | None:
        """It has waited as long as it may; but while its line moves on it is not sent away yet."""
        one = waiting()
        if one is None or one.over:
            return None
        now_ns = time.monotonic_ns()
        first = self._lines[one.alias].first() or one
        limiters = self._limits_of(first)
        patient = now_ns < one.until_ns + _PATIENCE_NS or not limiters
        if patient and outlook(limiters, now_ns, first.cost).held_by is None:
            return now_ns + _AGAIN_NS
        self._send_away(one, outlook(self._limits_of(one), now_ns, one.cost), now_ns)
        return None

    def _send_away(self, one: Waiting, seen: Outlook, now_ns: int) -> None:
        self._take_out(one)
        one.ledger.limiter = self._limits.of(one.alias, one.model)
        one.ledger.look(now_ns)
        one.ledger.waited_ns = now_ns - one.since_ns
        one.exchange.connection.on_gone = None
        self._refuse(one, seen, now_ns)

    def _take_out(self, one: Waiting) -> None:
        one.over = True
        line = self._lines[one.alias]
        line.plan, line.next_ns, line.claims = None, 0, frozenset()
        self._arm(time.monotonic_ns())

    def _leave(self, one: Waiting, ended: str) -> None:
        self._take_out(one)
        one.ledger.waited_ns = time.monotonic_ns() - one.since_ns
        one.exchange.decide("undecided", 0)
        one.exchange.end(ended)

    def stop(self) -> None:
        """The simulator stops."""
        for line in tuple(self._lines.values()):
            for one in tuple(line.queue):
                if not one.over:
                    self._leave(one, "stopped")
