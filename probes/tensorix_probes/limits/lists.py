"""Whether a server counts a list of models as a request: the documentation does not say, and gateways differ."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from tensorix_probes.limits.observation import Observation

__all__ = ["lists_are_free"]

_KIND = "models"
_NEWEST = 40
"""Observations: some ten rounds."""


def lists_are_free(observations: Sequence[Observation], limit: int | None, window_s: float) -> bool | None:
    """Whether what remains shows that lists are not counted; None where it shows neither.

    Two responses with nothing of ours but one list between them tell both ways: it fell, or it did not. Where `limit`
    is known, a single response tells when more remains than the limit without our lists of the last window; less may
    be somebody else's doing. Refills and others' traffic can mislead either, so the majority counts.
    """
    observations = observations[-_NEWEST:]
    said = [one for one in observations if one.limits.remaining_requests is not None and one.kind != "unauthorised"]
    votes = 0
    for last, one in pairwise(said):
        between = [use for use in observations if last.head_unix_ns < use.head_unix_ns <= one.head_unix_ns]
        fell = (last.limits.remaining_requests or 0) - (one.limits.remaining_requests or 0)
        if one.kind == _KIND and between == [one] and fell in (0, 1):
            votes += 1 if fell == 0 else -1
    if votes or limit is None:
        return votes > 0 if votes else None
    return True if sum(_vote(one, observations, limit, round(window_s * 1e9)) for one in said) > 0 else None


def _vote(reading: Observation, observations: Sequence[Observation], limit: int, window_ns: int) -> int:
    """1 where more remained than if lists were counted, -1 where no more did, 0 without a list to tell by."""
    within = [
        one
        for one in observations
        if reading.head_unix_ns - window_ns < one.sent_unix_ns <= reading.head_unix_ns and one.status == 200
    ]
    lists = sum(one.kind == _KIND for one in within)
    if not lists:
        return 0
    ours = sum(one.requests for one in within if one.sure) + lists
    return 1 if (reading.limits.remaining_requests or 0) > limit - ours else -1
