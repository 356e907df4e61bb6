"""What is promised of a target."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Objective"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """The share of conclusive probes that have to be up or degraded, over a rolling window."""

    availability: float = 0.995
    window_s: float = 30 * 86_400.0
    interval_s: float | None = None
    """How often the target is probed, where that is known; else it is learnt from the probes."""
    told: bool = True
    """Whether somebody set it, or it is the default."""

    def __post_init__(self) -> None:
        if not 0 < self.availability <= 1 or not self.window_s > 0:
            raise ValueError("an objective is a share above 0, at most 1, over a window longer than nothing")
