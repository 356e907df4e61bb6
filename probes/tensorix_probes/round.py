"""One round: the checks of a target that are due, cheapest first, and what they say together.

A check that fails explains those below it: they are not run, and inconclusive. Each reserves the most that it can be
charged before it runs; where the ledger or the server's own headers leave too little, it is skipped as inconclusive.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tensorix_api.limiters import Cost
from tensorix_api.secret import Redactor
from tensorix_probes.asking import Asking
from tensorix_probes.check import Check, Finding
from tensorix_probes.exchange.exchange import Exchange
from tensorix_probes.limits.key_memory import KeyMemory
from tensorix_probes.limits.keys import known_limit
from tensorix_probes.limits.ledger import Refusal, Reservation
from tensorix_probes.limits.lists import lists_are_free
from tensorix_probes.limits.room import room
from tensorix_probes.memory import Clock, TargetMemory
from tensorix_probes.registry import check_named
from tensorix_probes.result import Assertion, Phases, ProbeResult, Request, Round, Spent, State, badness, worst
from tensorix_probes.settings import BUILT_IN_CHECKS, Target

__all__ = ["in_order", "run_round"]


def in_order(names: Sequence[str]) -> list[str]:
    """Names of checks in the order in which they run: users' own after those that ask, before the one that reads."""
    own = [name for name in dict.fromkeys(names) if name not in BUILT_IN_CHECKS]
    return [
        *(name for name in BUILT_IN_CHECKS[:-1] if name in names),
        *own,
        *(name for name in BUILT_IN_CHECKS[-1:] if name in names),
    ]


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
    """Run the checks of a target that are due. Whatever goes wrong with the server, or in a check, is data."""
    running = _Running(
        target, exchange, key, memory, key_alias, location, clock or Clock(), trace_id=secrets.token_hex(16)
    )
    started_unix_ns, start_ns = running.clock.unix_ns(), running.clock.monotonic_ns()
    for check in running.due():
        running.results.append(running.result_of(check))
    state, decided = _together(running.results)
    return Round(
        round_id=secrets.token_hex(16),
        target=target.name,
        location=location,
        state=state,
        reason="no check was due" if not running.results else decided.reason if decided else None,
        cause_check=decided.check if decided else None,
        cause=_cause(decided) if decided else None,
        slot_unix_ns=slot_unix_ns,
        started_unix_ns=started_unix_ns,
        duration_ns=running.clock.monotonic_ns() - start_ns,
        maintenance=maintenance,
        trace_id=running.trace_id,
        results=tuple(running.results),
    )


def _together(results: Sequence[ProbeResult]) -> tuple[State, ProbeResult | None]:
    """The state of a round, and the result that made it so; None where all is up.

    Where some check decides, the others make it degraded at most: a bad key that a firewall swallows is no outage.
    """
    deciding = {one.check for one in results if check_named(one.check).decides}
    heard = [
        (one, one.state if not deciding or one.check in deciding else min(one.state, State.DEGRADED, key=badness))
        for one in results
        if one.state is not State.INCONCLUSIVE or one.check in deciding or not deciding
    ]
    state = worst((counted for _, counted in heard), default=State.INCONCLUSIVE)
    return state, None if state is State.UP else next((one for one, counted in heard if counted is state), None)


def _cause(result: ProbeResult) -> str | None:
    return next((one.name for one in result.failed if one.otherwise is result.state), None)


