"""How true is the time to first token that load clients tell, and what does a chunk cost them?

    python benchmarks/peer_clients.py [--streams 100,500,1000] [--seconds 6] [--clients aiperf,tensorix]

Each client is held to one core with all its processes, the simulator to another, and each sends the same: N streams of
50 chunks a second, begun within two seconds or so. The peers (`make bench-peers`) are driven by their own commands and
read by the files that they write. TTFT error is the difference to the simulator's truth, as in client_truth.py, in ms:

    what the client says of a request - (its first token's send had returned - its arrival by the kernel)

A peer that sends a request id is compared request by request; of the others ("sorted") the TTFTs and the truth's are
sorted first, so that each is compared with the one of its rank, which makes their error look smaller than it is. CPU is
that of the whole process tree between the first arrival and the last byte sent, what it does before and after left out.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sqlite3
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

import client_truth
from cores import cpu_s, on_core, pin
from tensorix_simulator import Simulator

_PEERS = Path(__file__).parents[1] / ".peers"
_SPREAD_S = 2
_LOOK_S = 0.2
_LIMIT_S = 240
_WORDS = Path("hub", "models--local--words", "snapshots", "1")
HEAD = "| client | streams | TTFT error p50 | p99 | µs CPU a chunk | compared | server late p50 | p99 | server CPU |"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a peer is to send, and where to."""

    base_url: str
    model: str
    streams: int
    tokens: int
    folder: Path


@dataclass(frozen=True, slots=True)
class Peer:
    """A client: its command, and the TTFTs that it tells in ns, by request id (or by number where it sends none)."""

    command: Callable[[Asked], list[str]]
    told: Callable[[Path], dict[str, float]]
    by_id: bool


def _program(name: str) -> str:
    return str(_PEERS / name / "bin" / name)


def _aiperf(asked: Asked) -> list[str]:
    (asked.folder / "prompts.jsonl").write_text('{"text": "Count."}\n', encoding="utf-8")
    command = [_program("aiperf"), "profile", "--model", asked.model, "--url", asked.base_url.removesuffix("/v1")]
    command += ["--endpoint-type", "chat", "--streaming", "--api-key", "sk-benchmark", "--ui", "none"]
    command += ["--request-rate", f"{asked.streams / _SPREAD_S:g}", "--concurrency", str(asked.streams)]
    command += ["--request-count", str(asked.streams), "--extra-inputs", f"max_tokens:{asked.tokens}"]
    command += ["--input-file", "prompts.jsonl", "--custom-dataset-type", "single_turn", "--tokenizer", "local/words"]
    command += ["--use-server-token-count", "--workers-max", "1", "--record-processors", "1"]
    return [*command, "--export-level", "records", "--output-artifact-dir", "out"]


def _aiperf_told(folder: Path) -> dict[str, float]:
    (path,) = (folder / "out").rglob("profile_export*.jsonl")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {row["metadata"]["x_request_id"]: row["metrics"]["time_to_first_token"]["value"] * 1e6 for row in rows}


def _evalscope(asked: Asked) -> list[str]:
    (asked.folder / "prompts.txt").write_text("Count.\n" * asked.streams, encoding="utf-8")
    command = [_program("evalscope"), "perf", "--model", asked.model, "--url", f"{asked.base_url}/chat/completions"]
    command += ["--api", "openai", "--stream", "--api-key", "sk-benchmark", "--no-test-connection"]
    command += ["--dataset", "line_by_line", "--dataset-path", "prompts.txt", "--max-tokens", str(asked.tokens)]
    command += ["--number", str(asked.streams), "--parallel", str(asked.streams)]
    command += ["--rate", f"{asked.streams / _SPREAD_S:g}", "--num-workers", "1", "--log-every-n-query", "1000000"]
    return [*command, "--outputs-dir", "out", "--no-timestamp"]


