"""How true are the load client's figures? Its stamps against the server's, beside Locust's FastHttpUser.

    python benchmarks/client_truth.py [--streams 100,500,1000] [--seconds 6] [--rounds 1] [--tls] [--rate 50]

The simulator runs on one core, the client on another. Every stream brings 50 chunks a second (`--rate`); starts are
spread over two seconds, so that the streams are not in step. Both ends stamp with one monotonic clock:

    TTFT error = (client: first token - request sent) - (server: first token's send had returned - request had arrived)
    chunk lag  = client's stamp of a chunk - server's stamp after its send

Absolute values, in ms. The request's arrival is the kernel's own stamp where the server has one; with the stamp of the
server's read (printed as "by its read") the server's own delay in reading is counted against the client. "server late"
is how late the server sent its chunks against their due times: where it is large, the server was the bottleneck.
With `--tls` all goes through TLS, the certificate verified, by our client alone; the server's stamps are still taken
when the kernel has the sealed bytes.
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

from cores import cpu_s, pin
from tensorix_simulator import Simulator

CLIENTS = {
    "tensorix ChatUser": ("drive_tensorix.py", {}),
    "FastHttpUser, readline": ("drive_fasthttp.py", {"read": "readline"}),
    "FastHttpUser, iter_lines": ("drive_fasthttp.py", {"read": "iter_lines"}),
}
CHUNKS_A_SECOND = 50
HEAD = (
    "| client | streams | TTFT error p50 | p99 | by its read p50 | p99 | chunk lag p50 | p99 | µs CPU a chunk | ratio "
    "| server late p50 | p99 | server CPU |"
)


def measure(
    client: str, streams: int, seconds: float, *, rate: int = CHUNKS_A_SECOND, tls: bool = False
) -> dict[str, float]:
    """One client at one number of streams; times in ms."""
    script, extra = CLIENTS[client]
    with (
        tempfile.TemporaryDirectory() as folder,
        Simulator(
            rpm=None,
            tpm=None,
            ttft="lognormal(100ms, 0.3)",
            between_tokens=f"{1000 // rate}ms",
            tls="valid" if tls else None,
        ) as sim,
    ):
        pin(sim.pid, 0)
        asked: dict[str, Any] = {
            "base_url": sim.base_url,
            "model": sim.settings.models[0],
            "streams": streams,
            "tokens": int(seconds * rate),
            "spread_s": 2.0,
            "run": f"{folder}/run",
            "out": f"{folder}/seen.json",
            "ca_bundle": str(sim.ca_path) if tls else None,
            **extra,
        }
        environment = {name: value for name, value in os.environ.items() if name != "LOCUST_SKIP_MONKEY_PATCH"}
        before = cpu_s(sim.pid)
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name(script)), json.dumps(asked)], env=environment
        )
        pin(process.pid, 1)
        if process.wait(timeout=300):
            raise SystemExit(f"{client} ended with status {process.returncode}")
        seen = json.loads(Path(asked["out"]).read_text(encoding="utf-8"))
        server_cpu = (cpu_s(sim.pid) - before) / (seen["wall_ns"] / 1e9)
        truth = [line for line in sim.truth() if line.get("path", "").endswith("/chat/completions") or "ended" in line]
    return figures(seen, truth) | {"server_cpu": server_cpu}


def figures(seen: dict[str, Any], truth: list[dict[str, Any]]) -> dict[str, float]:
    """Compare a client's stamps with the server's."""
    arrivals = {line["request_id"]: line for line in truth if line["event"] == "arrival"}
    ends = {line["request_id"]: line for line in truth if line["event"] == "end"}
    errors, by_read, lags, late, chunks = [], [], [], [], 0
    for request_id, request in seen["requests"].items():
        if request["outcome"] != "success":
            raise SystemExit(f"request {request_id} ended as {request['outcome']}")
        arrival, end = arrivals[request_id], ends[request_id]
        ttft = request["first_token_ns"] - request["sent_ns"]
        errors.append(abs(ttft - (end["first_token_sent_ns"] - arrival["arrival_ns"])))
        by_read.append(abs(ttft - (end["first_token_sent_ns"] - arrival["arrival_read_ns"])))
        lags.append(np.abs(np.array(request["chunk_ns"]) - np.array(end["chunk_sent_ns"])))
        late += end["lateness_ns"]
        chunks += len(request["chunk_ns"])
    result = {"cpu_us": seen["cpu_ns"] / chunks / 1e3}
    for name, values in (("error", errors), ("read", by_read), ("lag", np.concatenate(lags)), ("late", late)):
        result |= {f"{name}_p50": float(np.percentile(values, 50)) / 1e6}
        result |= {f"{name}_p99": float(np.percentile(values, 99)) / 1e6}
    return result


def main() -> None:
    """Print the table, one row a client and number of streams."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", default="100,500,1000", help="numbers of streams (default: 100,500,1000)")
    parser.add_argument("--seconds", type=float, default=6.0, help="length of each stream (default: 6)")
    parser.add_argument("--rounds", type=int, default=1, help="rounds to take the median of (default: 1)")
    parser.add_argument("--rate", type=int, default=CHUNKS_A_SECOND, help="chunks a second of a stream (default: 50)")
    parser.add_argument("--tls", action="store_true", help="through TLS; our client alone")
    parser.add_argument("--clients", default=",".join(CLIENTS), help="which, by name")
    options = parser.parse_args()
    chosen = ["tensorix ChatUser"] if options.tls else [client for client in CLIENTS if client in options.clients]
    print(HEAD)
    print("| --- |" + " --- |" * (HEAD.count("|") - 2))
    for streams in map(int, options.streams.split(",")):
        rows: dict[str, dict[str, float]] = {}
        rounds: dict[str, list[dict[str, float]]] = {client: [] for client in chosen}
        # Clients take turns, so that a machine whose speed drifts is the same to all of them.
        for _ in range(options.rounds):
            for client, list_ in rounds.items():
                list_.append(measure(client, streams, options.seconds, rate=options.rate, tls=options.tls))
        for client, list_ in rounds.items():
            rows[client] = {name: float(np.median([row[name] for row in list_])) for name in list_[0]}
        peer = rows.get("FastHttpUser, readline")
        for client, row in rows.items():
            ratio = f"{row['cpu_us'] / peer['cpu_us']:.2f}" if peer else ""
            columns = [f"{row[f'{name}_{p}']:.3f}" for name in ("error", "read", "lag") for p in ("p50", "p99")]
            columns += [f"{row['cpu_us']:.1f}", ratio, f"{row['late_p50']:.2f}", f"{row['late_p99']:.2f}"]
            print(f"| {client} | {streams} | {' | '.join(columns)} | {row['server_cpu']:.0%} |", flush=True)


if __name__ == "__main__":
    main()
