"""What a growing run has shown so far: counts of the whole, and figures of its last seconds."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

__all__ = ["RECENT_S", "Progress"]

RECENT_S = 10.0
"""How far back the figures of the last seconds look."""

_ENDED_AS_ASKED = ("budget", "brake")
_COLUMNS = (
    "user_class",
    "outcome",
    "start_unix_ns",
    "end_at_ns",
    "first_token_at_ns",
    "last_token_at_ns",
    "completion_tokens",
    "intended_at_ns",
    "cost",
    "remaining_requests",
    "remaining_tokens",
)


@dataclass(frozen=True, slots=True)
class _Ended:
    """A request that ended lately."""

    at_ns: int
    good: bool
    ttft_ns: float | None
    itl_ns: float | None
    late_ns: float | None
    """After its intended time; None in a closed loop."""
    tokens: int


def _quantile(values: Iterable[float | None], share: float) -> float | None:
    known = sorted(value for value in values if value is not None)
    return known[min(len(known) - 1, round(share * (len(known) - 1)))] / 1e9 if known else None


@dataclass(slots=True, kw_only=True)
class Progress:
    """Fed with what the follower of a run brings; `now_ns` arguments are Unix time, passed in."""

    requests: int | None
    """The number of requests asked for; None where only time ends the run."""
    duration_s: float | None
    started_ns: int | None = None
    spent: float | None = None
    """What the requests cost that ended; None where no prices were given."""
    notes: list[str] = field(default_factory=list)
    """What is to be said once, above the figures: whoever shows it takes it out."""
    step: str | None = None
    """Where a schedule is, in words."""
    succeeded: int = 0
    throttled: int = 0
    failed: int = 0
    cancelled: int = 0
    remaining_requests: int | None = None
    remaining_tokens: int | None = None
    stop_reason: str | None = None
    ended: bool = False
    _remaining_at_ns: int = 0
    _last_event_ns: int = 0
    _recent: deque[_Ended] = field(default_factory=deque)
    _seconds: dict[Any, dict[str, Any]] = field(default_factory=dict)
    """The last word of each process on itself."""

    @property
    def users(self) -> int:
        """Users at once, of all processes."""
        return int(self._sum("users"))

    @property
    def in_flight(self) -> int:
        """Requests under way, of all processes."""
        return int(self._sum("in_flight"))

    @property
    def processes(self) -> int:
        """Processes that have said how they do."""
        return len(self._seconds)

    def client_cpu(self) -> float | None:
        """The busiest process's share of a core, in the last second; None where none has said so."""
        return self._most("cpu_share")

    def client_lag_s(self) -> float | None:
        """By how much the latest event loop was late at most, in the last second, in seconds."""
        lag_ns = self._most("loop_lag_max_ns")
        return None if lag_ns is None else lag_ns / 1e9

    def _sum(self, name: str) -> float:
        return sum(second.get(name) or 0 for second in self._seconds.values())

    def _most(self, name: str) -> float | None:
        return max((second[name] for second in self._seconds.values() if name in second), default=None)

    @property
    def finished(self) -> int:
        """Requests that have ended, however."""
        return self.succeeded + self.throttled + self.failed + self.cancelled

    def feed(self, rows: pa.Table | None, events: list[dict[str, Any]], now_ns: int) -> None:
        """Take in new records and events."""
        for event in events:
            self._take_event(event)
        if rows is not None:
            for row in zip(*(rows.column(name).to_pylist() for name in _COLUMNS), strict=True):
                self._take_record(*row)
        while self._recent and self._recent[0].at_ns < now_ns - RECENT_S * 1e9:
            self._recent.popleft()

    def _take_event(self, event: dict[str, Any]) -> None:
        self._take_kind(event)
        self._last_event_ns = event.get("t_unix_ns") or self._last_event_ns

    def _take_kind(self, event: dict[str, Any]) -> None:
        match event.get("kind"):
            case "run_started":
                self.started_ns = event.get("t_unix_ns")
            case "run_resumed" if self.started_ns is not None:
                # The time in which nobody ran it does not count.
                self.started_ns += event.get("t_unix_ns", 0) - self._last_event_ns
                self.ended, self.stop_reason = False, None
                self._seconds.clear()
                # What was said of the run before is no news.
                self.notes.clear()
            case "second":
                self._seconds[event.get("process_id")] = event
            case "phase" if event.get("step") is not None:
                self.step = str(event["step"])
            case "run_ended":
                self.ended = True
                self._seconds = {None: {"in_flight": event.get("in_flight", 0), "users": 0}}
            case "stop":
                self.stop_reason = event.get("reason")
                # What is wrong the engine says itself.
                if self.stop_reason in _ENDED_AS_ASKED and event.get("words"):
                    self.notes.append(f"ending ({self.stop_reason}): {event['words']}")
            case "saturated":
                self.notes.append(f"warning: the client is saturated: {event.get('words')}; {event.get('advice')}")
            case "pace" | "key_out" | "worker_lost" | "brake" if event.get("words"):
                self.notes.append(str(event["words"]))

    def _take_record(
        self,
        user_class: str | None,
        outcome: str,
        start_unix_ns: int,
        end_at_ns: int | None,
        first_token_at_ns: int | None,
        last_token_at_ns: int | None,
        tokens: int | None,
        intended_at_ns: int | None,
        cost: float | None,
        remaining_requests: int | None,
        remaining_tokens: int | None,
    ) -> None:
        ended = start_unix_ns + (end_at_ns or 0)
        if remaining_requests is not None and ended >= self._remaining_at_ns:
            self._remaining_at_ns = ended
            self.remaining_requests, self.remaining_tokens = remaining_requests, remaining_tokens
        if user_class is None:
            return  # the engine's own question which models there are, before the first user
        if cost is not None:
            self.spent = (self.spent or 0.0) + cost
        match outcome:
            case "success":
                self.succeeded += 1
            case "throttled":
                self.throttled += 1
            case "cancelled":
                self.cancelled += 1
            case _:
                self.failed += 1
        good = outcome == "success"
        ttft_ns = first_token_at_ns if good else None
        itl_ns = None
        if ttft_ns is not None and last_token_at_ns is not None and tokens and tokens > 1:
            itl_ns = (last_token_at_ns - ttft_ns) / (tokens - 1)
        late_ns = None if intended_at_ns is None else -intended_at_ns
        self._recent.append(_Ended(ended, good, ttft_ns, itl_ns, late_ns, tokens or 0))

    def elapsed_s(self, now_ns: int) -> float:
        """Seconds since the run started; 0 before."""
        return max(0.0, (now_ns - self.started_ns) / 1e9) if self.started_ns else 0.0

    def _span_s(self, now_ns: int) -> float:
        return max(1.0, min(RECENT_S, self.elapsed_s(now_ns)))

    def requests_a_second(self, now_ns: int) -> float:
        """Requests that ended, a second, lately."""
        return len(self._recent) / self._span_s(now_ns)

    def successes_a_second(self, now_ns: int) -> float:
        """Requests that succeeded, a second, lately."""
        return sum(one.good for one in self._recent) / self._span_s(now_ns)

    def tokens_a_second(self, now_ns: int) -> float:
        """Completion tokens of the requests that ended, a second, lately."""
        return sum(one.tokens for one in self._recent) / self._span_s(now_ns)

    def ttft_s(self, share: float = 0.5) -> float | None:
        """A quantile of the time to first token of the streams that ended lately, in seconds: the median, say."""
        return _quantile([one.ttft_ns for one in self._recent], share)

    def itl_s(self) -> float | None:
        """The median time between two tokens of the streams that ended lately, in seconds."""
        return _quantile([one.itl_ns for one in self._recent], 0.5)

    def late_s(self) -> float | None:
        """By how much nineteen in twenty were sent after their time at most, in seconds; None in a closed loop."""
        return _quantile([one.late_ns for one in self._recent], 0.95)

    def share_done(self, now_ns: int) -> float:
        """How much of the run is over, from 0 to 1: by its requests or its time, whichever is further."""
        by_requests = self.finished / self.requests if self.requests else 0.0
        by_time = self.elapsed_s(now_ns) / self.duration_s if self.duration_s else 0.0
        return min(1.0, max(by_requests, by_time))

    def left_s(self, now_ns: int) -> float | None:
        """Seconds until the run stops sending: known for a duration, guessed for a number of requests."""
        left = []
        if self.duration_s:
            left.append(max(0.0, self.duration_s - self.elapsed_s(now_ns)))
        pace = self.requests_a_second(now_ns)
        if self.requests and pace:
            left.append(max(0, self.requests - self.finished) / pace)
        return min(left) if left and self.started_ns else None
