"""How a schedule was kept: what was sent of it, and the delay of each request in its parts. Open loop only."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from tensorix_records.figures import Figure, percentiles
from tensorix_records.timings import schedule_delay
from tensorix_reports.frames import RunFrames, Window, whole
from tensorix_reports.page._statement import Statement, counted
from tensorix_reports.page._tables import NOTHING, Cell, Table, figure_cell, number, row_of

__all__ = ["DelayPart", "ScheduleReport", "first_of_each", "schedule_of", "schedule_statements", "schedule_table"]

_PERCENTS = (50.0, 90.0, 95.0, 99.0)
# What nobody would call a wait.
_NOTICED_MS = 10.0


@dataclass(frozen=True, slots=True)
class DelayPart:
    """One part of the delay between the intended instant and the start of requests, in ms."""

    part: str
    """`waiting for a user`, `held at the gate`, `opening a connection`, `own dispatch`, or `in all`."""
    count: int
    most: float
    figures: dict[float, Figure]


@dataclass(frozen=True, slots=True)
class ScheduleReport:
    """What became of a schedule."""

    sent: int
    """Arrivals that were sent; a retry is none."""
    not_sent: int | None
    """Arrivals that never were, since the run ended before; None where the run does not say (it was killed)."""
    at_least: bool
    """Not all of those were counted."""
    parts: list[DelayPart] = field(default_factory=list)
    """Over the window of the figures, of every request that was sent, whatever became of it."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        parts = [
            {"part": part.part, "count": part.count, "most": part.most}
            | {f"p{percent:g}": asdict(figure) for percent, figure in part.figures.items()}
            for part in self.parts
        ]
        return {"sent": self.sent, "not_sent": self.not_sent, "at_least": self.at_least, "delay_ms": parts}

    def part(self, name: str) -> DelayPart | None:
        """One of the parts."""
        return next((part for part in self.parts if part.part == name), None)


def schedule_of(frames: RunFrames, window: Window) -> ScheduleReport | None:
    """The report of a run that is already read; None for one without a schedule."""
    requests = frames.load
    due = np.isfinite(requests.array("intended_at_ns")) & np.isfinite(requests.array("schedule_index"))
    # What an engine left undone, the one that resumed its run began with.
    resumed = max((event["t_unix_ns"] for event in frames.of("run_resumed")), default=0)
    ended = [event for event in frames.of("schedule_ended") if event["t_unix_ns"] >= resumed]
    if not due.any() and not ended:
        return None
    # Of what was tried again, the first attempt is the schedule's.
    first = requests.of(due)
    first = first.of(first_of_each(first.array("schedule_index")))
    counts = [whole(event.get("not_sent")) for event in ended]
    said = bool(counts) and None not in counts
    within = first.of(np.isfinite(first.array("request_sent_at_ns")) & window.holds(first.array("at_s")))
    delay = schedule_delay(within)
    values = {
        "waiting for a user": delay.waiting_ns,
        "held at the gate": delay.held_ns,
        "opening a connection": delay.connecting_ns,
        "own dispatch": delay.dispatch_ns,
        "in all": delay.waiting_ns + delay.held_ns + delay.connecting_ns + delay.dispatch_ns,
    }
    return ScheduleReport(
        sent=len(first),
        not_sent=sum(count or 0 for count in counts) if said else None,
        at_least=any(bool(event.get("at_least")) for event in ended),
        parts=[_part(name, parts[np.isfinite(parts)] / 1e6) for name, parts in values.items()] if len(within) else [],
    )


def first_of_each(numbers: np.ndarray) -> np.ndarray:
    """Which of these come for the first time. Most come once, and to count them takes a tenth of sorting them."""
    least = float(numbers.min(initial=0.0))
    if not len(numbers) or float(numbers.max()) - least > 4 * len(numbers):
        mask = np.zeros(len(numbers), dtype=np.bool_)
        mask[np.unique(numbers, return_index=True)[1]] = True
        return mask
    places = (numbers - least).astype(np.int64)
    mask = np.asarray(np.bincount(places)[places] == 1)
    again = np.flatnonzero(~mask)
    mask[again[np.unique(places[again], return_index=True)[1]]] = True
    return mask


def _part(name: str, values_ms: np.ndarray) -> DelayPart:
    most = float(values_ms.max()) if len(values_ms) else 0.0
    return DelayPart(name, len(values_ms), most, percentiles(values_ms, _PERCENTS))


def schedule_table(report: ScheduleReport) -> Table:
    """The parts of the delay."""
    rows = [
        row_of(
            part.part, part.count, *(_figure(part.figures[percent]) for percent in _PERCENTS), figure_cell(part.most)
        )
        for part in report.parts
    ]
    note = "From when the schedule wanted a request sent to its first byte, in ms. Only its own dispatch is the "
    note += "client's fault; latency from intended holds all of it. " + _sent(report)
    said = [figure.withheld for part in report.parts for figure in part.figures.values() if figure.withheld]
    note += "".join(f" {one[0].upper()}{one[1:]}." for one in dict.fromkeys(said))
    columns = ["part of the delay, ms", "requests", *(f"p{percent:g}" for percent in _PERCENTS), "most"]
    return Table(
        "schedule",
        "Kept to the schedule",
        columns,
        rows,
        frozenset(range(1, len(columns))),
        note,
        "Not enough data: no scheduled request was sent.",
    )


def _figure(figure: Figure) -> Cell:
    # Why is said once, below the table.
    return Cell(NOTHING, None, "muted") if figure.value is None else Cell(number(figure.value))


def _sent(report: ScheduleReport) -> str:
    text = f"{counted(report.sent, 'scheduled request')} sent, each once"
    if report.not_sent is None:
        return f"{text}; how many were not, nobody said."
    least = "at least " if report.at_least else ""
    return f"{text}, and {least}{report.not_sent:,} not." if report.not_sent else f"{text}: all of them."


def schedule_statements(report: ScheduleReport | None) -> list[Statement]:
    """What the verdict says of it."""
    if report is None:
        return []
    found = []
    if report.not_sent:
        text = f"The run ended before the schedule did: {_sent(report)}"
        found.append(Statement("schedule", "notice", "cut short", text))
    waiting, dispatch = report.part("waiting for a user"), report.part("own dispatch")
    tail = None if waiting is None else waiting.figures[99.0].value
    if waiting is not None and tail is not None and tail > _NOTICED_MS:
        text = f"Requests waited for a free user: 1 % of them {tail:,.0f} ms or longer, up to {waiting.most:,.0f} ms. "
        text += "Latency from intended has it, TTFT and E2E have not."
        found.append(Statement("schedule", "notice", "waited", text))
    own = None if dispatch is None else dispatch.figures[99.0].value
    if not found and own is not None:
        text = f"{_sent(report)} 99 % left within {own:.1f} ms of when they could."
        found.append(Statement("schedule", "good" if own < _NOTICED_MS else "notice", "kept", text))
    return found
