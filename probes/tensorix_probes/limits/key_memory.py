"""What is known of a key from one round to the next, for all targets that use it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from tensorix_probes.limits.ledger import Ledger
from tensorix_probes.limits.observation import Observation

__all__ = ["KeyMemory"]

_MOST_OBSERVATIONS = 120
"""As many as the check of what remains looks at."""


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
