"""A run held against its objectives: met, broken, or not enough data, each with the figure and what it rests on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tensorix_records._run import Run
from tensorix_records.figures import Figure, fraction, percentile, rate
from tensorix_records.objectives import Criterion, Objective, ReadGoals, read_goals
from tensorix_records.steady import Steady, without_preflight
from tensorix_records.timings import (
    Window,
    e2e_ns,
    itl_ns,
    latency_from_intended_ns,
    later_than_intended_ns,
    outcome_is,
    output_tokens_in,
    schedule_delay,
    start_unix_ns,
    successful,
    text_is,
    ttfo_ns,
    ttft_ns,
)

__all__ = [
    "COLUMNS",
    "Goodput",
    "Judged",
    "Standing",
    "Verdict",
    "asked_goals",
    "good_requests",
    "in_words",
    "judge",
    "quantity_of_each",
    "verdict",
    "verdict_of",
]

Standing: TypeAlias = Literal["met", "broken", "unknown"]

COLUMNS = (
    *("start_unix_ns", "scenario", "endpoint", "stream", "outcome", "n", "token_source", "intended_at_ns"),
    *("user_ready_at_ns", "held_ns", "connect_start_at_ns", "dns_done_at_ns", "tcp_done_at_ns", "tls_done_at_ns"),
    *("first_token_at_ns", "first_output_at_ns", "last_token_at_ns", "end_at_ns"),
    *("completion_tokens", "reasoning_tokens"),
)
"""The columns of a record that a judgement needs."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What became of one objective."""

    objective: Objective
    standing: Standing
    figure: Figure
    """In the unit of the objective's bound: ns, a share, or a number a second."""
    reason: str
    """In one line: the figure, its interval and its count, or what is missing."""

    @property
    def straddles(self) -> bool:
        """Whether the interval holds the bound, so that chance may have decided."""
        figure, bound = self.figure, self.objective.bound
        return figure.low is not None and figure.high is not None and figure.low <= bound <= figure.high


@dataclass(frozen=True, slots=True)
class Goodput:
    """Successful chat requests a second that met every criterion."""

    criteria: tuple[str, ...]
    a_second: Figure
    share: Figure
    """Of the successful ones."""
    not_asked: int
    """Successes that some criterion has no meaning for (TTFT, of a reply that is not streamed): held against none."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a run's objectives."""

    judged: tuple[Judged, ...]
    goodput: Goodput | None
    """None where no criterion was given."""
    window: Window
    why_window: str

    @property
    def standing(self) -> Standing | None:
        """Of all objectives: broken where one is, else unknown where one is; None where there is none."""
        standings = {one.standing for one in self.judged}
        return next((one for one in ("broken", "unknown", "met") if one in standings), None)


def _is_chat(table: Any) -> NDArray[np.bool_]:
    return text_is(table.column("endpoint"), lambda path: not (path or "").endswith("/models"))


def quantity_of_each(table: Any, name: str) -> NDArray[np.float64]:
    """A quantity of each request, ns; NaN where it has none."""
    if name == "schedule_delay":
        return later_than_intended_ns(table)
    if name == "dispatch_delay":
        # In a closed loop nothing was scheduled.
        scheduled = np.isfinite(later_than_intended_ns(table))
        return np.where(scheduled, schedule_delay(table).dispatch_ns, np.nan)
    functions = {"ttft": ttft_ns, "ttfo": ttfo_ns, "itl": itl_ns, "e2e": e2e_ns}
    return functions.get(name, latency_from_intended_ns)(table)


def _mainly_counted(table: Any) -> tuple[Any, str]:
    """The rows whose tokens are counted the way most are, since no figure pools two; and what that left out."""
    counts = pc.call_function("value_counts", [table.column("token_source")]).to_pylist()
    known = Counter({one["values"]: one["counts"] for one in counts if one["values"]})
    if len(known) < 2:
        return table, ""
    source, _ = known.most_common(1)[0]
    others = known.total() - known[source]
    kept = table.filter(pa.array(text_is(table.column("token_source"), lambda one: one == source)))
    return kept, f"; tokens by {source}, {others:,} requests with tokens counted otherwise left out"


