"""How long the limiter's windows are, measured by when the budget was back after it had been spent."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from tensorix_reports.limiting._episodes import Decisions, Episode

__all__ = ["measured_length", "usual_length"]

_USUAL_LENGTHS_S = (1, 2, 5, 10, 15, 20, 30, 60, 300, 600, 3600, 86400)


def measured_length(
    seen: Decisions, episodes: list[Episode], begun_before: bool, limit: int | None
) -> tuple[float, float] | None:
    """Bounds on the length from windows that were spent and followed by another."""
    if limit is None:
        limit = _least_between(seen, episodes)
    opener = None if begun_before or not len(seen.at_s) else float(seen.at_s[0])
    low, high = 0.0, np.inf
    passed_s = seen.at_s[seen.passed]
    for episode in episodes:
        if episode.back_s is None:
            break
        if opener is not None and episode.last_refused_s is not None:
            passed = int(np.diff(np.searchsorted(passed_s, [opener, episode.back_s]))[0])
            if limit is not None and passed > limit:
                # More than one window takes: another opened unseen between the opener and the refusals.
                opener = episode.back_s
                continue
            low = max(low, episode.last_refused_s - opener)
            high = min(high, episode.back_s - opener)
        opener = episode.back_s
    return (low, float(high)) if np.isfinite(high) else None


def _least_between(seen: Decisions, episodes: list[Episode]) -> int | None:
    """The fewest that passed from one return of the budget to the next: where the limit is not known, no window is
    seen to take more without another having opened in between.
    """
    backs = [episode.back_s for episode in episodes if episode.back_s is not None]
    passed = seen.at_s[seen.passed]
    return min((int(np.diff(np.searchsorted(passed, pair))[0]) for pair in pairwise(backs)), default=None)


def usual_length(bracket: tuple[float, float], slack: float) -> float:
    """A usual length within the bracket, else its upper end."""
    usual = [length for length in _USUAL_LENGTHS_S if bracket[0] - slack <= length <= bracket[1] + slack]
    return float(usual[0]) if len(usual) == 1 else bracket[1]
