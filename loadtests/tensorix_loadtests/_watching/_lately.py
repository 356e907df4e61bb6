"""What a run was like in its last minutes, a point a second, and all in all: in bounded memory."""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tensorix_records import RequestRecord
from tensorix_records.one_request import is_chat, quantity_of

__all__ = ["COLUMNS", "Lately"]

_POINTS = 600
# A percentile rests on the requests of so many seconds that ended last.
_WINDOW = 10
# Times are counted in classes that are this much wider each: a percentile is right to one per cent.
_GROWTH = math.log(1.02)
_OUTCOMES = ("success", "throttled", "failed", "cancelled")

COLUMNS = (
    "t",
    "ttft_p50",
    "ttft_p95",
    "tokens",
    *_OUTCOMES,
    "users",
    "in_flight",
    "lag",
    "cpu",
    "delay",
    "left_requests",
    "left_tokens",
    "left_money",
    "remaining_requests",
    "remaining_tokens",
)
"""Of a point: its Unix time in seconds; seconds, tokens a second, requests a second, and amounts."""


class _Times:
    """How many times there were of each length."""

    def __init__(self, parts: Iterable[_Times] = ()) -> None:
        self.counts: Counter[int] = Counter()
        for part in parts:
            self.counts.update(part.counts)

    def add(self, nanoseconds: float) -> None:
        self.counts[math.floor(math.log(max(nanoseconds, 1.0)) / _GROWTH)] += 1

    def quantile(self, share: float) -> float | None:
        """Seconds; None of nothing."""
        wanted, seen = math.ceil(share * self.counts.total()), 0
        for number in sorted(self.counts):
            seen += self.counts[number]
            if seen >= wanted:
                return math.exp((number + 0.5) * _GROWTH) / 1e9
        return None


class Lately:
    """Listens to a run. In a run of several processes their seconds stand in `workers`."""

    def __init__(
        self, workers: Mapping[str, Mapping[str, Any]] | None = None, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._workers = workers if workers is not None else {}
        self._clock = clock
        self.started = clock()
        self.number = 0
        """Of the last point, from 1."""
        self._points: deque[list[float | None]] = deque(maxlen=_POINTS)
        self._window: deque[_Times] = deque(maxlen=_WINDOW)
        self._times, self._all_times = _Times(), _Times()
        self._outcomes: Counter[str] = Counter()
        self._all_outcomes: Counter[str] = Counter()
        self._tokens = self._all_tokens = 0
        self._cost: float | None = None
        self._remaining: dict[str | None, dict[str, int]] = {}
        self._looked = clock()

    def on_record(self, record: RequestRecord) -> None:
        """Count a request."""
        self._outcomes[record.outcome] += 1
        self._all_outcomes[record.outcome] += 1
        self._tokens += record.completion_tokens or 0
        self._all_tokens += record.completion_tokens or 0
        if record.cost is not None:
            self._cost = (self._cost or 0.0) + record.cost
        if record.outcome == "success" and is_chat(record) and (ttft := quantity_of(record, "ttft")) is not None:
            self._times.add(ttft)
            self._all_times.add(ttft)
        for what in ("requests", "tokens"):
            if (amount := getattr(record, f"remaining_{what}")) is not None:
                # As many as there are keys.
                self._remaining.setdefault(record.key_alias, {})[what] = amount

    def on_second(self, second: Mapping[str, Any]) -> None:
        """Make a point."""
        now = self._clock()
        passed = max(now - self._looked, 0.05)
        self._looked = now
        self._window.append(self._times)
        self._times = _Times()
        window = _Times(self._window)
        left = second.get("left", {})
        engines = [second, *self._workers.values()]
        lag, cpu, delay = (
            max((one[name] for one in engines if name in one), default=None)
            for name in ("loop_lag_max_ns", "cpu_share", "dispatch_delay_p99_ns")
        )
        point = [
            now,
            window.quantile(0.5),
            window.quantile(0.95),
            self._tokens / passed,
            *(self._outcomes[outcome] / passed for outcome in _OUTCOMES),
            second.get("users"),
            second.get("in_flight"),
            _seconds(lag),
            cpu,
            _seconds(delay),
            *(left.get(what) for what in ("requests", "tokens", "money")),
            *(self._left_of(what) for what in ("requests", "tokens")),
        ]
        self._points.append([None if value is None else float(f"{value:.6g}") for value in point[1:]])
        self._points[-1].insert(0, round(now, 1))
        self.number += 1
        self._tokens = 0
        self._outcomes.clear()

    def _left_of(self, what: str) -> int | None:
        """What the server said last that remains, of all keys together."""
        said = [limits[what] for limits in self._remaining.values() if what in limits]
        return sum(said) if said else None

    def since(self, number: int) -> list[list[float | None]]:
        """The points after the one of that number, as many as are kept."""
        fresh = min(max(0, self.number - number), len(self._points))
        return [self._points[index] for index in range(len(self._points) - fresh, len(self._points))]

    def totals(self) -> dict[str, Any]:
        """Of the whole run so far."""
        return {
            "requests": self._all_outcomes.total(),
            **{outcome: self._all_outcomes[outcome] for outcome in _OUTCOMES},
            "tokens": self._all_tokens,
            "ttft_p50": self._all_times.quantile(0.5),
            "ttft_p95": self._all_times.quantile(0.95),
            "cost": self._cost,
            "seconds": self._looked - self.started,
        }


def _seconds(nanoseconds: float | None) -> float | None:
    return None if nanoseconds is None else nanoseconds / 1e9
