"""What becomes of a request by its key's limits: it passes, waits until it fits, or is refused with 429."""

from __future__ import annotations

import time
from collections.abc import Callable

from tensorix_api.limiters import Cost, Decision
from tensorix_simulator.exchange import Exchange
from tensorix_simulator.http.wire import Headers
from tensorix_simulator.latency.pacing import Pacer
from tensorix_simulator.limits.key_limits import KeyLimits
from tensorix_simulator.limits.ledger import Ledger, OverLimit
from tensorix_simulator.limits.rate_headers import RateHeaders
from tensorix_simulator.settings import SimulatorSettings
from tensorix_simulator.styles.style import Refusal

__all__ = ["Admission"]


class Admission:
    """Asks the limits of keys, each of which has its own from its first request on."""

    def __init__(self, settings: SimulatorSettings, pacer: Pacer) -> None:
        self._limits = KeyLimits(settings)
        self._rate_headers = RateHeaders()
        self._settings = settings

    def change(self, settings: SimulatorSettings) -> None:
        """From now on other limits. What keys have used so far stays used where the kind of limiter stays."""
        if (settings.headers, settings.header_lie) != (self._settings.headers, self._settings.header_lie):
            self._rate_headers.forget()
        self._settings = settings
        self._limits.change(settings)

    def forget(self) -> None:
        """Forget what keys have used."""
        self._limits.forget()
        self._rate_headers.forget()

    def identify(self, exchange: Exchange, alias: str) -> None:
        """The request is this key's; nothing is charged yet."""
        exchange.belongs_to(Ledger(alias, self._limits.of(alias), self._freed), self._rate_headers)

    def _freed(self, alias: str) -> None:
        pass

    def ask(self, exchange: Exchange, cost: Cost, model: str | None, passed: Callable[[], None]) -> None:
        """Charge `cost` and go on with `passed`, now or when it fits; or answer with 429.

        `model` is the one that is asked for, None where that is not known: it may have limits of its own.
        """
        ledger = exchange.ledger
        assert ledger is not None
        if self._limits.by_model:
            ledger.limiter = self._limits.of(ledger.alias, model)
        now_ns = time.monotonic_ns()
        decision = ledger.ask(now_ns, cost)
        if decision.admitted:
            passed()
        else:
            self._refuse(exchange, self._over(decision, now_ns), now_ns)

    def _over(self, decision: Decision, now_ns: int) -> OverLimit:
        limit = self._limits.named(decision.binding)
        wait_ns = None if decision.retry_at_ns is None else decision.retry_at_ns - now_ns
        return OverLimit(name=limit.name, resource=limit.resource, limit=limit.amount, wait_ns=wait_ns)

    def _refuse(self, exchange: Exchange, over: OverLimit, now_ns: int) -> None:
        assert exchange.ledger is not None
        if exchange.settings.counting.refused:
            exchange.ledger.charge(now_ns, Cost(1, 0))
        exchange.ledger.over = over
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
