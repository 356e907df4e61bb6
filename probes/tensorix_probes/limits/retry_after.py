"""Whether a 429 tells truly when to come back."""

from __future__ import annotations

from collections.abc import Sequence

from tensorix_probes.limits.observation import Observation
from tensorix_probes.result import Assertion, State

__all__ = ["retry_after_is_honest"]

_SLACK_NS = 2 * 10**9
"""It comes in whole seconds, rounded up; and what a response says may be older than its head."""


def retry_after_is_honest(known: Sequence[Observation], window_ns: int) -> Assertion:
    """Not honest is what is overstated: requests remained, or one passed, long before it was over.

    Honest is what an answer in between bears out: without one nobody knows whether less would have done. What is
    refused afterwards proves nothing: somebody else may have used what came back. Where tokens were short nothing is
    judged: they come back early whenever somebody used less than was set aside.
    """
    name, judged = "retry_after_is_honest", False
    for refused in known:
        wait_ns = refused.limits.retry_after_ns
        if refused.status != 429 or wait_ns is None or not _of_requests(refused):
            continue
        over_ns = refused.head_unix_ns + wait_ns
        later = [one for one in known if one is not refused and one.sent_unix_ns >= refused.head_unix_ns]
        early = next((one for one in later if one.head_unix_ns < over_ns - _SLACK_NS and _had_room(one)), None)
        if early is not None:
            after_s = (early.head_unix_ns - refused.head_unix_ns) / 1e9
            detail = f"a 429 said to come back in {wait_ns / 1e9:g} s; there was room again after {after_s:.2g} s"
            return Assertion(name, False, detail, State.DEGRADED)
        between = any(
            one.head_unix_ns < over_ns - _SLACK_NS and one.limits.remaining_requests is not None for one in later
        )
        judged = judged or (between and any(one.sent_unix_ns >= over_ns and _had_room(one) for one in later))
    return Assertion(name, True if judged else None, None, State.DEGRADED)


def _of_requests(refused: Observation) -> bool:
    """Whether it was requests that were short, and not tokens."""
    tokens = refused.limits.remaining_tokens
    return refused.limits.remaining_requests == 0 and (tokens is None or tokens > refused.most_tokens)


def _had_room(one: Observation) -> bool:
    return one.sure or (one.limits.remaining_requests or 0) > 0
