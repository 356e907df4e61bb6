"""Which stretch of a run its figures rest on: the steady state, from the end of the ramp to the last start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tensorix_records.timings import Window, start_unix_ns, text_is

__all__ = ["Steady", "without_preflight"]


def without_preflight(table: Any) -> Any:
    """The requests of the load itself: all but the model list that was asked for before it."""
    return table.filter(pa.array(text_is(table.column("scenario"), lambda scenario: scenario != "preflight")))


@dataclass(frozen=True, slots=True)
class Steady:
    """A window, and in words why it was chosen."""

    window: Window
    why: str
    paused_s: float = 0.0
    """Of the window, what lay between the end of an engine and the run's resumption: nothing was sent meanwhile."""

    @property
    def seconds(self) -> float:
        """The window's length without those pauses: what rates are over."""
        return self.window.seconds - self.paused_s

    @classmethod
    def of(cls, table: Any, events: Sequence[Mapping[str, Any]]) -> Steady:
        """From the end of the ramp to the last start of the table's requests; all of it where that would leave next to
        nothing, or nobody said when the ramp ended.
        """
        whole = Window.of(table)
        starts = start_unix_ns(table)
        pauses = _pauses(starts, events)
        begins = [
            event["t_unix_ns"]
            for event in events
            # `kind` is what this toolkit writes; other writers say `event`.
            if event.get("kind", event.get("event")) == "phase" and event.get("name") == "steady"
            if isinstance(event.get("t_unix_ns"), int)
        ]
        if not begins:
            return cls(whole, "the whole run: it records no end of its ramp", _paused_s(pauses, whole))
        steady = min(begins)
        if np.count_nonzero(starts >= steady) < max(2, starts.size // 10):
            return cls(
                whole, "the whole run: nearly all requests started before all users did", _paused_s(pauses, whole)
            )
        if not (starts < steady).any():
            return cls(whole, "the whole run: no request started before all users had", _paused_s(pauses, whole))
        why = "from when all users had started to the last start of a request"
        window = Window(steady, whole.end_unix_ns)
        return cls(window, why, _paused_s(pauses, window))


def _pauses(starts: NDArray[np.int64], events: Sequence[Mapping[str, Any]]) -> list[tuple[int, int]]:
    """From the stop of an engine, or its last sign of life, to the run's resumption; Unix ns."""
    found = []
    alive = stopped = None
    for event in events:
        at, kind = event.get("t_unix_ns"), event.get("kind")
        if not isinstance(at, int):
            continue
        if kind == "run_resumed":
            before = starts[starts < at]
            signs = [one for one in (stopped or alive, int(before.max()) if before.size else None) if one is not None]
            if signs:
                found.append((max(signs), at))
            stopped = None
        elif kind == "stop":
            stopped = at
        alive = at
    return found


def _paused_s(pauses: Sequence[tuple[int, int]], window: Window) -> float:
    """How much of a window the pauses take, in seconds."""
    return sum(max(0, min(end, window.end_unix_ns) - max(start, window.start_unix_ns)) for start, end in pauses) / 1e9