@dataclass(slots=True)
class _Running:
    """A round under way."""

    target: Target
    exchange: Exchange
    key: KeyMemory
    memory: TargetMemory
    key_alias: str | None
    location: str | None
    clock: Clock
    trace_id: str
    results: list[ProbeResult] = field(default_factory=list)
    findings: dict[str, Finding] = field(default_factory=dict)
    broken: str | None = None
    """Why checks that ask are not run any more: what failed above them."""

    def due(self) -> list[Check]:
        """The checks to run. Where the share cannot pay for all of them, one of those that come seldom takes its turn.

        Of several the one that waits longest, in place of the list of models; otherwise each round would use the share
        up before them, for ever. Not in a first round: there all are tried, and what is skipped says why.
        """
        due = [check for name in in_order(self.target.checks) if self._is_due(check := check_named(name))]
        allowed = self.key.ledger.standing(self.clock.unix_ns()).requests_allowed
        seldom = [check for check in due if not check.decides and self._every_s(check) and self._most(check).requests]
        if not self.memory.last_run_unix_ns or allowed is None or not seldom:
            return due
        if sum(self._most(check).requests for check in due) <= allowed:
            return due
        turn = min(seldom, key=lambda check: self.memory.last_run_unix_ns.get(check.name, 0))
        due = [check for check in due if check is turn or check not in seldom]
        fits = sum(self._most(check).requests for check in due) <= allowed
        if fits or self._model() is None or not any(self._most(check).tokens for check in due):
            return due
        return [check for check in due if not (check.decides and check.lists_only)]

    def _every_s(self, check: Check) -> float | None:
        return self.target.every_s.get(check.name, check.every_s)

    def _most(self, check: Check) -> Cost:
        return Cost(0, 0) if check.lists_only and self._lists.get("free") else check.most(self.target)

    def _is_due(self, check: Check) -> bool:
        every_s = self._every_s(check)
        last = self.memory.last_run_unix_ns.get(check.name)
        if every_s is None or last is None:
            return True
        # Half an interval of grace, so that one of an hour falls on the slot nearest to it. A clock that was set back
        # would put it off for as long.
        since = self.clock.unix_ns() - last
        return since < 0 or since >= (every_s - min(every_s, self.target.interval_s) / 2) * 1e9

    def result_of(self, check: Check) -> ProbeResult:
        """Run one check, or say why it is not run."""
        started_unix_ns, start_ns = self.clock.unix_ns(), self.clock.monotonic_ns()
        span_id = secrets.token_hex(8)
        requests: list[Request] = []
        finding, spent = self._found(check, span_id, requests)
        finding = _accepting(finding, check.name, self.target.accept)
        self.findings[check.name] = finding
        state, reason = _state_of(finding)
        answer = finding.answer
        # A refusal that was asked for, as of a bad key, is no error.
        failure = answer.error if answer and state is not State.UP else None
        if self.broken is None and check.decides and state in (State.DOWN, State.PAYMENT):
            self.broken = f"explained by {check.name}"
        return ProbeResult(
            check=check.name,
            target=self.target.name,
            state=state,
            reason=reason,
            assertions=finding.assertions,
            phases=finding.phases or (answer.phases if answer else Phases()),
            figures=dict(finding.figures),
            spent=spent,
            started_unix_ns=started_unix_ns,
            duration_ns=self.clock.monotonic_ns() - start_ns,
            status=answer.status if answer else None,
            error_kind=str(failure.kind) if failure else None,
            error_phase=str(failure.phase) if failure else None,
            request_id=answer.request_id if answer else None,
            trace_id=self.trace_id,
            span_id=span_id,
            location=self.location,
            key_alias=self.key_alias,
            model=self._model(),
            requests=tuple(requests),
        )

    def _run(self, check: Check, asking: Asking) -> Finding:
        redact = Redactor(self.target.api_key, *self.target.extra_headers.values())
        try:
            finding = check.run(asking)
            # The built-in ones have redacted what they quote.
            return finding if check.name in BUILT_IN_CHECKS else _redacted(finding, redact)
        except Exception as error:  # noqa: BLE001 - a check of somebody else's; the others go on
            said = redact(f"{type(error).__name__}: {error}")
            return _skipped("check_works", f"a defect of the check {check.name}: {said}")

    def _reserved(self, now_unix_ns: int, most: Cost) -> Reservation | Finding | None:
        """What was set aside for a check; None where it takes nothing; a finding where it has to be skipped."""
        if most == Cost(0, 0):
            return None
        if (why := room(self.key.observations, now_unix_ns, most, self.target)) is not None:
            return _skipped("server_has_room", why)
        reserved = self.key.ledger.reserve(now_unix_ns, most, _price(self.target, most))
        return _skipped("budget_allows", reserved.reason) if isinstance(reserved, Refusal) else reserved

    @property
    def _lists(self) -> dict[str, Any]:
        """What is known of lists, kept with what the checks keep: `probe once` begins anew each time."""
        return self.memory.checks.setdefault("lists", {})

    def _look_at_lists(self) -> None:
        """Learn from the headers whether lists of models are counted."""
        limit, _ = known_limit(self.target, self.key.observations, "requests")
        free = lists_are_free(
            self.key.observations, None if limit.source == "seen" else limit.amount, self.target.headers.window_s
        )
        if free is not None:
            self._lists["free"] = free

    def _model(self) -> str | None:
        return self.target.model or self.memory.first_model

    def _found(self, check: Check, span_id: str, requests: list[Request]) -> tuple[Finding, Spent]:
        if self.broken is not None and not check.reads_only:
            return Finding(inconclusive=self.broken), Spent()
        now = self.clock.unix_ns()
        most = self._most(check)
        reserved = self._reserved(now, most)
        if isinstance(reserved, Finding):
            return reserved, Spent()
        asking = Asking(
            target=self.target,
            exchange=self.exchange,
            key=self.key,
            clock=self.clock,
            options=self.target.options.get(check.name, {}),
            memory=self.memory.checks.setdefault(check.name, {}),
            earlier=self.findings,
            model=self._model(),
            most=most,
            lists_are_free=bool(self._lists.get("free")),
            trace=(self.trace_id, span_id),
            requests=requests,
        )
        finding = self._run(check, asking)
        self.key.observe(asking.observed(finding))
        self._look_at_lists()
        # A list that shows itself that it was free has cost nothing.
        asking.lists_are_free = self._lists.get("free", asking.lists_are_free)
        spent = asking.spent(finding)
        if reserved is not None:
            self.key.ledger.settle(self.clock.unix_ns(), reserved, spent)
        self.memory.last_run_unix_ns[check.name] = now
        if check.name == "models" and "first_model" in finding.facts:
            self.memory.first_model = finding.facts["first_model"]
        if asking.limited and self.broken is None:
            self.broken = "the key is at its limit: refused with 429 a moment ago"
        return finding, spent


