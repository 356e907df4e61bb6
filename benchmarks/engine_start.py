"""How long until the engine of a load test sends its first request, and how much memory does it have by then?

    python benchmarks/engine_start.py [--rounds 10]

From exec to the arrival of the first request (the list of models, with which a run begins) at the simulator, by the
kernel's stamp, and the resident memory a moment after the first completion was asked for; medians, and the range. The
goals are 1 s and 130 MB. Ends with 1 where a median misses one.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from tensorix_simulator import Simulator

_GOAL_S = 1.0
_GOAL_MB = 130.0


def start(simulator: Simulator, folder: Path) -> tuple[float, float, float]:
    """Seconds to the first request and to the first completion's, and resident MB just after it."""
    plan = {"base_url": simulator.base_url, "users": 1, "requests": 3, "max_tokens": 50}
    environment = {name: value for name, value in os.environ.items() if name != "LOCUST_SKIP_MONKEY_PATCH"}
    seen = len(simulator.truth())
    begin = time.monotonic_ns()
    engine = subprocess.Popen(
        [sys.executable, "-P", "-m", "tensorix_loadtests", "--out", str(folder / "run")],
        stdin=subprocess.PIPE,
        env=environment | {"TENSORIX_API_KEY": "sk-of-a-benchmark"},
    )
    assert engine.stdin is not None
    engine.stdin.write(json.dumps(plan).encode())
    engine.stdin.close()
    resident, arrivals = 0.0, []
    while engine.poll() is None:
        arrivals = [line for line in simulator.truth()[seen:] if line["event"] == "arrival"]
        if not resident and any(line["path"].endswith("/chat/completions") for line in arrivals):
            resident = psutil.Process(engine.pid).memory_info().rss / 1e6
        time.sleep(0.02)
    if engine.returncode:
        raise SystemExit(f"the engine ended with status {engine.returncode}")
    arrivals = [line for line in simulator.truth()[seen:] if line["event"] == "arrival"]
    asked = next(line for line in arrivals if line["path"].endswith("/chat/completions"))
    return (arrivals[0]["arrival_ns"] - begin) / 1e9, (asked["arrival_ns"] - begin) / 1e9, resident


def main() -> None:
    """Print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    asked = parser.parse_args()
    found = []
    with Simulator(rpm=None, tpm=None, ttft="20ms", between_tokens="10ms") as simulator:
        for _ in range(asked.rounds):
            with tempfile.TemporaryDirectory() as folder:
                found.append(start(simulator, Path(folder)))
    columns = [sorted(column) for column in zip(*found, strict=True)]
    print("| | median | least | most | goal |\n| --- | --- | --- | --- | --- |")
    for name, column, goal in zip(
        ("first request, s", "first completion, s", "resident, MB"), columns, (_GOAL_S, None, _GOAL_MB), strict=True
    ):
        cells = " | ".join(f"{value:.2f}" for value in (statistics.median(column), column[0], column[-1]))
        print(f"| {name} | {cells} | {'' if goal is None else f'{goal:g}'} |")
    missed = statistics.median(columns[0]) > _GOAL_S or statistics.median(columns[2]) > _GOAL_MB
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
