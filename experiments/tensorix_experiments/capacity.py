"""The search for the highest rate, or the highest number of users, that meets objectives.

Each step is a run of the engine into a folder of its own. Up by doubling, then bisection; a step whose interval holds
the bound is looked at longer once. Where the server refuses with 429 it is the limit that is searched for: a run beyond
it says how much passes in whole windows, and of what.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from tensorix_api.errors import SettingsError, TensorixError
from tensorix_api.secret import Secret
from tensorix_experiments._climb import Climb
from tensorix_experiments._limit import Kind, Passed, evidence_of, passed_in_windows, stated_limit
from tensorix_experiments._running import Budget, run_plan
from tensorix_experiments._step import (
    Pace,
    Seen,
    closed_plan,
    look_at,
    most_requests,
    needed_requests,
    open_plan,
    with_errors,
)
from tensorix_loadtests.plan import Arrivals, Goals, LoadPlan, Stage
from tensorix_reports import rate_limit_report
from tensorix_reports.capacity import Capacity, Found, LimitFound, Step

__all__ = ["Search", "find_capacity"]

_BEYOND = 1.3
"""How far beyond what passed a limit is measured: far enough for refusals between windows, no further."""
_WINDOWS = 3
_LONGER = 3.0
_ASSUMED_WINDOW_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What is searched for. Raises SettingsError, in one line."""

    plan: LoadPlan
    """What every step is like: its objectives are those to meet, its own schedule and number of users are not used."""
    by: Literal["rate", "users"] = "rate"
    first: float = 1.0
    """The load of the first step: requests a second, or users."""
    most: float = 10_000.0
    """The highest load to try."""
    resolution: float = 0.05
    least_step_s: float = 10.0
    most_step_s: float = 300.0
    most_requests: int | None = None
    most_tokens: int | None = None
    most_seconds: float | None = None

    def __post_init__(self) -> None:
        if not self.plan.goals.objectives:
            raise SettingsError("there is nothing to search for: give an objective with --slo 'ttft_p95 < 800ms'")
        if not 0 < self.first <= self.most:
            raise SettingsError(f"the first load is {self.first:g}: give a number above 0, at most {self.most:g}")
        if not 0.001 <= self.resolution < 1:
            raise SettingsError(f"the resolution is {self.resolution:g}: give a share from 0.001 to below 1, like 0.05")
        if not 0 < self.least_step_s <= self.most_step_s:
            raise SettingsError("the shortest step is longer than the longest: give --step-most a longer time")
        if self.most_tokens is not None and self.plan.most_tokens_a_request() is None:
            raise SettingsError("a cap of tokens needs a bound on answers: give one with --max-tokens")


@dataclass
class _Searching:
    """A search under way."""

    search: Search
    folder: Path
    key: Secret | None
    say: Callable[[str], None]
    warn: Callable[[str], None]
    budget: Budget
    steps: list[Step] = field(default_factory=list)
    e2e_s: float | None = None
    throughput: float | None = None
    runs: int = 0

    @property
    def pace(self) -> Pace:
        return Pace(least_s=self.search.least_step_s, most_s=self.search.most_step_s)

    def run(self, plan: LoadPlan, seconds: float) -> tuple[str, Path] | str:
        """Make a run; its name and folder, or why the budget does not allow it."""
        most = most_requests(plan)
        if lacking := self.budget.lacks(most, plan.most_tokens_a_request(), seconds):
            return lacking
        if self.budget.requests is not None:
            # Whatever the schedule comes to: the cap holds.
            left = self.budget.requests - self.budget.used_requests - 1
            plan = replace(plan, requests=min(plan.requests or left, left))
        if self.budget.tokens is not None:
            # The engine sets worst cases aside: of those it knows better than what was expected above.
            left = self.budget.tokens - self.budget.used_tokens
            own = plan.spending.most_tokens
            spending = replace(plan.spending, most_tokens=left if own is None else min(left, own))
            plan = replace(plan, spending=spending)
        self.runs += 1
        name = f"step-{self.runs:02d}"
        run_plan(plan, self.folder / name, self.key, self.warn)
        return name, self.folder / name

    def keep(self, seen: Seen) -> None:
        """What it used, and what it said for the steps to come."""
        self.budget.used_requests += seen.requests
        self.budget.used_tokens += seen.tokens
        self.steps.append(seen.step)
        if seen.e2e_s is not None:
            self.e2e_s = seen.e2e_s
        self.throughput = seen.step.successful_a_second or self.throughput
        unit = "requests/s" if self.search.by == "rate" else "users"
        why = f": {seen.step.reason}" if seen.step.reason else ""
        self.say(f"{seen.step.load:g} {unit}: {seen.step.standing}{why}")

    def step(self, load: float, *, quick: bool = False, longer: float = 1.0) -> Seen | str:
        """A step at a load; why there is none where the budget does not allow it."""
        search = self.search
        goals = search.plan.goals.read()
        objectives = with_errors(goals.objectives)
        needed = needed_requests(objectives) // (2 if quick else 1)
        warm_s, users = None, None
        if search.by == "rate":
            plan, warm_s = open_plan(
                search.plan, load, self.pace, requests=needed, e2e_s=self.e2e_s, seed=self.runs, longer=longer
            )
            assert plan.arrivals is not None
            seconds = sum(stage.duration_s for stage in plan.arrivals.stages)
        else:
            users = int(load)
            plan = closed_plan(search.plan, users, self.pace, requests=needed, longer=longer)
            expected = (plan.requests or 0) / self.throughput if self.throughput else self.pace.least_s
            seconds = min(expected, plan.duration_s or expected)
        made = self.run(plan, seconds)
        if isinstance(made, str):
            return made
        name, folder = made
        seen = look_at(folder, load, objectives, goals.good, name=name, warm_s=warm_s, users=users)
        self.keep(seen)
        return seen

    def beyond(self, rate: float, length_s: float, max_tokens: int | None) -> tuple[Path, Seen] | str:
        """A run beyond a limit, for so long."""
        # Evenly: chance would be another thing that says how much came in a window.
        arrivals = replace(
            self.search.plan.arrivals or Arrivals(stages=(Stage(duration_s=length_s, rate=rate),)),
            stages=(Stage(duration_s=length_s, rate=rate),),
            replay=None,
            gaps="constant",
        )
        plan = replace(
            self.search.plan, arrivals=arrivals, requests=None, duration_s=None, max_tokens=max_tokens, goals=Goals()
        )
        made = self.run(plan, length_s)
        if isinstance(made, str):
            return made
        name, folder = made
        seen = look_at(folder, rate, (), (), name=name, warm_s=0.0)
        seen = replace(seen, step=replace(seen.step, purpose="limit"))
        self.keep(seen)
        return folder, seen