def _redacted(finding: Finding, redact: Redactor) -> Finding:
    """The finding of a check of one's own: what a server said may stand in it."""
    assertions = tuple(
        replace(one, detail=None if one.detail is None else redact(one.detail)) for one in finding.assertions
    )
    why = None if finding.inconclusive is None else redact(finding.inconclusive)
    return replace(finding, assertions=assertions, inconclusive=why)


def _skipped(name: str, why: str) -> Finding:
    return Finding(assertions=(Assertion(name, False, why, State.INCONCLUSIVE),), inconclusive=why)


def _price(target: Target, most: Cost) -> float | None:
    """The most that so many tokens can cost: all of them at the dearer price."""
    if target.prices is None:
        return None
    return most.tokens * max(target.prices.prompt_per_million, target.prices.completion_per_million) / 1e6


def _accepting(finding: Finding, check: str, accepted: Sequence[str]) -> Finding:
    """The finding with the assertions that the configuration lets fail taken for not judged."""
    if not accepted:
        return finding
    assertions = tuple(
        replace(one, held=None, detail=f"accepted: {one.detail or one.name.replace('_', ' ')}")
        if one.held is False and f"{check}.{one.name}" in accepted
        else one
        for one in finding.assertions
    )
    return replace(finding, assertions=assertions)


def _state_of(finding: Finding) -> tuple[State, str | None]:
    """The state that the assertions make, and the reason in one line."""
    failed = [one for one in finding.assertions if one.held is False]
    if not failed:
        return (State.UP, None) if finding.inconclusive is None else (State.INCONCLUSIVE, finding.inconclusive)
    state = worst(one.otherwise for one in failed)
    deciding = [one.detail or one.name.replace("_", " ") for one in failed if one.otherwise is state]
    more = f" (and {len(deciding) - 1} more)" if len(deciding) > 1 else ""
    return state, deciding[0] + more
