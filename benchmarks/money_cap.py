"""Is a cap of money ever exceeded, and is it used? Random runs, killed, resumed and refused with 402.

    python benchmarks/money_cap.py [--runs 200] [--seed 0] [--at-a-time 2] [--minutes 30] [--faults]

Each run has its own prices, cap, users, keys, prompts and lengths. Its engine is killed with SIGKILL at a random place
of its journal (or while it starts), or meets the end of its credit, and is resumed in the same folder until the cap
ends it. What was really spent is what the simulator made, prompt and answer, at the prices: of requests that were cut,
cancelled or never recorded too. The cap is large against the worst case of a request, as caps are.

With `--faults` connections are reset, streams cut, broken or stalled, there are error events and statuses of 500, and
every other kill is a cancelling of what is under way: then what was spent is held from above only, in all and for each
request that has a record.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue
from statistics import median
from typing import Any

from tensorix_loadtests.plan import LoadPlan
from tensorix_loadtests.spending import JOURNAL_NAME, plan_of_run, read_journal
from tensorix_records import Run
from tensorix_simulator import Simulator

FAULTS = (
    "cut after 3 chunks, rate 4%",
    "reset, rate 3%",
    "error event after 2 chunks, rate 3%",
    "status 500, rate 3%",
    "malformed after 2 chunks, rate 2%",
    "stall 3s after 3 chunks, rate 0.3%",
)
_MOST_ENGINES = 20
_PATIENCE_S = 120.0
_NOT_BEGUN = 2


@dataclass
class Outcome:
    """What became of a run."""

    seed: int
    cap: float
    spent: float
    counted: float
    requests: int
    ends: Counter[str] = field(default_factory=Counter)
    below: int = 0
    """Requests of which more was made than their record counts."""

    @property
    def share(self) -> float:
        """Of the cap, what was spent."""
        return self.spent / self.cap


@dataclass
class Case:
    """A random run."""

    plan: dict[str, Any]
    prices: tuple[float, float]
    kills: int
    credit: int | None
    environment: dict[str, str]


def case_of(seed: int, base_url: str) -> Case:
    """What a seed stands for."""
    rng = random.Random(seed)
    completion = 10 ** rng.uniform(-2, 2)
    prompt = completion * rng.uniform(0.05, 0.5)
    prompts = [" ".join(rng.choices(("sun", "moon", "straße", "水"), k=rng.randint(1, 60))) for _ in range(5)]
    max_tokens, users, kills = rng.randint(4, 40), rng.randint(1, 6), rng.choice((0, 1, 1, 2, 3))
    body_bytes = max(len(text.encode()) for text in prompts) + 220
    worst = (body_bytes * prompt + max_tokens * completion) / 1e6
    likely = (body_bytes / 8 * prompt + max_tokens / 2 * completion) / 1e6
    cap = max(rng.randint(100, 300) * likely, (kills * users + 1) * worst / 0.08)
    keys = rng.choice((1, 1, 2))
    both = {"chat-streamed": 1, "chat-unstreamed": 1} if users > 1 else {"chat-unstreamed": 1}
    names = [f"SPENDING_KEY_{number}" for number in range(keys)]
    spending = {
        "most_money": cap,
        "prices": {"*": {"prompt": prompt, "completion": completion}},
        "key_variables": names,
        "keys": rng.choice(("spread", "pinned")),
    }
    plan = {
        "base_url": base_url,
        "users": users,
        "spawn_rate": 100.0,
        "endless": True,
        "max_tokens": max_tokens,
        "prompts": prompts,
        "mix": rng.choice(({"chat-streamed": 1}, both)),
        "spending": spending,
        "timeouts": {"connect_s": 10.0, "first_token_s": 1.0, "chunk_s": 1.0, "total_s": 10.0},
    }  # fmt: skip
    credit = None if rng.random() < 0.5 else round(cap / worst * rng.uniform(0.3, 3) * max_tokens / keys)
    return Case(plan, (prompt, completion), kills, credit, {name: f"sk-{seed}-{name}" for name in names})


def run_engine(
    case: Case, folder: Path, plan: dict[str, Any], *, resume: bool, kill_at: float | None, cancel: bool = False
) -> int:
    """One engine, to its end or its kill: when its journal has grown by `kill_at` bytes, or after -`kill_at` s.

    With `cancel` it is not killed: told to end, and to cancel what is under way. Returns its exit status.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LOCUST", "TENSORIX"))}
    process = subprocess.Popen(
        [sys.executable, "-m", "tensorix_loadtests", "--out", str(folder), *(["--resume"] if resume else [])],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment | case.environment,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(plan))
    process.stdin.close()
    journal, began_s, began = folder / JOURNAL_NAME, time.monotonic(), _size(folder / JOURNAL_NAME)
    try:
        while process.poll() is None:
            if time.monotonic() - began_s > _PATIENCE_S:
                raise SystemExit(f"{folder}: the engine hangs")
            if kill_at is not None:
                in_start = kill_at < 0 and time.monotonic() - began_s > -kill_at
                if in_start or (kill_at >= 0 and _size(journal) - began > kill_at):
                    break
            time.sleep(0.005)
        if cancel and process.poll() is None:
            for _ in range(2):
                process.send_signal(signal.SIGTERM)
                time.sleep(0.003)
            process.wait(_PATIENCE_S)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()
    return process.returncode


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def one(seed: int, sim: Simulator, truth: Path, folder: Path, *, faults: bool) -> Outcome:
    """Begin a run, kill and resume it until its cap ends it, and hold it against the truth."""
    case = case_of(seed, sim.base_url)
    rng = random.Random(seed + 10**6)
    sim.change(credit_tokens=case.credit, faults=list(FAULTS) if faults else [])
    offset = _size(truth)
    ends: Counter[str] = Counter()
    LoadPlan.from_dict(case.plan)
    for number in range(_MOST_ENGINES):
        begun = (folder / "manifest.json").exists()
        if not begun:
            folder = folder.with_name(f"{folder.name}-{number}")
        plan = plan_of_run(folder).to_dict() if begun else case.plan
        kill_at = None
        if ends["killed"] < case.kills:
            kill_at = -rng.uniform(0.2, 2.0) if rng.random() < 0.15 else rng.uniform(0, 20_000)
        cancel = faults and kill_at is not None and kill_at > 0 and rng.random() < 0.5
        status = run_engine(case, folder, plan, resume=begun, kill_at=kill_at, cancel=cancel)
        if status == _NOT_BEGUN or not (folder / "manifest.json").exists():
            # A fault met its look at the server, or it was killed before that.
            ends["not begun" if status == _NOT_BEGUN else "killed"] += 1
            continue
        end = Run.open(folder).manifest["end_reason"] or "killed"
        ends[end] += 1
        # Its number of kills is used up by cancelling too.
        case.kills -= end == "interrupted"
        if end == "payment":
            sim.change(credit_tokens=None)
        if end == "budget":
            break
    else:
        raise SystemExit(f"seed {seed}: no end after {_MOST_ENGINES} engines: {dict(ends)}")
    return _judged(seed, case, folder, truth, offset, ends)


