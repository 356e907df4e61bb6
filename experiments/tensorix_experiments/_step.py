"""A step of a search: the plan of its run, how long it has to be, and what became of the objectives in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tensorix_loadtests.plan import Arrivals, Goals, LoadPlan, Stage
from tensorix_records import Run
from tensorix_records.figures import NEEDED_BEYOND
from tensorix_records.judging import COLUMNS, Judged, judge
from tensorix_records.objectives import Criterion, Objective, read_objective
from tensorix_records.steady import without_preflight
from tensorix_records.timings import Window, e2e_ns, outcome_is, start_unix_ns, successful
from tensorix_reports.capacity import Step

__all__ = ["Pace", "Seen", "closed_plan", "look_at", "needed_requests", "open_plan", "with_errors"]

_NEEDED_RATHER = 3
"""A percentile is asked for with so many times the samples that it must have: the least says next to nothing."""
_THROTTLED_SHARE = 0.01
_KEPT_UP = 0.9
_SENT = 0.93
"""Of the rate that was asked for; what chance takes of it is less in a step of some hundred requests."""
_IMPLIED = "error_rate < 1%"
# A run of a step that is far beyond its bound tells nothing more, and what it has piled up takes long to drain.
_FAR_BEYOND = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long steps are, in seconds."""

    least_s: float
    most_s: float


@dataclass(frozen=True, slots=True)
class Seen:
    """What a run of a step showed."""

    step: Step
    unsure: bool
    """Whether an interval holds its bound, so that a longer look may decide otherwise."""
    e2e_s: float | None
    """The median, of successes."""
    requests: int
    """In all, the one before the run included."""
    tokens: int
    seconds: float
    """From its first to its last sign of life."""
    passed_a_second: float | None
    """Successes over the whole run, its warm-up too."""
    short: str | None
    """Why the load was less than it was to be, by this client's own doing; None where it was not."""


def with_errors(objectives: Sequence[Objective]) -> tuple[Objective, ...]:
    """Objectives that a server which refuses or fails cannot meet by being quick with the rest."""
    watched = {"error_rate", "goodput", "good_share", "successful", "failed"}
    if any(one.name in watched for one in objectives):
        return tuple(objectives)
    return (*objectives, read_objective(_IMPLIED))


def needed_requests(objectives: Sequence[Objective]) -> int:
    """How many requests a step takes for its figures to mean something.

    Of a percentile three times the samples beyond that it must have; of a share enough to tell it from none: the bound
    of an error rate of 1 % is three requests of 300.
    """
    most = 30
    for one in objectives:
        if isinstance(one.statistic, float):
            most = max(most, ceil(_NEEDED_RATHER * NEEDED_BEYOND * 100 / min(one.statistic, 100 - one.statistic)))
        elif one.kind == "share" and 0 < one.bound < 1 and one.text != _IMPLIED:
            most = max(most, ceil(_NEEDED_RATHER / min(one.bound, 1 - one.bound)))
    return most


def _brakes(objectives: Sequence[Objective], seconds: float) -> tuple[str, ...]:
    """What ends a step that is far beyond: a time several times its bound, over a good part of the step."""
    over = max(1.0, seconds / 3)
    return tuple(
        f"{one.name}_p{one.statistic:g} > {round(_FAR_BEYOND * one.bound)}ns for {over:g}s over {over:g}s"
        for one in objectives
        if isinstance(one.statistic, float) and one.below and one.kind == "time"
    )


def open_plan(
    plan: LoadPlan, rate: float, pace: Pace, *, requests: int, e2e_s: float | None, seed: int, longer: float = 1.0
) -> tuple[LoadPlan, float]:
    """The plan of a step at so many requests a second, and how much of its beginning is warm-up, in seconds.

    Long enough for `requests`, and for twenty times a request's own length: what a queue does in less is chance.
    """
    wanted_s = max(pace.least_s, requests / rate, 20 * (e2e_s or 0.0)) * longer
    measured_s = min(wanted_s, pace.most_s * longer)
    warm_s = max(measured_s / 4, min(5 * (e2e_s or 0.0), measured_s))
    arrivals = plan.arrivals or Arrivals(stages=(Stage(duration_s=1.0, rate=1.0),))
    stages = (Stage(duration_s=warm_s + measured_s, rate=rate),)
    objectives = plan.goals.read().objectives
    return replace(
        plan,
        arrivals=replace(arrivals, stages=stages, replay=None, seed=arrivals.seed + seed),
        requests=None,
        duration_s=None,
        goals=Goals(good=plan.goals.good, brakes=_brakes(objectives, measured_s)),
    ), warm_s


def closed_plan(plan: LoadPlan, users: int, pace: Pace, *, requests: int, longer: float = 1.0) -> LoadPlan:
    """The plan of a step with so many users: each asks twice to warm up, then together they make `requests`."""
    wanted = ceil(max(requests, 10 * users) * longer)
    return replace(
        plan,
        arrivals=None,
        users=users,
        spawn_rate=float(max(users, 1)),
        requests=2 * users + wanted,
        duration_s=pace.most_s * longer,
        goals=Goals(good=plan.goals.good),
    )


