"""Are requests sent when the schedule wants them? Gaps, the client's own delay, and a server that stands still.

    python benchmarks/open_loop.py [--rate 200] [--seconds 30] [--seeds 100] [--rounds 1]

Three tables:

1. Gaps. For each seed the Poisson arrivals of half a minute, at a constant rate and on a ramp from 0, put through the
   integral of the rate: the gaps are then to be exponential. A Kolmogorov-Smirnov test of each; of 100 seeds at least
   97 are to have p > 0.01.
2. On real sockets, in one engine with everything else that it does: each arrival sent exactly once (by the simulator's
   own truth), and the parts of the delay between the intended instant and the first byte, in ms.
3. The same while the simulator's process is stopped for 3 s in the middle: latency from intended against E2E. Requests
   come on while it stands still, so of the 30 s about a tenth meet the stall, evenly between 3 s and none of it.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from tensorix_loadtests.plan import Arrivals, LoadPlan, Stage
from tensorix_loadtests.schedules import arrivals
from tensorix_records import Run
from tensorix_records.timings import e2e_ns, latency_from_intended_ns, schedule_delay
from tensorix_simulator import Simulator

STALL_S = 3.0
FLOOR_P = 0.01


def p_of_exponential(gaps: list[float]) -> float:
    """The p-value of a Kolmogorov-Smirnov test that gaps are exponential of mean 1.

    By the limiting distribution at (sqrt(n) + 0.12 + 0.11 / sqrt(n)) * D (Stephens, JASA 69, 1974).
    """
    count = len(gaps)
    expected = -np.expm1(-np.sort(gaps))
    above = np.arange(1, count + 1) / count
    distance = float(max((above - expected).max(), (expected - above + 1 / count).max()))
    scaled = (math.sqrt(count) + 0.12 + 0.11 / math.sqrt(count)) * distance
    return float(np.clip(2 * sum((-1) ** (k - 1) * math.exp(-2 * (k * scaled) ** 2) for k in range(1, 101)), 0, 1))


def plan_of(stage: Stage, seed: int, base_url: str = "http://127.0.0.1:9/v1", **more: Any) -> LoadPlan:
    """A plan of one stage."""
    return LoadPlan(base_url=base_url, arrivals=Arrivals(stages=(stage,), seed=seed), max_tokens=4, **more)


def gaps_table(rate: float, seeds: int) -> None:
    """Print the first table."""
    print("| rate | seeds | p > 0.01 | least p |\n| --- | --- | --- | --- |")
    for name, stage in (
        (f"{rate:g}/s", Stage(duration_s=30, rate=rate)),
        (f"0 to {rate:g}/s", Stage(duration_s=30, rate=0, end_rate=rate)),
    ):
        found = []
        for seed in range(seeds):
            at = np.array([arrival.offset_ns for arrival in arrivals(plan_of(stage, seed))]) / 1e9
            integral = rate * at if stage.end_rate is None else rate * at**2 / (2 * stage.duration_s)
            found.append(p_of_exponential([after - before for before, after in pairwise([0.0, *integral])]))
        print(f"| {name} | {seeds} | {sum(p > FLOOR_P for p in found)} | {min(found):.4f} |", flush=True)


def drive(rate: float, seconds: float, seed: int, *, stalled: bool) -> dict[str, Any]:
    """One run; figures in ms."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Simulator(rpm=None, tpm=None, ttft="20ms", between_tokens="10ms") as simulator,
    ):
        out = Path(folder) / "run"
        plan = plan_of(
            Stage(duration_s=seconds, rate=rate), seed, simulator.base_url, model=simulator.settings.models[0]
        )
        environment = {name: value for name, value in os.environ.items() if name != "LOCUST_SKIP_MONKEY_PATCH"}
        environment["TENSORIX_API_KEY"] = "benchmark-key-of-nobody"
        engine = subprocess.Popen(
            [sys.executable, "-P", "-m", "tensorix_loadtests", "--out", str(out)],
            stdin=subprocess.PIPE,
            env=environment,
        )
        assert engine.stdin is not None
        engine.stdin.write(json.dumps(plan.to_dict()).encode())
        engine.stdin.close()
        if stalled:
            threading.Thread(target=stall, args=(simulator.pid, out, seconds), daemon=True).start()
        if engine.wait(seconds + 120):
            raise SystemExit(f"the engine ended with status {engine.returncode}")
        arrived = [line for line in simulator.truth() if line["event"] == "arrival"]
        return figures(Run.open(out), plan, [line["request_id"] for line in arrived])


def stall(pid: int, out: Path, seconds: float) -> None:
    """Stop the server for a while in the middle of the run."""
    while not (out / "manifest.json").exists():
        time.sleep(0.01)
    time.sleep(max(0.0, (seconds - STALL_S) / 2))
    os.kill(pid, signal.SIGSTOP)
    time.sleep(STALL_S)
    os.kill(pid, signal.SIGCONT)


def figures(run: Run, plan: LoadPlan, arrived: list[str]) -> dict[str, Any]:
    """What a run shows, beside the ids of the requests that the server saw."""
    table: Any = run.records()
    table = table.filter(pc.call_function("is_valid", [table.column("schedule_index")]))
    delay = schedule_delay(table)
    scheduled = sum(1 for _ in arrivals(plan))
    indexes = table.column("schedule_index").to_pylist()
    ids = set(table.column("request_id").to_pylist())
    seconds = [event for event in run.events() if event["kind"] == "second"]
    return {
        "scheduled": scheduled,
        "once": sorted(indexes) == list(range(scheduled)) and sum(one in ids for one in arrived) == scheduled,
        "outcomes": table.column("outcome").value_counts().to_pylist(),
        "waiting": delay.waiting_ns / 1e6,
        "connecting": delay.connecting_ns / 1e6,
        "dispatch": delay.dispatch_ns / 1e6,
        "e2e": e2e_ns(table) / 1e6,
        "intended": latency_from_intended_ns(table) / 1e6,
        "users": max(event["users"] for event in seconds),
        "cpu": max(event.get("cpu_share", 0.0) for event in seconds),
        "saturated": [event["words"] for event in run.manifest["saturated"]],
    }


def pair(values: Any) -> str:
    """Median, p99 and largest of a column, as cells."""
    return f"{np.percentile(values, 50):.2f} | {np.percentile(values, 99):.2f} | {values.max():.2f}"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=1)
    asked = parser.parse_args()
    gaps_table(asked.rate, asked.seeds)
    print(
        "\n| server | scheduled | each sent once | waiting for a user p50 | p99 | most | connecting p50 | p99 | most "
        "| dispatch p50 | p99 | most | E2E p99 | from intended p50 | p90 | p99 | most | users | CPU |"
    )
    print("|" + " --- |" * 19)
    for seed in range(asked.rounds):
        for stalled in (False, True):
            seen = drive(asked.rate, asked.seconds, seed, stalled=stalled)
            intended = " | ".join(f"{np.percentile(seen['intended'], percent):.1f}" for percent in (50, 90, 99))
            print(
                f"| {f'stopped for {STALL_S:g} s' if stalled else 'steady'} | {seen['scheduled']} "
                f"| {'yes' if seen['once'] else 'NO'} | {pair(seen['waiting'])} | {pair(seen['connecting'])} "
                f"| {pair(seen['dispatch'])} | {np.percentile(seen['e2e'], 99):.1f} | {intended} "
                f"| {seen['intended'].max():.1f} | {seen['users']} | {seen['cpu']:.0%} |",
                flush=True,
            )
            for words in seen["saturated"]:
                print(f"the client said: {words}")


if __name__ == "__main__":
    main()