def _judged(seed: int, case: Case, folder: Path, truth: Path, offset: int, ends: Counter[str]) -> Outcome:
    run = Run.open(folder)
    run_id = run.manifest["run_id"]
    deadline = time.monotonic() + 30
    while True:
        lines = _lines(truth, offset, run_id)
        over = {line["n"]: line for line in lines if line["event"] == "end"}
        if all(line["n"] in over for line in lines):
            break
        if time.monotonic() > deadline:
            raise SystemExit(f"seed {seed}: the simulator has not ended all requests")
        time.sleep(0.1)
    prompt, completion = case.prices
    made = {
        line["request_id"]: (line["prompt_tokens"] * prompt + line["completion_tokens"] * completion) / 1e6
        for line in over.values()
    }
    table = run.records(["request_id", "cost", "method"]).to_pylist()
    below = sum(made.get(row["request_id"], 0.0) > (row["cost"] or 0.0) + 1e-9 for row in table)
    return Outcome(
        seed,
        case.plan["spending"]["most_money"],
        sum(made.values()),
        read_journal(folder).spent.money,
        len(made),
        ends,
        below,
    )


def _lines(truth: Path, offset: int, run_id: str) -> list[dict[str, Any]]:
    with truth.open("rb") as file:
        file.seek(offset)
        found = [json.loads(line) for line in file if line.endswith(b"\n")]
    return [line for line in found if str(line.get("request_id", "")).startswith(run_id + ".")]


def main() -> int:
    """Print what became of the runs; 1 where one was above its cap, or left more than a tenth of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--at-a-time", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--faults", action="store_true")
    options = parser.parse_args()
    until = time.monotonic() + options.minutes * 60
    seeds: Queue[int] = Queue()
    for seed in range(options.seed, options.seed + options.runs):
        seeds.put(seed)
    outcomes: list[Outcome] = []

    def lane(number: int, place: Path) -> None:
        truth = place / f"truth-{number}.jsonl"
        with Simulator(rpm=None, tpm=None, ttft="2ms", between_tokens="1ms", truth_path=truth) as sim:
            while not seeds.empty() and time.monotonic() < until:
                seed = seeds.get()
                outcomes.append(one(seed, sim, truth, place / f"run-{seed}", faults=options.faults))
                if len(outcomes) % 20 == 0:
                    print(f"{len(outcomes)} runs", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.at_a_time) as pool:
        for one_lane in [pool.submit(lane, number, Path(folder)) for number in range(options.at_a_time)]:
            one_lane.result()
    return _said(outcomes, faults=options.faults)


def _said(outcomes: list[Outcome], *, faults: bool) -> int:
    ends = sum((outcome.ends for outcome in outcomes), Counter())
    shares = sorted(outcome.share for outcome in outcomes)
    above = [outcome.seed for outcome in outcomes if outcome.spent > outcome.cap + 1e-9]
    uncounted = [outcome.seed for outcome in outcomes if outcome.spent > outcome.counted + 1e-9 or outcome.below]
    unused = [outcome.seed for outcome in outcomes if outcome.share < 0.9]
    rows = {
        "runs": len(outcomes),
        "engines": ends.total(),
        "killed": ends["killed"],
        "cancelled": ends["interrupted"],
        "ended by 402": ends["payment"],
        "requests": sum(outcome.requests for outcome in outcomes),
        "share of the cap spent: least, median, most": f"{shares[0]:.4f}, {median(shares):.4f}, {shares[-1]:.4f}",
        "above the cap": f"{len(above)} {above or ''}",
        "with more spent than counted": f"{len(uncounted)} {uncounted or ''}",
        "below 0.9": f"{len(unused)} {unused or ''}",
    }
    for name, value in rows.items():
        print(f"| {name} | {value} |")
    return 1 if above or uncounted or (unused and not faults) else 0


if __name__ == "__main__":
    raise SystemExit(main())
