"""What a growing run has shown so far: counts of the whole, and figures of its last seconds."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import pyarrow as pa

__all__ = ["RECENT_S", "Progress"]

RECENT_S = 10.0
"""How far back the figures of the last seconds look."""

_COLUMNS = (
    "user_class",
    "outcome",
    "start_unix_ns",
    "end_at_ns",
    "first_token_at_ns",
    "completion_tokens",
    "remaining_requests",
    "remaining_tokens",
)


@dataclass(slots=True, kw_only=True)
class Progress:
    """Fed with what the follower of a run brings; `now_ns` arguments are Unix time, passed in."""

    requests: int | None
    """The number of requests asked for; None where only time ends the run."""
    duration_s: float | None
    started_ns: int | None = None
    users: int = 0
    in_flight: int = 0
    succeeded: int = 0
    throttled: int = 0
    failed: int = 0
    cancelled: int = 0
    remaining_requests: int | None = None
    remaining_tokens: int | None = None
    stop_reason: str | None = None
    ended: bool = False
    _remaining_at_ns: int = 0
    _recent: deque[tuple[int, int | None, int]] = field(default_factory=deque)
    """Of each request that ended lately: when, its TTFT (ns), its completion tokens."""

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
        while self._recent and self._recent[0][0] < now_ns - RECENT_S * 1e9:
            self._recent.popleft()

    def _take_event(self, event: dict[str, Any]) -> None:
        match event.get("kind"):
            case "run_started":
                self.started_ns = event.get("t_unix_ns")
            case "users":
                self.users = event.get("count", self.users)
            case "second":
                self.in_flight = event.get("in_flight", self.in_flight)
                self.users = event.get("users", self.users)
            case "run_ended":
                self.ended = True
                self.in_flight = event.get("in_flight", 0)
            case "stop":
                self.stop_reason = event.get("reason")

    def _take_record(
        self,
        user_class: str | None,
        outcome: str,
        start_unix_ns: int,
        end_at_ns: int | None,
        first_token_at_ns: int | None,
        tokens: int | None,
        remaining_requests: int | None,
        remaining_tokens: int | None,
    ) -> None:
        ended = start_unix_ns + (end_at_ns or 0)
        if remaining_requests is not None and ended >= self._remaining_at_ns:
            self._remaining_at_ns = ended
            self.remaining_requests, self.remaining_tokens = remaining_requests, remaining_tokens
        if user_class is None:
            return  # the engine's own question which models there are, before the first user
        match outcome:
            case "success":
                self.succeeded += 1
            case "throttled":
                self.throttled += 1
            case "cancelled":
                self.cancelled += 1
            case _:
                self.failed += 1
        self._recent.append((ended, first_token_at_ns if outcome == "success" else None, tokens or 0))

    def elapsed_s(self, now_ns: int) -> float:
        """Seconds since the run started; 0 before."""
        return max(0.0, (now_ns - self.started_ns) / 1e9) if self.started_ns else 0.0

    def _span_s(self, now_ns: int) -> float:
        return max(1.0, min(RECENT_S, self.elapsed_s(now_ns)))

    def requests_a_second(self, now_ns: int) -> float:
        """Requests that ended, a second, lately."""
        return len(self._recent) / self._span_s(now_ns)

    def tokens_a_second(self, now_ns: int) -> float:
        """Completion tokens of the requests that ended, a second, lately."""
        return sum(tokens for _, _, tokens in self._recent) / self._span_s(now_ns)

    def ttft_s(self) -> float | None:
        """The median time to first token of the streams that ended lately, in seconds."""
        times = [ttft for _, ttft, _ in self._recent if ttft is not None]
        return median(times) / 1e9 if times else None

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