def good_requests(table: Any, criteria: Sequence[Criterion]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Of successful chat requests: which met every criterion, and which one of them has no meaning for.

    A criterion is not held against a request that has no such quantity.
    """
    good = np.ones(len(table), dtype=np.bool_)
    not_asked = np.zeros(len(table), dtype=np.bool_)
    for one in criteria:
        values = quantity_of_each(table, one.name)
        unknown = np.isnan(values)
        within = values < one.bound if one.below else values > one.bound
        good &= unknown | within | (one.inclusive & (values == one.bound))
        not_asked |= unknown
    return good, not_asked


@dataclass(frozen=True, slots=True)
class _Inside:
    """The requests of the window, and what else a figure may need."""

    window: Window
    seconds: float
    """Its length, without pauses."""
    load: Any
    """All, whenever they started."""
    started: Any
    chat: Any
    """Successful chat."""
    criteria: Sequence[Criterion]


def _goodput(inside: _Inside) -> Goodput:
    good, not_asked = good_requests(inside.chat, inside.criteria)
    number, seconds = int(good.sum()), inside.seconds
    a_second, share = rate(number, seconds), fraction(number, len(inside.chat))
    if len(inside.chat) and not_asked.all():
        why = "not enough data: no successful request has what the criteria ask for"
        a_second, share = (Figure(None, None, None, len(inside.chat), "none", why) for _ in range(2))
    return Goodput(tuple(one.text for one in inside.criteria), a_second, share, int(not_asked.sum()))


def _offered(inside: _Inside) -> Figure:
    # Those that waited were due before the window: by when they were due, as what is sent is by when it was sent.
    late = later_than_intended_ns(inside.load)
    known = np.isfinite(late)
    if not known.any():
        return Figure(None, None, None, 0, "none", "not enough data: a closed loop offers nothing by a schedule")
    due = start_unix_ns(inside.load)[known] - late[known].astype(np.int64)
    return rate(int(inside.window.contains(due).sum()), inside.seconds)


def _share(inside: _Inside, name: str) -> Figure:
    failed, passed = int(outcome_is(inside.started, "failed").sum()), int(successful(inside.started).sum())
    if name == "error_rate":
        return fraction(failed, failed + passed)
    throttled = int(outcome_is(inside.started, "throttled").sum())
    return fraction(throttled, throttled + failed + passed)


def _rate(inside: _Inside, name: str) -> tuple[Figure, str]:
    seconds = inside.seconds
    if name == "offered":
        return _offered(inside), ""
    if name == "output_tokens":
        table, note = _mainly_counted(inside.load)
        # Null in a table of records, NaN in the columns of a report.
        tokens = pc.fill_null(pc.cast(table.column("completion_tokens"), pa.float64()), float("nan"))
        counted = int(np.count_nonzero(np.isfinite(tokens.to_numpy())))
        if not counted:
            return Figure(None, None, None, 0, "none", "not enough data: no reply's tokens are known"), ""
        return rate(output_tokens_in(table, inside.window), seconds, count=counted), note
    outcomes = {"successful": "success", "throttled": "throttled", "failed": "failed"}
    number = len(inside.started) if name == "sent" else int(outcome_is(inside.started, outcomes[name]).sum())
    return rate(number, seconds), ""


def _time(inside: _Inside, objective: Objective) -> tuple[Figure, str]:
    table, note = _mainly_counted(inside.chat) if objective.name == "itl" else (inside.chat, "")
    values = quantity_of_each(table, objective.name)
    values = values[np.isfinite(values)]
    if not values.size:
        return Figure(None, None, None, 0, "none", "not enough data: no successful request has it"), note
    if isinstance(objective.statistic, float):
        return percentile(values, objective.statistic), note
    if objective.statistic == "max":
        return Figure(float(values.max()), None, None, values.size, "none"), note
    return _mean(values), note


def _mean(values: NDArray[np.float64]) -> Figure:
    return Figure(float(values.mean()), None, None, values.size, "none")


def _figure(inside: _Inside, objective: Objective) -> tuple[Figure, str]:
    if objective.name in ("goodput", "good_share"):
        found = _goodput(inside)
        return (found.a_second if objective.name == "goodput" else found.share), ""
    if objective.kind == "share":
        return _share(inside, objective.name), ""
    return _rate(inside, objective.name) if objective.kind == "rate" else _time(inside, objective)


def in_words(value: float, kind: str) -> str:
    """A figure with its unit."""
    if kind == "share":
        return f"{100 * value:.3g} %"
    if kind == "rate":
        return f"{value:,.4g}/s"
    return f"{value / 1e6:,.3g} ms" if value < 1e9 else f"{value / 1e9:,.4g} s"


def _judged(inside: _Inside, objective: Objective) -> Judged:
    figure, note = _figure(inside, objective)
    if figure.value is None:
        return Judged(objective, "unknown", figure, (figure.withheld or "not enough data") + note)
    standing: Standing = "met" if objective.holds(figure.value) else "broken"
    judged = Judged(objective, standing, figure, "")
    words = f"it is {in_words(figure.value, objective.kind)}"
    if figure.low is not None and figure.high is not None:
        low, high = in_words(figure.low, objective.kind), in_words(figure.high, objective.kind)
        words += f", 95 % interval {low} to {high}"
        words += ", which holds the bound: chance may have decided" if judged.straddles else ""
    words += f" ({figure.count:,} request{'' if figure.count == 1 else 's'}){note}"
    return Judged(objective, standing, figure, words)


def judge(
    table: Any,
    window: Window,
    objectives: Sequence[Objective],
    criteria: Sequence[Criterion] = (),
    *,
    paused_s: float = 0.0,
) -> tuple[tuple[Judged, ...], Goodput | None]:
    """What became of each objective over a window, and the goodput where there are criteria.

    Percentiles, means and greatest values are of successful chat requests that started within; shares and rates of all
    requests that did, a list of models too, but for the one before the run. The figure decides where its interval holds
    the bound, and the reason says so. Rates do not count the `paused_s` seconds of the window. Where there is no figure
    (a percentile with fewer than five samples beyond it, no request that has it) there is not enough data.
    """
    load = without_preflight(table)
    started = load.filter(pa.array(window.contains(start_unix_ns(load))))
    chat = started.filter(pa.array(successful(started) & _is_chat(started)))
    inside = _Inside(window, window.seconds - paused_s, load, started, chat, criteria)
    return tuple(_judged(inside, one) for one in objectives), _goodput(inside) if criteria else None


def _texts(value: Any) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list | tuple) else []


def asked_goals(manifest: Mapping[str, Any]) -> ReadGoals:
    """The goals that a run's manifest says it was given. Raises SettingsError for those of another version."""
    asked = manifest.get("asked")
    goals = asked.get("goals") if isinstance(asked, dict) else None
    goals = goals if isinstance(goals, dict) else {}
    return read_goals(_texts(goals.get("objectives")), _texts(goals.get("good")))


def verdict_of(table: Any, events: Sequence[Mapping[str, Any]], goals: ReadGoals) -> Verdict:
    """As `verdict`, of records in the order of their starts that are already read."""
    steady = Steady.of(without_preflight(table), events)
    judged, goodput = judge(table, steady.window, goals.objectives, goals.good, paused_s=steady.paused_s)
    return Verdict(judged, goodput, steady.window, steady.why)


def verdict(run: Run) -> Verdict:
    """A run held against the objectives that its manifest says it was asked to meet, over its steady state.

    A run that ended early, or was killed, is judged by what it recorded. Raises SettingsError for objectives of another
    version that cannot be read.
    """
    # In the order of their starts, as intervals of what depends on its neighbours need them.
    table = run.records(COLUMNS).sort_by("start_unix_ns")
    return verdict_of(table, run.events(), asked_goals(run.manifest))
