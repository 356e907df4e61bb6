"""What a history keeps of rounds and of what is known of a target, and how that is read back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tensorix_probes.memory import TargetMemory
from tensorix_probes.result import ProbeResult, Round, Spent, State
from tensorix_records.history import History, ResultRow, RoundRow

__all__ = ["memory_name", "memory_value", "recall_counts", "recall_memory", "recall_spends", "row_of"]

_HOUR_NS = 3600 * 1_000_000_000
_DAY_NS = 24 * _HOUR_NS


def _result_row(result: ProbeResult) -> ResultRow:
    # The one that made the state what it is comes first; the others keep their order.
    failed = sorted(result.failed, key=lambda assertion: assertion.otherwise is not result.state)
    return ResultRow(
        check=result.check,
        state=result.state.value,
        started_unix_ns=result.started_unix_ns,
        duration_ns=result.duration_ns,
        reason=result.reason,
        failed=tuple(assertion.name for assertion in failed),
        assertions=tuple(asdict(one) | {"otherwise": str(one.otherwise)} for one in result.assertions),
        phases_ns={
            name.removesuffix("_ns"): value for name, value in asdict(result.phases).items() if value is not None
        },
        figures=dict(result.figures),
        status=result.status,
        error_kind=result.error_kind,
        error_phase=result.error_phase,
        request_id=result.request_id,
        key_alias=result.key_alias,
        model=result.model,
        requests=result.spent.requests,
        tokens=result.spent.tokens,
        cost=result.spent.cost,
    )


def row_of(round_: Round) -> RoundRow:
    """A round as the history keeps it."""
    return RoundRow(
        round_id=round_.round_id,
        target=round_.target,
        location=round_.location,
        state=round_.state.value,
        started_unix_ns=round_.started_unix_ns,
        slot_unix_ns=round_.slot_unix_ns,
        duration_ns=round_.duration_ns,
        reason=round_.reason,
        cause_check=round_.cause_check,
        cause=round_.cause,
        maintenance=round_.maintenance,
        trace_id=round_.trace_id,
        results=tuple(map(_result_row, round_.results)),
    )


def memory_name(target: str, location: str | None) -> str:
    """Under what the memory of a target at a location is kept."""
    return f"target/{target}" if location is None else f"target/{target}@{location}"


def memory_value(memory: TargetMemory) -> Any:
    """A copy that the target's thread does not change any more."""
    return json.loads(json.dumps(asdict(memory)))


def recall_memory(history: History, target: str, location: str | None = None) -> TargetMemory:
    """What was known of a target when its last round was kept; nothing where it is new. Raises HistoryError."""
    value = history.recall(memory_name(target, location))
    if not isinstance(value, dict):
        return TargetMemory()
    checks, runs, first = (value.get(name) for name in ("checks", "last_run_unix_ns", "first_model"))
    return TargetMemory(
        checks=dict(checks) if isinstance(checks, dict) else {},
        last_run_unix_ns=dict(runs) if isinstance(runs, dict) else {},
        first_model=first if isinstance(first, str) else None,
    )


def recall_spends(
    history: History, key_alias: str, since_unix_ns: int, *, targets: Sequence[str] | None = None
) -> list[tuple[int, Spent]]:
    """What the probes of a key used since then, as `Ledger.restore` takes it. Raises HistoryError."""
    found = history.spends(key_alias, since_unix_ns, targets=targets)
    return [(at, Spent(requests, tokens, cost)) for at, requests, tokens, cost in found]


def recall_counts(
    history: History, target: str, location: str | None, since_unix_ns: int, now_unix_ns: int
) -> list[tuple[float, State, int]]:
    """How many rounds outside maintenance had which state, and how many seconds ago; oldest first.

    The last day's one by one, those before it by the hour. Raises HistoryError.
    """
    day = max(now_unix_ns - _DAY_NS, since_unix_ns) // _HOUR_NS * _HOUR_NS
    counts = [
        ((now_unix_ns - row.hour_unix_s * 1_000_000_000) / 1e9, state, getattr(row, state))
        for row in history.hours(target=target, since_unix_ns=since_unix_ns, until_unix_ns=day, checks=False)
        if row.location == location and not row.maintenance
        for state in State
        if getattr(row, state)
    ]
    last = history.rounds(target=target, location=location, since_unix_ns=max(day, since_unix_ns), results=False)
    return counts + [
        ((now_unix_ns - row.started_unix_ns) / 1e9, State(row.state), 1)
        for row in last
        if row.maintenance is None and row.location == location
    ]
