"""The audit of the header that says what remains: is it there, is it a number, is it true, and why does it rise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tensorix_reports.frames import kind_order
from tensorix_reports.limits._key_requests import KeyRequests
from tensorix_reports.limits._prediction import Predicted

__all__ = ["HeaderAudit", "Rises", "headers_of", "rises_of", "token_rises_of"]

_BACK = 200
"""So many decisions are looked back for the one after which what a header says was true."""


@dataclass(frozen=True, slots=True)
class HeaderAudit:
    """What one kind of response said of the requests that remain."""

    kind: str
    status: int
    responses: int
    present: int
    """A header that can be read as a number, below 0 too."""
    odd: int
    """One that is empty, negative, no number, or there twice with different values."""
    tokens_present: int
    """The same of the tokens that remain."""
    compared: int
    """Of those present, so many can be held against the limiter that was fitted."""
    equal: int
    """What was said is what the limiter had left, as far as requests in flight leave it open."""
    off_by: float | None
    """Of those that are not: how much more than the truth they said, median."""
    late_s: float | None
    """Of those that are not: how long ago what they said was true, median; None where it never was."""


@dataclass(frozen=True, slots=True)
class Rises:
    """How often what remains rose from one response to the next, and why."""

    resource: str
    rises: int
    by_refill: int
    """The limiter gave back meanwhile."""
    by_settling: int
    """Something that was set aside for a request was given back when it ended."""
    unexplained: int
    used_by_others: int
    """How much less remained, in all, than our own requests explain: somebody else on the key."""


def _overlapping(
    sent_s: NDArray[np.float64], seen_s: NDArray[np.float64], counted: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """How many counted requests were in flight while each was: their order is open."""
    starts, ends = np.sort(sent_s[counted]), np.sort(seen_s[counted])
    begun = np.searchsorted(starts, seen_s, "right")
    over = np.searchsorted(ends, sent_s, "left")
    return np.asarray(np.maximum(begun - over - counted, 0))


def headers_of(key: KeyRequests, by_placing: list[Predicted] | None, *, gradual: bool = False) -> list[HeaderAudit]:
    """A row a kind of response. `by_placing` is the limiter run with decisions early, in the middle and late; None
    where none was fitted, and nothing can be compared. `gradual`: it gives back little by little, not all at once.
    """
    requests = key.requests
    status, kinds = requests.array("status"), requests.codes("kind")
    said, tokens = requests.array("remaining_requests"), requests.array("remaining_tokens")
    odd = ~requests.codes("limit_anomaly").equal(None)
    answered = np.isfinite(status)
    difference = late_s = np.full(len(requests), np.nan)
    if by_placing is not None:
        difference, late_s = _against(key, said, by_placing, gradual=gradual)
    rows = []
    for kind in sorted(kinds.values, key=kind_order):
        mine = kinds.equal(kind) & answered
        for code in np.unique(status[mine]).astype(int).tolist():
            these = mine & (status == code)
            compared = these & np.isfinite(difference)
            wrong = compared & (difference != 0)
            lags = late_s[wrong & np.isfinite(late_s)]
            rows.append(
                HeaderAudit(
                    kind=kind,
                    status=code,
                    responses=int(these.sum()),
                    present=int(np.isfinite(said[these]).sum()),
                    odd=int(odd[these].sum()),
                    tokens_present=int(np.isfinite(tokens[these]).sum()),
                    compared=int(compared.sum()),
                    equal=int((compared & (difference == 0)).sum()),
                    off_by=float(np.median(difference[wrong])) if wrong.any() else None,
                    late_s=float(np.median(lags)) if len(lags) else None,
                )
            )
    return rows


def _off(said: NDArray[np.float64], left: NDArray[np.float64], open_: NDArray[np.int64]) -> NDArray[np.float64]:
    """By how much it lies outside of what a row of `left` each allows; NaN where nothing was said."""
    low, high = left.min(axis=0) - open_, left.max(axis=0) + open_
    off = np.where(said < low, said - low, np.where(said > high, said - high, 0.0))
    off[~np.isfinite(said)] = np.nan
    return off


def _against(
    key: KeyRequests, said: NDArray[np.float64], by_placing: list[Predicted], *, gradual: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How much more than the truth each said (0 where it may be the truth), and how long ago that was the truth.

    True is what was left at any instant from the decision to the answer: nobody knows when the header was written.
    """
    open_ = _overlapping(key.sent_s, key.seen_s, key.counted)
    difference = _off(said, np.array([one.remaining for one in by_placing]), open_)
    later = _off(said, np.array([one.at_answer for one in by_placing]), open_)
    # What flows back little by little, and all that lies between, was left at some instant.
    between = (np.sign(difference) != np.sign(later)) if gradual else np.zeros(len(said), np.bool_)
    difference = np.where(np.abs(later) < np.abs(difference), later, difference)
    difference[between & np.isfinite(said)] = 0.0
    middle = by_placing[len(by_placing) // 2]
    order = np.argsort(middle.at_s, kind="stable")
    late_s = np.full(len(said), np.nan)
    for place, index in enumerate(order.tolist()):
        if difference[index] == 0 or np.isnan(difference[index]):
            continue
        before = order[max(0, place - _BACK) : place][::-1]
        same = np.flatnonzero(middle.remaining[before] == said[index])
        if len(same):
            late_s[index] = middle.at_s[index] - middle.at_s[before[same[0]]]
    return difference, late_s


def rises_of(key: KeyRequests, run: Predicted | None) -> Rises | None:
    """Of the requests that remain, by responses of which none was under way with another; None without any pair."""
    said = key.requests.array("remaining_requests")
    places = _alone(key, np.isfinite(said))
    if run is None or len(places) < 2:
        return None
    change = np.diff(said[places])
    own = _when_seen(np.diff(_meant(run, said)[places]), change)
    rose = change > 0
    refill = rose & (own > 0) & (change <= own + 1)
    others = np.where(change < own, own - change, 0)
    return Rises(
        resource="requests",
        rises=int(rose.sum()),
        by_refill=int(refill.sum()),
        by_settling=0,
        unexplained=int((rose & ~refill).sum()),
        used_by_others=int(others.sum()),
    )


def token_rises_of(key: KeyRequests, run: Predicted | None) -> Rises | None:
    """Of the tokens that remain: with the requests' refill, or by no more than what was set aside and not used."""
    requests = key.requests
    said = requests.array("remaining_tokens")
    places = _alone(key, np.isfinite(said))
    if len(places) < 2:
        return None
    change = np.diff(said[places])
    rose = change > 0
    refilled = np.zeros(len(change), np.bool_)
    if run is not None:
        left = _meant(run, requests.array("remaining_requests"))[places]
        refilled = _when_seen(np.diff(left), change) > 0
    # What the request before had set aside and did not use comes back with the next response at the latest; a gateway
    # may guess the prompt at its characters.
    held = _most_held(key)[places[:-1]]
    settled = rose & ~refilled & (change <= held)
    return Rises(
        resource="tokens",
        rises=int(rose.sum()),
        by_refill=int((rose & refilled).sum()),
        by_settling=int(settled.sum()),
        unexplained=int((rose & ~refilled & ~settled).sum()),
        used_by_others=0,
    )


def _meant(run: Predicted, said: NDArray[np.float64]) -> NDArray[np.float64]:
    """What was left at the instant of which a header speaks: the decision or the answer, whichever is nearer to it."""
    by_answer = np.abs(said - run.at_answer) < np.abs(said - run.remaining)
    return np.where(by_answer, run.at_answer, run.remaining)


def _when_seen(own: NDArray[np.float64], change: NDArray[np.float64]) -> NDArray[np.float64]:
    """What the limiter gave back, at the request at which it was seen: a window that is known to some milliseconds may
    end between one request and the next in truth, and between the ones beside these in the run of the fitted limiter.
    """
    moved = own.copy()
    foreseen, seen = own > 0, change > 0
    soon = foreseen[:-1] & ~seen[:-1] & ~foreseen[1:] & seen[1:]
    late = ~foreseen[:-1] & seen[:-1] & foreseen[1:] & ~seen[1:]
    for place in np.flatnonzero(soon | late).tolist():
        moved[place : place + 2] = change[place : place + 2]
    return moved


def _most_held(key: KeyRequests) -> NDArray[np.float64]:
    asked, chars = (np.nan_to_num(key.requests.array(name)) for name in ("max_tokens", "prompt_chars"))
    return np.asarray(asked + chars)


def _alone(key: KeyRequests, said: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Those that said something and were under way with no other."""
    latest = np.maximum.accumulate(key.seen_s)
    alone = said.copy()
    alone[1:] &= latest[:-1] <= key.sent_s[1:]
    alone[:-1] &= key.seen_s[:-1] <= key.sent_s[1:]
    return np.flatnonzero(alone)
