"""What ends a run before its time: a figure of its last seconds that was beyond a bound for a while.

Sums over a sliding window of seconds, kept as records come: a look costs the same however long the run is.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tensorix_records import RequestRecord
from tensorix_records.figures import NEEDED_BEYOND
from tensorix_records.objectives import Brake, Criterion, Objective, ReadGoals
from tensorix_records.one_request import is_chat, quantity_of

__all__ = ["Brakes"]

_OUTCOMES = {"successful": "success", "throttled": "throttled", "failed": "failed"}


def _is_good(record: RequestRecord, criteria: Sequence[Criterion]) -> bool:
    """As `tensorix_records.judging.good_requests`: what has no such quantity is not held against it."""
    for one in criteria:
        value = quantity_of(record, one.name)
        if value is None or (one.inclusive and value == one.bound):
            continue
        if not (value < one.bound if one.below else value > one.bound):
            return False
    return True


@dataclass(slots=True)
class _Sums:
    """Of a stretch of time: how many counted, how many of them hit, and an amount."""

    total: int = 0
    hits: int = 0
    amount: float = 0.0

    def add(self, other: _Sums, sign: int = 1) -> None:
        self.total += sign * other.total
        self.hits += sign * other.hits
        self.amount += sign * other.amount


class _Condition:
    """Whether something is true of the last `over_s` seconds.

    It is not while it would rest on fewer than five requests: those that hit, of a share or a percentile above its
    bound (as many as a percentile needs beyond it), and all of them otherwise. A rate needs a whole window.
    """

    def __init__(self, when: Objective, over_s: float, criteria: Sequence[Criterion], now: float) -> None:
        self.when = when
        self._over_s = over_s
        self._criteria = criteria
        self._began = now
        self._sums, self._new = _Sums(), _Sums()
        self._kept: deque[tuple[float, _Sums]] = deque()

    def on_record(self, record: RequestRecord) -> None:
        """Count a request."""
        name, sums = self.when.name, self._new
        if self.when.kind == "time":
            if record.outcome == "success" and is_chat(record) and (value := quantity_of(record, name)) is not None:
                sums.total += 1
                sums.hits += self.when.holds(value)
                sums.amount += value
        elif name in ("goodput", "good_share"):
            if record.outcome == "success" and is_chat(record):
                sums.total += 1
                sums.hits += _is_good(record, self._criteria)
        elif name == "output_tokens":
            sums.amount += record.completion_tokens or 0
        elif name == "error_rate":
            sums.total += record.outcome in ("success", "failed")
            sums.hits += record.outcome == "failed"
        elif name == "throttled_rate":
            sums.total += record.outcome != "cancelled"
            sums.hits += record.outcome == "throttled"
        else:
            sums.hits += name == "sent" or record.outcome == _OUTCOMES[name]

    def look(self, now: float) -> str | None:
        """What is true now, in words; None where it is not, or too little is known."""
        self._kept.append((now, self._new))
        self._sums.add(self._new)
        self._new = _Sums()
        while self._kept and self._kept[0][0] <= now - self._over_s:
            self._sums.add(self._kept.popleft()[1], -1)
        when, sums = self.when, self._sums
        if when.kind == "rate":
            return self._rate(now)
        share = sums.hits / sums.total if sums.total else 0.0
        if when.kind == "share":
            deciding = sums.total - sums.hits if when.below else sums.hits
            true = deciding >= NEEDED_BEYOND and when.holds(share)
            return f"{sums.hits:,} of {sums.total:,} requests ({100 * share:.3g} %)" if true else None
        if sums.total < NEEDED_BEYOND:
            return None
        return self._time(share)

    def _rate(self, now: float) -> str | None:
        if now - self._began < self._over_s:
            return None
        amount = self._sums.amount if self.when.name == "output_tokens" else self._sums.hits
        rate = amount / self._over_s
        return f"{rate:.3g}/s" if self.when.holds(rate) else None

    def _time(self, share: float) -> str | None:
        when, sums = self.when, self._sums
        words = f"{sums.hits:,} of {sums.total:,} requests were"
        if when.statistic == "mean":
            mean = sums.amount / sums.total
            return f"the mean of {sums.total:,} requests is {mean / 1e9:.3g} s" if when.holds(mean) else None
        if when.statistic == "max":
            return words if (share == 1 if when.below else sums.hits > 0) else None
        within = float(when.statistic or 0) / 100
        if when.below:
            return words if share >= within else None
        return words if sums.hits >= NEEDED_BEYOND and share > 1 - within else None


class _Held:
    """A brake, and since when what it watches is true."""

    def __init__(self, brake: Brake, conditions: Sequence[_Condition]) -> None:
        self.brake = brake
        self.conditions = conditions
        self._since: float | None = None

    def look(self, now: float) -> str | None:
        """Why the run is to end, in words; None where it is not."""
        found = [(one.when.text, words) for one in self.conditions if (words := one.look(now)) is not None]
        if not found:
            self._since = None
            return None
        self._since = now if self._since is None else self._since
        if now - self._since < self.brake.for_s:
            return None
        what = "" if self.brake.when is not None else f" ({found[0][0]} is broken)"
        return f"{self.brake.text}{what}: {found[0][1]} in the last {self.brake.over_s:g} s"


def _broken(objective: Objective) -> Objective:
    """What is true where an objective is broken."""
    return replace(objective, below=not objective.below, inclusive=not objective.inclusive)


class Brakes:
    """A listener that ends a run by `stop`, with words, once one of its brakes says so.

    Of several processes the master has it, which sees what all of them send.
    """

    def __init__(
        self,
        goals: ReadGoals,
        stop: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stop = stop
        self._clock = clock
        now = clock()
        # What the schedule offers is its own doing.
        broken = [_broken(one) for one in goals.objectives if one.name != "offered"]
        self._brakes = [
            _Held(
                brake,
                [
                    _Condition(when, brake.over_s, goals.good, now)
                    for when in ([brake.when] if brake.when is not None else broken)
                ],
            )
            for brake in goals.brakes
        ]
        self._conditions = [one for brake in self._brakes for one in brake.conditions]

    def on_record(self, record: RequestRecord) -> None:
        """Count a request."""
        for one in self._conditions:
            one.on_record(record)

    def on_second(self, second: Mapping[str, Any]) -> None:
        """Look whether the run is to end."""
        now = self._clock()
        for brake in self._brakes:
            if words := brake.look(now):
                self._stop(f"the brake {words}")
                return
