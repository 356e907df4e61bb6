"""How much processor time does tracing add, to a call and to a chunk, beside genai-openai and beside none?

    python benchmarks/tracing_cost.py [--rounds 60] [--json FILE] [--usage]

One process, one thread; the openai SDK over a transport that answers in the process (no network and its noise), with
chunks of 200 to 300 bytes, each of another text, and with rate-limit headers. In each round, in random order, come
blocks of:

    bare          a client that nobody traces
    ours          tensorix_tracing; recorded (BatchSpanProcessor, an exporter that drops, a meter with a reader)
    ours, off     the same, not sampled (ALWAYS_OFF; metrics are still recorded)
    genai         opentelemetry-instrumentation-genai-openai, recorded; taken out after each block
    genai, off    the same, not sampled

A block is calls of 2 chunks ("a call"), of 102 (a hundredth of what they take longer is "a chunk") or calls that are
not streamed. The collector runs before a block and not within. Every call is timed by itself, and what counts is the
10 % quantile of all calls of a kind: what else the machine does can only add. In µs of processor time, less the bare
client's, with a 95 % interval (bootstrap over rounds):

    thread        of the calling thread: what the caller waits for
    all           besides, the median of what other threads took until the spans were flushed; and of what a collection
                  of metrics took longer than one with nothing new, after as many calls as a busy service makes from one
                  to the next. So work that is put off counts as well

Exit status 1 where the goal is missed (0.4 of genai's, 0.2 not sampled), or where somebody did not tell of every call.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tracing_cost_calls import COLLECT_EVERY, SHAPES, Block, Kind, complaints, has_peer, play, variants

ROOT: Final = Path(__file__).parents[1]
PEER: Final = ROOT / ".peers" / "tracing-genai-openai"
GOALS: Final = {"": 0.4, ", off": 0.2}
TIMERS: Final = ("thread", "all")
FIGURES: Final = ("a call", "a chunk", "not streamed")
_DRAWS = 400


def added(taken: list[dict[Kind, Block]], names: Sequence[str]) -> dict[tuple[str, str, str], float]:
    """µs by timer, figure and variant: bare as it is, the others beyond it; `share` of a variant of ours as well."""
    low = {kind: quantile([us for blocks in taken for us in blocks[kind].calls], 0.1) for kind in taken[0]}
    beyond = {}
    for kind in taken[0]:
        put_off = [us for blocks in taken if (us := blocks[kind].put_off) is not None]
        beyond[kind] = statistics.median(blocks[kind].elsewhere for blocks in taken) + statistics.median(put_off)
    found: dict[tuple[str, str, str], float] = {}
    for timer in TIMERS:
        for name in names:
            short, long, whole = (
                low[name, shape] + (beyond[name, shape] if timer == "all" else 0.0) for shape in SHAPES
            )
            a_chunk = (long - short) / (SHAPES["long"][0] - SHAPES["short"][0])
            for figure, us in zip(FIGURES, (short, a_chunk, whole), strict=True):
                found[timer, figure, name] = us - found.get((timer, figure, "bare"), 0.0)
        for suffix in GOALS:
            if f"genai{suffix}" in names:
                for figure in FIGURES:
                    theirs = found[timer, figure, f"genai{suffix}"]
                    found[timer, figure, f"share{suffix}"] = found[timer, figure, f"ours{suffix}"] / theirs
    return found


def quantile(values: list[float], share: float) -> float:
    """The value that so large a share of them lies below."""
    return sorted(values)[int(share * (len(values) - 1))]


def summary(taken: list[dict[Kind, Block]], names: Sequence[str], seed: int) -> list[dict[str, Any]]:
    """One row a timer, figure and variant (or share), with the interval and, for shares, the goal."""
    order = random.Random(seed)
    collected, others = taken[::COLLECT_EVERY], [one for k, one in enumerate(taken) if k % COLLECT_EVERY]
    drawn = [
        added(order.choices(collected, k=len(collected)) + order.choices(others or collected, k=len(others)), names)
        for _ in range(_DRAWS)
    ]
    rows = []
    for (timer, figure, name), value in added(taken, names).items():
        values = [one[timer, figure, name] for one in drawn]
        row = {"timer": timer, "figure": figure, "of": name, "value": value}
        row |= {"low": quantile(values, 0.025), "high": quantile(values, 0.975)}
        if name.startswith("share"):
            row["goal"] = GOALS[name.removeprefix("share")]
        rows.append(row)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """As Markdown."""
    lines = [
        "| timer | of | bare µs | recorded: ours | genai-openai | share | not sampled: ours | genai-openai | share |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    found = {(row["timer"], row["figure"], row["of"]): row for row in rows}
    for timer in TIMERS:
        for figure in FIGURES:
            cells = [f"{found[timer, figure, 'bare']['value']:.1f}"]
            for suffix in GOALS:
                for name, form in (("ours", ".1f"), ("genai", ".1f"), ("share", ".2f")):
                    row = found.get((timer, figure, name + suffix))
                    if row is None:
                        cells.append("not installed")
                        continue
                    text = f"{row['value']:{form}} ({row['low']:{form}} to {row['high']:{form}})"
                    cells.append(text + (" above the goal" if row["value"] > row.get("goal", row["value"]) else ""))
            lines.append(f"| {timer} | {figure} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> int:
    """Measure, in the peer's environment where there is one."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--usage", action="store_true", help="ask for the usage of streams, which records tokens")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to a file")
    asked = parser.parse_args()
    peer = PEER / "bin" / "python"
    if not has_peer() and peer.exists():
        rooms = os.pathsep.join(str(ROOT / room) for room in ("api", "tracing"))
        return subprocess.run([peer, *sys.argv], env={**os.environ, "PYTHONPATH": rooms}, check=False).returncode
    if not has_peer():
        print("genai-openai is not installed: `make bench-peers`")
    load = os.getloadavg()[0]
    found = variants(usage=asked.usage)
    taken = play(found, asked.rounds, asked.seed)
    untold = complaints(found)
    for text in untold:
        print(text)
    if not taken:
        return 1
    rows = summary(taken, list(found), asked.seed)
    print(table(rows))
    print(f"\n{asked.rounds} rounds; load of the machine {load:.1f} before, {os.getloadavg()[0]:.1f} after,", end=" ")
    print(f"{os.cpu_count()} processors")
    if asked.json:
        asked.json.write_text(
            json.dumps({"rounds": asked.rounds, "load": load, "rows": rows}, indent=1), encoding="utf-8"
        )
    missed = [row for row in rows if row["value"] > row.get("goal", row["value"])]
    return 1 if missed or untold else 0


if __name__ == "__main__":
    sys.exit(main())
