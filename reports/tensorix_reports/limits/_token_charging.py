"""How tokens are charged, by what remains of them after requests that ask for much, use much, or neither."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate, pairwise
from typing import TypeAlias

import numpy as np

from tensorix_reports.frames import RunFrames

__all__ = ["TOKENS", "charging_of"]

TOKENS = "tokens"
"""The part of an experiment that asks for it: scenarios `tokens: small`, `tokens: asking`, `tokens: answering`."""

_LEAST = 4
_Row: TypeAlias = "tuple[float, float, float, float]"
"""What remained, max_tokens, prompt and completion tokens."""


def _after_all(rows: list[_Row], charged: Callable[[_Row], float]) -> list[float]:
    """What has been taken when each response is made, its own charge included."""
    return list(accumulate(map(charged, rows)))


def _after_those_before(
    rows: list[_Row], charged: Callable[[_Row], float], held: Callable[[_Row], float]
) -> list[float]:
    """The same, where its own request is still only held."""
    before = [0.0, *_after_all(rows[:-1], charged)]
    return [taken + held(row) for taken, row in zip(before, rows, strict=True)]


def _used(row: _Row) -> float:
    return row[2] + row[3]


_HYPOTHESES: dict[str, Callable[[list[_Row]], list[float]]] = {
    "prompt and max_tokens, settled to what was used": lambda rows: _after_those_before(
        rows, _used, lambda row: row[2] + row[1]
    ),
    "prompt and max_tokens, and never given back": lambda rows: _after_all(rows, lambda row: row[2] + row[1]),
    "what was used, at once": lambda rows: _after_all(rows, _used),
    "what was used, afterwards": lambda rows: _after_those_before(rows, _used, lambda row: 0.0),
    "not at all": lambda rows: [0.0 for _ in rows],
    "the prompt only": lambda rows: _after_all(rows, lambda row: row[2]),
}


def _why_not(changes: list[float], rows: list[_Row]) -> str:
    """What keeps it unclear. `changes` are drops: a rise is below 0."""
    if any(after < -(before[1] + before[2]) for after, before in zip(changes, rows, strict=False)):
        return "more came back than was set aside, so the window ended while it was asked"
    if any(after < 0 for after in changes):
        return "some came back meanwhile, by a refill or by settling"
    return "none of the ways that are known charges so"


def charging_of(frames: RunFrames) -> tuple[str, str] | None:
    """How, and what that rests on; None where it was not asked, or no header told."""
    requests = frames.requests
    scenarios = requests.codes("scenario")
    mine = np.array([str(value).startswith(f"{TOKENS}: ") for value in scenarios.values] + [False])[scenarios.codes]
    names = ("remaining_tokens", "max_tokens", "prompt_tokens", "completion_tokens")
    if not mine.any():
        return None
    status = requests.array("status")
    columns = [requests.array(name)[mine & (status == 200)] for name in names]
    table = np.column_stack(columns)
    table = table[np.isfinite(table).all(axis=1)]
    if len(table) < _LEAST:
        refused = int((mine & (status == 429)).sum())
        why = f"{refused} of them were refused" if refused else "the others did not say what was used and what remains"
        return "unclear", f"only {len(table)} of {int(mine.sum())} requests that ask for it tell: {why}"
    rows: list[_Row] = [tuple(row) for row in table.tolist()]
    seen = [before[0] - after[0] for before, after in pairwise(rows)]
    worst = {}
    for name, taken in _HYPOTHESES.items():
        expected = [after - before for before, after in pairwise(taken(rows))]
        worst[name] = max(abs(one - other) for one, other in zip(seen, expected, strict=True))
    best, second = sorted(worst, key=lambda name: worst[name])[:2]
    changes = ", ".join(f"{0.0 - drop:+,.0f}" for drop in seen)
    told = f"remaining tokens changed by {changes} from one request to the next"
    asked, used = (", ".join(f"{value(row):,.0f}" for row in rows) for value in (lambda row: row[1], _used))
    told += f" (max_tokens {asked}; used {used})"
    # A gateway guesses a prompt's tokens, from its characters: by half, at most.
    slack = max(row[2] for row in rows) / 2 + 5
    if worst[best] > slack:
        return "unclear", f"{told}; {_why_not(seen, rows)}"
    if worst[second] <= slack:
        return "unclear", f"{told}; it may be {best}, or {second}"
    return best, told
