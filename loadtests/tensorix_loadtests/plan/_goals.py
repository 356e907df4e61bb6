"""What a run is to reach, and what ends it before its time."""

from __future__ import annotations

from dataclasses import dataclass

from tensorix_records.objectives import ReadGoals, read_goals

__all__ = ["Goals"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Goals:
    """Objectives and brakes, as they are written (`tensorix_records.objectives` reads them).

    Raises SettingsError, in one line, for one that cannot be read.
    """

    objectives: tuple[str, ...] = ()
    """On figures of the run: `ttft_p95 < 800ms`."""
    good: tuple[str, ...] = ()
    """On each request, for goodput: `ttft < 800ms`."""
    brakes: tuple[str, ...] = ()
    """What ends the run once it was so for a while: `error_rate > 20% for 10s`."""

    def __post_init__(self) -> None:
        self.read()

    def read(self) -> ReadGoals:
        """What they mean."""
        return read_goals(self.objectives, self.good, self.brakes)
