"""The alerts of the rules, judged without Prometheus: pure, the time is an argument, memory is bounded.

Rounds are counted by slots, sixty to a window, so that a window reaches back by up to a sixtieth more than it says.
Rounds in a maintenance window count nowhere.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tensorix_probes.alerts.conditions import BUDGET_WINDOW_S, BURNS, MOST_SHARE, SHARES, WINDOWS, longest_interval_s
from tensorix_probes.result import Round, State
from tensorix_probes.settings import Target

__all__ = ["Alert", "Evaluator", "Verdict"]

_SLOTS = 60
_CONCLUSIVE = tuple(state for state in State if state.conclusive)
_STALE_INTERVALS = 3
_STALE_S = 120.0
_PAGE_DAYS, _TICKET_DAYS = 3, 14


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert of one target at one location."""

    name: str
    target: str
    location: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """An alert began to fire, or ended."""

    alert: Alert
    firing: bool


class _Window:
    """How many rounds had which state in the last so many seconds."""

    def __init__(self, length_s: float) -> None:
        self._slot_s = length_s / _SLOTS
        self._slots: deque[tuple[int, Counter[State]]] = deque()
        self._sums: Counter[State] = Counter()

    def add(self, now_s: float, state: State) -> None:
        slot = int(now_s // self._slot_s)
        if not self._slots or self._slots[-1][0] != slot:
            self._slots.append((slot, Counter()))
        self._slots[-1][1][state] += 1
        self._sums[state] += 1

    def recall(self, past: Iterable[tuple[float, State, int]], now_s: float) -> None:
        """Add what was before: when, which state, how many rounds."""
        slots = dict(self._slots)
        oldest = int(now_s // self._slot_s) - _SLOTS
        for at_s, state, count in past:
            if (slot := int(at_s // self._slot_s)) >= oldest:
                slots.setdefault(slot, Counter())[state] += count
                self._sums[state] += count
        self._slots = deque(sorted(slots.items(), key=lambda one: one[0]))

    def counts(self, now_s: float) -> Counter[State]:
        """By state; what is not there is 0."""
        oldest = int(now_s // self._slot_s) - _SLOTS
        while self._slots and self._slots[0][0] < oldest:
            self._sums.subtract(self._slots.popleft()[1])
        return self._sums


@dataclass(slots=True)
class _Watched:
    """One target at one location."""

    target: Target
    windows: dict[str, _Window]
    last_s: float
    """When a round of it was last heard of, or when it became known."""
    expiry_unix_s: float | None = None
    firing: set[str] = field(default_factory=set)


class Evaluator:
    """Rounds in, verdicts out. `now_s` is the seconds of a clock that only goes forward."""

    def __init__(self, scale: float = 1.0) -> None:
        self._scale = scale
        self._watched: dict[tuple[str, str | None], _Watched] = {}

    def watch(self, now_s: float, target: Target, location: str | None = None) -> None:
        """Know of a target before its first round, so that its silence is noticed; a known one may have changed."""
        watched = self._watched.get((target.name, location))
        if watched is None:
            windows = {name: _Window(length_s * self._scale) for name, length_s in WINDOWS.items()}
            self._watched[target.name, location] = _Watched(target, windows, now_s)
        else:
            watched.target = target

    def recall(
        self,
        now_s: float,
        target: Target,
        location: str | None,
        past: Sequence[tuple[float, State, int]],
        *,
        firing: Iterable[str] = (),
        expiry_unix_s: float | None = None,
    ) -> None:
        """Know what was before this process: when which state had how many rounds, and what fired at its end."""
        self.watch(now_s, target, location)
        watched = self._watched[target.name, location]
        for window in watched.windows.values():
            window.recall(past, now_s)
        watched.firing |= set(firing)
        if watched.expiry_unix_s is None:
            watched.expiry_unix_s = expiry_unix_s

    def expiry_unix_s(self, target: str, location: str | None = None) -> float | None:
        """When the certificate of a target runs out, where that is known."""
        watched = self._watched.get((target, location))
        return watched.expiry_unix_s if watched else None

    def forget(self, target: str, location: str | None = None) -> list[Verdict]:
        """Watch a target no more: what fires of it ends."""
        watched = self._watched.pop((target, location), None)
        return [Verdict(Alert(name, target, location), False) for name in sorted(watched.firing)] if watched else []

    def see(self, now_s: float, round_: Round, target: Target) -> list[Verdict]:
        """Take over a round; what began or ended with it."""
        self.count(now_s, round_, target)
        ended_unix_s = (round_.started_unix_ns + round_.duration_ns) / 1e9
        return self._judge(now_s, ended_unix_s, self._watched[target.name, round_.location], round_.location)

    def count(self, now_s: float, round_: Round, target: Target) -> None:
        """Take over a round without judging it yet."""
        self.watch(now_s, target, round_.location)
        watched = self._watched[target.name, round_.location]
        watched.last_s = now_s
        for result in round_.results:
            watched.expiry_unix_s = result.figures.get("certificate_not_after_unix_s", watched.expiry_unix_s)
        if round_.maintenance is None:
            for window in watched.windows.values():
                window.add(now_s, round_.state)

    def tick(self, now_s: float, now_unix_s: float) -> list[Verdict]:
        """What began or ended by time alone. Call it every few seconds."""
        return [
            verdict
            for (_, location), watched in self._watched.items()
            for verdict in self._judge(now_s, now_unix_s, watched, location)
        ]

    def firing(self) -> list[Alert]:
        """What fires as of the last `see` or `tick`."""
        return [
            Alert(name, target, location)
            for (target, location), watched in self._watched.items()
            for name in sorted(watched.firing)
        ]

    def _judge(self, now_s: float, now_unix_s: float, watched: _Watched, location: str | None) -> list[Verdict]:
        now = _by_rounds(watched, now_s, self._scale) | _by_time(watched, now_s, now_unix_s, self._scale)
        changed = sorted(now ^ watched.firing)
        watched.firing = now
        return [Verdict(Alert(name, watched.target.name, location), name in now) for name in changed]


def _by_rounds(watched: _Watched, now_s: float, scale: float) -> set[str]:
    """The alerts that follow from how many rounds had which state."""
    counts = {name: window.counts(now_s) for name, window in watched.windows.items()}
    failures = {name: count[State.DOWN] for name, count in counts.items()}
    conclusive = {name: max(1, sum(count[state] for state in _CONCLUSIVE)) for name, count in counts.items()}
    budget = 1 - watched.target.objective.availability
    found = set()
    for burn in BURNS:
        bound = min(burn.factor * budget, MOST_SHARE)
        if watched.target.interval_s > longest_interval_s(burn) * scale:
            continue
        many = failures[burn.long] >= burn.least_long and failures[burn.short] >= burn.least_short
        known = not burn.whole or failures[burn.long] > bound * WINDOWS[burn.long] * scale / watched.target.interval_s
        if many and known and all(failures[window] / conclusive[window] > bound for window in (burn.long, burn.short)):
            found.add(burn.alert)
    for share in SHARES:
        seen, total = counts[share.window][share.state], max(1, sum(counts[share.window].values()))
        if seen >= share.least and seen / total > share.share:
            found.add(share.alert)
    # Against all rounds that 30 days hold: what is known after an hour cannot have used up a month's budget.
    rounds = BUDGET_WINDOW_S * scale / watched.target.interval_s
    if failures["30d"] >= 3 and failures["30d"] > budget * rounds:
        found.add("TensorixBudgetSpent")
    return found


def _by_time(watched: _Watched, now_s: float, now_unix_s: float, scale: float) -> set[str]:
    """The alerts that come with time alone."""
    found = set()
    if now_s - watched.last_s > _STALE_INTERVALS * watched.target.interval_s + _STALE_S * scale:
        found.add("TensorixProbeStale")
    if watched.expiry_unix_s is not None:
        days = (watched.expiry_unix_s - now_unix_s) / 86_400
        if days < _TICKET_DAYS:
            found.add("TensorixCertificateExpiresSoon")
        if days < _PAGE_DAYS:
            found.add("TensorixCertificateExpires")
    return found
