"""Is a limiter found out from outside? The experiment of `tensorix limits` on known limiters, in simulated time.

    python benchmarks/limits_blind.py --sockets 12
    python benchmarks/limits_blind.py [--runs N] [--jobs 2] [--seed 0] [--only kind=sliding_log,limit=60,foreign=0]

Cells: five kinds, limits 10, 60 and 600, windows of 5 and 60 s, round trips of 0, 50 and 150 ms, with and without a
header that says what remains, the key to itself or with 20 % foreign traffic on it. Half of the limits are others than
these, a tenth of the windows other than the documented one, a tenth has a limit a second besides, a quarter of the
buckets another burst. `--runs` are drawn evenly over the cells. Of the limiter only the documented window is told.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import sys
import time
from collections.abc import Iterator, Sequence
from multiprocessing import get_context

from limits_blind_sockets import over_sockets
from limits_blind_table import Result, print_tables
from limits_blind_world import KINDS, Cell, World, play
from tensorix_experiments.limits._assessing import evidence_of
from tensorix_experiments.limits._design import experiment, most
from tensorix_reports.limiter import LimiterFit, fit

LIMITS, WINDOWS_S, TRIPS_S, FOREIGN = (10, 60, 600), (5.0, 60.0), (0.0, 0.05, 0.15), 0.2


def cells(seed: int) -> Iterator[Cell]:
    """One trial of each cell, with what is drawn for it."""
    for kind, limit, window_s, trip_s, header, foreign in itertools.product(
        KINDS, LIMITS, WINDOWS_S, TRIPS_S, (False, True), (0.0, FOREIGN)
    ):
        rng = random.Random(f"{seed} {kind} {limit} {window_s} {trip_s} {header} {foreign}")
        true_limit = max(3, round(limit * rng.uniform(0.5, 1.7))) if rng.random() < 0.5 else limit
        true_window_s = window_s * rng.choice((0.5, 2.0)) if rng.random() < 0.1 else window_s
        a_second = max(2, round(0.1 * true_limit), round(2 * true_limit / true_window_s))
        burst = max(2, round(true_limit * rng.choice((0.25, 0.5, 1.5)))) if rng.random() < 0.25 else None
        yield Cell(
            kind=kind,
            limit=true_limit,
            window_s=true_window_s,
            documented_window_s=window_s,
            trip_s=trip_s,
            header=header,
            foreign=foreign,
            burst=burst if kind == "token_bucket" else None,
            second=a_second if rng.random() < 0.1 else None,
            seed=seed,
        )


def run(cell: Cell) -> Result:
    """Play one trial and judge it."""
    world = World(cell)
    asked_s, ahead_s = world.now_s, world.told_unix_s - world.now_s
    window_s = cell.documented_window_s
    most_requests, most_s = most(window_s)
    began_s = time.perf_counter()
    played = play(experiment(now_s=asked_s, unix_s=world.told_unix_s, window_s=window_s), world)
    found: LimiterFit = fit(evidence_of(played.answers, ahead_s), window_s=window_s)
    best = found.ranked[0] if found.ranked else None
    sent, took_s = len(played.answers), played.ended_s - asked_s
    return Result(
        cell=cell,
        verdict=found.verdict,
        named=best.kind if best else None,
        probability=best.probability if best else 0.0,
        limit=best.limit.value if best else None,
        window_s=best.window_s.value if best else None,
        requests=sent,
        windows=(played.ended_s - played.began_s) / window_s,
        kept=sent <= most_requests and took_s <= most_s,
        claims_foreign=found.foreign_per_s is not None,
        second=found.second_limit,
        cpu_s=time.perf_counter() - began_s,
    )


def chosen(text: str) -> dict[str, str]:
    """`kind=sliding_log,limit=60` as a mapping."""
    return dict(part.split("=", 1) for part in text.split(",") if part)


def matches(cell: Cell, wished: dict[str, str]) -> bool:
    """Whether a cell is one of those that are wished; `limit` is the true one, `any` is whatever is not None."""
    for name, value in wished.items():
        has = getattr(cell, name)
        if value == "any":
            same = has is not None
        elif value == "None" or has is None:
            same = value == str(has)
        else:
            same = has == value if isinstance(has, str) else float(has) == float(value)
        if not same:
            return False
    return True


def trials(runs: int, seed: int, wished: dict[str, str]) -> list[Cell]:
    """So many trials, drawn evenly over the cells that are wished."""
    found: list[Cell] = []
    rng = random.Random(seed)
    for number in itertools.count(seed):
        these = [cell for cell in cells(number) if matches(cell, wished)]
        rng.shuffle(these)
        found += these
        if len(found) >= runs or (number - seed > 200 and not found):
            return found[:runs]
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the trials and print what came of them; 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--runs", type=int, default=360)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--only", default="", help="kind=…,limit=…,foreign=0.2,header=1,plain=1,second=any: a part of the cells"
    )
    parser.add_argument("--sockets", type=int, default=0, metavar="N", help="N runs against the simulator instead")
    parser.add_argument("--each", action="store_true", help="print each trial that was not right")
    asked = parser.parse_args(arguments)
    these = trials(asked.runs, asked.seed, chosen(asked.only))
    began_s = time.monotonic()
    if asked.sockets:
        results = list(over_sockets(asked.sockets))
    elif asked.jobs > 1:
        os.nice(15)
        with get_context("spawn").Pool(asked.jobs) as pool:
            results = list(pool.imap_unordered(run, these, chunksize=1))
    else:
        results = [run(cell) for cell in these]
    print(f"{len(results)} runs in {time.monotonic() - began_s:.0f} s")
    return print_tables(results, each=asked.each)


if __name__ == "__main__":
    sys.exit(main())
