"""What a history knows from before this process was there, handed to those who go on with it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import groupby

from tensorix_probes.alerts.alerting import Alerting, alerts_name
from tensorix_probes.keeping import Keeper, recall_counts, recall_memory, recall_spends
from tensorix_probes.limits.keys import Keys
from tensorix_probes.memory import TargetMemory
from tensorix_probes.result import State
from tensorix_probes.serve.status import Board, Past
from tensorix_probes.serve.tally import WINDOWS
from tensorix_probes.settings import Target

__all__ = ["recall_board", "recall_budgets", "recall_memories"]

_OPEN_WITHIN_S = 5.0
_DAY_NS = 86_400 * 10**9
_LATE_NS = 600 * 10**9
"""How long after a check its row may come into the history, to be still found when that is read again."""


def recall_budgets(keeper: Keeper, keys: Keys, within_s: float = _OPEN_WITHIN_S) -> bool:
    """Take into the ledgers what was spent today: a restart is no new budget. Whether the history was open.

    Each further time, what others have spent since. Raises HistoryError.
    """
    history = keeper.opened(within_s)
    if history is None:
        return False
    for alias, names, memory in keys.by_users():
        now = time.time_ns()
        before = memory.ledger.restored_unix_ns
        since = now // _DAY_NS * _DAY_NS - 3_600 * 10**9 if before is None else min(before, now) - _LATE_NS
        memory.ledger.restore(recall_spends(history, alias, since, targets=names), now, since_unix_ns=since)
    return True


def recall_memories(keeper: Keeper, targets: Sequence[Target], location: str | None) -> dict[str, TargetMemory]:
    """What the checks of each target know, by its name. Raises HistoryError."""
    history = keeper.opened(_OPEN_WITHIN_S)
    if history is None:
        return {}
    return {target.name: recall_memory(history, target.name, location) for target in targets}


def recall_board(
    keeper: Keeper,
    board: Board,
    targets: Sequence[Target],
    location: str | None,
    *,
    before_unix_ns: int,
    before_s: float,
    go_on: Callable[[], bool],
    alerting: Alerting | None = None,
) -> None:
    """Let the status page and the alerts know what was before this process, a target after the other.

    Raises HistoryError. It began at `before_unix_ns` by the time of day, and `before_s` on the monotonic clock.
    """
    longest_ns = round(max(seconds for _, seconds, _ in WINDOWS) * 1e9)
    for target in targets:
        history = keeper.opened(_OPEN_WITHIN_S)
        if history is None or not go_on():
            return
        since = before_unix_ns - longest_ns
        counts = recall_counts(history, target.name, location, since, before_unix_ns)
        if alerting is not None:
            fired = history.recall(alerts_name(target.name, location))
            alerting.recall(target.name, [one for one in counts if one[0] >= 0], fired, before_s)
        past = past_of([one for one in counts if one[0] >= 0], before_unix_ns)
        board.recall(target.name, past, before_s, time.monotonic())


def past_of(counts: Sequence[tuple[float, State, int]], now_unix_ns: int) -> Past:
    """The last state and since when, from counts of rounds by how long ago they were, oldest first."""
    state: State | None = None
    since_s = 0.0
    for ago_s, some in groupby(reversed(counts), key=lambda one: one[0]):
        states = {one[1] for one in some}
        if state is None and len(states) == 1:
            state = next(iter(states))
        if states != {state}:
            break
        since_s = ago_s
    told, told_s = _told(counts)
    return Past(
        state=state,
        since_unix_ns=None if state is None else now_unix_ns - round(since_s * 1e9),
        told=None if told is None else (told, now_unix_ns - round(told_s * 1e9)),
        counts=tuple(counts),
    )


def _told(counts: Sequence[tuple[float, State, int]]) -> tuple[State | None, float]:
    """The last conclusive state, and how long ago the oldest was that no other conclusive one came after."""
    told: State | None = None
    told_s = 0.0
    conclusive = [one for one in counts if one[1].conclusive]
    for ago_s, some in groupby(reversed(conclusive), key=lambda one: one[0]):
        states = {one[1] for one in some}
        if len(states) > 1 or states != {told or next(iter(states))}:
            break
        (told,), told_s = states, ago_s
    return told, told_s
