"""The one sequence of arrivals of a run, from its plan; every process draws the same and takes its share of it."""

from __future__ import annotations

import itertools
import random
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tensorix_api.errors import SettingsError
from tensorix_loadtests.plan import Arrivals, LoadPlan, Replay
from tensorix_loadtests.schedules._arrival import Arrival
from tensorix_loadtests.schedules._recorded import read_run
from tensorix_loadtests.schedules._stages import staged
from tensorix_loadtests.schedules._traces import Traced, format_of, read_trace

__all__ = ["Survey", "arrivals", "check_schedule", "survey"]


def _kinds(mix: Mapping[str, float], seed: int) -> Iterator[str]:
    names = [name for name, share in mix.items() if share > 0]
    edges = list(itertools.accumulate(mix[name] for name in names))
    rng = random.Random(f"kinds {seed}")  # noqa: S311 - repeatable, not secret
    while True:
        at = rng.random() * edges[-1]
        yield names[next((number for number, edge in enumerate(edges) if at < edge), -1)]


def _traced(replay: Replay) -> Iterator[tuple[int, Traced]]:
    """The requests of a trace, with their offsets from its first (ns) at the speed that was asked for."""
    path = Path(replay.path)
    kind = format_of(path) if replay.format == "auto" else replay.format
    first_ns: int | None = None
    for traced in read_run(path) if kind == "run" else read_trace(path, kind):
        first_ns = traced.at_ns if first_ns is None else first_ns
        yield round((traced.at_ns - first_ns) / replay.speed), traced


def _whole(asked: Arrivals, mix: Mapping[str, float]) -> Iterator[Arrival]:
    kinds = _kinds(mix, asked.seed)
    if asked.replay is None:
        for index, (offset_ns, stage) in enumerate(staged(asked.stages, asked.gaps, asked.variation, asked.seed)):
            yield Arrival(index, offset_ns, next(kinds), stage)
        return
    for index, (offset_ns, traced) in enumerate(_traced(asked.replay)):
        kind = traced.kind or next(kinds)
        yield Arrival(index, offset_ns, kind, None, traced.prompt_tokens, traced.answer_tokens, traced.hash_ids)


def arrivals(
    plan: LoadPlan, *, share: tuple[int, int] = (0, 1), first_index: int = 0, without: Container[int] = ()
) -> Iterator[Arrival]:
    """The arrivals of an open loop, in order: no more than `requests`, and before `duration_s`, where these are given.

    `share` (k, n) takes those with index % n == k: the n workers of a run send each arrival once between them. A run
    that is resumed begins at `first_index`, its offsets then counted from the arrival before, and leaves out the
    indexes `without`, which were sent already. Raises SettingsError, while it is read, for a trace that is wrong.
    """
    if plan.arrivals is None:
        raise SettingsError("the plan has no arrivals: its loop is a closed one")
    worker, workers = share
    begin_ns = 0
    for arrival in itertools.islice(_whole(plan.arrivals, plan.mix), plan.requests):
        if plan.duration_s is not None and arrival.offset_ns >= plan.duration_s * 1e9:
            return
        if arrival.index < first_index:
            begin_ns = arrival.offset_ns
        elif arrival.index % workers == worker and arrival.index not in without:
            yield arrival if not begin_ns else _later(arrival, begin_ns)


def _later(arrival: Arrival, begin_ns: int) -> Arrival:
    return Arrival(
        arrival.index,
        arrival.offset_ns - begin_ns,
        arrival.kind,
        arrival.step_id,
        arrival.prompt_tokens,
        arrival.answer_tokens,
        arrival.hash_ids,
    )


def check_schedule(plan: LoadPlan) -> None:
    """Whether it can begin: its trace is there and its first thousand lines are right. Raises SettingsError."""
    if next(arrivals(plan), None) is None:
        raise _empty(plan)


def _empty(plan: LoadPlan) -> SettingsError:
    asked = plan.arrivals
    what = f"the trace {asked.replay.path!r}" if asked and asked.replay else "the schedule"
    return SettingsError(f"{what} holds no request: give a longer duration, a higher rate, or another trace")


@dataclass(frozen=True, slots=True)
class Survey:
    """What a schedule comes to."""

    requests: int
    span_s: float
    """From its start to the last arrival."""
    prompt_tokens: int | None
    """In all, where a trace says so for each request."""
    answer_tokens: int | None
    most_tokens: int | None
    """Of the longest prompt and answer of one request."""
    most_in_a_second: int


def survey(plan: LoadPlan) -> Survey:
    """Go through the whole schedule before it is sent. Raises SettingsError for a trace that is wrong, or empty.

    About a microsecond an arrival, and five for a line of a trace.
    """
    requests = span_ns = prompt_tokens = answer_tokens = most_tokens = most_in_a_second = in_second = second = 0
    known = True
    for arrival in arrivals(plan):
        requests += 1
        span_ns = arrival.offset_ns
        if arrival.offset_ns // 10**9 != second:
            second, in_second = arrival.offset_ns // 10**9, 0
        in_second += 1
        most_in_a_second = max(most_in_a_second, in_second)
        if arrival.prompt_tokens is None or arrival.answer_tokens is None:
            known = False
        else:
            prompt_tokens += arrival.prompt_tokens
            answer_tokens += arrival.answer_tokens
            most_tokens = max(most_tokens, arrival.prompt_tokens + arrival.answer_tokens)
    if not requests:
        raise _empty(plan)
    return Survey(
        requests,
        span_ns / 1e9,
        prompt_tokens if known else None,
        answer_tokens if known else None,
        most_tokens if known else None,
        most_in_a_second,
    )
