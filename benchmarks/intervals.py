"""Do the intervals of percentiles hold? Coverage and width on made-up runs whose true percentiles are known.

    python benchmarks/intervals.py [--runs 2000] [--counts 100,300,1000,3000,10000] [--only iid,AR]

Latencies: independent (`iid`) and autoregressive of the first order (`AR`, by its phi), lognormal with sigma 0.5 each;
sojourn times of queues by their load (`MM1`: exponential service; `MD1`: constant; `MM4`: exponential, four servers),
begun in their stationary state.
For each percentile: the share of runs whose 95 % interval holds the true one, of those that print an interval; how many
print one; the mean width beside the best. The best is the pair of order statistics whose ranks come from the true
distribution of the number of samples below the true percentile, for that process and count: the narrowest interval of
ranks that covers, and nobody who has only the samples can know it. `!` marks less than 93.5 % or more than 1.3 times.
The last column is the share of all runs that print an interval which does not hold, at its highest percentile's worst.
"""

from __future__ import annotations

import argparse
import time
from decimal import Decimal, localcontext
from math import exp, factorial, log, sqrt
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from tensorix_records.figures import percentiles

PERCENTS = (50.0, 90.0, 95.0, 99.0)
COUNTS = (100, 300, 1000, 3000, 10_000)
PROCESSES = (
    ("iid", 0.0),
    *(("AR", phi) for phi in (0.1, 0.3, 0.6, 0.8, 0.9, 0.95)),
    *(("MM1", load) for load in (0.5, 0.7, 0.9)),
    *(("MD1", load) for load in (0.5, 0.7, 0.9)),
    *(("MM4", load) for load in (0.7, 0.9)),
)
SIGMA = 0.5
_SERVERS = 4
_AT_ONCE = 500
LEAST_COVERAGE, MOST_WIDTH = 0.935, 1.3

Floats: TypeAlias = NDArray[np.float64]


def made_up(process: str, parameter: float, count: int, runs: int, generator: np.random.Generator) -> Floats:
    """`runs` rows of `count` latencies."""
    if process in ("iid", "AR"):
        series = generator.normal(size=(count, runs))
        for place in range(1, count) if parameter else ():
            series[place] = parameter * series[place - 1] + sqrt(1 - parameter**2) * series[place]
        return np.exp(SIGMA * series).T
    if process == "MM4":
        return _four_servers(parameter, count, runs, generator)
    # Lindley's recursion, from a stationary wait (Pollaczek and Khinchine).
    if process == "MM1":
        busy = generator.random(runs) < parameter
        wait = np.where(busy, generator.exponential(1 / (1 - parameter), runs), 0.0)
        service = generator.exponential(1.0, (count, runs))
    else:
        wait = np.array([generator.random(number).sum() for number in generator.geometric(1 - parameter, runs) - 1])
        service = np.ones((count, runs))
    gaps = generator.exponential(1 / parameter, (count, runs))
    sojourns = np.empty((count, runs))
    for place in range(count):
        sojourns[place] = wait + service[place]
        wait = np.maximum(0.0, sojourns[place] - gaps[place])
    return sojourns.T


def _has_to_wait(load: float) -> float:
    """Erlang's C of four servers (1917)."""
    offered = _SERVERS * load
    terms = [offered**k / factorial(k) for k in range(_SERVERS + 1)]
    full = terms[-1] / (1 - load)
    return full / (sum(terms[:-1]) + full)


def _four_servers(load: float, count: int, runs: int, generator: np.random.Generator) -> Floats:
    """The recursion of Kiefer and Wolfowitz: the work ahead of each server, begun with those whom the first finds."""
    offered = _SERVERS * load
    chances = [offered**k / factorial(k) for k in range(_SERVERS)]
    chances += [offered**_SERVERS / factorial(_SERVERS) * load**k for k in range(400)]
    found = generator.choice(len(chances), size=runs, p=np.array(chances) / sum(chances))
    work = np.zeros((runs, _SERVERS))
    rows = np.arange(runs)
    for place in range(int(found.max())):
        there = rows[found > place]
        work[there, work[there].argmin(axis=1)] += generator.exponential(1.0, there.size)
    sojourns = np.empty((count, runs))
    for place in range(count):
        first = work.argmin(axis=1)
        work[rows, first] += generator.exponential(1.0, runs)
        sojourns[place] = work[rows, first]
        work = np.maximum(0.0, work - generator.exponential(1 / offered, runs)[:, None])
    return sojourns.T


def _four_servers_exceed(sojourn: float, load: float) -> float:
    """P(sojourn > t) of M/M/4: service, and with Erlang's chance an exponential wait before it."""
    waits, drained = _has_to_wait(load), _SERVERS * (1 - load)
    both = (drained * exp(-sojourn) - exp(-drained * sojourn)) / (drained - 1)
    return (1 - waits) * exp(-sojourn) + waits * both


