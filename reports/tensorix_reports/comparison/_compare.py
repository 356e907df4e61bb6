"""Two or more runs beside each other: the first is the baseline, and chance is told from change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from math import exp
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorix_api.errors import SettingsError
from tensorix_records import Run
from tensorix_records._autocorrelation import Series
from tensorix_records._dependence import correlation_time, dense_ranks
from tensorix_records.judging import Standing, asked_goals
from tensorix_records.objectives import Criterion, read_criterion
from tensorix_records.timings import e2e_ns
from tensorix_reports.comparison._differences import warnings_between
from tensorix_reports.comparison._draws import BEYOND, Interval, drawn, intervals_of
from tensorix_reports.comparison._gates import Gate, Rule, gate_key, gate_standing, read_gate
from tensorix_reports.comparison._measures import Key, Loaded, Measure, load, measures_of

__all__ = ["FORMAT", "Compared", "Comparison", "GateResult", "compare", "compare_loaded", "comparison_schema"]

FORMAT = 1
"""The version of `compare.json`."""


def comparison_schema() -> str:
    """The JSON Schema (2020-12) of `compare.json`, as text."""
    return resources.files("tensorix_reports").joinpath("comparison", "compare.schema.json").read_text("utf-8")


_SLICES_MOST, _SLICES_LEAST = 100, 10
_A_SLICE = 4
"""Correlation times that a slice is long, so that slices hardly depend on each other."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One figure of the baseline and of another run. Times are ns, shares of 1, rates a second."""

    request: str
    quantity: str
    statistic: str
    kind: str
    """`time`, `share` or `rate`."""
    baseline: float | None
    value: float | None
    baseline_count: int
    count: int
    difference: float | None
    difference_low: float | None
    difference_high: float | None
    """The interval holds, with 95 %, for all figures of the comparison at once."""
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None
    shown: bool | None
    """Whether the data can show that there is a difference; None where there are too few."""
    note: str | None = None


@dataclass(frozen=True, slots=True)
class GateResult:
    """What became of a gate for one run."""

    run: int
    """Which of the runs after the baseline, from 1."""
    text: str
    standing: Standing
    reason: str
    figure: Compared | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Runs held beside a baseline, which is the first of them."""

    runs: tuple[Run, ...]
    rows: tuple[tuple[Compared, ...], ...]
    """For each run after the first."""
    warnings: tuple[tuple[str, ...], ...]
    """For each run after the first: what else differs."""
    gates: tuple[GateResult, ...]
    slices: int
    """Into how many slices a run was cut to draw them anew; 0 where they would be too few."""
    samples: tuple[NDArray[np.float64], ...]
    """E2E or TTFT of each run's successes, ns, sorted: for a picture."""
    sampled: str

    @property
    def standing(self) -> Standing | None:
        """Of all gates: broken where one is, else unknown where one is; None where there is none."""
        standings = {one.standing for one in self.gates}
        return next((one for one in ("broken", "unknown", "met") if one in standings), None)

    def different(self, run: int) -> list[Compared]:
        """The figures of the `run`-th run after the baseline (from 1) that differ by more than chance."""
        return [one for one in self.rows[run - 1] if one.shown]

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        return {
            "format": FORMAT,
            "baseline": self.runs[0].path.name,
            "slices": self.slices,
            "standing": self.standing,
            "runs": [
                {"run": run.path.name, "warnings": list(warnings), "figures": [asdict(row) for row in rows]}
                for run, warnings, rows in zip(self.runs[1:], self.warnings, self.rows, strict=True)
            ],
            "gates": [asdict(one) for one in self.gates],
        }


def _slices(runs: Sequence[Loaded]) -> int:
    """As many as leave each a few correlation times long, in the run that has the fewest."""
    numbers = []
    for one in runs:
        values = e2e_ns(one.inside)
        values = values[np.isfinite(values)]
        if not values.size:
            return 0
        numbers.append(int(values.size / (_A_SLICE * correlation_time(Series(dense_ranks(values))))))
    fewest = min([*numbers, _SLICES_MOST])
    return fewest if fewest >= _SLICES_LEAST else 0


def _compared(key: Key, first: Measure | None, one: Measure | None, interval: Interval | None, slices: int) -> Compared:
    base, value = first.value if first else None, one.value if one else None
    difference = None if base is None or value is None else value - base
    ratio = None if base is None or value is None or base <= 0 else value / base
    low = high = ratio_low = ratio_high = None
    shown, note = None, None
    if interval is not None and base is not None:
        shown = interval.shown
        if interval.relative:
            ratio_low, ratio_high = exp(interval.low), exp(interval.high)
            low, high = base * (ratio_low - 1), base * (ratio_high - 1)
        else:
            low, high = interval.low, interval.high
            if base > 0:
                ratio_low, ratio_high = max(0.0, (base + low) / base), (base + high) / base
    elif first is None or one is None:
        note = f"only in {'this run' if first is None else 'the baseline'}"
    elif not slices:
        note = "not enough data: too few requests that do not depend on each other"
    else:
        note = f"not enough data: fewer than {BEYOND} samples beyond it"
    known = first if first is not None else one
    return Compared(
        request=key[0],
        quantity=key[1],
        statistic=key[2],
        kind="time" if known is None else known.kind,
        baseline=base,
        value=value,
        baseline_count=first.count if first else 0,
        count=one.count if one else 0,
        difference=difference,
        difference_low=low,
        difference_high=high,
        ratio=ratio,
        ratio_low=ratio_low,
        ratio_high=ratio_high,
        shown=shown,
        note=note,
    )