def _window(load: Any, *, warm_s: float | None, users: int | None) -> Window:
    """What is judged: in open loop from the end of warm-up, in closed loop once each user has asked twice."""
    starts = np.sort(start_unix_ns(load))
    if not starts.size:
        return Window(0, 0)
    if warm_s is not None:
        begin = int(starts[0]) + round(warm_s * 1e9)
        # A brake can end a run in its warm-up: what is there decides.
        return Window(begin if begin < starts[-1] else int(starts[0]), int(starts[-1]))
    return Window(int(starts[min(2 * (users or 1), starts.size // 2)]), int(starts[-1]))


def _falls_behind(load: Any, window: Window) -> str | None:
    """Whether more came in than was answered: over a window of many requests' length the two must be about the same."""
    good = load.filter(pa.array(successful(load)))
    if not len(good) or window.seconds <= 0:
        return None
    ends = start_unix_ns(good) + np.nan_to_num(e2e_ns(good)).astype(np.int64)
    median_s = float(np.nanmedian(e2e_ns(good))) / 1e9
    started, ended = int(window.contains(start_unix_ns(good)).sum()), int(window.contains(ends).sum())
    if median_s * 4 > window.seconds and ended == 0:
        return None
    if started < 50 or ended >= _KEPT_UP * started:
        return None
    return f"it falls behind: {started:,} requests began and {ended:,} were answered meanwhile"


def look_at(
    folder: Path,
    load_level: float,
    objectives: Sequence[Objective],
    criteria: Sequence[Criterion],
    *,
    name: str,
    warm_s: float | None = None,
    users: int | None = None,
) -> Seen:
    """What a step's run came to."""
    run = Run.open(folder)
    table = run.records((*COLUMNS, "prompt_tokens", "reserved_tokens")).sort_by("start_unix_ns")
    load, events = without_preflight(table), run.events()
    window = _window(load, warm_s=warm_s, users=users)
    judged, _ = judge(table, window, objectives, criteria)
    started = load.filter(pa.array(window.contains(start_unix_ns(load))))
    # 429s anywhere in the run: a limit is met in the warm-up too.
    throttled = int(outcome_is(load, "throttled").sum())
    standing, reason = _standing(judged)
    if throttled > max(2.0, _THROTTLED_SHARE * len(load)):
        standing, reason = "limited", f"{throttled:,} of {len(load):,} requests were refused with 429"
    elif standing != "broken" and (behind := _falls_behind(load, window)) is not None:
        standing, reason = "broken", behind
    seconds = window.seconds
    good = started.filter(pa.array(successful(started)))
    median = float(np.nanmedian(e2e_ns(good))) / 1e9 if len(good) else None
    times = [int(one["t_unix_ns"]) for one in events if isinstance(one.get("t_unix_ns"), int)]
    # What nobody told the use of counts at its worst, where that was set aside.
    told = _numbers(table, "prompt_tokens") + np.nan_to_num(_numbers(table, "completion_tokens"))
    tokens = int(np.nansum(np.where(np.isnan(told), _numbers(table, "reserved_tokens"), told)))
    step = Step(
        load=load_level,
        folder=name,
        purpose="step",
        standing=standing,  # type: ignore[arg-type]
        reason=reason,
        seconds=seconds,
        requests=len(started),
        sent_a_second=len(started) / seconds if seconds > 0 else None,
        successful_a_second=len(good) / seconds if seconds > 0 else None,
        judged=judged,
    )
    return Seen(
        step,
        unsure=standing in ("met", "broken") and any(map(_is_unsure, judged)),
        e2e_s=median,
        requests=len(table),
        tokens=tokens,
        seconds=(max(times) - min(times)) / 1e9 if times else 0.0,
        passed_a_second=_a_second(load),
        short=_fell_short(events, step, offered=users is None),
    )


def _a_second(load: Any) -> float | None:
    starts = start_unix_ns(load)
    length_s = float(starts.max() - starts.min()) / 1e9 if starts.size else 0.0
    return float(successful(load).sum()) / length_s if length_s > 0 else None


def _fell_short(events: Sequence[dict[str, Any]], step: Step, *, offered: bool) -> str | None:
    """A client that is late with its requests measures their times truly all the same, unless it sends fewer."""
    said = [one for one in events if one.get("kind") == "saturated" and one.get("what") in ("cpu", "loop_lag")]
    if offered and (step.sent_a_second is None or step.sent_a_second >= _SENT * step.load):
        return None
    return str(said[0].get("words")) if said else None


def _numbers(table: Any, name: str) -> Any:
    return table.column(name).cast(pa.float64(), safe=False).fill_null(float("nan")).to_numpy()


def _standing(judged: Sequence[Judged]) -> tuple[str, str]:
    for wanted in ("broken", "unknown"):
        for one in judged:
            if one.standing == wanted:
                return wanted, f"{one.objective.text}: {one.reason}"
    unsure = [one for one in judged if _is_unsure(one)]
    return "met", "" if not unsure else f"{unsure[0].objective.text}: {unsure[0].reason}"


def _is_unsure(one: Judged) -> bool:
    """Whether a longer look may change it. What was not asked for is not worth one."""
    return one.straddles and one.objective.text != _IMPLIED


def most_requests(plan: LoadPlan) -> int:
    """The most that the run of a step is likely to send: what is expected of its schedule and four deviations."""
    if plan.arrivals is None:
        return plan.requests or 0
    expected = sum(stage.duration_s * stage.rate for stage in plan.arrivals.stages)
    return ceil(expected + 4 * sqrt(expected)) + 1
