"""Does a comparison claim what is not there, and find what is? Made-up runs through all of `tensorix_reports.compare`.

    python benchmarks/compare_power.py [--comparisons 400] [--requests 2000]

A/A: two runs of the same server, and whether any figure of the report is said to differ; of independent requests, of
latencies that follow each other (autoregressive, phi 0.6 and 0.9; sojourns of M/M/1 at load 0.7), of a few requests
(300), of a constant schedule. Shift: TTFT is 10 % longer in the second run, and whether TTFT p50 is said to differ.
A figure's interval "holds" where it holds the truth; all of a comparison together are meant to in 95 %.
"""

from __future__ import annotations

import argparse
import time
from math import log, sqrt
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tensorix_records.judging import COLUMNS
from tensorix_records.steady import Steady
from tensorix_reports.comparison._compare import compare_loaded
from tensorix_reports.comparison._measures import Loaded

ORIGIN_NS = 1_790_000_000_000_000_000
_INTEGERS = [name for name in COLUMNS if name.endswith(("_ns", "tokens")) or name == "n"]


def _spread(kind: str, sigma: float, count: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """Latencies about 1."""
    if kind.startswith("MM1"):
        load = float(kind[3:])
        wait = generator.exponential(1 / (1 - load)) if generator.random() < load else 0.0
        sojourns = np.empty(count)
        services, gaps = generator.exponential(1, count), generator.exponential(1 / load, count)
        for place in range(count):
            sojourns[place] = wait + services[place]
            wait = max(0.0, sojourns[place] - gaps[place])
        return sojourns
    phi = float(kind[2:]) if kind.startswith("AR") else 0.0
    noise = generator.normal(size=count)
    for place in range(1, count) if phi else ():
        noise[place] = phi * noise[place - 1] + sqrt(1 - phi**2) * noise[place]
    return np.exp(sigma * noise)


def made_up(
    kind: str, sigma: float, count: int, generator: np.random.Generator, *, slower: float = 1.0, steady: bool = False
) -> Loaded:
    """A run of streamed chat, ten requests a second, one in fifty failed and one in fifty refused."""
    gaps = np.full(count, 0.1) if steady else generator.exponential(0.1, count)
    starts = ORIGIN_NS + (np.cumsum(gaps) * 1e9).astype(np.int64)
    first = 300e6 * slower * _spread(kind, sigma, count, generator)
    tokens = generator.integers(20, 200, count)
    last = first + (tokens - 1) * 20e6 * np.exp(0.2 * generator.normal(size=count))
    lot = generator.random(count)
    outcome = np.where(lot < 0.02, "failed", np.where(lot < 0.04, "throttled", "success"))
    columns: dict[str, Any] = {
        "start_unix_ns": starts,
        "outcome": outcome,
        "first_token_at_ns": first.astype(np.int64),
        "first_output_at_ns": first.astype(np.int64),
        "last_token_at_ns": last.astype(np.int64),
        "end_at_ns": (last + 1e6).astype(np.int64),
        "completion_tokens": tokens,
        "endpoint": ["/chat/completions"] * count,
        "stream": [True] * count,
        "token_source": ["usage"] * count,
    }
    arrays = {}
    for name in COLUMNS:
        kind_of = pa.int64() if name in _INTEGERS else pa.string()
        arrays[name] = pa.array(columns[name]) if name in columns else pa.nulls(count, kind_of)
    table = pa.table(arrays)
    run: Any = SimpleNamespace(manifest={"ended_unix_ns": 1}, events=list, path=Path("run"))
    kinds = np.array(["chat, streamed"] * count, dtype=object)
    return Loaded(run, Steady.of(table, ()), table, table, kinds, np.array(["m"] * count, dtype=object))


def trial(kind: str, sigma: float, count: int, comparisons: int, slower: float, *, steady: bool = False) -> str:
    """A row of the table."""
    generator = np.random.default_rng([count, round(sigma * 10), len(kind), round(slower * 100), steady])
    any_claimed = found = compared = held = 0
    figures = []
    for _ in range(comparisons):
        pair = [
            made_up(kind, sigma, count, generator, steady=steady),
            made_up(kind, sigma, count, generator, slower=slower, steady=steady),
        ]
        comparison = compare_loaded(pair)
        rows = comparison.rows[0]
        told = [row for row in rows if row.shown is not None]
        figures.append(len(told))
        compared += bool(told)
        any_claimed += bool(comparison.different(1))
        p50 = next(row for row in rows if (row.quantity, row.statistic) == ("ttft", "p50"))
        found += bool(p50.shown and p50.difference and p50.difference > 0)
        held += bool(p50.ratio_low and p50.ratio_high and log(p50.ratio_low) <= log(slower) <= log(p50.ratio_high))
    claimed = f"{any_claimed / comparisons:.1%}" if slower == 1 else ""
    power = f"{found / comparisons:.1%}" if slower != 1 else ""
    what = f"{kind}{', constant schedule' if steady else ''}"
    some = f"{np.mean(figures):.0f} | {compared / comparisons:.0%}"
    power += f" | {held / max(compared, 1):.1%}"
    return f"| {what} | {sigma:g} | {count:,} | {slower - 1:.0%} | {some} | {claimed} | {power} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="false claims and power of a comparison")
    parser.add_argument("--comparisons", type=int, default=400)
    parser.add_argument("--requests", type=int, default=2000)
    asked = parser.parse_args()
    begun = time.monotonic()
    print("| latencies | sigma | n | shift | figures | compared | any claimed | p50 found | p50 interval holds |")
    print("| --- |" + " ---: |" * 8)
    count = asked.requests
    for kind, sigma, number, slower, steady in (
        ("independent", 0.3, count, 1.0, False),
        ("independent", 0.5, count, 1.0, False),
        ("independent", 0.5, count, 1.0, True),
        ("independent", 0.5, 300, 1.0, False),
        ("AR0.6", 0.5, count, 1.0, False),
        ("AR0.9", 0.5, count, 1.0, False),
        ("MM10.7", 0.5, count, 1.0, False),
        ("independent", 0.3, count, 1.1, False),
        ("independent", 0.5, count, 1.1, False),
        ("AR0.6", 0.3, count, 1.1, False),
    ):
        print(trial(kind, sigma, number, asked.comparisons, slower, steady=steady), flush=True)
    print(f"\n{asked.comparisons:,} comparisons each, {time.monotonic() - begun:,.0f} s")


if __name__ == "__main__":
    main()