def _evalscope_told(folder: Path) -> dict[str, float]:
    (path,) = (folder / "out").rglob("benchmark_data.db")
    with contextlib.closing(sqlite3.connect(path)) as database:
        rows = database.execute("select first_chunk_latency from result where success = 1").fetchall()
    return {str(number): float(row[0]) * 1e9 for number, row in enumerate(rows)}


def _inference_perf(asked: Asked) -> list[str]:
    stage = {"rate": asked.streams / _SPREAD_S, "duration": _SPREAD_S}
    # The one kind of prompt that can be made up here and lets the length of the answer be said.
    prompts = {"num_groups": 1, "num_prompts_per_group": asked.streams, "system_prompt_len": 2, "question_len": 2}
    settings = {
        "api": {"type": "chat", "streaming": True},
        "data": {"type": "shared_prefix", "shared_prefix": prompts | {"output_len": asked.tokens}},
        "load": {"type": "constant", "num_workers": 1, "worker_max_concurrency": asked.streams, "stages": [stage]},
        "server": {
            "type": "vllm",
            "model_name": asked.model,
            "base_url": asked.base_url.removesuffix("/v1"),
            "api_key": "sk-benchmark",
        },
        "tokenizer": {"pretrained_model_name_or_path": str(asked.folder / _WORDS)},
        "report": {"request_lifecycle": {"per_request": True, "per_request_fields": {"computed_metrics": True}}},
        "storage": {"local_storage": {"path": "out"}},
    }
    (asked.folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    return [_program("inference-perf"), "--config_file", "settings.json"]


def _inference_perf_told(folder: Path) -> dict[str, float]:
    rows = json.loads((folder / "out" / "per_request_lifecycle_metrics.json").read_text(encoding="utf-8"))
    wrong = next((row["error"] for row in rows if row["error"]), None)
    if wrong:
        raise RuntimeError(f"a request failed: {wrong}")
    return {str(number): row["computed_metrics"]["time_to_first_token"] * 1e9 for number, row in enumerate(rows)}


PEERS = {
    "aiperf": Peer(_aiperf, _aiperf_told, by_id=True),
    "evalscope": Peer(_evalscope, _evalscope_told, by_id=False),
    "inference-perf": Peer(_inference_perf, _inference_perf_told, by_id=False),
}


def lay_tokenizer(folder: Path) -> None:
    """A tokenizer of one word, as a hub's cache has it: the peers will have one, and the network is not asked."""
    place = folder / _WORDS
    place.mkdir(parents=True)
    refs = place.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text("1", encoding="utf-8")
    words = {
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {"type": "Whitespace"},
        "model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1, "[UNK]": 2}, "unk_token": "[UNK]"},
    }
    said = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "[UNK]"}
    (place / "tokenizer.json").write_text(json.dumps(words), encoding="utf-8")
    (place / "tokenizer_config.json").write_text(json.dumps(said), encoding="utf-8")


