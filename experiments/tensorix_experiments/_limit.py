"""What a limit is, from a run that goes beyond it: how much passes in whole windows once the budget is spent.

It takes no kind of limiter for granted. Whatever is spent at the rate at which it comes back repeats itself with the
window's length, so what passes in k lengths, from any instant at which the budget is spent, is k times the limit: of
fixed windows, a sliding log and a token bucket alike.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tensorix_records import Run
from tensorix_records.steady import without_preflight
from tensorix_records.timings import outcome_is, start_unix_ns, successful

__all__ = ["Passed", "evidence_of", "passed_in_windows", "stated_limit"]

Kind = Literal["requests", "tokens"]

_COLUMNS = (
    *("start_unix_ns", "scenario", "outcome", "status", "error_type", "error_code", "error_message"),
    *("prompt_tokens", "completion_tokens", "limit_requests", "limit_tokens"),
    *("remaining_requests", "remaining_tokens"),
)
_ABOUT = 0.05
"""Of a window, before and after its end."""


@dataclass(frozen=True, slots=True)
class Passed:
    """What passed in whole windows of a spent budget, a window."""

    windows: int
    requests: float
    tokens: float | None
    """None where it is not known of each that passed."""


def _load(folder: Path) -> Any:
    return without_preflight(Run.open(folder).records(_COLUMNS).sort_by("start_unix_ns"))


def _spent_at(refused: NDArray[np.bool_], at_s: NDArray[np.float64]) -> float | None:
    """An instant at which the budget is spent: the middle of the first stretch of refusals that ended."""
    if not refused.any():
        return None
    first = int(np.argmax(refused))
    after = np.flatnonzero(~refused[first:])
    if not after.size:
        return None
    return float((at_s[first] + at_s[first + int(after[0]) - 1]) / 2)


def _spent_windows(refused_s: NDArray[np.float64], begin: float, window_s: float, most: int) -> int:
    """How many windows in a row ended spent: with a refusal about their end. Where less came than is allowed, not all
    of the budget was asked for, and what passed says nothing of the limit.
    """
    for number in range(1, most + 1):
        if not (np.abs(refused_s - (begin + number * window_s)) <= _ABOUT * window_s).any():
            return number - 1
    return most


def passed_in_windows(folder: Path, window_s: float, *, most: int = 1_000) -> Passed | None:
    """What passed in as many whole windows as the run has from the first that was spent; None where it has not one."""
    load = _load(folder)
    at_s = (start_unix_ns(load) - (start_unix_ns(load)[0] if len(load) else 0)) / 1e9
    refused, passed = outcome_is(load, "throttled"), successful(load)
    # What failed otherwise was let through too; what was cancelled had not been decided.
    decided = refused | passed | outcome_is(load, "failed")
    begin = _spent_at(refused[decided], at_s[decided])
    if begin is None:
        return None
    windows = _spent_windows(at_s[refused], begin, window_s, min(int((at_s[-1] - begin) / window_s), most))
    if windows < 1:
        return None
    inside = (decided & ~refused) & (at_s > begin) & (at_s <= begin + windows * window_s)
    prompt, completion = (
        load.column(name).cast("float64", safe=False).fill_null(float("nan")).to_numpy()
        for name in ("prompt_tokens", "completion_tokens")
    )
    tokens = (prompt + completion)[inside & passed]
    known = bool(tokens.size) and not np.isnan(tokens).any()
    return Passed(windows, float(inside.sum()) / windows, float(tokens.sum()) / windows if known else None)


def stated_limit(folder: Path, kind: Kind) -> int | None:
    """What headers say the limit is, where they all say the same."""
    said = {value for value in _load(folder).column(f"limit_{kind}").to_pylist() if value}
    return int(said.pop()) if len(said) == 1 else None


def evidence_of(folder: Path) -> tuple[Kind, str] | None:
    """Which limit it was by what the refusals say, and how that is known; None where they do not tell.

    By what remains in their headers: nothing of the one, something of the other. Else by their words, where all name
    one of the two and not the other.
    """
    load = _load(folder)
    refusals = [row for row in load.to_pylist() if row["outcome"] == "throttled"]
    if not refusals:
        return None
    left: Counter[Kind] = Counter()
    words: Counter[Kind] = Counter()
    for row in refusals:
        requests, tokens = row["remaining_requests"], row["remaining_tokens"]
        if requests is not None and requests <= 0 and tokens != 0:
            left["requests"] += 1
        elif tokens is not None and tokens <= 0 and requests != 0:
            left["tokens"] += 1
        said = " ".join(str(row[name] or "") for name in ("error_type", "error_code", "error_message")).lower()
        named: set[Kind] = {kind for kind in ("requests", "tokens") if kind in said or f"{kind[:-1]}_" in said}
        if len(named) == 1:
            words[named.pop()] += 1
    for found, how in (
        (left, "headers of the refusals say that nothing of it remained"),
        (words, "the refusals name it"),
    ):
        kind, count = found.most_common(1)[0] if found else ("requests", 0)
        if count > 0.9 * len(refusals):
            return kind, how
    return None
