"""The patterns of requests that tell apart kinds that nothing has told apart yet."""

from __future__ import annotations

from collections.abc import Sequence

from tensorix_reports.limiter._findings import Kind

__all__ = ["would_tell"]

_EXPIRY = (
    "send a quarter of the limit at once, the rest a fifth of a window later until three are refused, and knock just "
    "after a window is over: a window from the first request lets everything pass again, a log just the first quarter"
)
_EDGE = (
    "begin in the middle of the server's clock window and ask again just after its edge, half a window later: a window "
    "on the clock is empty there, one from the first request is still full"
)
_EDGE_LOG = (
    "begin in the middle of the server's clock window and ask again just after its edge: a window on the clock is "
    "empty there, a log gives back only what is a window old"
)
_FADES = (
    "fill it, then ask for several at the clock's edge and a quarter of a window after it: a counter gives back little "
    "by little from the edge on, a window all at once there"
)
_DRIPS = (
    "fill it until three are refused and ask a sixth and a quarter of a window later: a bucket gives back a share of "
    "the limit by then, a window nothing"
)
_PAIRS: dict[frozenset[Kind], str] = {
    frozenset({"fixed_window", "sliding_log"}): _EXPIRY,
    frozenset({"fixed_window", "clock_window"}): _EDGE,
    frozenset({"clock_window", "sliding_log"}): _EDGE_LOG,
    frozenset({"clock_window", "sliding_counter"}): _FADES,
    frozenset({"fixed_window", "sliding_counter"}): _FADES,
    frozenset({"sliding_log", "sliding_counter"}): _FADES,
}


def would_tell(kinds: Sequence[Kind]) -> str | None:
    """What would tell the two likeliest of them apart; None of a single one."""
    if len(kinds) < 2:
        return None
    return _PAIRS.get(frozenset(kinds[:2]), _DRIPS)
