"""How near the search comes to the knee, and to limits, that are known.

    python benchmarks/search_knee.py [--runs 10] [--jobs 3] [--only fast-chat]

Knees: `tensorix search` against the simulator's presets of a served model, with replies shortened so that a search
takes minutes. The reference is an event simulation written here from docs/simulator.md alone: the highest rate whose
objective holds over a hundred thousand requests. Limits: of 60, 600 and 6,000 requests, by several kinds of limiter.
Exit status 1 where fewer than nine of ten searches of a preset come within 10 % of its knee, or a limit is missed by
more than 2 %.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tensorix_simulator import Simulator

_MAX_TOKENS = 64
_KEY = "sk-of-a-benchmark"


@dataclass(frozen=True)
class Server:
    """A preset, by the figures that its description needs, and what is asked of it."""

    slots: int
    queue: int
    step_s: float
    per_sequence_s: float
    prompt_rate: float
    reply_median: float
    reply_sigma: float
    objective: str
    first: float
    noise: float = 0.1
    prompt_tokens: int = 13


SERVERS = {
    "fast-chat": Server(64, 128, 0.008, 0.0001, 40_000.0, 40, 0.4, "ttft_p95 < 60ms", 20),
    "large-chat": Server(32, 64, 0.025, 0.0005, 8_000.0, 20, 0.4, "ttft_p95 < 300ms", 5),
    "reasoning": Server(32, 32, 0.025, 0.0005, 8_000.0, 24, 0.25, "e2e_p90 < 1400ms", 5),
}


@dataclass(slots=True)
class Customer:
    """A request in the simulation; times in seconds."""

    arrived: float
    unread: float
    unsaid: int
    first: float = 0.0


def customers(server: Server, rate: float, requests: int, rng: random.Random) -> deque[Customer]:
    """Who comes, in order: Poisson arrivals, lognormal lengths of replies."""
    now, come = 0.0, deque[Customer]()
    for _ in range(requests):
        now += rng.expovariate(rate)
        tokens = round(rng.lognormvariate(math.log(server.reply_median), server.reply_sigma))
        come.append(Customer(now, server.prompt_tokens, min(_MAX_TOKENS, max(1, tokens))))
    return come


def step_s(server: Server, inside: list[Customer], rng: random.Random) -> float:
    """How long the step that begins now takes; prompts are read in it."""
    decoding = sum(1 for one in inside if not one.unread)
    read = 0.0
    for one in inside:
        piece = min(one.unread, 2048 - read)
        one.unread -= piece
        read += piece
    noise = math.exp(rng.gauss(-(server.noise**2) / 2, server.noise))
    return (server.step_s + server.per_sequence_s * decoding + read / server.prompt_rate) * noise


def figure(server: Server, rate: float, requests: int, seed: int) -> float:
    """What the objective's percentile is at a rate, in seconds: an event simulation of the queue."""
    rng = random.Random(seed)
    name, _, percent = server.objective.split(" ")[0].partition("_p")
    come = customers(server, rate, requests, rng)
    line: deque[Customer] = deque()
    inside: list[Customer] = []
    found: list[float] = []
    now = 0.0

    def join(until: float) -> None:
        while come and come[0].arrived <= until:
            one = come.popleft()
            if len(inside) + len(line) < server.slots + server.queue:
                line.append(one)

    while come or inside or line:
        if not inside and not line:
            now = max(now, come[0].arrived)
            join(now)
        while line and len(inside) < server.slots:
            inside.append(line.popleft())
        # Those who finish their prompt in this step have their first token at its end, as if they had decoded.
        now += step_s(server, inside, rng)
        join(now)
        for one in inside:
            if one.unread:
                continue
            one.unsaid -= 1
            if not one.first:
                one.first = now
                found += [now - one.arrived] if name == "ttft" else []
            if not one.unsaid and name == "e2e":
                found.append(now - one.arrived)
        inside = [one for one in inside if one.unsaid]
    found = sorted(found[len(found) // 20 :])
    return found[int(float(percent) / 100 * (len(found) - 1))]


def reference(server: Server, requests: int) -> float:
    """The highest rate whose objective holds, to half a percent."""
    bound = float(server.objective.split("< ")[1].removesuffix("ms")) / 1e3
    low, high = 1.0, 2.0
    while figure(server, high, requests // 4, 1) < bound:
        low, high = high, 2 * high
    while high / low > 1.005:
        middle = (low + high) / 2
        low, high = (middle, high) if figure(server, middle, requests, 1) < bound else (low, middle)
    return (low + high) / 2


def searched(options: list[str], simulator: Simulator) -> tuple[dict[str, Any], float]:
    """What `tensorix search` finds, and how long it takes, in seconds."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "search"
        began = time.monotonic()
        ran = subprocess.run(
            [
                sys.executable,
                "-m",
                "tensorix_cli",
                "search",
                "--base-url",
                simulator.base_url,
                "--out",
                str(out),
                *options,
            ],
            env=os.environ | {"TENSORIX_API_KEY": _KEY},
            capture_output=True,
            text=True,
            check=False,
        )
        took = time.monotonic() - began
        if not (out / "capacity.json").exists():
            raise SystemExit(f"a search failed: {ran.stdout}{ran.stderr}")
        return json.loads((out / "capacity.json").read_text()), took


def knee_run(name: str, run: int) -> tuple[dict[str, Any], float]:
    """One search of a preset; its schedules and its server's noise by the number of the run."""
    server = SERVERS[name]
    replies = f"lognormal({server.reply_median}, {server.reply_sigma})"
    changed: dict[str, Any] = {"reply_tokens": replies, "reasoning_tokens": "0", "default_max_tokens": _MAX_TOKENS}
    with Simulator(presets=[name], rpm=None, tpm=None, seed=run, **changed) as simulator:
        options = ["--slo", server.objective, "--from", str(server.first), "--step", "5s", "--step-most", "60s"]
        return searched([*options, "--max-tokens", str(_MAX_TOKENS), "--seed", str(1000 * run)], simulator)


def knees(names: list[str], runs: int, jobs: int, requests: int) -> bool:
    """The table of knees; whether each preset has what is asked."""
    print("| preset | objective | reference, /s | found, /s | within 10 % | steps | a search, s |")
    print("| --- | --- | ---: | --- | ---: | ---: | ---: |", flush=True)
    good = True
    with ThreadPoolExecutor(jobs) as pool:
        pending = {name: [pool.submit(knee_run, name, run) for run in range(runs)] for name in names}
        for name, futures in pending.items():
            server = SERVERS[name]
            knee = reference(server, requests)
            results = [future.result() for future in futures]
            best = [found["best"] if found["found"] == "knee" else None for found, _ in results]
            near = sum(one is not None and abs(one / knee - 1) <= 0.1 for one in best)
            good &= near >= 0.9 * runs
            told = ", ".join("none" if one is None else f"{one:.3g}" for one in best)
            steps = sum(len(found["steps"]) for found, _ in results) / len(results)
            took = sum(seconds for _, seconds in results) / len(results)
            cells = (name, server.objective, f"{knee:.3g}", told, f"{near} of {runs}", f"{steps:.1f}", f"{took:.0f}")
            print(f"| {' | '.join(cells)} |", flush=True)
            for (found, _), one in zip(results, best, strict=True):
                if one is None:
                    print(f"  {name}: {found['headline']}: {found['why']}", flush=True)
    return good


LIMITS = (
    # requests, window in s, kind of limiter, first rate
    (60, 6.0, "fixed_window", 5.0),
    (600, 6.0, "fixed_window", 40.0),
    (6_000, 20.0, "fixed_window", 150.0),
    (60, 6.0, "clock_window", 5.0),
    (600, 6.0, "sliding_log", 40.0),
    (600, 6.0, "token_bucket", 40.0),
    (600, 6.0, "sliding_counter", 40.0),
)


def limits() -> bool:
    """The table of limits; whether each is within 2 %."""
    print("\n| limit | limiter | found | off by | of | how |")
    print("| --- | --- | --- | ---: | --- | --- |", flush=True)
    good = True
    for requests, window_s, limiter, first in LIMITS:
        with Simulator(
            rpm=requests, tpm=None, window_s=window_s, limiter=limiter, ttft="3ms", between_tokens="1ms"
        ) as simulator:
            options = [
                "--slo",
                "e2e_p50 < 1s",
                "--from",
                str(first),
                "--step",
                "3s",
                "--no-stream",
                "--max-tokens",
                "2",
            ]
            found, _ = searched([*options, "--limit-window", f"{window_s:g}s"], simulator)
        limit = found["limit"]
        if limit is None:
            print(
                f"| {requests} in {window_s:g} s | {limiter} | {found['headline']}: {found['why']} | | | |", flush=True
            )
            good = False
            continue
        off = limit["amount"] / requests - 1
        good &= abs(off) <= 0.02 and limit["what"] == "requests"
        cells = (
            f"{requests:,} in {window_s:g} s",
            limiter,
            f"{limit['amount']:,.1f}",
            f"{off:+.2%}",
            limit["what"],
            limit["how"],
        )
        print(f"| {' | '.join(cells)} |", flush=True)
    return good


def main() -> int:
    """The program; returns its exit status."""
    parser = argparse.ArgumentParser(description="How near searches come to knees and limits that are known.")
    parser.add_argument("--runs", type=int, default=10, help="searches a preset")
    parser.add_argument("--jobs", type=int, default=3, help="searches at once")
    parser.add_argument("--requests", type=int, default=100_000, help="of the reference's simulation")
    parser.add_argument("--only", choices=[*SERVERS, "limits", "reference"], help="one part of it")
    options = parser.parse_args()
    if options.only == "reference":
        for name, server in SERVERS.items():
            print(f"{name}: {reference(server, options.requests):.4g}/s", flush=True)
        return 0
    good = True
    if options.only != "limits":
        good &= knees([options.only] if options.only else list(SERVERS), options.runs, options.jobs, options.requests)
    if options.only in (None, "limits"):
        good &= limits()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