def _waits_at_most(wait: float, load: float) -> float:
    """P(W <= wait) of M/D/1 with service 1 (Erlang 1909); its terms alternate, so with many digits."""
    with localcontext() as context:
        context.prec = 80
        total, product = Decimal(0), Decimal(1)
        for k in range(int(wait) + 1):
            product *= max(k, 1)
            late = Decimal(load) * (k - Decimal(wait))
            total += (late**k if k else Decimal(1)) / product * (-late).exp()
        return float((1 - Decimal(load)) * total)


def true_percentile(process: str, parameter: float, percent: float) -> float:
    """Exact, by formula."""
    share = percent / 100
    if process in ("iid", "AR"):
        return exp(SIGMA * NormalDist().inv_cdf(share))
    if process == "MM1":
        return -log(1 - share) / (1 - parameter)
    if process == "MM4":
        low, high = 0.0, 100.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if _four_servers_exceed(middle, parameter) > 1 - share else (low, middle)
        return high
    low, high = 0.0, 60.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if _waits_at_most(middle, parameter) < share else (low, middle)
    return 1 + high if _waits_at_most(0.0, parameter) < share else 1.0


def cell(process: str, parameter: float, count: int, runs: int) -> dict[float, tuple[float, float, float, float]]:
    """By percent: coverage, share of runs that print, width beside the best, share of runs that print a wrong one."""
    generator = np.random.default_rng([round(parameter * 100), count, len(process)])
    truths = {percent: true_percentile(process, parameter, percent) for percent in PERCENTS}
    ends: dict[float, list[tuple[float, float]]] = {percent: [] for percent in PERCENTS}
    below: dict[float, list[int]] = {percent: [] for percent in PERCENTS}
    blocks = []
    for begun in range(0, runs, _AT_ONCE):
        latencies = made_up(process, parameter, count, min(_AT_ONCE, runs - begun), generator)
        for percent, truth in truths.items():
            below[percent] += np.count_nonzero(latencies <= truth, axis=1).tolist()
        for row in latencies:
            for percent, figure in percentiles(row, PERCENTS).items():
                if figure.value is not None:
                    known = figure.low is not None and figure.high is not None
                    ends[percent].append((figure.low or 0.0, figure.high or 0.0) if known else (np.nan, np.nan))
        blocks.append(np.sort(latencies, axis=1).astype(np.float32))
    ordered = np.concatenate(blocks)
    found = {}
    for percent, truth in truths.items():
        if not ends[percent]:
            continue
        low, high = np.array(ends[percent]).T
        printed = ~np.isnan(low)
        if not printed.any():
            found[percent] = (np.nan, 0.0, np.nan, 0.0)
            continue
        holds = (low <= truth) & (truth <= high)
        first, last = np.quantile(below[percent], (0.025, 0.975), method="inverted_cdf").astype(int)
        best = ordered[:, min(last, count - 1)] - ordered[:, max(first - 1, 0)]
        found[percent] = (
            float(holds[printed].mean()),
            float(printed.mean()),
            float((high - low)[printed].mean() / best[printed].mean()),
            float((printed & ~holds).mean()),
        )
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="coverage and width of the intervals of percentiles")
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--counts", default=",".join(map(str, COUNTS)))
    parser.add_argument("--only", default="")
    asked = parser.parse_args()
    only = asked.only.split(",") if asked.only else [process for process, _ in PROCESSES]
    begun = time.monotonic()
    print(
        "| process | n | " + " | ".join(f"p{percent:g}: holds, printed, width" for percent in PERCENTS) + " | wrong |"
    )
    print("| --- |" + " ---: |" * 6)
    for process, parameter in PROCESSES:
        for count in map(int, asked.counts.split(",")) if process in only else ():
            cells, wrong = [], 0.0
            for holds, printed, width, misled in (found := cell(process, parameter, count, asked.runs)).values():
                wrong = max(wrong, misled)
                if not printed:
                    cells.append("none")
                    continue
                marks = "!" if holds < LEAST_COVERAGE else "", "!" if width > MOST_WIDTH else ""
                cells.append(f"{100 * holds:.1f} %{marks[0]}, {100 * printed:.0f} %, {width:.2f}{marks[1]}")
            cells += ["withheld"] * (len(PERCENTS) - len(found))
            print(f"| {process} {parameter:g} | {count:,} | {' | '.join(cells)} | {100 * wrong:.1f} % |", flush=True)
    print(f"\n{asked.runs:,} runs each, {time.monotonic() - begun:,.0f} s")


if __name__ == "__main__":
    main()
