"""The latency report: percentiles of the requests that succeeded, like with like, and what the client delivered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tensorix_records import Run
from tensorix_records.figures import NEEDED_BEYOND, Figure, percentiles
from tensorix_records.gaps import gap_percentile_ns
from tensorix_records.timings import (
    e2e_ns,
    itl_ns,
    latency_from_intended_ns,
    ttfo_ns,
    ttft_ns,
)
from tensorix_reports.frames import (
    OUTCOMES,
    PREFLIGHT,
    Requests,
    RunFrames,
    Window,
    counted_window,
    kind_order,
    reported,
    together,
)
from tensorix_reports.load._by_model import Models, groups_of
from tensorix_reports.load._failures import Failure, failures_of
from tensorix_reports.load._schedule import ScheduleReport, schedule_of
from tensorix_reports.load._throughput import Throughput, throughput_of
from tensorix_reports.load._trust import Trust, trust_of

__all__ = ["PERCENTS", "LatencyReport", "Measured", "latency_of", "latency_report"]

PERCENTS = (50.0, 90.0, 95.0, 99.0)


@dataclass(frozen=True, slots=True)
class Measured:
    """The percentiles of one quantity of one kind of request."""

    request: str
    """The kind of request; with the model behind it where a run asked several."""
    quantity: str
    """TTFT, TTFO, ITL, ICL, E2E, `E2E from intended`, `TTFT from intended` or `tokens/s, a user`."""
    unit: str
    """`ms` or `tokens/s`."""
    token_source: str | None
    """Where tokens are counted: `usage` or `chunks`."""
    count: int
    mean: float | None
    least: float | None
    most: float | None
    figures: dict[float, Figure]
    """By percent."""
    note: str | None = None


@dataclass(frozen=True, slots=True)
class LatencyReport:
    """How quick the answers were. Times are milliseconds, windows seconds since the run's start."""

    window: Window
    inside: int
    outside: int
    rows: list[Measured]
    """Over the window."""
    whole_run: list[Measured]
    """Over the whole run; the same where the window is the whole run."""
    throughput: list[Throughput]
    outcomes: pd.DataFrame
    """A row a kind of request: how many, and what became of them, over the whole run."""
    failures: list[Failure]
    trust: Trust
    schedule: ScheduleReport | None = None
    """None in a closed loop."""
    findings: list[str] = field(default_factory=list)
    """What was wrong with the run's files, and was left out."""
    other_models: int = 0
    """Models that share a row, as too many were asked for each to have its own."""

    def to_frames(self) -> dict[str, pd.DataFrame]:
        """The report's tables by name, for a notebook: a row a figure, its interval in `p95_low` and `p95_high`."""
        return {
            "figures": pd.DataFrame([flat(row) for row in self.rows]),
            "figures_whole_run": pd.DataFrame([flat(row) for row in self.whole_run]),
            "throughput": pd.DataFrame([asdict(row) for row in self.throughput]),
            "outcomes": self.outcomes,
            "failures": pd.DataFrame([asdict(failure) for failure in self.failures]),
        }

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-able values."""
        return {
            "window": {**asdict(self.window), "requests_inside": self.inside, "requests_outside": self.outside},
            "figures": [_row_dict(row) for row in self.rows],
            "figures_whole_run": [_row_dict(row) for row in self.whole_run],
            "throughput": [asdict(row) for row in self.throughput],
            "outcomes": [
                {str(name): value if isinstance(value, str) else int(value) for name, value in row.items()}
                for row in self.outcomes.to_dict("records")
            ],
            "failures": [asdict(failure) for failure in self.failures],
            "trust": self.trust.to_dict(),
            "schedule": None if self.schedule is None else self.schedule.to_dict(),
        }


def flat(row: Measured) -> dict[str, Any]:
    """A row with its percentiles and their intervals beside each other: `p50`, `p50_low`, `p50_high`."""
    whole = {name: getattr(row, name) for name in Measured.__dataclass_fields__ if name != "figures"}
    for percent, figure in row.figures.items():
        name = f"p{percent:g}"
        whole |= {name: figure.value, f"{name}_low": figure.low, f"{name}_high": figure.high}
    return whole


def _row_dict(row: Measured) -> dict[str, Any]:
    fields = {name: getattr(row, name) for name in Measured.__dataclass_fields__ if name != "figures"}
    return fields | {f"p{percent:g}": asdict(figure) for percent, figure in row.figures.items()}


def _measured(
    request: str, quantity: str, unit: str, values: np.ndarray, token_source: str | None = None, note: str | None = None
) -> Measured:
    known = values[np.isfinite(values)]
    return Measured(
        request=request,
        quantity=quantity,
        unit=unit,
        token_source=token_source,
        count=len(known),
        mean=float(known.mean()) if len(known) else None,
        least=float(known.min()) if len(known) else None,
        most=float(known.max()) if len(known) else None,
        figures=percentiles(known, PERCENTS),
        note=note,
    )


Rows = Callable[[], list[Measured]]


def _rows(groups: list[tuple[str, Requests]]) -> Iterator[Rows]:
    """What works the rows out, in the order of the table: each holds a column or two, and lets them go."""
    for name, group in groups:
        streamed = bool(np.isfinite(ttft_ns(group)).any())
        yield partial(_firsts, name, group, streamed)
        yield partial(_wholes, name, group)
        yield partial(_from_intended, name, group, streamed)
        for source, part in group.parts("token_source"):
            if source is not None:
                yield partial(_token_rows, name, source, part, streamed)


def _firsts(name: str, group: Requests, streamed: bool) -> list[Measured]:
    if not streamed:
        chunk = group.array("first_chunk_at_ns")
        # Spans of other instrumentations tell of no token.
        return [_measured(name, "first chunk", "ms", chunk / 1e6)] if np.isfinite(chunk).any() else []
    first, output = ttft_ns(group), ttfo_ns(group)
    row = _measured(name, "TTFT", "ms", first / 1e6)
    # Where nothing was reasoned the two are one.
    alike = np.array_equal(first, output, equal_nan=True)
    return [row, replace(row, quantity="TTFO") if alike else _measured(name, "TTFO", "ms", output / 1e6)]


def _wholes(name: str, group: Requests) -> list[Measured]:
    return [_measured(name, "E2E", "ms", e2e_ns(group) / 1e6)]


def _from_intended(name: str, group: Requests, streamed: bool) -> list[Measured]:
    intended = latency_from_intended_ns(group)
    if not np.isfinite(intended).any():
        return []
    rows = []
    if streamed:
        waited = intended - e2e_ns(group)
        rows.append(_measured(name, "TTFT from intended", "ms", (ttft_ns(group) + waited) / 1e6))
        del waited
    return [*rows, _measured(name, "E2E from intended", "ms", intended / 1e6)]


def _token_rows(name: str, source: str, table: Requests, streamed: bool) -> list[Measured]:
    """What rests on a number of tokens: ITL, and the speed that one user sees."""
    itl, tokens = itl_ns(table), table.array("completion_tokens")
    with np.errstate(divide="ignore", invalid="ignore"):
        speed = 1e9 / itl if streamed else tokens / (e2e_ns(table) / 1e9)
    note = "1 / ITL" if streamed else "tokens / E2E"
    rows = [_measured(name, "ITL", "ms", itl / 1e6, source)] if streamed else []
    if np.isfinite(speed).any():
        rows.append(_measured(name, "tokens/s, a user", "tokens/s", speed, source, note))
    return rows


def _icl(frames: RunFrames, window: Window | None, models: Models) -> list[Measured]:
    """Inter-chunk latency from the counted gaps: whole seconds within the window, one row a model."""
    if frames.gaps is None:
        return []
    gaps = frames.gaps.to_pandas()
    several = gaps["model"].nunique(dropna=False) > 1
    if window is not None:
        start, end = (frames.origin_unix_ns / 1e9 + at for at in (window.start_s, window.end_s))
        # The second in which the window begins holds gaps of the ramp too.
        gaps = gaps[(gaps["second_unix"] >= np.ceil(start)) & (gaps["second_unix"] <= end)]
    rows = []
    named = gaps["model"].map({one: models.named(one) for one in gaps["model"].dropna().unique()})
    for model, group in sorted(
        gaps.groupby(named.fillna(models.named(None))), key=lambda one: models.place(str(one[0]))
    ):
        buckets, counts = group["bucket"].to_numpy(), group["count"].to_numpy()
        total = int(counts.sum())
        figures = {percent: _of_gaps(buckets, counts, percent, total) for percent in PERCENTS}
        name = f"chat, streamed, {model}" if several else "chat, streamed"
        note = "gaps, within 0.8 %"
        rows.append(Measured(name, "ICL", "ms", None, total, None, None, None, figures, note))
    return rows


def _in_order(rows: list[Measured]) -> list[Measured]:
    """Streamed chat first, its gaps between chunks with it."""
    return sorted(rows, key=lambda row: not row.request.startswith("chat, streamed"))


def _of_gaps(buckets: np.ndarray, counts: np.ndarray, percent: float, total: int) -> Figure:
    value = gap_percentile_ns(buckets, counts, percent)
    beyond = round(total * min(percent, 100 - percent) / 100, 6)
    if value is None or beyond < NEEDED_BEYOND:
        needed = int(np.ceil(round(NEEDED_BEYOND * 100 / min(percent, 100 - percent), 6)))
        reason = f"not enough data: p{percent:g} needs {needed} samples, there are {total}"
        return Figure(None, None, None, total, "none", reason, needed)
    return Figure(value / 1e6, None, None, total, "none")


def _outcomes(requests: Requests) -> pd.DataFrame:
    rows = []
    for kind, group in sorted(requests.parts("kind"), key=lambda item: kind_order(str(item[0]))):
        row: dict[str, Any] = {"request": kind, "sent": len(group)}
        outcome = group.codes("outcome")
        rows.append(row | {name: int(np.count_nonzero(outcome.equal(name))) for name in OUTCOMES})
    return pd.DataFrame(rows, columns=["request", "sent", *OUTCOMES])


def latency_of(frames: RunFrames) -> LatencyReport:
    """The latency report of a run that is already read."""
    requests = frames.requests
    window = counted_window(frames)
    load = ~requests.codes("kind").equal(PREFLIGHT)
    within = load & window.holds(requests.array("at_s"))
    models = Models.of(requests)
    whole = list(groups_of(requests, models))
    parts: list[list[Callable[[], Any]]] = [list(_rows(list(groups_of(requests.of(within), models))))]
    parts.append([] if np.array_equal(within, load) else list(_rows(whole)))
    parts.append([partial(throughput_of, frames, window, name, group) for name, group in whole])
    inside, outside = int(within.sum()), int((load & ~within).sum())
    del load, within
    others = (partial(failures_of, requests), partial(trust_of, frames), partial(schedule_of, frames, window))
    found: list[Any] = together([call for part in (*parts, others) for call in part])
    rows, whole_run, throughput = ([one for _ in part for one in found.pop(0)] for part in parts)
    failures, trust, schedule = found
    return LatencyReport(
        window=window,
        inside=inside,
        outside=outside,
        rows=_in_order(rows + _icl(frames, window, models)),
        whole_run=_in_order((whole_run if parts[1] else rows) + _icl(frames, None, models)),
        throughput=throughput,
        outcomes=_outcomes(requests),
        failures=failures,
        trust=trust,
        schedule=schedule,
        findings=frames.findings,
        other_models=models.others,
    )


def latency_report(run: Run | Path | str) -> LatencyReport:
    """Read a run, or the folder of one, and report how quick its answers were.

    Raises RunFolderError where it is no run. An empty or killed run gives a report with fewer rows, and damaged parts
    of one are left out: `findings` names them.
    """
    return reported(run, latency_of)
