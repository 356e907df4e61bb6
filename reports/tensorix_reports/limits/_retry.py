"""Retry-After against the wait that was really needed, by the limiter that was fitted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tensorix_reports.limiter import Fitted
from tensorix_reports.limits._key_requests import KeyRequests
from tensorix_reports.limits._prediction import Predicted

__all__ = ["RetryAudit", "retry_of"]

_ROUNDED_S = 1.05
"""A wait in whole seconds is rounded up."""
_LEAST_SLACK_S = 0.05


@dataclass(frozen=True, slots=True)
class RetryAudit:
    """What refusals said to wait, against the wait needed from then on; seconds."""

    refusals: int
    said: int
    compared: int
    """Of those that said something, so many can be held against the limiter."""
    too_early: int
    """Whoever waited so long would have been refused again."""
    honest: int
    """Right, up to a second of rounding."""
    too_late: int
    said_median_s: float | None
    needed_median_s: float | None
    too_early_by_s: float | None
    """At most."""
    too_late_by_s: float | None
    """Median of those that are."""
    too_late_by_most_s: float | None


def retry_of(key: KeyRequests, fitted: Fitted | None, run: Predicted | None) -> RetryAudit:
    """Of every refusal for the limit on requests. `run` has the decisions as late as they can be."""
    after_s = key.requests.array("retry_after_ns") / 1e9
    said = key.refused & np.isfinite(after_s)
    over: NDArray[np.float64] = np.zeros(0)
    needed: NDArray[np.float64] = np.zeros(0)
    slack_s = _LEAST_SLACK_S
    if run is not None and fitted is not None:
        telling = said & np.isfinite(run.wait_s) & (run.wait_s > 0)
        needed = run.wait_s[telling] - (key.seen_s - run.at_s)[telling]
        over = after_s[telling] - needed
        way_s = float(np.median((key.seen_s - key.sent_s)[key.refused])) if key.refused.any() else 0.0
        slack_s = max(_LEAST_SLACK_S, way_s, fitted.window_s.high - fitted.window_s.low)
    early, late = over < -slack_s, over > _ROUNDED_S + slack_s
    return RetryAudit(
        refusals=int(key.refused.sum()),
        said=int(said.sum()),
        compared=len(over),
        too_early=int(early.sum()),
        honest=int((~early & ~late).sum()),
        too_late=int(late.sum()),
        said_median_s=float(np.median(after_s[said])) if said.any() else None,
        needed_median_s=float(np.median(needed)) if len(needed) else None,
        too_early_by_s=float(-over[early].min()) if early.any() else None,
        too_late_by_s=float(np.median(over[late])) if late.any() else None,
        too_late_by_most_s=float(over[late].max()) if late.any() else None,
    )
