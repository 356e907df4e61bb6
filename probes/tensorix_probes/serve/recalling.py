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

__all__ = ["past_of", "recall_board", "recall_budgets", "recall_memories"]

_OPEN_WITHIN_S = 5.0
_DAY_NS = 86_400 * 10**9


def recall_budgets(keeper: Keeper, keys: Keys) -> None:
    """Take into the ledgers what was spent today: a restart is no new budget. Raises HistoryError."""
    history = keeper.opened(_OPEN_WITHIN_S)
    if history is None:
        return
    since = time.time_ns() // _DAY_NS * _DAY_NS - 3_600 * 10**9
    for alias, memory in keys.by_alias():
        if alias is not None:
            memory.ledger.restore(recall_spends(history, alias, since))


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
    return Past(
        state=state,
        since_unix_ns=None if state is None else now_unix_ns - round(since_s * 1e9),
        counts=tuple(counts),
    )
