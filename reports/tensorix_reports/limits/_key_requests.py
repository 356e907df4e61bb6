"""The requests of each key of a run, and of these what tells of the limit on requests."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tensorix_reports.frames import Requests, RunFrames, mapping
from tensorix_reports.limiter import Evidence
from tensorix_reports.limiting._allowed import MODEL_LISTS, models_count
from tensorix_reports.limiting._episodes import decisions_of
from tensorix_reports.limits._refusals import spoken_of

__all__ = ["MAIN", "KeyRequests", "keys_of", "server_offset_s"]

MAIN = "limit"
"""The scenario of the experiment's own requests: beside them stand the look before and the questions after."""
_LOOK = "preflight"
_MOST_EVIDENCE = 5_000
"""A fit looks at no more than these, the first: beyond them no kind is any clearer, and the time grows."""
_MOST_READ = 100_000


@dataclass(frozen=True, slots=True)
class KeyRequests:
    """What one key sent; arrays of the length of `requests`, in the order of their starts, seconds since the run's."""

    key_alias: str | None
    requests: Requests
    sent_s: NDArray[np.float64]
    seen_s: NDArray[np.float64]
    refused: NDArray[np.bool_]
    """For the limit on requests, or nobody knows for which."""
    refused_with: int
    """The status of a refusal: 429, or 503 where the limiter answers so."""
    refused_for_tokens: NDArray[np.bool_]
    counted: NDArray[np.bool_]
    """What the limiter let through and, as far as is known, counted."""
    told: NDArray[np.bool_]
    """What the fit rests on."""
    evidence: Evidence
    left_out: int
    """Requests that would tell as well, and were too many to look at."""

    def most_in(self, seconds: float) -> int:
        """The most that passed within so long a time."""
        passed_s = self.sent_s[self.counted]
        if not len(passed_s):
            return 0
        return int((np.searchsorted(passed_s, passed_s + seconds, "left") - np.arange(len(passed_s))).max())


def server_offset_s(frames: RunFrames) -> float:
    """How far the server's clock is ahead of the run's, as far as the run knows."""
    offset = mapping(frames.manifest.get("server_clock")).get("offset_s")
    return float(offset) if isinstance(offset, (int, float)) and np.isfinite(offset) else 0.0


def _said(requests: Requests, places: NDArray[np.int64]) -> list[str]:
    texts = [requests.texts(name, places) for name in ("error_type", "error_code", "error_message")]
    return [" ".join(filter(None, parts)) for parts in zip(*texts, strict=True)]


def _for_tokens(requests: Requests, refused: NDArray[np.bool_]) -> NDArray[np.bool_]:
    found = np.zeros(len(requests), dtype=np.bool_)
    places = np.flatnonzero(refused)
    left = [requests.array(name)[places].tolist() for name in ("remaining_requests", "remaining_tokens")]
    for place, on_requests, on_tokens, said in zip(places.tolist(), *left, _said(requests, places), strict=True):
        known = [None if np.isnan(value) else value for value in (on_requests, on_tokens)]
        found[place] = spoken_of(known[0], known[1], said) == "tokens"
    return found


def _of_key(
    key_alias: str | None,
    requests: Requests,
    frames: RunFrames,
    *,
    models: bool,
    bad_requests: bool,
    refused_with: int,
) -> KeyRequests:
    if len(requests) > _MOST_READ:
        requests = requests.of(np.arange(_MOST_READ))
    seen = decisions_of(requests)
    status = requests.array("status")
    over = status == refused_with
    for_tokens = _for_tokens(requests, over)
    lists = requests.codes("kind").equal(*MODEL_LISTS)
    countable = np.ones(len(requests), np.bool_) if models else ~lists
    # A gateway has counted what then fails behind it; what is wrong with a request or its key may be found before.
    counted = countable & ((status == 200) | (status >= 500)) & ~over
    if bad_requests:
        counted |= status == 400
    refused = over & ~for_tokens & countable
    told = counted | refused
    scenario = requests.codes("scenario")
    if frames.manifest.get("kind") == "experiment":
        # The look before it is a list of models: where these count, it has opened the window.
        told &= scenario.equal(MAIN, _LOOK)
    places = np.flatnonzero(told)
    kept = places[:_MOST_EVIDENCE]
    told = np.zeros(len(requests), np.bool_)
    told[kept] = True
    zero_s = frames.origin_unix_ns / 1e9 + server_offset_s(frames)
    remaining = np.where(over, np.nan, seen.remaining_requests)
    evidence = Evidence(seen.at_s[kept], seen.seen_s[kept], ~refused[kept], remaining[kept], zero_s)
    return KeyRequests(
        key_alias=key_alias,
        requests=requests,
        sent_s=seen.at_s,
        seen_s=seen.seen_s,
        refused=refused,
        refused_with=refused_with,
        refused_for_tokens=for_tokens,
        counted=counted,
        told=told,
        evidence=evidence,
        left_out=len(places) - len(kept),
    )


def keys_of(
    frames: RunFrames, limit: int | None, *, bad_requests: bool = False, refused_with: int = 429
) -> list[KeyRequests]:
    """Each key's, the one that sent the most first; keys with no request that tells of a limit are left out.

    With `bad_requests` what is answered 400 is counted by the limiter too.
    """
    lists = frames.requests.codes("kind").equal(*MODEL_LISTS)
    refused = frames.requests.array("status") == refused_with
    models = bool((lists & refused).any()) or models_count(frames.requests, limit)
    parts = list(frames.requests.parts("key_alias"))
    if frames.manifest.get("kind") == "experiment":
        # Beside its own key an experiment asks with a wrong one, and with a second.
        parts = [(alias, mine) for alias, mine in parts if mine.codes("scenario").equal(MAIN).any()]
    found = [
        _of_key(alias, mine, frames, models=models, bad_requests=bad_requests, refused_with=refused_with)
        for alias, mine in parts
    ]
    return sorted((key for key in found if len(key.evidence)), key=lambda key: -len(key.evidence))
