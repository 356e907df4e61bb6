"""What is known of a target from one round to the next, and the clocks that rounds go by."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Clock", "TargetMemory"]


@dataclass(frozen=True, slots=True)
class Clock:
    """Where the time comes from; tests put their own in place of it."""

    unix_ns: Callable[[], int] = time.time_ns
    monotonic_ns: Callable[[], int] = time.monotonic_ns


@dataclass(slots=True)
class TargetMemory:
    """What is known of a target. Only its own thread touches it."""

    checks: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What each check keeps for itself: JSON values."""
    last_run_unix_ns: dict[str, int] = field(default_factory=dict)
    """When each check ran last."""
    first_model: str | None = None
    """The first that the server listed, asked where the target names none."""
