"""What one check of one round is given, and what becomes known of the requests that it made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tensorix_api import Secret
from tensorix_api.limiters import Cost
from tensorix_probes.check import Finding
from tensorix_probes.exchange.answer import Answer
from tensorix_probes.exchange.exchange import Exchange
from tensorix_probes.limits.key_memory import KeyMemory
from tensorix_probes.limits.observation import Observation
from tensorix_probes.memory import Clock
from tensorix_probes.result import Request, Spent
from tensorix_probes.settings import Target

__all__ = ["Asking"]

_KIND_OF_STATUS = {400: "bad_request", 401: "unauthorised", 429: "throttled"}


@dataclass(slots=True)
class Asking:
    """The context of one check: see `tensorix_probes.check.Context`."""

    target: Target
    exchange: Exchange
    key: KeyMemory
    clock: Clock
    options: Mapping[str, Any]
    memory: dict[str, Any]
    earlier: Mapping[str, Finding]
    model: str | None
    most: Cost
    lists_are_free: bool
    trace: tuple[str, str]
    """The ids of the trace and of the check's span."""
    asked: list[tuple[Answer, Cost, bool]] = field(default_factory=list)
    """Each answer, what it was charged, and whether the target's own key asked."""
    requests: list[Request] = field(default_factory=list)
    """All that were made, handshakes too."""

    @property
    def observations(self) -> list[Observation]:
        """What responses said about the key's limits, oldest first."""
        return self.key.observations

    def now_unix_ns(self) -> int:
        """The time of day."""
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
        """Make one request of the target and wait for all of its answer."""
        cost = charged or Cost(0 if method == "GET" and self.lists_are_free else 1, 0)
        secret = None if key is None else Secret(key)
        answer = self.exchange.ask(method, path, kind=kind, body=body, key=secret, trace=self.trace)
        self.asked.append((answer, cost, key is None))
        self.requests.append(answer.request)
        return answer

    def handshake(self) -> Answer:
        """Connect, and with https shake hands, and hang up without a request."""
        answer = self.exchange.handshake(trace=self.trace)
        self.requests.append(answer.request)
        return answer

    @property
    def limited(self) -> bool:
        """Whether one of the requests was refused with 429."""
        return any(answer.status == 429 for answer, _, own in self.asked if own)

    def spent(self, finding: Finding | None) -> Spent:
        """What the requests took: as the usage says, the most where none came of what may have been worked on."""
        reached = [(answer, cost) for answer, cost, own in self.asked if own and answer.phases.send_ns is not None]
        free = self.lists_are_free
        requests = sum(cost.requests for answer, cost in reached if not (free and answer.method == "GET"))
        told = Spent() if finding is None else finding.spent
        # No answer, or no end of it: a model may have worked on it all the same.
        unknown = any(answer.method != "GET" and answer.failure is not None for answer, _ in reached)
        tokens = max(told.tokens, self.most.tokens) if unknown and not told.tokens else told.tokens
        return Spent(max(requests, told.requests), tokens, told.cost)

    def observed(self, finding: Finding | None) -> list[Observation]:
        """What the answers said about the key's limits."""
        apart_ns = self.clock.unix_ns() - self.clock.monotonic_ns()
        return [
            replace(_observation(answer, cost, self.most, finding), clocks_apart_ns=apart_ns)
            for answer, cost, own in self.asked
            if own and answer.status is not None
        ]


def _observation(answer: Answer, cost: Cost, most: Cost, finding: Finding | None) -> Observation:
    phases, status = answer.phases, answer.status or 0
    sent = answer.started_unix_ns + sum(part or 0 for part in (phases.dns_ns, phases.connect_ns, phases.tls_ns))
    asked_a_model = cost.requests > 0 and answer.method != "GET"
    served = status == 200 and asked_a_model
    # Of an answer that broke off, what was spent is a guess.
    known = finding is not None and finding.answer is answer and answer.failure is None
    told = finding.spent.tokens if finding is not None and known and finding.spent.tokens else None
    return Observation(
        kind=answer.kind if status == 200 else _KIND_OF_STATUS.get(status, "error"),
        sent_unix_ns=sent,
        head_unix_ns=sent + (phases.first_byte_ns or 0),
        end_unix_ns=answer.started_unix_ns + (phases.total_ns or 0),
        status=status,
        limits=answer.limits,
        requests=max(1, cost.requests),
        sure=served,
        tokens=told if served else 0,
        most_tokens=most.tokens if asked_a_model else 0,
    )
