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
    at = requests.array("at_s")
    due = at + requests.array("intended_at_ns") / 1e9
    outcome = requests.codes("outcome")
    instants = {
        "offered": due[np.isfinite(due)],
        "sent": at,
        "successful": at[outcome.equal("success")],
        "throttled": at[outcome.equal("throttled")],
    }
    rates = []
    for what in _RATES:
        column = seconds["success" if what == "successful" else what]
        if not len(column) or column.isna().all():
            rates.append(Rate(what, None, None))
            continue
        inside = window.holds(instants[what])
        a_second = float(np.count_nonzero(inside) / window.length_s) if window.length_s > 0 else None
        rates.append(Rate(what, a_second, int(column.max())))
    return rates