class Meter:
    """The CPU time of a process and all that it starts, by the clock of the truth."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self._used: dict[int, float] = {}
        self.at_ns: list[int] = []
        self.cpu_s: list[float] = []
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while self._process.is_running():
            with contextlib.suppress(psutil.Error):
                for one in (self._process, *self._process.children(recursive=True)):
                    with contextlib.suppress(OSError):
                        self._used[one.pid] = cpu_s(one.pid)
                self.at_ns.append(time.monotonic_ns())
                self.cpu_s.append(sum(self._used.values()))
            time.sleep(_LOOK_S)

    def between(self, start_ns: int, end_ns: int) -> float:
        """Seconds used, as read before and after and evened out in between."""
        first, last = np.interp([start_ns, end_ns], self.at_ns, self.cpu_s)
        return float(last - first)


def measure(name: str, streams: int, seconds: float) -> dict[str, float]:
    """One peer at one number of streams; times in ms."""
    peer, rate = PEERS[name], client_truth.CHUNKS_A_SECOND
    settings: dict[str, Any] = {"ttft": "lognormal(100ms, 0.3)", "between_tokens": f"{1000 // rate}ms"}
    settings |= {"rpm": None, "tpm": None, "unknown_parameters": "accept"}
    with tempfile.TemporaryDirectory() as scratch, Simulator(**settings) as simulator:
        pin(simulator.pid, 0)
        folder = Path(scratch)
        lay_tokenizer(folder)
        asked = Asked(simulator.base_url, simulator.settings.models[0], streams, int(seconds * rate), folder)
        environment = os.environ | {"HF_HOME": scratch, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
        with (folder / "log").open("wb") as log, on_core(1):
            process = psutil.Popen(
                peer.command(asked), cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            )
        meter, server_meter = Meter(process), Meter(psutil.Process(simulator.pid))
        try:
            status = process.wait(_LIMIT_S)
        finally:
            for one in (*process.children(recursive=True), process) if process.is_running() else ():
                one.kill()
        if status:
            said = (folder / "log").read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:]
            raise RuntimeError(f"it ended with status {status}: {' / '.join(said)}")
        told = peer.told(folder)
        truth = simulator.truth()
    return figures(told, truth, meter, server_meter, by_id=peer.by_id)


def figures(
    told: dict[str, float], truth: list[dict[str, Any]], meter: Meter, server: Meter, *, by_id: bool
) -> dict[str, float]:
    """Compare what a client told with the truth."""
    arrivals = {line["request_id"]: line["arrival_ns"] for line in truth if line["event"] == "arrival"}
    ends = {line["request_id"]: line for line in truth if line["event"] == "end" and line.get("chunk_sent_ns")}
    really = {one: end["first_token_sent_ns"] - arrivals[one] for one, end in ends.items()}
    if len(told) != len(really) or (by_id and told.keys() != really.keys()):
        raise RuntimeError(f"it told of {len(told)} requests, and the server answered {len(really)}")
    pairs = (
        ((told[one], really[one]) for one in told)
        if by_id
        else zip(sorted(told.values()), sorted(really.values()), strict=True)
    )
    errors = [abs(said - was) / 1e6 for said, was in pairs]
    late = [one / 1e6 for end in ends.values() for one in end["lateness_ns"]]
    span = min(arrivals[one] for one in ends), max(end["chunk_sent_ns"][-1] for end in ends.values())
    chunks = sum(len(end["chunk_sent_ns"]) for end in ends.values())
    return {
        "error_p50": float(np.percentile(errors, 50)),
        "error_p99": float(np.percentile(errors, 99)),
        "cpu_us": meter.between(*span) / chunks * 1e6,
        "late_p50": float(np.percentile(late, 50)),
        "late_p99": float(np.percentile(late, 99)),
        "server_cpu": server.between(*span) / (span[1] - span[0]) * 1e9,
    }


def main() -> None:
    """Print the table, one row a client and number of streams."""
    ours = {"tensorix": "tensorix ChatUser", "FastHttpUser": "FastHttpUser, readline"}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", default="100,500,1000", help="numbers of streams (default: 100,500,1000)")
    parser.add_argument("--seconds", type=float, default=6.0, help="length of each stream (default: 6)")
    parser.add_argument("--clients", default=",".join((*ours, *PEERS)), help="which, by name")
    options = parser.parse_args()
    print(HEAD)
    print("|" + " --- |" * (HEAD.count("|") - 1))
    for streams in map(int, options.streams.split(",")):
        for name in options.clients.split(","):
            try:
                known = name in ours
                row = (
                    client_truth.measure(ours[name], streams, options.seconds)
                    if known
                    else measure(name, streams, options.seconds)
                )
            except (RuntimeError, OSError, ValueError, TypeError, psutil.TimeoutExpired) as error:
                print(f"| {name} | {streams} | {error} |" + " |" * 6, flush=True)
                continue
            compared = "by id" if known or PEERS[name].by_id else "sorted"
            print(
                f"| {ours.get(name, name)} | {streams} | {row['error_p50']:.3f} | {row['error_p99']:.3f} "
                f"| {row['cpu_us']:.1f} | {compared} | {row['late_p50']:.2f} | {row['late_p99']:.2f} "
                f"| {row['server_cpu']:.0%} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
