"""The steps of a stepped schedule: what was offered in each, what became of it, and which objectives it met."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from tensorix_api.errors import SettingsError
from tensorix_records.figures import Figure, percentiles
from tensorix_records.judging import Judged, asked_goals, in_words, judge
from tensorix_records.objectives import ReadGoals
from tensorix_records.timings import e2e_ns, latency_from_intended_ns, outcome_is, successful, ttft_ns
from tensorix_reports.frames import OUTCOMES, PREFLIGHT, RunFrames, Window, instants_of, mapping
from tensorix_reports.page._tables import NOTHING, Cell, Table, number, row_of

__all__ = ["ScheduleStep", "steps_of", "steps_table"]

_PERCENTS = (50.0, 95.0)
_MOST_STEPS = 100


@dataclass(frozen=True, slots=True)
class ScheduleStep:
    """One stretch of the schedule, and the requests that were due in it, whenever they were sent."""

    number: int
    """From 1."""
    rate: float | None
    """What was asked for, requests a second, at its beginning; None where the run does not say."""
    end_rate: float | None
    """At its end, where it changes."""
    start_s: float
    """When its first request was due."""
    length_s: float
    sent: int
    outcomes: dict[str, int]
    figures: dict[str, dict[float, Figure]]
    """`ttft`, `e2e` and `e2e_from_intended` of its successful chat by percent, ms; what no request has is missing."""
    judged: tuple[Judged, ...]

    @property
    def offered_a_second(self) -> float | None:
        """Requests that were due in it and have a record, over its length."""
        return self.sent / self.length_s if self.length_s > 0 else None

    @property
    def standing(self) -> str | None:
        """Of its objectives: broken where one is, else unknown where one is; None where there is none."""
        standings = {one.standing for one in self.judged}
        return next((one for one in ("broken", "unknown", "met") if one in standings), None)

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        names = ("number", "rate", "end_rate", "start_s", "length_s", "offered_a_second", "sent")
        return {
            **{name: getattr(self, name) for name in names},
            **self.outcomes,
            **{
                f"{name}_ms": {f"p{percent:g}": asdict(figure) for percent, figure in self.figures[name].items()}
                if name in self.figures
                else None
                for name in ("ttft", "e2e", "e2e_from_intended")
            },
            "standing": self.standing,
            "objectives": [
                {"text": one.objective.text, "standing": one.standing, "figure": asdict(one.figure)}
                for one in self.judged
            ],
        }


def _stages(frames: RunFrames) -> list[dict[str, Any]]:
    """The stretches that were asked for."""
    stages = mapping(frames.asked.get("arrivals")).get("stages")
    return [mapping(stage) for stage in stages] if isinstance(stages, (list, tuple)) else []


def _number(stage: dict[str, Any], name: str) -> float | None:
    value = stage.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < np.inf:
        return None
    return float(value)


def _goals(frames: RunFrames) -> ReadGoals:
    try:
        return asked_goals(frames.manifest)
    except SettingsError:
        # The report says elsewhere that they cannot be read.
        return ReadGoals((), (), ())


def steps_of(frames: RunFrames) -> list[ScheduleStep]:
    """The steps that have requests, in order; none where the schedule has only one, or there was none."""
    requests = frames.requests
    step = requests.array("step_id")
    load = ~requests.codes("kind").equal(PREFLIGHT) & np.isfinite(step)
    numbers = np.unique(step[load])
    if len(numbers) < 2:
        return []
    due = requests["at_s"].to_numpy(float) + np.nan_to_num(requests["intended_at_ns"].to_numpy(float)) / 1e9
    order = np.flatnonzero(load)
    # Stable, so that each step's requests stay in the order of their starts, as their intervals need it.
    order = order[np.argsort(step[order], kind="stable")]
    edges = np.searchsorted(step[order], [*numbers, np.inf])
    parts = [order[start:end] for start, end in pairwise(edges.tolist())]
    starts = [float(due[part].min()) for part in parts]
    # What is due next ends a step of which nobody says how long it is, the last request the last.
    ends = [*starts[1:], float(due[parts[-1]].max())]
    stages, goals, found = _stages(frames), _goals(frames), []
    for which, part, start_s, end_s in zip(numbers.astype(int).tolist(), parts, starts, ends, strict=True):
        stage = stages[which] if 0 <= which < len(stages) else {}
        length_s = _number(stage, "duration_s") or max(0.0, end_s - start_s)
        table = frames.table.take(pa.array(part))
        window = Window(start_s, max(start_s + length_s, float(requests["at_s"].to_numpy(float)[part].max())), "")
        judged, _ = judge(table, instants_of(window, frames), goals.objectives, goals.good)
        found.append(
            ScheduleStep(
                number=which + 1,
                rate=_number(stage, "rate"),
                end_rate=_number(stage, "end_rate"),
                start_s=start_s,
                length_s=length_s,
                sent=len(part),
                outcomes={name: int(outcome_is(table, name).sum()) for name in OUTCOMES},
                figures=_figures(table),
                judged=judged,
            )
        )
    return found


def _figures(table: Any) -> dict[str, dict[float, Figure]]:
    # A list of models takes no time of a chat's.
    good = table.filter(pa.array(successful(table) & ~table.codes("kind").equal("models")))
    values = {"ttft": ttft_ns(good), "e2e": e2e_ns(good), "e2e_from_intended": latency_from_intended_ns(good)}
    return {name: percentiles(of / 1e6, _PERCENTS) for name, of in values.items() if np.isfinite(of).any()}


_WORDS = {"met": "met", "broken": "broken", "unknown": "not enough data"}
_TONES = {"met": "good", "broken": "problem", "unknown": "muted"}


def _figure(step: ScheduleStep, name: str, percent: float) -> Cell:
    figure = step.figures.get(name, {}).get(percent)
    if figure is None:
        return Cell(NOTHING, tone="muted")
    if figure.value is None:
        missing = None if figure.needed is None else f"needs {figure.needed - figure.count:,} more"
        return Cell(NOTHING, missing, "muted")
    return Cell(number(figure.value), None if figure.low is None else f"{number(figure.low)} to {number(figure.high)}")


def _asked(step: ScheduleStep) -> str | None:
    if step.rate is None or step.end_rate is None:
        return None if step.rate is None else number(step.rate)
    return f"{number(step.rate)} to {number(step.end_rate)}"


def _objective(one: Judged) -> Cell:
    figure = one.figure.value
    value = None if figure is None else in_words(figure, one.objective.kind)
    return Cell(_WORDS[one.standing], value, _TONES[one.standing])


def _knee(steps: list[ScheduleStep]) -> str | None:
    """Up to which step all objectives were met, where they were judged."""
    broken = next((at for at, step in enumerate(steps) if step.standing == "broken"), None)
    if not any(step.judged for step in steps):
        return None
    if broken is None:
        met = all(step.standing == "met" for step in steps)
        return "Every step met the objectives." if met else "No step is known to have broken an objective."
    if broken == 0:
        return "The first step already broke an objective."
    return f"Step {steps[broken].number} is the first that broke an objective."


def steps_table(steps: list[ScheduleStep]) -> list[Table]:
    """A row a step; nothing where there are none."""
    if not steps:
        return []
    texts = [one.objective.text for one in steps[0].judged]
    # Where all were sent when they were due it says nothing that E2E does not say.
    late = any(_figure(step, "e2e_from_intended", 95.0).text != _figure(step, "e2e", 95.0).text for step in steps)
    rows = [
        row_of(
            Cell(str(step.number), f"from {step.start_s:,.1f} s"),
            _asked(step),
            *(_objective(one) for one in step.judged),
            number(step.offered_a_second),
            step.sent,
            *(step.outcomes[name] for name in ("success", "throttled", "failed")),
            *(_figure(step, "ttft", percent) for percent in _PERCENTS),
            _figure(step, "e2e", 95.0),
            *([_figure(step, "e2e_from_intended", 95.0)] if late else []),
        )
        for step in steps[:_MOST_STEPS]
    ]
    columns = ["step", "asked/s", *texts, "due/s", "sent", "success", "429", "failed"]
    columns += ["TTFT p50", "TTFT p95", "E2E p95", *(["from intended"] if late else [])]
    note = " ".join(
        [
            "Each request counts in the step in which it was due, whenever it was sent. Percentiles are in ms; below "
            "each is its 95 % interval, and below an objective its figure.",
            *(["From intended: the E2E p95 since a request was due, not since it was sent."] if late else []),
            *([knee] if (knee := _knee(steps)) else []),
            *([f"The first {_MOST_STEPS} of {len(steps):,} steps."] if len(steps) > _MOST_STEPS else []),
        ]
    )
    numeric = frozenset(range(len(columns)))
    return [Table("steps", "Steps of the schedule", columns, rows, numeric, note)]