def _window(searching: _Searching, folder: Path) -> tuple[float, str]:
    """The limiter's window, in seconds, and from whom it is known."""
    limits = searching.search.plan.limits
    if "window_s" in limits.told:
        return limits.window_s, "told"
    report = rate_limit_report(folder)
    if report.window_s is not None and report.sources["window"] == "measured":
        return report.window_s, "measured"
    return limits.window_s or _ASSUMED_WINDOW_S, "assumed"


def _whole(window_s: float) -> float:
    """How long a run takes to spend a window and to see whole ones after it, in seconds."""
    return (1 + _WINDOWS) * window_s + 0.5


def _measure_limit(searching: _Searching, limited: Seen) -> LimitFound | str:
    """Go beyond the limit that a step met, and see what passes; why not where that cannot be."""
    step = limited.step
    window_s, source = _window(searching, searching.folder / step.folder)
    # What passed in the step is the limit's rate, or more where a budget was left; less, where steps before it took
    # of the same window: then no window is spent, and it is tried once more.
    rate = _BEYOND * max(limited.passed_a_second or 0.0, (step.sent_a_second or step.load) / 4)
    measured = _beyond_limit(searching, rate, window_s, source)
    if measured is None:
        rate *= 2
        measured = _beyond_limit(searching, rate, window_s, source)
    if measured is None:
        return f"no window of {window_s:.3g} s was both spent and seen whole at {rate:.4g}/s"
    if isinstance(measured, str):
        return measured
    folder, passed, window_s, source = measured
    known = evidence_of(folder) or _by_lengths(searching, passed, rate, window_s)
    kind: Literal["requests", "tokens", "unclear"] = known[0] if known else "unclear"
    amount = passed.tokens if kind == "tokens" and passed.tokens is not None else passed.requests
    how = f"passed in {passed.windows} whole windows at {rate:.4g}/s, the budget being spent"
    how += f"; {known[1]}" if known else "; whether it counts requests or tokens the refusals do not tell"
    how += {"assumed": "; the window's length is assumed, not measured", "measured": "; its length as measured"}.get(
        source, ""
    )
    return LimitFound(
        what=kind,
        amount=amount,
        window_s=window_s,
        window_from=source,
        windows=passed.windows,
        stated=stated_limit(folder, "tokens" if kind == "tokens" else "requests"),
        how=how,
    )


def _beyond_limit(
    searching: _Searching, rate: float, window_s: float, source: str
) -> tuple[Path, Passed, float, str] | str | None:
    """The run that shows what passes in whole windows, with their length and from whom it is known.

    A window of unknown length is looked for in runs that grow, up to what the documented minute takes. None where no
    window was spent and seen whole; why there is no such run, where the budget does not allow it.
    """
    lengths = [_whole(window_s)]
    if source == "assumed":
        lengths = [_whole(short) for short in (window_s / 24, window_s / 6) if short >= 1] + lengths
    while lengths:
        made = searching.beyond(rate, lengths.pop(0), searching.search.plan.max_tokens)
        if isinstance(made, str):
            return made
        folder, _ = made
        if source == "assumed" and (found := _window(searching, folder))[1] == "measured":
            window_s, source = found
            passed = passed_in_windows(folder, window_s)
            if passed is None or passed.windows < 2:
                lengths = [_whole(window_s)]
                continue
        elif lengths:
            continue
        else:
            passed = passed_in_windows(folder, window_s)
        return None if passed is None else (folder, passed, window_s, source)
    return None


