"""What the questions beside an experiment found: what else counts, and whose budget it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tensorix_reports.frames import RunFrames
from tensorix_reports.limiter import LimiterFit
from tensorix_reports.limits._token_charging import charging_of

__all__ = ["SideFinding", "side_findings"]

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


def side_findings(frames: RunFrames, fit: LimiterFit | None) -> list[SideFinding]:
    """Of an experiment; nothing of any other run."""
    if frames.manifest.get("kind") != "experiment":
        return []
    rows = _rows(frames)
    found = []
    for what in _NAMES:
        found += _counts(rows, what)
    found += _second_key(rows)
    found += _knocks(fit)
    charging = charging_of(frames)
    if charging is not None:
        found.append(SideFinding("how are tokens charged?", *charging))
    return found


def _counts(rows: list[_Row], what: str) -> list[SideFinding]:
    """Whether something counts: by what remains before and after it, else by whether it passes a spent budget."""
    question = f"does {_NAMES[what]} count?"
    asked = [place for place, row in enumerate(rows) if row.part == "whole" and row.what == what]
    statuses = {row.status for row in rows if row.what == what and row.status is not None}
    other = statuses - {_EXPECTED[what], 429}
    if other:
        return [SideFinding(question, "unclear", f"it was answered {', '.join(map(str, sorted(other)))}")]
    if asked:
        before = [row.remaining for row in rows[: asked[0]] if row.part == "whole" and row.what == "chat"]
        after = [row.remaining for row in rows[asked[-1] + 1 :] if row.part == "whole" and row.what == "chat"]
        if before and after and before[-1] is not None and after[0] is not None:
            drop = before[-1] - after[0] - 1
            answer = "yes" if drop == len(asked) else "no" if drop == 0 else "unclear"
            evidence = f"{len(asked)} of them between two chat requests took {drop:g} of what remained"
            return [SideFinding(question, answer, f"{evidence}, which fell from {before[-1]:g} to {after[0]:g}")]
    spent = [row for row in rows if row.part == "spent"]
    mine = [place for place, row in enumerate(spent) if row.what == what and row.status is not None]
    if not mine:
        return []
    chats = [(place, row.status) for place, row in enumerate(spent) if row.what == "chat"]
    before_it = [status for place, status in chats if place < mine[0]]
    after_it = [status for place, status in chats if place > mine[-1]]
    if not before_it or not after_it or before_it[-1] != 429 or after_it[0] != 429:
        return [SideFinding(question, "unclear", "the budget came back while it was asked")]
    codes = sorted({spent[place].status for place in mine}, key=str)
    told = f"it was answered {', '.join(map(str, codes))} while chat was refused before and after"
    if what == "stream":
        return [SideFinding(question, "yes" if codes == [429] else "no", told)]
    if codes == [429]:
        return [SideFinding(question, "yes", f"{told}: it is held to the limit; whether it takes of it no header says")]
    return [SideFinding(question, "unclear" if 429 in codes else "no", told)]


def _second_key(rows: list[_Row]) -> list[SideFinding]:
    spent = [row for row in rows if row.part == "spent" and row.what in ("chat", "second key")]
    mine = [place for place, row in enumerate(spent) if row.what == "second key" and row.status is not None]
    if not mine:
        return []
    question = "has a second key a budget of its own?"
    if mine[0] == 0 or spent[mine[0] - 1].status != 429 or spent[mine[-1] + 1 :][:1] == []:
        return [SideFinding(question, "unclear", "the first key was not surely at its limit meanwhile")]
    statuses = [spent[place].status for place in mine]
    if spent[mine[-1] + 1].status != 429:
        return [SideFinding(question, "unclear", "the first key's budget came back meanwhile")]
    told = f"while the first was refused before and after, the second was answered {', '.join(map(str, statuses))}"
    answer = "yes" if statuses[0] == 200 else "no" if set(statuses) == {429} else "unclear"
    return [SideFinding(question, answer, told)]


def _knocks(fit: LimiterFit | None) -> list[SideFinding]:
    if fit is None or not fit.ranked or not fit.refused:
        return []
    best = fit.ranked[0]
    told = f"of {fit.refused:,} refusals: the {best.kind.replace('_', ' ')} that explains the most "
    told += "counts them like those that pass" if best.counts_refused else "does not count them"
    return [SideFinding("does asking while refused extend the wait?", "yes" if best.counts_refused else "no", told)]
