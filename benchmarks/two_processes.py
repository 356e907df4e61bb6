"""What do two processes carry that are each held to a part of a core, against one that is held so?

    python benchmarks/two_processes.py [--share 0.4] [--seconds 12] [--users 60] [--rounds 3]

Each process that sends is put into a control group that gives it `--share` of a core (as root; cgroup v1 or v2); the
simulator, and the master of the two, are not held. Users ask without a pause for short streams, more of them than the
process can serve, so that it is the processor that bounds the requests a second. "One" is the engine by itself and, to
tell what the master costs, the engine with one worker.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from tensorix_records import Run
from tensorix_simulator import Simulator

_PERIOD_US = 10_000
_V1 = Path("/sys/fs/cgroup/cpu")
_V2 = Path("/sys/fs/cgroup")
# Until all users are there and caches are warm; it is left out.
_WARM_S = 3.0


@contextlib.contextmanager
def held(share: float) -> Iterator[Path]:
    """A control group whose processes together get this share of a core, before whatever else runs here."""
    first = (_V1 / "cpu.cfs_quota_us").exists() or (_V1 / "cpu.shares").exists()
    group = (_V1 if first else _V2) / f"tensorix-{os.getpid()}-{time.monotonic_ns()}"
    if not first:
        with contextlib.suppress(OSError):
            (_V2 / "cgroup.subtree_control").write_text("+cpu", encoding="ascii")
    group.mkdir()
    try:
        quota = round(share * _PERIOD_US)
        if first:
            (group / "cpu.cfs_period_us").write_text(str(_PERIOD_US), encoding="ascii")
            (group / "cpu.cfs_quota_us").write_text(str(quota), encoding="ascii")
            (group / "cpu.shares").write_text("262144", encoding="ascii")
        else:
            (group / "cpu.max").write_text(f"{quota} {_PERIOD_US}", encoding="ascii")
            (group / "cpu.weight").write_text("10000", encoding="ascii")
        yield group
    finally:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                group.rmdir()
                break
            except OSError:
                time.sleep(0.1)  # a process in it is ending


def carried(base_url: str, processes: int, share: float, seconds: float, users: int) -> tuple[float, float]:
    """Requests a second that ended, and the share of a core that the processes really used, each on average."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        out = Path(folder) / "run"
        plan = {
            "base_url": base_url,
            "users": users * max(1, processes),
            "spawn_rate": 100.0,
            "duration_s": seconds + _WARM_S,
            "max_tokens": 8,
            "machines": {"processes": processes},
        }
        environment = {name: value for name, value in os.environ.items() if name != "LOCUST_SKIP_MONKEY_PATCH"}
        engine = subprocess.Popen(
            [sys.executable, "-P", "-m", "tensorix_loadtests", "--out", str(out)],
            stdin=subprocess.PIPE,
            env=environment | {"TENSORIX_API_KEY": "sk-of-a-benchmark"},
        )
        assert engine.stdin is not None
        engine.stdin.write(json.dumps(plan).encode())
        engine.stdin.close()
        while not out.exists():
            if engine.poll() is not None:
                raise SystemExit("the engine ended before the run began")
            time.sleep(0.02)
        senders = [one.pid for one in psutil.Process(engine.pid).children()] if processes else [engine.pid]
        for pid in senders:
            group = stack.enter_context(held(share))
            (group / "cgroup.procs").write_text(str(pid), encoding="ascii")
        engine.wait()
        run = Run.open(out)
        start = run.manifest["started_unix_ns"] + _WARM_S * 1e9
        rows = run.records(["start_unix_ns", "end_at_ns", "outcome"]).to_pylist()
        ended = [row["start_unix_ns"] + row["end_at_ns"] for row in rows if row["outcome"] == "success"]
        inside = sum(1 for at in ended if start <= at < start + seconds * 1e9)
        kind = "worker_second" if processes else "second"
        used = [
            event["cpu_share"]
            for event in run.events()
            if event["kind"] == kind and "cpu_share" in event and start <= event["t_unix_ns"] < start + seconds * 1e9
        ]
        return inside / seconds, statistics.fmean(used) if used else 0.0


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=0.4)
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--users", type=int, default=60, help="a process")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    names = {0: "one, by itself", 1: "one worker", 2: "two workers"}
    print("| round | " + " | ".join(f"{name}: requests/s | core" for name in names.values()) + " | two / one |")
    print("| --- " * (2 + 2 * len(names)) + "|")
    ratios = []
    with Simulator(rpm=None, tpm=None, ttft="10ms", between_tokens="5ms") as simulator:
        for number in range(options.rounds):
            found = {
                count: carried(simulator.base_url, count, options.share, options.seconds, options.users)
                for count in names
            }
            ratios.append(found[2][0] / found[0][0])
            cells = " | ".join(f"{rate:.0f} | {used:.2f}" for rate, used in found.values())
            print(f"| {number + 1} | {cells} | {ratios[-1]:.2f} |", flush=True)
    print(f"\ntwo carry {statistics.median(ratios):.2f} times one (median of {len(ratios)})")


if __name__ == "__main__":
    main()
