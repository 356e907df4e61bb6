"""When requests are to be sent: rates in open loop, recorded traces, and the pauses of users in closed loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tensorix_api.errors import SettingsError
from tensorix_loadtests.plan._checks import positive, positive_int

__all__ = ["Arrivals", "Gaps", "Replay", "Stage", "ThinkTime"]

Gaps = Literal["constant", "poisson", "gamma"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A stretch of time with a rate, or with one that changes evenly from `rate` to `end_rate`; requests a second."""

    duration_s: float
    rate: float
    end_rate: float | None = None

    def __post_init__(self) -> None:
        positive("duration of a stage", self.duration_s)
        for name, value in (("rate", self.rate), ("end of a ramp", self.end_rate)):
            if value is not None and value != 0:
                positive(name, value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """A trace to send again: the folder of a run, or a file of a public trace format."""

    path: str
    format: Literal["auto", "run", "mooncake", "azure"] = "auto"
    speed: float = 1.0
    """2 sends it in half the time."""

    def __post_init__(self) -> None:
        positive("speed of a replay", self.speed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """An open loop: requests have times of their own, whatever became of those before. Stages or a replay, not both.

    `most_users` may wait for answers at once; beyond that a request waits for a free one, and its record says how long.
    """

    stages: tuple[Stage, ...] = ()
    replay: Replay | None = None
    gaps: Gaps = "poisson"
    variation: float = 1.0
    """Of gamma gaps: their coefficient of variation; 1 is Poisson, above it is burstier."""
    seed: int = 0
    most_users: int = 1000

    def __post_init__(self) -> None:
        if bool(self.stages) == (self.replay is not None):
            raise SettingsError("an open loop takes either rates or a replay: give one of them")
        positive("variation of the gaps", self.variation)
        positive_int("most users", self.most_users)
        if self.stages and not any(stage.rate or stage.end_rate for stage in self.stages):
            raise SettingsError("no stage has a rate above 0: nothing would be sent")

    @property
    def duration_s(self) -> float | None:
        """How long the stages last in all; None for a replay."""
        return sum(stage.duration_s for stage in self.stages) if self.stages else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ThinkTime:
    """The pause of a user of a closed loop between an answer and the next question, in seconds."""

    mean_s: float
    kind: Literal["constant", "exponential", "uniform"] = "constant"
    """`uniform` from 0 to twice the mean."""

    def __post_init__(self) -> None:
        positive("think time", self.mean_s)
