"""Which stretch of a run its figures rest on: the steady state, from the end of the ramp to the last start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

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

    @classmethod
    def of(cls, table: Any, events: Sequence[Mapping[str, Any]]) -> Steady:
        """From the end of the ramp to the last start of the table's requests; all of it where that would leave next to
        nothing, or nobody said when the ramp ended.
        """
        whole = Window.of(table)
        begins = [
            event["t_unix_ns"]
            for event in events
            # `kind` is what this toolkit writes; other writers say `event`.
            if event.get("kind", event.get("event")) == "phase" and event.get("name") == "steady"
            if isinstance(event.get("t_unix_ns"), int)
        ]
        if not begins:
            return cls(whole, "the whole run: it records no end of its ramp")
        starts, steady = start_unix_ns(table), min(begins)
        if np.count_nonzero(starts >= steady) < max(2, starts.size // 10):
            return cls(whole, "the whole run: nearly all requests started before all users did")
        if not (starts < steady).any():
            return cls(whole, "the whole run: no request started before all users had")
        why = "from when all users had started to the last start of a request"
        return cls(Window(steady, whole.end_unix_ns), why)
