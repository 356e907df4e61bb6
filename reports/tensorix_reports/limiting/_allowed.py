"""What the key is allowed, and from whom that is known; and whether model lists are counted against it.

What the user told goes first, for the user knows the key. Then comes what the server states in its headers, and only
then what is documented: the documentation describes a default, and a key may have another.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tensorix_reports.frames import PREFLIGHT, Requests, whole
from tensorix_reports.limiting._episodes import decisions_of

__all__ = ["MODEL_LISTS", "allowed", "models_count", "told_of", "window_lengths"]

MODEL_LISTS = ("models", PREFLIGHT)
"""The kinds of request that ask for the list of models."""


def told_of(limits: dict[str, Any]) -> set[str]:
    """The fields that the user gave. A manifest that does not name them holds only such, unless it says otherwise."""
    told = limits.get("told")
    if isinstance(told, (list, tuple)):
        return {str(name) for name in told}
    return set() if limits.get("source") == "documented" else {"requests", "tokens", "window_s"}


def allowed(limits: dict[str, Any], name: str, stated: list[int]) -> tuple[int | None, str]:
    """A limit and where it is from; None and `unknown` where nobody says it, or headers contradict each other."""
    known = whole(limits.get(name)) or None
    if known is not None and name in told_of(limits):
        return known, "told"
    if stated:
        return (stated[0], "headers") if len(stated) == 1 else (None, "unknown")
    return (None, "unknown") if known is None else (known, "documented")


def window_lengths(limits: dict[str, Any]) -> tuple[float | None, float | None]:
    """The window's length in seconds as it was told, and as it is assumed; None where there is none."""
    value = limits.get("window_s")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < np.inf:
        return None, None
    return (float(value), None) if "window_s" in told_of(limits) else (None, float(value))


def models_count(requests: Requests, limit: int | None) -> bool:
    """Whether model lists look counted: one was refused, or they say what remains and nothing speaks against it.

    Against it speaks one after which the whole limit remained, one that lowered nothing, or one that passed while chat
    was refused before and after.
    """
    models = requests.codes("kind").equal(*MODEL_LISTS)
    if (requests.array("status")[models] == 429).any():
        return True
    remaining = requests.array("remaining_requests")
    if not np.isfinite(remaining[models]).any():
        return False
    # What remains after a chat request is less than the limit: where that is not known, this bounds it from below.
    chat_left = remaining[~models & np.isfinite(remaining)]
    least = limit if limit is not None else chat_left.max() + 1 if len(chat_left) else np.inf
    if (remaining[models] >= least).any() or _passes_between_refusals(requests, models):
        return False
    return _lowered(requests, models) is not False


def _lowered(requests: Requests, models: np.ndarray) -> bool | None:
    """Whether model lists lowered what remains, by those asked for alone: None where there were none such."""
    seen = decisions_of(requests)
    if len(seen.at_s) < 2:
        return None
    latest = np.maximum.accumulate(seen.seen_s)
    followed = np.append(seen.at_s[1:], np.inf) >= seen.seen_s
    # Alone, and so was the request before: nothing else can have been counted between the two answers.
    alone = models & followed
    alone[1:] &= latest[:-1] <= seen.at_s[1:]
    alone[2:] &= latest[:-2] <= seen.at_s[1:-1]
    alone[0] = False
    used = seen.remaining_requests[:-1] - seen.remaining_requests[1:]
    same, less = np.count_nonzero(used[alone[1:]] == 0), np.count_nonzero(used[alone[1:]] == 1)
    # Nothing is left of 0: a model list while the budget is spent lowers nothing either way.
    same -= np.count_nonzero(alone[1:] & (used == 0) & (seen.remaining_requests[1:] == 0))
    return None if same == less else bool(less > same)


def _passes_between_refusals(requests: Requests, models: np.ndarray) -> bool:
    """Whether a model list passed after chat was refused, and chat was refused again before any passed."""
    seen = decisions_of(requests)
    refused_s = passed_s = np.inf
    # One that was admitted after another changes nothing any more.
    plain = seen.admitted & ~models & ~seen.refused
    telling = seen.refused | models | (plain & ~np.append(False, plain[:-1]))
    for index in np.flatnonzero(telling).tolist():
        at = seen.at_s[index]
        if seen.refused[index]:
            if at >= passed_s:
                return True
            refused_s = min(refused_s, float(seen.seen_s[index]))
        elif models[index]:
            if seen.passed[index] and at >= refused_s:
                passed_s = min(passed_s, float(seen.seen_s[index]))
        elif seen.admitted[index]:
            refused_s = passed_s = np.inf
    return False
