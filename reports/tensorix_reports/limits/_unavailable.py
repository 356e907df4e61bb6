"""A 503 that is a limiter's refusal, and one that says that the server is overloaded or down.

nginx's `limit_req` refuses with 503 unless it is told another status, and so do others. Such a refusal comes beyond a
limit, and nowhere else; an outage comes when it likes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tensorix_reports.limiter import LimiterFit
from tensorix_reports.limiting._episodes import decisions_of, episodes_of
from tensorix_reports.limits._key_requests import KeyRequests
from tensorix_reports.limits._prediction import Predicted

__all__ = ["UNAVAILABLE", "explained", "may_be_refusals", "unavailable"]

UNAVAILABLE = 503
_LEAST = 2
_MOST_UNEXPLAINED = 0.1
"""Of those that passed, and of those that were refused."""


def unavailable(key: KeyRequests) -> NDArray[np.bool_]:
    """The requests of a key that were answered 503, and not taken for refusals."""
    found: NDArray[np.bool_] = key.requests.array("status") == UNAVAILABLE
    return found & (key.refused_with != UNAVAILABLE)


def may_be_refusals(key: KeyRequests, *, experiment: bool) -> bool:
    """Whether a key's 503s may be what its limiter refuses: it refused nothing with 429, some passed before the first
    503, and some again after it.

    An experiment sends what meets a limit, and an outage would have to begin just then. Of other traffic they have to
    come back: a single stretch of them is like any outage.
    """
    found = unavailable(key)
    if found.sum() < _LEAST or key.refused.any() or key.refused_for_tokens.any():
        return False
    seen = decisions_of(key.requests)
    episodes = episodes_of(replace(seen, refused=found, admitted=seen.admitted & ~found))
    # One may begin with an answer that says that nothing remains, and nobody asks before it is over.
    episodes = [episode for episode in episodes if episode.refused]
    over = [episode for episode in episodes if episode.back_s is not None]
    began_well = bool(seen.passed[: int(np.flatnonzero(found)[0])].any())
    return began_well and bool(over) and (experiment or len(episodes) > 1)


def explained(key: KeyRequests, fit: LimiterFit, run: Predicted | None) -> bool:
    """Whether the limiter that was fitted to them tells which were answered 503 and which were not: `key` with these
    taken for refusals, `run` the limiter over its requests.
    """
    if run is None or fit.verdict == "no model fits" or fit.foreign_per_s is not None:
        return False
    passed, refused = key.told & ~key.refused, key.told & key.refused
    if not passed.any() or not refused.any():
        return False
    wrong = max(float((~run.passes[passed]).mean()), float(run.passes[refused].mean()))
    return wrong <= _MOST_UNEXPLAINED
