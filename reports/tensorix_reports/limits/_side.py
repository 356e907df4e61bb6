"""What the questions beside an experiment found: what else counts, and whose budget it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tensorix_reports.frames import RunFrames
from tensorix_reports.limiter import LimiterFit
from tensorix_reports.limits._token_charging import charging_of

__all__ = ["SideFinding", "bad_requests_count", "side_findings"]

_NAMES = {
    "models": "the list of models",
    "bad request": "a request that is refused for its parameters (400)",
    "wrong key": "a request with a wrong key (401)",
    "stream": "a streamed request",
}
_EXPECTED = {"models": 200, "bad request": 400, "wrong key": 401, "stream": 200}


@dataclass(frozen=True, slots=True)
class SideFinding:
    """An answer to one question, with what it rests on."""

    question: str
    answer: str
    """`yes`, `no`, `unclear`, or in a word or two what it is."""
    evidence: str


@dataclass(frozen=True, slots=True)
class _Row:
    part: str
    what: str
    status: int | None
    remaining: float | None


def _rows(frames: RunFrames) -> list[_Row]:
    requests = frames.requests
    scenarios = requests.codes("scenario")
    status, left = requests.array("status"), requests.array("remaining_requests")
    rows = []
    for place in np.flatnonzero(~scenarios.equal(None)).tolist():
        part, colon, what = scenarios.values[scenarios.codes[place]].partition(": ")
        if colon:
            known = [None if np.isnan(values[place]) else values[place] for values in (status, left)]
            rows.append(_Row(part, what, None if known[0] is None else int(known[0]), known[1]))
    return rows


def bad_requests_count(frames: RunFrames) -> bool:
    """Whether an experiment has shown that requests answered 400 take of what remains."""
    rows = _rows(frames) if frames.manifest.get("kind") == "experiment" else []
    taken = _taken(rows, "bad request")
    return taken is not None and taken[0] == taken[1] > 0


def side_findings(frames: RunFrames, fit: LimiterFit | None, *, refused_with: int = 429) -> list[SideFinding]:
    """Of an experiment; nothing of any other run. `refused_with` is the status of a refusal."""
    if frames.manifest.get("kind") != "experiment":
        return []
    rows = _rows(frames)
    found = []
    for what in _NAMES:
        found += _counts(rows, what, refused_with)
    found += _second_key(rows, refused_with)
    found += _knocks(fit)
    charging = charging_of(frames)
    if charging is not None:
        found.append(SideFinding("how are tokens charged?", *charging))
    return found


def _taken(rows: list[_Row], what: str) -> tuple[int, float, float, float] | None:
    """How many were asked between two chat requests, what they took of what remained, and this before and after."""
    asked = [place for place, row in enumerate(rows) if row.part == "whole" and row.what == what]
    if not asked:
        return None
    before = [row.remaining for row in rows[: asked[0]] if row.part == "whole" and row.what == "chat"]
    after = [row.remaining for row in rows[asked[-1] + 1 :] if row.part == "whole" and row.what == "chat"]
    if not before or not after or before[-1] is None or after[0] is None:
        return None
    return len(asked), before[-1] - after[0] - 1, before[-1], after[0]


def _counts(rows: list[_Row], what: str, refused_with: int) -> list[SideFinding]:
    """Whether something counts: by what remains before and after it, else by whether it passes a spent budget."""
    question = f"does {_NAMES[what]} count?"
    statuses = {row.status for row in rows if row.what == what and row.status is not None}
    other = statuses - {_EXPECTED[what], refused_with}
    if other:
        return [SideFinding(question, "unclear", f"it was answered {', '.join(map(str, sorted(other)))}")]
    if (taken := _taken(rows, what)) is not None:
        asked, drop, before, after = taken
        answer = "yes" if drop == asked else "no" if drop == 0 else "unclear"
        evidence = f"{asked} of them between two chat requests took {drop:g} of what remained"
        return [SideFinding(question, answer, f"{evidence}, which fell from {before:g} to {after:g}")]
    spent = [row for row in rows if row.part == "spent"]
    mine = [place for place, row in enumerate(spent) if row.what == what and row.status is not None]
    if not mine:
        return []
    chats = [(place, row.status) for place, row in enumerate(spent) if row.what == "chat"]
    before_it = [status for place, status in chats if place < mine[0]]
    after_it = [status for place, status in chats if place > mine[-1]]
    if not before_it or not after_it or {before_it[-1], after_it[0]} != {refused_with}:
        return [SideFinding(question, "unclear", "the budget came back while it was asked")]
    codes = sorted({spent[place].status for place in mine}, key=str)
    told = f"it was answered {', '.join(map(str, codes))} while chat was refused before and after"
    if what == "stream":
        return [SideFinding(question, "yes" if codes == [refused_with] else "no", told)]
    if codes == [refused_with]:
        return [SideFinding(question, "yes", f"{told}: it is held to the limit; whether it takes of it no header says")]
    return [SideFinding(question, "unclear" if refused_with in codes else "no", told)]


def _second_key(rows: list[_Row], refused_with: int) -> list[SideFinding]:
    spent = [row for row in rows if row.part == "spent" and row.what in ("chat", "second key")]
    mine = [place for place, row in enumerate(spent) if row.what == "second key" and row.status is not None]
    if not mine:
        return []
    question = "has a second key a budget of its own?"
    if mine[0] == 0 or spent[mine[0] - 1].status != refused_with or spent[mine[-1] + 1 :][:1] == []:
        return [SideFinding(question, "unclear", "the first key was not surely at its limit meanwhile")]
    statuses = [spent[place].status for place in mine]
    if spent[mine[-1] + 1].status != refused_with:
        return [SideFinding(question, "unclear", "the first key's budget came back meanwhile")]
    told = f"while the first was refused before and after, the second was answered {', '.join(map(str, statuses))}"
    answer = "yes" if statuses[0] == 200 else "no" if set(statuses) == {refused_with} else "unclear"
    return [SideFinding(question, answer, told)]


def _knocks(fit: LimiterFit | None) -> list[SideFinding]:
    if fit is None or not fit.ranked or not fit.refused:
        return []
    best = fit.ranked[0]
    told = f"of {fit.refused:,} refusals: the {best.kind.replace('_', ' ')} that explains the most "
    told += "counts them like those that pass" if best.counts_refused else "does not count them"
    return [SideFinding("does asking while refused extend the wait?", "yes" if best.counts_refused else "no", told)]
