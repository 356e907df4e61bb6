"""Output tokens a second: over the window of the figures, and in the busiest second."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tensorix_records.timings import output_tokens_in, output_tokens_per_second
from tensorix_reports.frames import Requests, RunFrames, Window, instants_of

__all__ = ["Throughput", "throughput_of"]


@dataclass(frozen=True, slots=True)
class Throughput:
    """Output tokens of one kind of request and one way to count, over the window of the figures."""

    request: str
    token_source: str
    requests: int
    tokens: int
    """All completion tokens of those requests."""
    a_second: float | None
    """Tokens that arrived within the window, over its length."""
    peak_a_second: float | None
    """The most that arrived in one second of the run."""


def throughput_of(frames: RunFrames, window: Window, name: str, group: Requests) -> list[Throughput]:
    """The throughput of one group of successes, whatever its replies' tokens were counted by."""
    found = []
    for source, part in group.parts("token_source"):
        part = part.of(np.isfinite(part.array("completion_tokens")))
        if name == "models" or source is None or not len(part):
            continue
        arrived = output_tokens_in(part, instants_of(window, frames))
        _, by_second = output_tokens_per_second(part)
        mine = part.of(window.holds(part.array("at_s"))).array("completion_tokens")
        found.append(
            Throughput(
                request=name,
                token_source=source,
                requests=len(mine),
                tokens=int(mine.sum()),
                a_second=arrived / window.length_s if window.length_s > 0 else None,
                peak_a_second=float(by_second.max()) if len(by_second) else None,
            )
        )
    return found
