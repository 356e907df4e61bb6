"""Requests a second, by what became of them: over the window of the figures, and in its busiest second."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from tensorix_reports.frames import RunFrames, Window

__all__ = ["Rate", "rates_of"]

_RATES = ("offered", "sent", "successful", "throttled")


@dataclass(frozen=True, slots=True)
class Rate:
    """One of the rates. Requests count in the second in which they were sent, those offered in which they were due."""

    what: str
    """`offered`, `sent`, `successful` or `throttled`."""
    a_second: float | None
    """Over the window; None where nothing was scheduled (a closed loop offers nothing), or it has no length."""
    peak_a_second: int | None
    """In the busiest second of the whole run."""


def rates_of(frames: RunFrames, window: Window, seconds: pd.DataFrame) -> list[Rate]:
    """The rates of a run that is already read; `seconds` is its table of seconds."""
    requests = frames.load
    at = requests["at_s"].to_numpy(float)
    due = at + requests["intended_at_ns"].to_numpy(float) / 1e9
    outcome = requests["outcome"].to_numpy(object)
    instants = {
        "offered": due[np.isfinite(due)],
        "sent": at,
        "successful": at[outcome == "success"],
        "throttled": at[outcome == "throttled"],
    }
    rates = []
    for what in _RATES:
        column = seconds["success" if what == "successful" else what]
        if not len(column) or column.isna().all():
            rates.append(Rate(what, None, None))
            continue
        inside = (instants[what] >= window.start_s) & (instants[what] <= window.end_s)
        a_second = float(np.count_nonzero(inside) / window.length_s) if window.length_s > 0 else None
        rates.append(Rate(what, a_second, int(column.max())))
    return rates
