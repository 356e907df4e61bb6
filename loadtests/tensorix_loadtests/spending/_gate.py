"""The gate of a run that keeps to caps, to shares of its keys' limits, or uses several keys."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tensorix_api.budget import Budget, Cap, Denied, Held, Spend
from tensorix_api.secret import Secret
from tensorix_loadtests._call import Call
from tensorix_loadtests._gate import Closed, Pace, Passed, Wait
from tensorix_loadtests._origin import Origin
from tensorix_loadtests.plan import Spending
from tensorix_loadtests.plan._prices import price_of
from tensorix_loadtests.spending._journal import Journal
from tensorix_loadtests.spending._worst import Unbounded, Worst, settled, worst_of
from tensorix_records import RequestRecord

__all__ = ["SpendingGate", "caps_of"]

# Somebody who waits is woken when a request has ended; this is only for the case that nobody does it.
_LOOK_AGAIN_S = 1.0
_MONEY = 10**9


@dataclass(slots=True)
class _Key:
    """One key, and what is under way with it."""

    secret: Secret | None
    alias: str | None
    pace: Pace | None
    in_flight: int = 0
    sent: int = 0
    out: bool = False
    """It was refused, and is used no more."""


@dataclass(slots=True)
class _Sending:
    """One time that a request goes out."""

    identity: str
    held: Held
    token: Any


@dataclass(slots=True)
class _Request:
    """What the gate remembers of a request under way."""

    key: _Key
    worst: Worst
    spend: Spend
    sendings: list[_Sending] = field(default_factory=list)


def caps_of(spending: Spending, share: tuple[int, int] = (0, 1)) -> list[Cap]:
    """The caps of the k-th of n processes: together they are what was asked for."""
    caps = []
    for what, amount in (
        ("requests", spending.most_requests),
        ("tokens", spending.most_tokens),
        ("money", spending.most_money),
    ):
        if amount is not None:
            unit = _MONEY if what == "money" else 1
            # Down: of a cap, nothing is added by rounding.
            whole = int(amount * unit + (0.5 if unit > 1 else 0))
            part, parts = share
            if parts > 1 and what == "requests":
                # The look at the server beforehand is the master's.
                whole -= 1
            units = whole * (part + 1) // parts - whole * part // parts
            caps.append(Cap(what=what, amount=units / unit))  # type: ignore[arg-type]
    return caps


class SpendingGate:
    """Sets the worst case of each request aside before it goes out, and settles it when it has ended.

    Each time it writes to the journal first. With several keys, each has a ledger and a pace of its own: `spread` takes
    the key that may go at once and has the least under way, `pinned` that of the user. In a run of several processes
    each has its share (k, n) of the caps. Not for several threads; `journal` None keeps nothing beyond this process.
    """

    def __init__(
        self,
        spending: Spending,
        keys: Sequence[tuple[Secret | None, str | None]],
        *,
        journal: Journal | None = None,
        paces: Sequence[Pace | None] = (),
        share: tuple[int, int] = (0, 1),
        process_id: str = "0",
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """`keys` with their aliases. What the journal tells is spent already."""
        self._spending = spending
        self._keys = [
            _Key(secret, alias, paces[number] if number < len(paces) else None)
            for number, (secret, alias) in enumerate(keys)
        ]
        self._journal = journal
        self._process_id = process_id
        self._now_ns = now_ns
        self._budget = Budget(caps_of(spending, share))
        self._measured = spending.bounds_tokens or any(key.pace is not None for key in self._keys)
        """Whether the worst case of each request has to be known."""
        self._numbers = itertools.count()
        self._in_flight = 0
        if journal is not None:
            self._budget.charge(now_ns(), journal.past.spent)

    def charge(self, spend: Spend) -> bool:
        """Something is about to be spent that is no request of a user's; whether the caps have room for it."""
        if isinstance(self._budget.reserve(self._now_ns(), spend), Denied):
            return False
        if self._journal is not None:
            self._journal.charge(spend)
        return True

    def seen(self, record: RequestRecord) -> None:
        """What the first key was answered to a request that did not pass here."""
        if (pace := self._keys[0].pace) is not None:
            pace.seen(self._now_ns(), record)

    def lane(self, user_id: int) -> int:
        """Where users keep to their keys, one key's limit holds up nobody else."""
        return user_id % len(self._keys) if self._spending.keys == "pinned" else 0

    def admit(self, call: Call, user_id: int, origin: Origin) -> Passed | Wait | Closed:
        """Raises CannotWriteError where the journal cannot be written; then nothing was set aside."""
        try:
            worst = self._worst_of(call)
        except Unbounded as error:
            return Closed("unbounded", f"a request cannot be sent under a cap of tokens or money: {error}")
        if worst is None:
            return Closed("unbounded", f"no price is given for the model {call.model!r}, and there is a cap of money")
        keys = self._candidates(user_id)
        if not keys:
            return Closed("payment", "none of the keys may be used any more")
        spend, now_ns = worst.spend, self._now_ns()
        held = self._budget.reserve(now_ns, spend)
        if isinstance(held, Denied):
            return Wait(_LOOK_AGAIN_S) if self._in_flight else Closed("budget", _used_up(held, spend), in_order=True)
        wait_ns, _, _, number = min(
            (key.pace.wait_ns(now_ns, spend) if key.pace else 0, key.in_flight, key.sent, number)
            for number, key in enumerate(keys)
        )
        if wait_ns > 0:
            self._budget.release(now_ns, held)
            return Wait(wait_ns / 1e9)
        key = keys[number]
        request = _Request(key, worst, spend)
        requests, tokens = key.pace.remaining(now_ns) if key.pace else (None, None)
        self._send(request, held, now_ns, origin.schedule_index, again=origin.attempt > 1)
        key.in_flight += 1
        key.sent += 1
        self._in_flight += 1
        return Passed(
            key=key.secret,
            reserved_tokens=spend.tokens if self._measured and call.body is not None else None,
            ledger_remaining_requests=requests,
            ledger_remaining_tokens=tokens,
            started=partial(_started, request) if key.pace else None,
            paced=key.pace is not None,
            held=request,
        )

    def _worst_of(self, call: Call) -> Worst | None:
        """None where its price is not known but needed."""
        price = price_of(self._spending.prices, call.model)
        if call.body is not None and price is None and self._spending.most_money is not None:
            return None
        if price is None and not self._measured:
            return Worst(chat=False)
        try:
            return worst_of(call, price)
        except Unbounded:
            if self._spending.bounds_tokens:
                raise
            # Nobody sets tokens aside for it: a pace has to do with the prompt.
            return Worst(len(call.body or b""), None, price)

    def _candidates(self, user_id: int) -> list[_Key]:
        keys = [key for key in self._keys if not key.out]
        if self._spending.keys == "spread" or not keys:
            return keys
        own = self._keys[user_id % len(self._keys)]
        return [keys[user_id % len(keys)] if own.out else own]

    def _send(self, request: _Request, held: Held, now_ns: int, index: int | None, *, again: bool = False) -> None:
        identity = f"{self._process_id}-{next(self._numbers)}"
        if self._journal is not None:
            try:
                self._journal.reserve(identity, request.spend, index, again=again or bool(request.sendings))
            except BaseException:
                self._budget.release(now_ns, held)
                raise
        token = request.key.pace.sent(now_ns, request.spend) if request.key.pace else None
        request.sendings.append(_Sending(identity, held, token))

    def again(self, passed: Passed) -> bool:
        """Set the worst case aside once more: whether the first one was worked on, nobody knows."""
        request: _Request = passed.held
        now_ns = self._now_ns()
        if request.key.pace is not None and request.key.pace.wait_ns(now_ns, request.spend) > 0:
            return False
        held = self._budget.reserve(now_ns, request.spend)
        if isinstance(held, Denied):
            return False
        self._send(request, held, now_ns, None)
        return True

    def settle(self, passed: Passed, record: RequestRecord) -> float | None:
        """Put what it used in place of what was set aside, as far as that is known."""
        request: _Request = passed.held
        counted, known = settled(record, request.worst)
        now_ns = self._now_ns()
        *before, last = request.sendings
        self._landed(request)
        self._budget.settle(now_ns, last.held, counted)
        if request.key.pace is not None:
            for sending in before:
                request.key.pace.settle(now_ns, sending.token, None, record)
            request.key.pace.settle(now_ns, last.token, known, record)
        if self._journal is not None:
            for sending in before:
                self._journal.settle(sending.identity, request.spend)
            self._journal.settle(last.identity, counted)
        if request.worst.price is None or (known is None and request.worst.answer_tokens is None):
            return None
        return sum((request.spend.money for _ in before), counted.money)

    def release(self, passed: Passed) -> None:
        """It was never sent."""
        request: _Request = passed.held
        now_ns = self._now_ns()
        self._landed(request)
        for sending in request.sendings:
            self._budget.release(now_ns, sending.held)
            if request.key.pace is not None:
                request.key.pace.release(now_ns, sending.token)
            if self._journal is not None:
                self._journal.release(sending.identity)

    def _landed(self, request: _Request) -> None:
        self._in_flight -= 1
        request.key.in_flight -= 1

    def without(self, key_alias: str | None) -> bool:
        """Use that key no more; whether there are others to go on with."""
        for key in self._keys:
            key.out = key.out or key.alias == key_alias
        return not all(key.out for key in self._keys)

    def words(self) -> list[str]:
        """What there is to say of the keys' paces since the last call."""
        return [
            f"{key.alias}: {line}" if len(self._keys) > 1 else line
            for key in self._keys
            if key.pace is not None
            for line in key.pace.words()
        ]

    def left(self) -> dict[str, float]:
        """What is left of each cap; what is set aside is not."""
        used = self._budget.used(self._now_ns())
        return {cap.what: round(max(0.0, cap.amount - amount), 9) for cap, amount in used}


def _started(request: _Request, at_ns: int) -> None:
    """It really goes."""
    assert request.key.pace is not None
    request.key.pace.started(at_ns, request.sendings[-1].token)


def _used_up(denied: Denied, spend: Spend) -> str:
    cap = denied.cap
    money = cap.what == "money"
    amount = f"{spend.money:g}" if money else f"{spend.units(cap.what):,}"
    used = f"{denied.used:g} of {cap.amount:g}" if money else f"{denied.used:,.0f} of {cap.amount:,.0f}"
    what = "money" if money else cap.what
    return f"the cap of {what} is reached: {used} used, and the next request may need {amount}"