def _criteria(runs: Sequence[Loaded]) -> list[Criterion]:
    """What a good request is, where all runs were asked alike."""
    texts = [[one.text for one in asked_goals(loaded.run.manifest).good] for loaded in runs]
    return [read_criterion(text) for text in texts[0]] if all(one == texts[0] for one in texts) else []


def _gate(gate: Gate, run: int, rows: Sequence[Compared], intervals: dict[Key, Interval], rule: Rule) -> GateResult:
    name, statistic = gate_key(gate)
    mine = [one for one in rows if (one.quantity, one.statistic) == (name, statistic)]
    wide = [one for one in mine if one.request.split(", tokens by")[0] == "all"] or mine
    if not wide:
        return GateResult(run, gate.text, "unknown", "not enough data: neither run has such a figure", None)
    if len(wide) > 1:
        return GateResult(run, gate.text, "unknown", "not enough data: it is several figures, never pooled", None)
    one = wide[0]
    interval = intervals.get((one.request, one.quantity, one.statistic))
    if one.baseline is None or interval is None:
        return GateResult(run, gate.text, "unknown", one.note or "not enough data", one)
    standing, reason = gate_standing(gate, interval, one.baseline, rule)
    return GateResult(run, gate.text, standing, reason, one)


def compare(runs: Sequence[Run | Path | str], *, fail_if: Sequence[str] = (), rule: Rule = "shown") -> Comparison:
    """Hold runs beside the first of them.

    `fail_if` are gates (`ttft_p95 +10%`). By the `rule` "shown" a gate is broken where the change is beyond its bound
    and more than chance; "estimate" looks at the change alone, "certain" wants its whole interval beyond. The intervals
    of the gates are those of a family of their own. Raises RunFolderError where a folder is no run, SettingsError for
    fewer than two runs and for a gate that cannot be read.
    """
    gates = [read_gate(text) for text in fail_if]
    if len(runs) < 2:
        raise SettingsError("a comparison takes two runs or more: the first is the baseline")
    return compare_loaded([load(run if isinstance(run, Run) else Run.open(Path(run))) for run in runs], gates, rule)


def compare_loaded(loaded: Sequence[Loaded], gates: Sequence[Gate] = (), rule: Rule = "shown") -> Comparison:
    """As `compare`, of runs that are already read."""
    slices, good = _slices(loaded), _criteria(loaded)
    percents: dict[str, list[float]] = {}
    for gate in gates:
        if isinstance(gate.objective.statistic, float):
            percents.setdefault(gate.objective.name, []).append(gate.objective.statistic)
    measured = [measures_of(one, max(slices, 1), good, percents) for one in loaded]
    nothing: list[dict[Key, Interval]] = [{} for _ in loaded[1:]]
    intervals, gated = nothing, nothing
    if slices:
        # Each run is drawn with a seed of its own: two runs with the same data are still two.
        generators = [np.random.default_rng(place) for place in range(len(loaded))]
        draws = [drawn(one, slices, generator) for one, generator in zip(measured, generators, strict=True)]
        first, *others = zip(measured, draws, strict=True)
        intervals = intervals_of(first, others, slices)
        keys = [key for key in measured[0] if any(key[1:] == gate_key(gate) for gate in gates)]
        wide = [key for key in keys if key[0].split(", tokens by")[0] == "all"]
        gated = intervals_of(first, others, slices, wide or keys) if keys else nothing
    rows = tuple(
        tuple(
            _compared(key, measured[0].get(key), one.get(key), intervals[place].get(key), slices)
            for key in dict.fromkeys([*measured[0], *one])
        )
        for place, one in enumerate(measured[1:])
    )
    results = [_gate(gate, place + 1, rows[place], gated[place], rule) for place in range(len(rows)) for gate in gates]
    # Where there is but one sort of chat, "all" would say it twice.
    sorts = {key[0] for one in measured for key in one if key[2] == "p50" and key[0] != "models"}
    once = len({name for name in sorts if not name.startswith("all") and ", tokens by" not in name}) < 2
    if once:
        rows = tuple(tuple(row for row in one if not _twice(row)) for one in rows)
    sampled = "ttft" if all(any(key[1] == "ttft" for key in one) for one in measured) else "e2e"
    return Comparison(
        runs=tuple(one.run for one in loaded),
        rows=rows,
        warnings=tuple(tuple(warnings_between(loaded[0], one)) for one in loaded[1:]),
        gates=tuple(results),
        slices=slices,
        samples=tuple(_samples(one, sampled) for one in measured),
        sampled=sampled,
    )


def _twice(row: Compared) -> bool:
    return row.request.startswith("all") and row.statistic not in ("share", "a second")


def _samples(measured: dict[Key, Measure], name: str) -> NDArray[np.float64]:
    found = [one.ordered for key, one in measured.items() if key[1:] == (name, "p50") and one.ordered is not None]
    return max(found, key=len, default=np.array([]))
