"""Whether the client itself is the bottleneck, by what was seen of it in the last seconds."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tensorix_records import RequestRecord

__all__ = ["Saturated", "Saturation"]

_LOOP_LAG_NS = 100e6
_CPU_SHARE = 0.9
_DISPATCH_NS = 10e6
_WAITED_NS = 100e6
# A second that is late can be anything's fault; three of five are this program's.
_WINDOW, _ENOUGH = 5, 3

_MORE_PROCESSES = "spread the load over more processes (--processes), or over more machines"


@dataclass(frozen=True, slots=True)
class Saturated:
    """Why figures of the run may be the client's own, and what helps."""

    what: str
    """`cpu`, `loop_lag`, `dispatch` or `users`."""
    words: str
    advice: str


class Saturation:
    """Fed with each record and each second; tells of each cause once, when it is sure."""

    def __init__(self, most_users: int | None = None) -> None:
        self._most_users = most_users
        self._dispatch: list[int] = []
        self._seconds: deque[dict[str, float]] = deque(maxlen=_WINDOW)
        self._told: set[str] = set()

    def on_record(self, record: RequestRecord) -> None:
        """Take its dispatch delay: from when it was due, had a user, passed the gate and had a connection.

        Only of scheduled ones: what a user of a closed loop does between two requests is its own affair.
        """
        if record.attempt != 1 or record.headers_at_ns is None or record.intended_at_ns is None:
            return
        due = max(record.user_ready_at_ns or record.intended_at_ns, record.intended_at_ns)
        connecting = 0
        if record.connect_start_at_ns is not None:
            stamps = (record.tls_done_at_ns, record.tcp_done_at_ns, record.dns_done_at_ns)
            connecting = next((at for at in stamps if at is not None), 0) - record.connect_start_at_ns
        self._dispatch.append(-due - connecting - (record.held_ns or 0))

    def dispatch(self) -> dict[str, int]:
        """What a word on each second adds: `dispatch_delay_p99_ns` of the requests that ended since the last call."""
        delays, self._dispatch = sorted(self._dispatch), []
        # Of fewer than a hundred it is the largest.
        return {"dispatch_delay_p99_ns": delays[len(delays) * 99 // 100]} if delays else {}

    def second(self, told: Mapping[str, Any]) -> list[Saturated]:
        """What is new to say, from what the event `second` holds."""
        self._seconds.append({name: float(value) for name, value in told.items() if isinstance(value, int | float)})
        found = [self._late(), self._loop(), self._cpu(), self._users(told)]
        new = [one for one in found if one is not None and one.what not in self._told]
        self._told |= {one.what for one in new}
        return new

    def _over(self, name: str, bound: float) -> float | None:
        """The largest of a value that was above its bound in enough of the last seconds."""
        over = [second[name] for second in self._seconds if second.get(name, 0.0) > bound]
        return max(over) if len(over) >= _ENOUGH else None

    def _late(self) -> Saturated | None:
        if (late := self._over("dispatch_delay_p99_ns", _DISPATCH_NS)) is None:
            return None
        words = f"requests left this client up to {late / 1e6:.0f} ms later than they could have"
        return Saturated("dispatch", words, _MORE_PROCESSES)

    def _loop(self) -> Saturated | None:
        if (lag := self._over("loop_lag_max_ns", _LOOP_LAG_NS)) is None:
            return None
        words = f"its event loop came round up to {lag / 1e6:.0f} ms late, second after second"
        return Saturated("loop_lag", words, _MORE_PROCESSES)

    def _cpu(self) -> Saturated | None:
        if (share := self._over("cpu_share", _CPU_SHARE)) is None:
            return None
        return Saturated("cpu", f"it used {share:.0%} of its core for several seconds", _MORE_PROCESSES)

    def _users(self, told: Mapping[str, Any]) -> Saturated | None:
        waited = float(told.get("waited_for_user_max_ns", 0))
        if not told.get("most_users_reached") or waited <= _WAITED_NS:
            return None
        most = "" if self._most_users is None else f" {self._most_users:,}"
        words = f"all{most} users were waiting for answers, and requests up to {waited / 1e9:.1f} s for a user"
        return Saturated("users", words, "allow more users (--max-users); latency from intended holds that wait")

    @staticmethod
    def event(found: Saturated) -> dict[str, str]:
        """As the event `saturated` holds it."""
        return asdict(found)
