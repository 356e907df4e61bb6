"""The limiter's windows as the server shows them, for a limiter that counts in fixed windows from the first request.

A window opens with the first counted request after the one before has run out; the next opens with the first request
after that. Where a window was spent, the first success after its refusals marks the edge better than any clock, so it
decides about requests within the slack of the edge. What does not fit is said, never smoothed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tensorix_reports.limiting._episodes import Decisions, Episode
from tensorix_reports.limiting._window_length import measured_length, usual_length

__all__ = ["LimiterWindow", "WindowFit", "fit_windows"]


@dataclass(frozen=True, slots=True)
class LimiterWindow:
    """One window and what became of the requests in it; seconds since the run's start."""

    start_s: float
    end_s: float
    sent: int
    passed: int
    """Responses with status 200."""
    refused: int
    """Responses with status 429."""
    other: int
    """Anything else, no response included."""
    tokens: int | None
    """Prompt and completion tokens of those that passed, as far as they are known."""
    bound_by: str | None
    """`requests` or `tokens`, `unclear`; None where nothing was refused."""
    complete: bool
    why_incomplete: str | None


@dataclass(frozen=True, slots=True)
class WindowFit:
    """The windows of one key, and how they were found."""

    window_s: float | None
    source: str
    """Where that length is from: `told`, `assumed` (nothing measured speaks against it), `measured` or `unknown`."""
    how: str
    fits: bool | None
    """Whether the refusals agree with such windows; None where there are too few to tell."""
    doubts: list[str]
    bracket_s: tuple[float, float] | None
    """The length as measured: no shorter than the first, no longer than the second (spent windows only)."""
    windows: list[LimiterWindow]


def _used_before(seen: Decisions, limit: int | None) -> int:
    """How many requests the server had counted before the run's first, by its own headers; 0 where it does not say."""
    known = np.flatnonzero(~np.isnan(seen.remaining_requests))
    if not len(known):
        return 0
    first = known[0]
    said = seen.limit_requests[first]
    # What remains after a counted request is less than the limit, so the most that ever did is a bound from below.
    whole = said if not np.isnan(said) else limit if limit is not None else np.nanmax(seen.remaining_requests) + 1
    counted = int(np.count_nonzero(seen.at_s <= seen.seen_s[first]))
    return max(0, int(whole - seen.remaining_requests[first]) - counted)


def _cut_short(seen: Decisions, window_s: float, slack: float) -> int:
    """Where the first window ends that was open before the run: at the first sign that the budget is whole again."""
    refusal_seen, low = np.inf, np.inf
    for index in range(1, len(seen.at_s)):
        if seen.at_s[index] > seen.at_s[0] + window_s + slack:
            return index
        if seen.refused[index - 1]:
            refusal_seen = min(refusal_seen, seen.seen_s[index - 1])
        if seen.passed[index] and seen.at_s[index] >= refusal_seen:
            return index
        left = seen.remaining_requests[index]
        if not np.isnan(left):
            if left > low + max(2.0, 0.2 * low):
                return index
            low = min(low, left)
    return len(seen.at_s)


def _split(seen: Decisions, window_s: float, slack: float, capacity: float, begun_before: bool) -> np.ndarray:
    """The number of the window that each request belongs to."""
    count = len(seen.at_s)
    # What the way to the server and back takes, at least.
    travel = float((seen.seen_s - seen.at_s)[seen.refused].min(initial=np.inf))
    owner = np.zeros(count, dtype=np.int64)
    number, opener = 0, 0
    while opener < count:
        end = seen.at_s[opener] + window_s
        if number == 0 and begun_before:
            after = _cut_short(seen, window_s, slack)
        else:
            after = max(opener + 1, int(np.searchsorted(seen.at_s, end, "left")))
            # The server opened the window a little after the opener was sent, so the edge lies a little after `end`,
            # and a request sent a little before the edge may have been decided after it.
            early = int(np.searchsorted(seen.at_s, end - slack, "left"))
            for index in range(max(opener + 1, early), after):
                spent = seen.refused[opener:index].any() and np.count_nonzero(seen.admitted[opener:index]) >= capacity
                if seen.passed[index] and spent:
                    after = index
                    break
        # A fresh window refuses nobody at first: refusals that come before its first success are the old one's.
        while after < count and seen.refused[after]:
            after += 1
        owner[opener:after] = number
        if after < count:
            # At the edge the order of starts is not the order of decisions. A refusal is answered as soon as it is
            # decided; had as many as a window takes started by then, it is the fresh window's, else the old one's.
            soon, late = np.searchsorted(seen.at_s, [seen.at_s[after] - slack, seen.at_s[after] + slack])
            near = np.flatnonzero(seen.refused[soon:late]) + soon
            near = near[near > opener]
            by = seen.seen_s[near] - travel
            beyond = int(np.searchsorted(seen.at_s, by.max(initial=-np.inf), "right"))
            fresh = seen.at_s[after:beyond][seen.admitted[after:beyond]]
            started = np.searchsorted(fresh, by, "right")
            owner[near] = np.where(started >= capacity, number + 1, number)
        number, opener = number + 1, after
    return owner


def _bound_by(admitted: int, tokens: float, limit: int | None, token_limit: int | None) -> str:
    if limit is not None and admitted >= limit:
        return "requests"
    # Tokens may be reserved before they are used, so half of the limit in use is enough to name it.
    if token_limit is not None and tokens >= token_limit / 2:
        return "tokens"
    return "unclear"


