"""How late does the simulator send, beside other mock servers on the same work?

    python benchmarks/server_lateness.py [--streams 1000] [--seconds 6] [--rounds 1] [--servers simulator,aimock]

One server process on one core, the load client (`drive_tensorix.py`) on another. Every stream brings 50 chunks a
second: the first 100 ms after its request, one each 20 ms from then on; starts are spread over two seconds. The same
is read of all servers, off the kernel's stamps at the client, in ms:

    streams finished  those that brought every chunk, of those that were asked for
    lateness          of each chunk, against the best absolute schedule of its own stream: 20 ms a chunk from an origin
                      that makes the earliest chunk on time. Time lost for good counts for all chunks that follow
    gap off           |gap - 20 ms| between two chunks: kind to a server that sleeps 20 ms after each send
    end late          the last chunk against request + 100 ms + 20 ms a further chunk: what the stream lost in all
    server CPU, client CPU
                      share of a core, from the first request to the last chunk, and the server's CPU time for each
                      chunk. Where the client is near 100 %, a read may bring two chunks, both stamped as the later
    kept waiting      share of that time in which the server could have run and something else had its core. Near 0 on a
                      quiet machine; where it is not, the times are the machine's rather than the server's
    own lateness      what the simulator itself logs (`lateness_ns`): behind its send, against when the chunk was due.
                      Peers keep no such log

A peer that is not installed is left out, and the row says so: `make bench-peers`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from cores import pin
from mock_servers import GAP_MS, SERVERS, TTFT_MS, missing

GOAL_MS = 5.0
_HEAD = (
    "| server | streams finished | lateness p50 | p99 | gap off p50 | p99 | end late p50 | p99 "
    "| server CPU | kept waiting | µs a chunk | client CPU | own lateness p50 | p99 |"
)
_LIMIT_S = 300


def measure(name: str, streams: int, seconds: float) -> dict[str, float]:
    """One server at one number of streams; times in ms. Raises RuntimeError where it does not start or answer."""
    tokens = int(seconds * 1000 / GAP_MS)
    with tempfile.TemporaryDirectory() as folder, SERVERS[name].serve(tokens, Path(folder), 0) as serving:
        asked: dict[str, Any] = {
            "base_url": serving.base_url,
            "streams": streams,
            "tokens": tokens,
            "spread_s": 2.0,
            "run": f"{folder}/run",
            "out": f"{folder}/seen.json",
            "server_pid": serving.pid,
        }
        script = Path(__file__).with_name("drive_tensorix.py")
        environment = {name: value for name, value in os.environ.items() if name != "LOCUST_SKIP_MONKEY_PATCH"}
        process = subprocess.Popen([sys.executable, str(script), json.dumps(asked)], env=environment)
        pin(process.pid, 1)
        try:
            status = process.wait(timeout=_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise RuntimeError(f"it was not done after {_LIMIT_S} s") from None
        if status:
            raise RuntimeError(f"the client ended with status {status}")
        seen = json.loads(Path(asked["out"]).read_text(encoding="utf-8"))
        truth = serving.truth() if serving.truth else []
    return seen_figures(seen, tokens) | own_figures(truth)


def seen_figures(seen: dict[str, Any], tokens: int) -> dict[str, float]:
    """What the client saw of every stream that finished."""
    whole = [
        request
        for request in seen["requests"].values()
        if request["outcome"] == "success" and len(request["chunk_ns"]) == tokens
    ]
    wall_s = seen["wall_ns"] / 1e9
    used = {"server": seen["server_cpu_s"], "waited": seen["server_waited_s"], "client": seen["cpu_ns"] / 1e9}
    shares = {name: seconds / wall_s for name, seconds in used.items()}
    figures = {"finished": float(len(whole)), **shares}
    if chunks := sum(len(request["chunk_ns"]) for request in seen["requests"].values()):
        figures["cpu_us"] = seen["server_cpu_s"] / chunks * 1e6
    if not whole:
        return figures
    arrived = np.array([request["chunk_ns"] for request in whole]) / 1e6
    asked = np.array([request["sent_ns"] for request in whole]) / 1e6
    beyond = arrived - GAP_MS * np.arange(tokens)
    return figures | {
        **_percentiles("late", beyond - beyond.min(axis=1, keepdims=True)),
        **_percentiles("gap", np.abs(np.diff(arrived, axis=1) - GAP_MS)),
        **_percentiles("end", beyond[:, -1] - asked - TTFT_MS),
    }


def own_figures(truth: list[dict[str, Any]]) -> dict[str, float]:
    """What the simulator's own log says; nothing of a peer."""
    late = np.array([stamp for line in truth if line["event"] == "end" for stamp in line.get("lateness_ns", ())]) / 1e6
    return _percentiles("own", late) if len(late) else {}


def _percentiles(name: str, values: Any) -> dict[str, float]:
    return {f"{name}_p{at}": float(np.percentile(values, at)) for at in (50, 99)}


def _row(name: str, streams: int, row: dict[str, float]) -> str:
    times = [f"{name}_p{at}" for name in ("late", "gap", "end") for at in (50, 99)]
    cells = [f"{row['finished']:.0f} of {streams}", *(f"{row[time]:.2f}" if time in row else "" for time in times)]
    cells += [f"{row['server']:.0%}", f"{row['waited']:.1%}"]
    cells += [f"{row['cpu_us']:.1f}" if "cpu_us" in row else "", f"{row['client']:.0%}"]
    cells += [f"{row[time]:.2f}" if time in row else "not logged" for time in ("own_p50", "own_p99")]
    return f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    """Print the table, one row a server."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=1000, help="at once (default: 1000)")
    parser.add_argument("--seconds", type=float, default=6.0, help="length of each stream (default: 6)")
    parser.add_argument("--rounds", type=int, default=1, help="rounds to take the median of (default: 1)")
    parser.add_argument("--servers", default=",".join(SERVERS), help=f"of {', '.join(SERVERS)} (default: all)")
    options = parser.parse_args()
    names = [name.strip() for name in options.servers.split(",")]
    if unknown := [name for name in names if name not in SERVERS]:
        parser.error(f"no server {unknown[0]!r}: one of {', '.join(SERVERS)}")
    absent = {name: "not installed: `make bench-peers`" for name in names if missing(name)}
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in names if name not in absent}
    # Servers take turns, so that a machine whose speed drifts is the same to all of them.
    for _ in range(options.rounds):
        for name in [name for name in rounds if name not in absent]:
            try:
                rounds[name].append(measure(name, options.streams, options.seconds))
            except RuntimeError as error:
                if name == "simulator":
                    raise SystemExit(f"simulator: {error}") from None
                absent[name] = str(error)
    goals: list[str] = []
    print(_HEAD)
    print("| --- |" + " --- |" * (_HEAD.count("|") - 2))
    for name in names:
        if name in absent:
            print(f"| {name} | {absent[name]} |" + " |" * (_HEAD.count("|") - 3))
            continue
        shared = set.intersection(*(set(row) for row in rounds[name]))
        row = {figure: float(np.median([one[figure] for one in rounds[name]])) for figure in shared}
        print(_row(name, options.streams, row))
        if "own_p99" in row:
            verdict = "kept" if row["own_p99"] <= GOAL_MS else "missed"
            goals.append(
                f"{name}: {options.streams} streams of {1000 // GAP_MS} chunks a second, own lateness p99 "
                f"{row['own_p99']:.2f} ms; goal at most {GOAL_MS:g} ms: {verdict}"
            )
    print("\n".join(["", *goals]) if goals else "")


if __name__ == "__main__":
    main()
