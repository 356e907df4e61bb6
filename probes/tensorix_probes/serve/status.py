"""What the status page shows of a target: how it is, since when, what its last rounds found. In bounded memory."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from tensorix_probes.limits.ledger import Standing
from tensorix_probes.result import ProbeResult, Round, State
from tensorix_probes.round import in_order
from tensorix_probes.serve.tally import WINDOWS, Tallies
from tensorix_probes.settings import Target

__all__ = ["Board", "Past", "about"]

_RECENT = 60
_ENOUGH_ROUNDS = 20
_ENOUGH_S = 3_600.0
"""With fewer conclusive rounds, or known for less, nothing is said of an error budget."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What a history knows of a target from before this process."""

    state: State | None = None
    since_unix_ns: int | None = None
    told: tuple[State, int] | None = None
    """The last conclusive state and since when (Unix ns), where what came after it told nothing."""
    counts: Iterable[tuple[float, State, int]] = ()
    """How long ago in seconds, state and number, of rounds outside of maintenance."""


@dataclass(slots=True)
class _Shown:
    """What is kept of one target."""

    tallies: Tallies = field(default_factory=Tallies)
    known_since_s: float | None = None
    """On the monotonic clock, the earliest that the tallies know of."""
    state: State | None = None
    since_unix_ns: int | None = None
    changes: int = 0
    """How often the state changed in this process, the first one included."""
    told: tuple[State, int] | None = None
    """The last conclusive state and since when: what says nothing ends no outage."""
    turns: int = 0
    """How often that changed in this process, the first one included."""
    last: Round | None = None
    checks: dict[str, ProbeResult] = field(default_factory=dict)
    """The last run of each check."""
    recent: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=_RECENT))
    reason: str | None = None


class Board:
    """The last rounds of some targets. Any thread may call it; `now_s` is the monotonic clock, in seconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shown: dict[str, _Shown] = {}

    def watch(self, names: Iterable[str]) -> None:
        """From now on these targets: what was seen of those that stay is kept."""
        with self._lock:
            self._shown = {name: self._shown.get(name) or _Shown() for name in names}

    def recall(self, name: str, past: Past, past_s: float, now_s: float) -> None:
        """Take over what a history knew at `past_s`. Rounds may have been seen since."""
        with self._lock:
            if (shown := self._shown.get(name)) is None:
                return
            if shown.state is None or (shown.state is past.state and shown.changes == 1):
                shown.state, shown.since_unix_ns = past.state, past.since_unix_ns
            told = past.told
            if told is None and past.state and past.state.conclusive and past.since_unix_ns is not None:
                told = past.state, past.since_unix_ns
            if told and (shown.told is None or (shown.told[0] is told[0] and shown.turns == 1)):
                shown.told = told
            for ago_s, state, count in past.counts:
                at_s = past_s - ago_s
                shown.tallies.add(at_s, state, count, now_s=now_s)
                shown.known_since_s = at_s if shown.known_since_s is None else min(at_s, shown.known_since_s)

    def see(self, round_: Round, now_s: float) -> tuple[State | None, State] | None:
        """Take a round over; the states before and after where that is a change, else None."""
        with self._lock:
            shown = self._shown.get(round_.target)
            if shown is None:
                return None
            if round_.maintenance is None:
                shown.tallies.add(now_s, round_.state, now_s=now_s)
            shown.known_since_s = now_s if shown.known_since_s is None else shown.known_since_s
            change = None if round_.state is shown.state else (shown.state, round_.state)
            if change:
                shown.changes += 1
                shown.state, shown.since_unix_ns = round_.state, round_.started_unix_ns
            if round_.state.conclusive and (shown.told is None or shown.told[0] is not round_.state):
                shown.turns += 1
                shown.told = (round_.state, round_.started_unix_ns)
            shown.reason, shown.last = round_.reason, round_
            shown.checks.update({result.check: result for result in round_.results})
            shown.recent.append(_recent(round_))
            return change

    def of(self, target: Target, now_s: float) -> dict[str, Any]:
        """What is known of a target, as JSON takes it. Times are Unix seconds, lengths are seconds."""
        with self._lock:
            shown = self._shown.get(target.name) or _Shown()
            last, checks = shown.last, dict(shown.checks)
            recent = list(shown.recent)
            counts = {name: shown.tallies.windows[name].counts(now_s) for name, *_ in WINDOWS}
            known_s = 0.0 if shown.known_since_s is None else now_s - shown.known_since_s
            state, since, reason = shown.state, shown.since_unix_ns, shown.reason
            if shown.told and shown.told[0] is state:
                since = shown.told[1]
        return {
            "state": state,
            "since": None if since is None else since / 1e9,
            "reason": reason,
            "cause": None
            if last is None or last.cause_check is None
            else {"check": last.cause_check, "assertion": last.cause},
            "last_run": None if last is None else (last.started_unix_ns + last.duration_ns) / 1e9,
            "checks": [_check(checks[name]) for name in _in_order(target, checks)],
            "recent": recent,
            "windows": [
                _window(name, seconds, counts[name], min(seconds, known_s), target) for name, seconds, _ in WINDOWS
            ],
        }


def about(target: Target, budget: Standing) -> dict[str, Any]:
    """What is known of a target and its key without having seen it."""
    return {
        "name": target.name,
        "base_url": target.base_url,
        "model": target.model,
        "interval_s": target.interval_s,
        "objective": target.objective.availability,
        "budget": asdict(budget),
        "currency": target.prices.currency if target.prices else None,
    }


def _in_order(target: Target, checks: Iterable[str]) -> list[str]:
    return [name for name in in_order(target.checks) if name in set(checks)]


def _recent(round_: Round) -> dict[str, Any]:
    first = next((one.phases.first_token_ns for one in round_.results if one.phases.first_token_ns is not None), None)
    return {
        "at": round_.started_unix_ns / 1e9,
        "state": round_.state,
        "reason": round_.reason,
        "first_token_s": None if first is None else first / 1e9,
        "maintenance": round_.maintenance,
    }


def _check(result: ProbeResult) -> dict[str, Any]:
    return {
        "check": result.check,
        "state": result.state,
        "reason": result.reason,
        "at": result.started_unix_ns / 1e9,
        "phases_s": result.phases.seconds(),
        "figures": dict(result.figures),
        "judged": sum(one.held is not None for one in result.assertions),
        "failed": [{"assertion": one.name, "detail": one.detail} for one in result.failed],
        "status": result.status,
        "request_id": result.request_id,
        "trace_id": result.trace_id,
        "tokens": result.spent.tokens,
    }


def _window(name: str, seconds: float, counts: Counter[State], known_s: float, target: Target) -> dict[str, Any]:
    """The availability of a window and how much of its error budget is left (1: all of it, below 0: overspent).

    The budget is that of the whole window: what is not known of it counts with the rounds that would be in it.
    """
    conclusive = sum(count for state, count in counts.items() if state.conclusive)
    down = counts[State.DOWN]
    expected = conclusive + max(0.0, seconds - known_s - target.interval_s) / target.interval_s
    allowed = (1 - target.objective.availability) * expected
    return {
        "window": name,
        "seconds": seconds,
        "known_s": known_s,
        "rounds": {state.value: counts[state] for state in State},
        "budget_rounds": allowed,
        "enough": conclusive >= _ENOUGH_ROUNDS and known_s + target.interval_s >= _ENOUGH_S,
        "availability": (conclusive - down) / conclusive if conclusive else None,
        "error_budget_left": None if not conclusive else 1 - down / allowed if allowed else float(down == 0),
    }
