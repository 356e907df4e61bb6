"""Whether the server has room for a check, by what it said last."""

from __future__ import annotations

from collections.abc import Sequence

from tensorix_api.limiters import Cost
from tensorix_probes.limits.observation import Observation
from tensorix_probes.settings import Target

__all__ = ["room"]


def room(observations: Sequence[Observation], now_unix_ns: int, cost: Cost, target: Target) -> str | None:
    """Why a check that may cost so much has to be skipped, None where it need not: no probe is to provoke a 429."""
    newest = next((one for one in reversed(observations) if one.limits.remaining_requests is not None), None)
    if newest is None or not 0 <= now_unix_ns - newest.head_unix_ns < target.headers.window_s * 1e9:
        return None
    remaining = newest.limits.remaining_requests or 0
    if remaining >= cost.requests + target.budget.keep_free_requests:
        return None
    return f"the server said that only {remaining} requests remain"
