"""What is known from one round to the next: of a key, for all targets that use it, and of a target."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tensorix_probes.limits.ledger import Ledger
from tensorix_probes.limits.observation import Observation

__all__ = ["Clock", "KeyMemory", "TargetMemory"]

_MOST_OBSERVATIONS = 200
"""As many as the check of what remains looks at."""


@dataclass(frozen=True, slots=True)
class Clock:
    """Where the time comes from; tests put their own in place of it."""

    unix_ns: Callable[[], int] = time.time_ns
    monotonic_ns: Callable[[], int] = time.monotonic_ns


@dataclass(slots=True)
class KeyMemory:
    """What is known of a key. Several threads use it: what they see is a list that is replaced, never changed."""

    ledger: Ledger
    observations: list[Observation] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def observe(self, seen: list[Observation]) -> None:
        """Add what responses said; the oldest go once there are many."""
        with self._lock:
            self.observations = [*self.observations, *seen][-_MOST_OBSERVATIONS:]


@dataclass(slots=True)
class TargetMemory:
    """What is known of a target. Only its own thread touches it."""

    checks: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What each check keeps for itself: JSON values."""
    last_run_unix_ns: dict[str, int] = field(default_factory=dict)
    """When each check ran last."""
    first_model: str | None = None
    """The first that the server listed, asked where the target names none."""