def _by_lengths(searching: _Searching, passed: Passed, rate: float, window_s: float) -> tuple[Kind, str] | None:
    """Ask for answers of half the length: a limit of requests lets as many pass, one of tokens more of them."""
    max_tokens = searching.search.plan.max_tokens
    if max_tokens is None or max_tokens < 4 or passed.tokens is None:
        return None
    # Beyond the limit of tokens too, of which each request now takes less.
    made = searching.beyond(2 * rate, _whole(window_s), max_tokens // 2)
    if isinstance(made, str):
        return None
    other = passed_in_windows(made[0], window_s)
    if other is None or other.tokens is None:
        return None
    if abs(other.requests / passed.requests - 1) < 0.05:
        return "requests", "as many passed when answers were half as long"
    if abs(other.tokens / passed.tokens - 1) < 0.1:
        return "tokens", "with answers half as long more requests passed, and as many tokens"
    return None


def find_capacity(
    search: Search,
    folder: Path,
    key: Secret | None,
    *,
    say: Callable[[str], None] = lambda line: None,
    warn: Callable[[str], None] = lambda line: None,
) -> Capacity:
    """Search in a folder that is there, and return what was found. `say` is told of each step, in a line.

    Raises TensorixError where the first step cannot be made; a later one that cannot ends the search with what it has.
    KeyboardInterrupt ends it likewise, the step's run in order first.
    """
    started = time.time_ns()
    budget = Budget(search.most_requests, search.most_tokens, search.most_seconds, began=time.monotonic())
    searching = _Searching(search, folder, key, say, warn, budget)
    climb = Climb(search.first, search.most, search.resolution, whole=search.by == "users")
    limit: LimitFound | None = None
    try:
        found, why, limited = _climbed(searching, climb)
        if limited is not None:
            measured = _measure_limit(searching, limited)
            if isinstance(measured, str):
                found, why = "stopped", f"429s at {limited.step.load:g}; what the limit is was not measured: {measured}"
            else:
                limit, found, why = measured, "limit", "a limit was met before the objectives were broken"
    except KeyboardInterrupt:
        found, why = "stopped", "it was interrupted"
    except TensorixError as error:
        if not searching.steps:
            raise
        found, why = "stopped", str(error)
    best = climb.best
    if best is not None and limit is not None and limit.what == "requests":
        # A step can be over before the window's budget is spent.
        best = min(best, limit.amount / limit.window_s)
    goals = search.plan.goals
    return Capacity(
        unit="requests/s" if search.by == "rate" else "users",
        base_url=search.plan.base_url,
        model=search.plan.model,
        label=search.plan.label,
        objectives=tuple(one.text for one in with_errors(goals.read().objectives)),
        good=goals.good,
        found=found,
        best=best,
        broken=climb.broken,
        why=why,
        limit=limit,
        steps=tuple(searching.steps),
        spent={
            "requests": budget.used_requests,
            "tokens": budget.used_tokens,
            "seconds": time.monotonic() - budget.began,
        },
        budget={"requests": search.most_requests, "tokens": search.most_tokens, "seconds": search.most_seconds},
        started_unix_ns=started,
    )


def _climbed(searching: _Searching, climb: Climb) -> tuple[Found, str, Seen | None]:
    """Climb until the knee is known; with the step that met a limit, where one did."""
    while (load := climb.next()) is not None:
        seen = searching.step(load, quick=climb.doubling)
        # Going up, a load that was met by chance is found out by the next; one that was broken would stay.
        if isinstance(seen, Seen) and seen.unsure and (seen.step.standing == "broken" or not climb.doubling):
            again = searching.step(load, longer=_LONGER)
            seen = again if isinstance(again, Seen) else seen
        if isinstance(seen, str):
            return ("at least" if climb.best is not None and climb.broken is None else "stopped"), seen, None
        step = seen.step
        if step.standing == "limited":
            return "limit", step.reason, seen
        if step.standing == "unknown":
            return "stopped", f"at {load:g} there is not enough data: {step.reason}", None
        if step.standing == "broken" and seen.short:
            reason = f"at {load:g} this client itself did not keep up: {seen.short}"
            return ("at least" if climb.best is not None else "stopped"), reason, None
        climb.told(load, step.standing == "met")
    if climb.best is None:
        return "none", f"even {climb.broken:g} broke them", None
    if climb.broken is None:
        return "at least", f"{climb.most:g} is the highest load that was to be tried", None
    return "knee", f"{climb.best:g} met all objectives and {climb.broken:g} did not", None