def fit_windows(
    seen: Decisions,
    episodes: list[Episode],
    *,
    window_s: float | None,
    assumed_s: float | None = None,
    limit: int | None,
    token_limit: int | None,
    end_s: float,
) -> WindowFit:
    """Find the windows of one key. `window_s` is the length that was told; without it `assumed_s` is taken unless what
    was measured speaks against it, and without both the length as measured.
    """
    begun_before = _used_before(seen, limit) > 0 or _spent_before(seen)
    bracket = measured_length(seen, episodes, begun_before, limit)
    opened = "each opened by the first request after the last"

    def fitted(length_s: float, source: str, how: str) -> WindowFit:
        return _fitted(
            seen, length_s, source, f"windows of {length_s:.3g} s, {how}", bracket, limit, token_limit, end_s
        )

    if not len(seen.at_s):
        source = "told" if window_s else "assumed" if assumed_s else "unknown"
        return WindowFit(window_s or assumed_s, source, "no request was sent", None, [], None, [])
    if window_s:
        return fitted(window_s, "told", f"the length the run was told, {opened}")
    if assumed_s and bracket is None:
        return fitted(assumed_s, "assumed", f"a length that was assumed and not measured, {opened}")
    if assumed_s and bracket and bracket[1] >= assumed_s - seen.slack_s:
        fit = fitted(assumed_s, "assumed", f"a length that was assumed and agrees with what was measured, {opened}")
        # Longer than assumed is no contradiction as long as a window may have opened unseen.
        if bracket[0] <= assumed_s + seen.slack_s or (limit is None and fit.fits):
            return fit
    if bracket:
        how = "the length inferred from when the budget came back"
        return fitted(usual_length(bracket, seen.slack_s), "measured", how)
    how = "the run was told no window length, and the budget did not run out and come back for one to be inferred"
    return WindowFit(None, "unknown", how, None, [], None, [])


def _fitted(
    seen: Decisions,
    window_s: float,
    source: str,
    how: str,
    bracket: tuple[float, float] | None,
    limit: int | None,
    token_limit: int | None,
    end_s: float,
) -> WindowFit:
    """The windows of a length that is settled."""
    used_before = _used_before(seen, limit)
    begun_before = used_before > 0 or _spent_before(seen)
    slack = min(seen.slack_s, window_s / 4)
    owner = _split(seen, window_s, slack, limit or 1, begun_before)
    taken = np.bincount(owner[seen.admitted], minlength=int(owner.max()) + 1)
    most = int(taken[owner[seen.refused]].max(initial=0))
    if most:
        owner = _split(seen, window_s, slack, most, begun_before)
    windows, doubts = [], []
    order = np.argsort(owner, kind="stable")
    edges = np.searchsorted(owner[order], np.arange(int(owner.max()) + 2))
    for number in range(int(owner.max()) + 1):
        mine = seen.of(order[edges[number] : edges[number + 1]])
        window, doubt = _window(mine, window_s, limit, token_limit, slack)
        before = used_before if number == 0 else 0
        spent_before = number == 0 and _spent_before(mine)
        windows.append(_judged(window, before, spent_before, end_s, is_last=number == int(owner.max())))
        doubts += doubt
    spent = [window for window in windows if window.refused]
    return WindowFit(window_s, source, how, not doubts if spent else None, doubts, bracket, windows)


def _window(
    mine: Decisions, window_s: float, limit: int | None, token_limit: int | None, slack: float
) -> tuple[LimiterWindow, list[str]]:
    start, sent = float(mine.at_s.min()), len(mine.at_s)
    end = start + window_s
    passed, refused = int(np.count_nonzero(mine.passed)), int(np.count_nonzero(mine.refused))
    known = mine.tokens[mine.passed]
    tokens = float(np.nansum(known))
    doubts = []
    if refused:
        late = float(mine.at_s[mine.refused].max()) - end
        if late > slack:
            doubts.append(f"the window from {start:.1f} s still refused {late:.1f} s after it should have run out")
        first_no = float(mine.seen_s[mine.refused].min())
        early = int(np.count_nonzero(mine.passed & (mine.at_s >= first_no) & (mine.at_s < end - slack)))
        if early and limit is not None and passed > limit:
            doubts.append(f"the window from {start:.1f} s let {early} through after refusals, {passed} in all")
    elif limit is not None and passed > limit:
        doubts.append(f"the window from {start:.1f} s let {passed} through and refused none")
    window = LimiterWindow(
        start_s=start,
        end_s=end,
        sent=sent,
        passed=passed,
        refused=refused,
        other=sent - passed - refused,
        tokens=None if np.isnan(known).all() else int(tokens),
        # What failed otherwise may have been charged too, so it speaks for the request limit.
        bound_by=_bound_by(sent - refused, tokens, limit, token_limit) if refused else None,
        complete=True,
        why_incomplete=None,
    )
    return window, doubts


def _spent_before(mine: Decisions) -> bool:
    """Whether a window refused somebody before it let anybody through: it was open, and spent, before the run."""
    refused, admitted = mine.seen_s[mine.refused], mine.at_s[mine.admitted]
    return bool(len(refused)) and float(refused.min()) < float(admitted.min(initial=np.inf))


def _judged(
    window: LimiterWindow, used_before: int, spent_before: bool, end_s: float, *, is_last: bool
) -> LimiterWindow:
    """Whether the run saw the whole of a window."""
    why = None
    if spent_before:
        why = "open before the run, and already spent"
    elif used_before:
        why = f"open before the run: {used_before} already counted"
    elif is_last and end_s < window.end_s:
        why = f"the run ended {window.end_s - end_s:.1f} s before it"
    if why is None:
        return window
    return replace(window, complete=False, why_incomplete=why)
