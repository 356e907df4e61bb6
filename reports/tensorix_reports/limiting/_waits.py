"""How long requests waited for their turn: at the gate of caps and pace, and by being sent again after a refusal."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tensorix_records.figures import Figure, percentiles
from tensorix_reports.frames import RunFrames
from tensorix_reports.page._tables import Table, facts_table, number

__all__ = ["Waits", "waits_of", "waits_table"]

_HELD_MS = 1.0
"""Less is the gate's own work, and no wait."""
_PERCENTS = (50.0, 95.0)


@dataclass(frozen=True, slots=True)
class Waits:
    """What the gate held back, over the whole run."""

    told: int
    """Requests of which the run says how long they were held."""
    held: int
    """Of these held for a millisecond or longer."""
    held_s: float
    """All their waits together."""
    most_ms: float | None
    figures: dict[float, Figure]
    """By percent, ms, of those held."""
    sent_again: int
    """Requests that are a second attempt or a later one."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        names = ("told", "held", "held_s", "most_ms", "sent_again")
        figures = {f"p{percent:g}": asdict(figure) for percent, figure in self.figures.items()}
        return {name: getattr(self, name) for name in names} | {"held_ms": figures}


def waits_of(frames: RunFrames) -> Waits:
    """The waits of the load's requests."""
    load = frames.load
    ms = load["held_ns"].to_numpy(float) / 1e6
    held = ms[ms >= _HELD_MS]
    return Waits(
        told=int(np.count_nonzero(np.isfinite(ms))),
        held=len(held),
        held_s=float(held.sum() / 1e3),
        most_ms=float(held.max()) if len(held) else None,
        figures=percentiles(held, _PERCENTS),
        sent_again=int(np.count_nonzero(load["attempt"].to_numpy(float) > 1)),
    )


def waits_table(waits: Waits) -> Table:
    """The same in words."""
    if not waits.told and not waits.sent_again:
        return facts_table("waits", "Waits before requests were sent", [], "The run does not tell of any wait.")
    facts: list[tuple[str, Any]] = [("held back by caps or pace", f"{waits.held:,} of {waits.told:,} requests")]
    if waits.held:
        facts += [
            ("so long in all", number(waits.held_s, "s")),
            ("half of those held within", number(waits.figures[50.0].value, "ms")),
            ("95 % of those held within", number(waits.figures[95.0].value, "ms")),
            ("longest", number(waits.most_ms, "ms")),
        ]
    facts.append(("sent again after a refusal (--retries)", waits.sent_again))
    return facts_table("waits", "Waits before requests were sent", facts, "", "Over the whole run; from 1 ms on.")
