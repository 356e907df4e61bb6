"""Does a load test's memory stay flat? A real `tensorix load` in open loop, for half an hour.

    python benchmarks/load_soak.py [--minutes 30] [--rate 200]

The command runs as a user runs it, in a terminal of its own (so that its view is drawn), against the simulator without
limits. Each five seconds the resident memory of its two processes is read: of the engine, which sends and writes, and
of the view. The mean of the last minute of sending is to be within a tenth of that of the sixth minute (of a shorter
run: of its last and its second sixth). Prints a table of the minutes, and ends with 1 where it is not. The page of the
report is left out: it is made when all is over, and has a measurement of its own.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pyarrow.compute as pc

from tensorix_records import Run
from tensorix_simulator import Simulator

_LOOK_S = 5.0
_ALLOWED = 0.1
_MIB = 1 << 20


def soak(rate: float, minutes: float, folder: Path) -> tuple[list[dict[str, float]], Run]:
    """What was seen at each look (seconds since the first request, MiB), and the run."""
    out, seen, begin = folder / "run", [], 0.0
    with Simulator(rpm=None, tpm=None, ttft="50ms", between_tokens="10ms") as simulator:
        command = [sys.executable, "-P", "-m", "tensorix_cli", "load", "--base-url", simulator.base_url, "--no-report"]
        command += ["--rate", f"{rate:g}", "--duration", f"{minutes * 60:g}s", "--max-tokens", "8", "--out", str(out)]
        view = in_terminal(command)
        while view.poll() is None:
            time.sleep(_LOOK_S)
            if not begin and (out / "manifest.json").exists():
                begin = time.monotonic()
            look = {"t_s": time.monotonic() - begin, "simulator": resident(psutil.Process(simulator.pid))}
            try:
                process = psutil.Process(view.pid)
                engines = [one for one in process.children() if "tensorix_loadtests" in one.cmdline()]
                if begin and engines:
                    seen.append(look | {"view": resident(process), "engine": resident(engines[0])})
            except psutil.NoSuchProcess:
                break
        if view.wait():
            raise SystemExit(f"tensorix load ended with status {view.returncode}")
    return seen, Run.open(out)


def in_terminal(command: list[str]) -> subprocess.Popen[bytes]:
    """Start a command in a terminal that nobody looks at."""
    ours, its = os.openpty()
    environment = {name: value for name, value in os.environ.items() if name != "LOCUST_SKIP_MONKEY_PATCH"}
    environment |= {"TENSORIX_API_KEY": "sk-of-a-benchmark", "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40"}
    process = subprocess.Popen(
        command, stdin=its, stdout=its, stderr=its, env=environment, start_new_session=True, cwd=Path(__file__).parent
    )
    os.close(its)
    threading.Thread(target=drain, args=(ours,), daemon=True).start()
    return process


def drain(terminal: int) -> None:
    """Read what is drawn, until the last process that draws has ended."""
    try:
        while os.read(terminal, 1 << 16):
            pass
    except OSError:
        os.close(terminal)


def resident(process: psutil.Process) -> float:
    """Resident memory in MiB."""
    return float(process.memory_info().rss) / _MIB


def mean(seen: list[dict[str, float]], name: str, start_s: float, end_s: float) -> float:
    """The mean of what was seen in a span."""
    return statistics.fmean(look[name] for look in seen if start_s <= look["t_s"] < end_s)


def main() -> None:
    """Run it, print what was seen, and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=200.0, help="requests a second")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seen, run = soak(asked.rate, asked.minutes, Path(folder))
        table: Any = run.records(["outcome", "schedule_index"])
        table = table.filter(pc.call_function("is_valid", [table.column("schedule_index")]))
        ended = {one["values"]: one["counts"] for one in table.column("outcome").value_counts().to_pylist()}
        sent = pc.call_function("count_distinct", [table.column("schedule_index")]).as_py()
        reason = run.manifest["end_reason"]
        words = [event["words"] for event in run.manifest["saturated"]]
    whole_s = asked.minutes * 60
    span_s = min(60.0, whole_s / 6)
    print("| minute | engine MiB | view MiB | simulator MiB |\n| --- | --- | --- | --- |")
    for minute in range(max(1, round(asked.minutes))):
        if any(minute * 60 <= look["t_s"] < minute * 60 + 60 for look in seen):
            cells = (
                f"{mean(seen, name, minute * 60, minute * 60 + 60):.1f}" for name in ("engine", "view", "simulator")
            )
            print(f"| {minute + 1} | {' | '.join(cells)} |")
    print(f"\n{sent} requests sent, ended as {ended}; the run ended by {reason}", *words, sep="\n")
    early_s = min(300.0, whole_s / 6)
    grown = False
    for name in ("engine", "view"):
        early = mean(seen, name, early_s, early_s + span_s)
        late = mean(seen, name, whole_s - span_s, whole_s)
        most = max(look[name] for look in seen)
        grown = grown or abs(late / early - 1) > _ALLOWED
        print(
            f"{name}: {early:.1f} MiB after {early_s:.0f} s, {late:.1f} MiB at the end ({late / early - 1:+.1%})",
            end="",
        )
        print(f", {most:.1f} MiB at the most, the files' packing at the end included")
    sys.exit(1 if grown else 0)


if __name__ == "__main__":
    main()
