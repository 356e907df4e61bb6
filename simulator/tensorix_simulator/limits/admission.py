"""What becomes of a request by its key's limits: it passes, waits until it fits, or is refused with 429."""

from __future__ import annotations

import time
from collections.abc import Callable

from tensorix_api.limiters import Cost
from tensorix_simulator.exchange import Exchange
from tensorix_simulator.http.wire import Headers
from tensorix_simulator.latency.pacing import Pacer
from tensorix_simulator.limits.key_limits import KeyLimits
from tensorix_simulator.limits.ledger import Ledger, OverLimit
from tensorix_simulator.limits.outlook import Outlook, outlook
from tensorix_simulator.limits.rate_headers import RateHeaders
from tensorix_simulator.limits.waiting import Waiting, WaitingLines
from tensorix_simulator.settings import SimulatorSettings
from tensorix_simulator.styles.style import Refusal

__all__ = ["Admission"]


class Admission:
    """Asks the limits of keys, each of which has its own from its first request on."""

    def __init__(self, settings: SimulatorSettings, pacer: Pacer) -> None:
        self._limits = KeyLimits(settings)
        self._rate_headers = RateHeaders()
        self._settings = settings
        self._waiting = WaitingLines(pacer, self._limits, self._refuse_held)

    def change(self, settings: SimulatorSettings) -> None:
        """From now on other limits. What keys have used so far stays used where the kind of limiter stays."""
        if (settings.headers, settings.header_lie) != (self._settings.headers, self._settings.header_lie):
            self._rate_headers.forget()
        self._settings = settings
        self._limits.change(settings)
        self._waiting.replan()

    def forget(self) -> None:
        """Forget what keys have used."""
        self._limits.forget()
        self._rate_headers.forget()
        self._waiting.replan()

    def stop(self) -> None:
        """Write the end of every request that waits."""
        self._waiting.stop()

    def identify(self, exchange: Exchange, alias: str) -> None:
        """The request is this key's; nothing is charged yet."""
        exchange.belongs_to(Ledger(alias, self._limits.of(alias), self._waiting.freed), self._rate_headers)

    def ask(self, exchange: Exchange, cost: Cost, model: str | None, passed: Callable[[], None]) -> None:
        """Charge `cost` and go on with `passed`, now or when it fits; or answer with 429.

        `model` is the one that is asked for, None where that is not known: it may have limits of its own.
        """
        ledger = exchange.ledger
        assert ledger is not None
        if self._limits.by_model:
            ledger.limiter = self._limits.of(ledger.alias, model)
        now_ns = time.monotonic_ns()
        delay = exchange.settings.over_limit == "delay"
        if delay and self._waiting.must_join(ledger.alias, model):
            self._join(Waiting(exchange, ledger, cost, model, passed, now_ns))
            return
        decision = ledger.ask(now_ns, cost)
        if decision.admitted:
            passed()
        elif delay:
            self._join(Waiting(exchange, ledger, cost, model, passed, now_ns))
        else:
            self._refuse(exchange, cost, decision.binding, decision.retry_at_ns, now_ns)

    def _join(self, one: Waiting) -> None:
        held = self._waiting.join(one)
        if held is not None:
            one.ledger.look(one.since_ns)
            self._refuse_held(one, held, one.since_ns)

    def _refuse_held(self, one: Waiting, held: Outlook, now_ns: int) -> None:
        self._refuse(one.exchange, one.cost, held.held_by.name if held.held_by else None, held.at_ns, now_ns)

    def _refuse(self, exchange: Exchange, cost: Cost, name: str | None, at_ns: int | None, now_ns: int) -> None:
        """Answer with 429; `name` is the limiter's that holds the request until `at_ns`, None where others do."""
        ledger = exchange.ledger
        assert ledger is not None
        if exchange.settings.counting.refused:
            # The refusal itself may make the wait longer, and another of those that refused it the last to open.
            limiters = ledger.limiter.limiters
            refusing = [limiter for limiter in limiters if limiter.earliest(now_ns, cost) != now_ns]
            ledger.charge(now_ns, Cost(1, 0))
            last, after_ns = outlook(refusing, now_ns, cost).held_by, outlook(limiters, now_ns, cost).at_ns
            name = last.name if last else name
            # Never earlier than it was: others may wait in line before it.
            at_ns = None if at_ns is None or after_ns is None else max(at_ns, after_ns)
        limit = self._limits.named(name or ledger.limiter.limiters[0].name)
        over = OverLimit(
            name=limit.name,
            resource=limit.resource,
            limit=limit.amount,
            window_ns=limit.window_ns,
            wait_ns=None if at_ns is None else at_ns - now_ns,
            unix_s=time.time(),
        )
        ledger.over = over
        exchange.refuse(
            Refusal(
                decision=f"refused_{over.resource or 'in_flight'}",
                status=429,
                message=f"Rate limit exceeded: {_words(over)}. Please try again later.",
                code="rate_limit_exceeded",
                headers=_retry_after(exchange.settings.retry_after, over),
            )
        )


def _words(over: OverLimit) -> str:
    match over.name:
        case "requests":
            return f"{over.limit} RPM per API key"
        case "tokens":
            return f"{over.limit} TPM per API key"
        case _:
            return over.name


def _retry_after(mode: str, over: OverLimit) -> Headers:
    """Honest: whole seconds, rounded up, until the request would pass; none where waiting alone does not help.

    That is so with requests in flight, of which nobody knows when they end, and with a request that is larger than a
    limit.
    """
    if mode == "fixed60":
        return [("retry-after", "60")]
    if mode == "honest" and over.wait_ns is not None:
        return [("retry-after", str(-(-over.wait_ns // 1_000_000_000)))]
    return []
