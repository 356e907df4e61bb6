"""Whether the server says that there is room for a check: so that no probe provokes a 429."""

from __future__ import annotations

from collections.abc import Sequence

from tensorix_api.limiters import Cost
from tensorix_probes.limits.observation import Observation
from tensorix_probes.settings import Target

__all__ = ["room"]

_LIMITED_NS = 5 * 10**9


def room(observations: Sequence[Observation], now_unix_ns: int, cost: Cost, target: Target) -> str | None:
    """Why a check that can be charged `cost` has to be skipped, by what the server said last; None where there is room.

    What it said holds for a window at most, and no longer than to the reset that it named with it; what we have sent
    since is taken off. After a 429 nothing is sent until its Retry-After is over, a window at most; where it named
    none, for 5 s.
    """
    if cost == Cost(0, 0):
        return None
    window_ns = round(target.headers.window_s * 1e9)
    # What a bad key was answered is not about this one; a clock that was set leaves nothing to go by.
    known = [
        one for one in observations if one.kind != "unauthorised" and 0 <= now_unix_ns - one.head_unix_ns < window_ns
    ]
    return (
        _limited(known, now_unix_ns, window_ns)
        or _short(known, now_unix_ns, "requests", cost.requests, target.budget.keep_free_requests)
        or _short(known, now_unix_ns, "tokens", cost.tokens, 0)
    )


def _limited(known: list[Observation], now_unix_ns: int, window_ns: int) -> str | None:
    refused = next((one for one in reversed(known) if one.status == 429), None)
    if refused is None or any(one.sure and one.head_unix_ns > refused.head_unix_ns for one in known):
        return None
    named_ns = refused.limits.retry_after_ns
    left_ns = refused.head_unix_ns + (_LIMITED_NS if named_ns is None else min(named_ns, window_ns)) - now_unix_ns
    if left_ns <= 0:
        return None
    ago = (now_unix_ns - refused.head_unix_ns) // 10**9
    return f"the key was limited (429) {ago} s ago: nothing is sent for {-(-left_ns // 10**9)} s more"


def _short(known: list[Observation], now_unix_ns: int, what: str, needed: int, free: int) -> str | None:
    """Where fewer remain than are needed and to be kept free."""
    values = [(one, getattr(one.limits, f"remaining_{what}")) for one in known]
    # Less than none is nonsense: it says nothing here, and the check of the headers tells of it.
    said = [one for one, value in values if value is not None and value >= 0]
    if not needed or not said:
        return None
    last = max(said, key=lambda one: one.head_unix_ns)
    reset_ns = getattr(last.limits, f"reset_{what}_ns")
    if reset_ns is not None and now_unix_ns >= last.head_unix_ns + reset_ns:
        return None
    since = [one for one in known if one is not last and one.sent_unix_ns >= last.head_unix_ns]
    taken = sum(one.requests if what == "requests" else one.tokens or 0 for one in since if one.sure)
    remaining = max(0, getattr(last.limits, f"remaining_{what}") - taken)
    if remaining >= needed + free:
        return None
    keep = f" and {free:,} to be kept free" if free else ""
    number = what.removesuffix("s") if remaining == 1 else what
    ago = (now_unix_ns - last.head_unix_ns) // 10**9
    return f"only {remaining:,} {number} remained {ago} s ago, {needed:,} needed{keep}"
