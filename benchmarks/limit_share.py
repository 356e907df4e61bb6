"""How much of a limit does a run use that stays within 95 % of it, and how often is it refused? On real sockets.

    python benchmarks/limit_share.py [--window 5] [--windows 5] [--at-once 6] [--only TEXT] [--tokens]

For every kind of limiter, header mode and lie of the simulator, streamed and not: an engine of its own with eight
users, bound by 60 requests a window, or with `--tokens` by tokens, in every way of charging that the simulator has.
Counted by the simulator's truth: the requests that it let pass (the tokens of those that ended) from the first on, as a
share of what the limit allows in the time, and its 429s. A row that has less than 90 % or more than one 429 is marked.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tensorix_loadtests.plan import CHAT_STREAMED, CHAT_UNSTREAMED, DEFAULT_PROMPT, Limits, LoadPlan, Spending
from tensorix_simulator import Simulator

SHARE = 0.95
REQUESTS = 60
TOKENS = 6000
PROMPT = "Which of these words is the odd one out, and why? " * 8
KINDS: dict[str, dict[str, Any]] = {
    "fixed_window": {},
    "clock_window": {},
    "sliding_log": {},
    "sliding_counter": {},
    "token_bucket": {},
    "token_bucket, burst 1": {"limiter": "token_bucket", "burst": 1, "burst_tokens": 600},
    "token_bucket, burst 5": {"limiter": "token_bucket", "burst": 5, "burst_tokens": 2000},
    "gateway_window": {},
}
HEADERS: dict[str, dict[str, Any]] = {
    "documented": {},
    "openai": {"headers": "openai"},
    "litellm": {"headers": "litellm", "style": "litellm"},
    "none": {"headers": "none"},
    "late": {"header_lie": "late"},
    "negative": {"header_lie": "negative"},
    "stuck": {"header_lie": "stuck"},
}


@dataclass(frozen=True, slots=True)
class Case:
    """One run."""

    kind: str
    headers: str
    streamed: bool
    charging: str = "actual"
    tokens: bool = False
    more: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Its row."""
        way = "streamed" if self.streamed else "whole"
        return f"{self.kind} | {', '.join((self.headers, *self.more))} | {way} | {self.charging}"


def cases(tokens: bool) -> Iterator[Case]:
    """Every combination."""
    for kind, headers, streamed in itertools.product(KINDS, HEADERS, (True, False)):
        if not tokens:
            yield Case(kind, headers, streamed)
        elif headers in ("documented", "none"):
            for charging in ("actual", "reserve", "prompt"):
                yield Case(kind, headers, streamed, charging, tokens=True)
    if not tokens:
        for more in ("14 requests/1s", "8 requests/1s", "4 in flight"):
            yield Case("fixed_window", "documented", True, more=(more,))
            yield Case("fixed_window", "none", True, more=(more,))


def play(case: Case, window_s: float, windows: int) -> tuple[float, int, list[str]]:
    """The share of the limit that was used, the 429s, and what the run said about the limits."""
    settings: dict[str, Any] = {"limiter": case.kind} | KINDS[case.kind] | HEADERS[case.headers]
    rpm, tpm = (300, TOKENS) if case.tokens else (REQUESTS, 2_000_000)
    with (
        tempfile.TemporaryDirectory() as folder,
        Simulator(
            rpm=rpm, tpm=tpm, window_s=window_s, charging=case.charging, more_limits=list(case.more), ttft="80ms",
            between_tokens="2ms", reply_tokens="uniform(20, 100)", **settings,
        ) as sim,
    ):  # fmt: skip
        plan = LoadPlan(
            base_url=sim.base_url,
            users=16 if case.tokens else 8,
            spawn_rate=100,
            duration_s=window_s * windows,
            max_tokens=100,
            prompts=(PROMPT if case.tokens else DEFAULT_PROMPT,),
            mix={CHAT_STREAMED if case.streamed else CHAT_UNSTREAMED: 1.0},
            limits=Limits(requests=rpm, tokens=tpm, window_s=window_s, told=("requests", "tokens", "window_s")),
            spending=Spending(limit_share=SHARE),
        )
        run = Path(folder) / "run"
        environment = {name: value for name, value in os.environ.items() if name != "LOCUST_SKIP_MONKEY_PATCH"}
        done = subprocess.run(
            [sys.executable, "-m", "tensorix_loadtests", "--out", str(run)],
            input=json.dumps(plan.to_dict()), env=environment | {"TENSORIX_API_KEY": "sk-any"}, text=True,
            capture_output=True, timeout=window_s * windows + 120, check=False,
        )  # fmt: skip
        if done.returncode:
            return 0.0, -1, [done.stderr]
        words = [
            word
            for path in run.glob("events*.jsonl")
            for line in path.read_text(encoding="utf-8").splitlines()
            if (event := json.loads(line)).get("kind", event.get("event")) == "pace"
            for word in ([event["words"]] if isinstance(event["words"], str) else event["words"])
        ]
        truth = [line for line in sim.truth() if line.get("path", "/chat/completions").endswith("/chat/completions")]
    return (*figures(case, truth, rpm, tpm, window_s, windows), words)


def figures(
    case: Case, truth: list[dict[str, Any]], rpm: int, tpm: int, window_s: float, windows: int
) -> tuple[float, int]:
    """Used and refused, from the first request for as long as the run was to last."""
    arrivals = [line for line in truth if line["event"] == "arrival"]
    refused = sum(1 for line in arrivals if line["status"] == 429)
    until_ns = arrivals[0]["arrival_ns"] + round(window_s * windows * 1e9)
    passed = {line["n"]: line for line in arrivals if line["decision"] == "admitted" and line["arrival_ns"] < until_ns}
    if not case.tokens:
        limit = rpm * windows
        for text in case.more:
            if text.endswith("/1s"):
                limit = min(limit, round(int(text.split()[0]) * window_s * windows))
        return len(passed) / limit, refused
    ends = [line for line in truth if line["event"] == "end" and line["n"] in passed]
    # Where the headers show that answers are free, only prompts use the limit.
    free = case.charging == "prompt" and case.headers == "documented"
    used = sum(line["prompt_tokens"] + (0 if free else line["completion_tokens"]) for line in ends)
    return used / (tpm * windows), refused


def main() -> None:
    """Play them, some at once."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--window", type=float, default=5.0)
    parser.add_argument("--windows", type=int, default=5)
    parser.add_argument("--at-once", type=int, default=6)
    parser.add_argument("--only", default="")
    parser.add_argument("--tokens", action="store_true")
    options = parser.parse_args()
    wanted = [case for case in cases(options.tokens) if all(part in case.name for part in options.only.split("+"))]
    print("| limiter | headers | way | charged | used | 429s | said |\n| --- | --- | --- | --- | --- | --- | --- |")
    worst = 1.0
    short = 0
    with ThreadPoolExecutor(options.at_once) as pool:
        results = pool.map(lambda case: play(case, options.window, options.windows), wanted)
        for case, (used, refused, words) in zip(wanted, results, strict=True):
            missed = used < 0.9 or not 0 <= refused <= 1
            short += missed
            worst = min(worst, used)
            mark = " **" if missed else ""
            print(f"| {case.name} | {used:.3f}{mark} | {refused}{mark} | {'; '.join(words)[:300]} |", flush=True)
    print(f"\n{len(wanted)} runs, {short} of them below 90 % or with more than one 429; least used {worst:.3f}")


if __name__ == "__main__":
    main()
