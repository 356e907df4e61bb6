"""One round: the checks of a target that are due, cheapest first, and what they say together.

A check that fails explains those below it: they are not run, and inconclusive. Each reserves the most that it can be
charged before it runs; where the ledger or the server's own headers leave too little, it is skipped as inconclusive.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tensorix_api import Secret
from tensorix_api.limiters import Cost
from tensorix_probes.check import Finding
from tensorix_probes.exchange.answer import Answer
from tensorix_probes.exchange.exchange import Exchange
from tensorix_probes.limits.ledger import Ledger
from tensorix_probes.limits.observation import Observation
from tensorix_probes.result import Round, State, worst
from tensorix_probes.settings import Target

__all__ = ["Clock", "KeyMemory", "TargetMemory", "run_round"]


@dataclass(frozen=True, slots=True)
class Clock:
    """Where the time comes from; tests put their own in place of it."""

    unix_ns: Callable[[], int] = time.time_ns
    monotonic_ns: Callable[[], int] = time.monotonic_ns


@dataclass(slots=True)
class KeyMemory:
    """What is known of a key from one round to the next, for all targets that use it."""

    ledger: Ledger
    observations: list[Observation] = field(default_factory=list)


@dataclass(slots=True)
class TargetMemory:
    """What is known of a target from one round to the next. Only its own thread touches it."""

    checks: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What each check keeps for itself: JSON values."""
    last_run_unix_ns: dict[str, int] = field(default_factory=dict)
    first_model: str | None = None


@dataclass(slots=True)
class _Context:
    """The context of one check in one round."""

    target: Target
    exchange: Exchange
    key: KeyMemory
    clock: Clock
    options: Mapping[str, Any]
    memory: dict[str, Any]
    earlier: Mapping[str, Finding]
    model: str | None
    charged: Cost = Cost(0, 0)

    @property
    def observations(self) -> list[Observation]:
        return self.key.observations

    def now_unix_ns(self) -> int:
        return self.clock.unix_ns()

    def ask(
        self,
        method: str,
        path: str,
        *,
        kind: str,
        body: Any = None,
        key: str | None = None,
        charged: Cost | None = None,
    ) -> Answer:
        """See `tensorix_probes.check.Context`."""
        cost = charged or Cost(0 if method == "GET" else 1, 0)
        self.charged = Cost(self.charged.requests + cost.requests, self.charged.tokens + cost.tokens)
        return self.exchange.ask(method, path, kind=kind, body=body, key=None if key is None else Secret(key))


def _state_of(finding: Finding) -> tuple[State, str | None, str | None]:
    """The state, the reason, and the name of the assertion that made it so."""
    failed = [assertion for assertion in finding.assertions if assertion.held is False]
    if not failed:
        return (
            (State.UP, None, None) if finding.inconclusive is None else (State.INCONCLUSIVE, finding.inconclusive, None)
        )
    state = worst(assertion.otherwise for assertion in failed)
    first = next(assertion for assertion in failed if assertion.otherwise is state)
    return state, first.detail or first.name.replace("_", " "), first.name


def run_round(
    target: Target,
    *,
    exchange: Exchange,
    key: KeyMemory,
    memory: TargetMemory,
    key_alias: str | None = None,
    location: str | None = None,
    maintenance: str | None = None,
    slot_unix_ns: int | None = None,
    clock: Clock | None = None,
) -> Round:
    """Run what is due of a target's checks. A failure is data; only a defect in a check of one's own is told as such."""
    clock = clock or Clock()
    raise NotImplementedError
