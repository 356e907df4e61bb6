"""How long a report takes and how much memory, for a run of a million requests and of ten.

Makes a run folder as a load run with four workers leaves it: an open loop of 2,800 requests a second over four keys and
three models, streamed and not, windows of 60 s of which the last second is refused, 0.5 % failed in several ways, most
columns filled, compacted to Parquet. Then `tensorix report RUN` runs in a process of its own.

    python benchmarks/report_scale.py [--records 1000000 10000000] [--repeat 3] [--keep FOLDER]

requests    records in the run folder
s           of the whole command, from its start to its end: the median of the repeats, then the least and the most
CPU s       of its processor, user and system, likewise: what hardly changes where others use the machine too
memory      its peak resident size (ru_maxrss of the child), the most of the repeats
page        the size of report.html

Ends with status 1 where a goal is missed: 10 s and 1 GB for a million, 60 s and 3 GB for ten, a page of 1.5 MB.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tensorix_records import Run
from tensorix_records._parquet import write_compacted
from tensorix_records._schema import SCHEMA
from tensorix_records.gaps import GAP_SCHEMA

ORIGIN_NS = 1_790_000_000_000_000_000
WORKERS, KEYS, A_SECOND, WINDOW_S, PIECE = 4, 4, 2_800, 60, 50_000
LIMIT = int(A_SECOND / KEYS * WINDOW_S * 0.985)
MODELS = ("deepseek/deepseek-chat-v3.1", "qwen/qwen3-32b", "meta/llama-3.3-70b")
FAILURES = ("reset", "first_token_timeout", "server_error", "cut")
GOALS = {1_000_000: (10.0, 1.0), 10_000_000: (60.0, 3.0)}
PAGE_BYTES = 1_500_000


def named(names: tuple[str, ...], index: Any, mask: Any = None) -> Any:
    """Texts chosen by index; null where `mask` is true."""
    return pa.DictionaryArray.from_arrays(pa.array(index.astype(np.int32), mask=mask), list(names)).cast(pa.string())


def joined(*parts: Any) -> Any:
    """Texts put together, with nothing in between."""
    texts = [part if isinstance(part, str) else pc.cast(pa.array(part), pa.string()) for part in parts]
    return pc.call_function(
        "binary_join_element_wise", [*(pa.scalar(t) if isinstance(t, str) else t for t in texts), ""]
    )


def where(chosen: Any, one: Any, other: Any) -> Any:
    """`one` where `chosen`, else `other`."""
    return pc.call_function("if_else", [pa.array(chosen), one, other])


def piece(worker: int, first: int, count: int, total: int) -> Any:
    """Up to `count` requests of one worker, in the order in which they ended."""
    rng = np.random.default_rng(worker * 1_000_003 + first)
    mine = first + np.arange(count)
    number = mine // KEYS * KEYS * WORKERS + worker * KEYS + mine % KEYS
    number = number[number < total]
    mine, size = mine[: number.size], number.size
    seconds = (number + rng.random(size)) / A_SECOND
    key = number % KEYS
    used = (number - np.ceil(seconds // WINDOW_S * WINDOW_S * A_SECOND)) // KEYS
    refused = used >= LIMIT
    failed = ~refused & (rng.random(size) < 0.005)
    cause = rng.integers(0, len(FAILURES), size)
    good = ~refused & ~failed
    streamed = rng.random(size) < 0.8
    dispatch = (rng.gamma(2.0, 40_000, size)).astype(np.int64)
    waited = np.where(rng.random(size) < 0.05, rng.exponential(2e7, size), 20_000).astype(np.int64)
    fresh = rng.random(size) < 0.02
    model = rng.choice(3, size, p=[0.6, 0.3, 0.1])
    swing = 1 + 0.3 * np.sin(seconds / 40)
    headers = np.where(refused, rng.gamma(4, 1e6, size), rng.gamma(6, 5e6, size) * swing).astype(np.int64)
    token = headers + (rng.lognormal(19.0, 0.5, size) * swing).astype(np.int64)
    tokens = np.maximum(1, rng.poisson(60, size) + rng.integers(0, 60, size))
    last = token + ((tokens - 1) * rng.gamma(20, 1e6, size)).astype(np.int64)
    end = np.where(good, last + 300_000, headers + 50_000)
    none = ~good
    silent = none | ~streamed
    no_answer = failed & (cause < 2)

    def whole(values: Any, mask: Any = None) -> Any:
        return pa.array(np.broadcast_to(np.asarray(values, dtype=np.int64), size), mask=mask)

    def fixed(text: str, mask: Any = None) -> Any:
        return named((text,), np.zeros(size), mask)

    record = joined(f"p{4000 + worker}-", mine + 1)
    left = np.maximum(LIMIT - used - 1, 0)
    asked = rng.integers(20, 2_000, size)
    columns: dict[str, Any] = {
        "run_id": fixed("20261123T211658-cedec4"),
        "record_id": record,
        "request_id": joined("20261123T211658-cedec4.", record),
        "attempt": whole(1),
        "source": fixed("load"),
        "process_id": fixed(f"p{4000 + worker}"),
        "host": fixed(f"host-{worker // 2}"),
        "user_class": named(("ChatUser", "LongChatUser"), number % 7 // 5),
        "user_id": whole(rng.integers(0, 400, size)),
        "scenario": fixed("arrivals"),
        "schedule_index": whole(number),
        "key_alias": named(tuple(f"key-{n}" for n in range(KEYS)), key),
        "endpoint": fixed("/chat/completions"),
        "method": fixed("POST"),
        "model_requested": named(MODELS, model),
        "stream": pa.array(streamed),
        "max_tokens": whole(160),
        "prompt_id": named(tuple(f"{n:08x}" for n in range(1_000)), rng.integers(0, 1_000, size)),
        "prompt_chars": whole(asked * 4),
        "prompt_tokens_planned": whole(asked),
        "request_bytes": whole(asked * 4 + 420),
        "start_unix_ns": whole(ORIGIN_NS + np.round(seconds * 1e9).astype(np.int64)),
        "intended_at_ns": whole(-waited - dispatch),
        "user_ready_at_ns": whole(-dispatch),
        "held_ns": whole(rng.integers(5_000, 20_000, size)),
        "connect_start_at_ns": whole(-dispatch // 2, ~fresh),
        "dns_done_at_ns": whole(-dispatch // 3, ~fresh),
        "tcp_done_at_ns": whole(-dispatch // 4, ~fresh),
        "tls_done_at_ns": whole(-dispatch // 5, ~fresh),
        "request_sent_at_ns": whole(rng.integers(20_000, 60_000, size)),
        "headers_at_ns": whole(headers, no_answer),
        "first_chunk_at_ns": whole(headers + 200_000, silent),
        "first_token_at_ns": whole(token, silent),
        "first_output_at_ns": whole(token, silent),
        "last_token_at_ns": whole(last, silent),
        "end_at_ns": whole(end),
        "connection_reused": pa.array(~fresh),
        "stamp_source": fixed("kernel", no_answer),
        "lag_first_token_ns": whole(rng.gamma(2, 20_000, size), silent),
        "lag_max_ns": whole(rng.gamma(2, 60_000, size) + 20_000, silent),
        "chunks_in_first_read": whole(np.where(rng.random(size) < 0.01, 2, 1), silent),
        "max_chunks_in_a_read": whole(rng.integers(1, 4, size), silent),
        "chunks": whole(tokens, silent),
        "icl_max_ns": whole(rng.gamma(20, 2e6, size), silent),
        "done_seen": pa.array(good, mask=silent),
        "response_bytes": whole(tokens * 180 + 400, no_answer),
        "outcome": named(("success", "throttled", "failed"), refused + 2 * failed),
        "stream_outcome": named(("completed", "cut"), (failed & (cause == 3)).astype(int), silent & (cause < 3)),
        "status": whole(np.where(refused, 429, np.where(failed & (cause == 2), 503, 200)), no_answer),
        "error_kind": named(("rate_limited", *FAILURES), np.where(refused, 0, cause + 1), good),
        "error_phase": named(("headers", "body"), (cause == 3).astype(int), good),
        "error_type": fixed("rate_limit_error", ~refused),
        "error_message": where(
            refused,
            pa.scalar("Rate limit exceeded: please try again later."),
            where(failed, joined("it ended: ", mine), pa.scalar(None, pa.string())),
        ),
        "response_id": where(good, joined("chatcmpl-", number + 10**9), pa.scalar(None, pa.string())),
        "model_served": named(MODELS, model, none),
        "finish_reason": named(("stop", "length"), (tokens > 100).astype(int), none),
        "prompt_tokens": whole(asked + 7, none),
        "completion_tokens": whole(tokens, none),
        "token_source": named(("usage", "chunks"), (rng.random(size) < 0.02).astype(int), none),
        "reserved_tokens": whole(asked + 160),
        "cost": pa.array((asked + tokens * 4) * 1e-7, mask=none),
        "limit_requests": whole(LIMIT, no_answer),
        "remaining_requests": whole(left, no_answer),
        "remaining_tokens": whole(2 * 10**8 - used.astype(np.int64) * 1_000, no_answer),
        "reset_requests_ns": whole((WINDOW_S - seconds % WINDOW_S) * 1e9, no_answer),
        "limit_spelling": fixed("api_key", no_answer),
        "retry_after_ns": whole(np.ceil(WINDOW_S - seconds % WINDOW_S) * 1e9, ~refused),
        "ledger_remaining_requests": whole(left),
    }
    arrays = [columns.get(field.name, pa.nulls(size, field.type)) for field in SCHEMA]
    return pa.Table.from_arrays(arrays, schema=SCHEMA).take(np.argsort(seconds * 1e9 + end))


def gap_pieces(seconds: int) -> Iterator[Any]:
    """Counted gaps of each second and model, in some 80 buckets."""
    rng = np.random.default_rng(7)
    for begin in range(0, seconds, 200):
        second = np.repeat(ORIGIN_NS // 10**9 + np.arange(begin, min(begin + 200, seconds)), 80 * 3)
        model = np.tile(np.repeat(np.arange(3), 80), second.size // 240)
        bucket = (1_560 + np.tile(np.arange(80), second.size // 80)).astype(np.int32)
        count = rng.integers(1, 2_000, second.size)
        yield pa.Table.from_arrays(
            [pa.array(second), named(MODELS, model), pa.array(bucket), pa.array(count)], schema=GAP_SCHEMA
        )


def make_run(folder: Path, total: int) -> None:
    """Write the run folder."""
    seconds = total / A_SECOND
    run = Run.create(
        folder,
        {
            "run_id": "20261123T211658-cedec4",
            "kind": "load",
            "started_unix_ns": ORIGIN_NS,
            "asked": {
                "base_url": "http://127.0.0.1:9/v1",
                "model": MODELS[0],
                "users": 400,
                "arrivals": {"kind": "poisson", "a_second": A_SECOND},
                "goals": {"objectives": ["ttft_p95 < 800ms", "error_rate < 1%"], "good": ["ttft < 800ms"]},
            },
            "limits": {"requests": LIMIT, "tokens": 2 * 10**8, "window_s": WINDOW_S, "told": ["window_s"]},
        },
    )
    each = -(-total // WORKERS // KEYS) * KEYS
    pieces = (piece(w, at, min(PIECE, each - at), total) for w in range(WORKERS) for at in range(0, each, PIECE))
    write_compacted(
        folder / "records.parquet", SCHEMA, pieces, {f"records-p{4000 + w}.arrows": each for w in range(WORKERS)}, []
    )
    write_compacted(folder / "gaps.parquet", GAP_SCHEMA, gap_pieces(int(seconds)), {"gaps-p4000.arrows": 1}, [])
    with (folder / "events.jsonl").open("w") as file:

        def event(at_s: float, kind: str, worker: int, **fields: Any) -> None:
            told = {"t_unix_ns": ORIGIN_NS + int(at_s * 1e9), "kind": kind, "process_id": f"p{4000 + worker}"}
            file.write(json.dumps(told | fields) + "\n")

        event(0, "run_started", 0)
        event(5, "phase", 0, name="steady")
        for second in range(int(seconds)):
            for worker in range(WORKERS):
                health = {
                    "users": 100,
                    "in_flight": 500,
                    "loop_lag_ns": 2_000_000,
                    "cpu_share": 0.6,
                    "rss_bytes": 2 * 10**8,
                }
                event(second, "second", worker, started=second * 700, finished=second * 700 - 500, **health)
        for worker in range(WORKERS):
            event(seconds + 9, "schedule_ended", worker, not_sent=0, at_least=False)
        event(seconds + 10, "run_ended", 0, started=total, finished=total, in_flight=0)
    run.update_manifest(ended_unix_ns=ORIGIN_NS + int((seconds + 10) * 1e9), end_reason="schedule")


def measured(folder: Path) -> tuple[float, float, float, int]:
    """Seconds, processor seconds, peak gigabytes and bytes of the page, of one `tensorix report` of a folder."""
    command = [str(Path(sys.executable).parent / "tensorix"), "report", str(folder)]
    begun = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    took = time.monotonic() - begun
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with status {process.returncode}")
    page = (folder / "report" / "report.html").stat().st_size
    return took, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 / 1e9, page


def spread(values: list[float]) -> str:
    """The median of sorted values, and from where to where they reach."""
    return f"{median(values):.1f} ({values[0]:.1f} to {values[-1]:.1f})"


def main() -> int:
    """Make each run, report it, and print a row."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--records", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--repeat", type=int, default=3, help="how often each report is made")
    parser.add_argument("--keep", type=Path, help="make the runs here, and leave them for the next time")
    options = parser.parse_args()
    good = True
    with tempfile.TemporaryDirectory() as scratch:
        print("|   requests |                      s |                  CPU s |  memory |    page | goals |")
        print("| ---------: | ---------------------: | ---------------------: | ------: | ------: | ----- |")
        for total in options.records:
            folder = (options.keep or Path(scratch)) / f"run-{total}"
            if not (folder / "manifest.json").exists():
                make_run(folder, total)
            tries = [measured(folder) for _ in range(max(1, options.repeat))]
            took, cpu, (*_, memory), (*_, page) = (sorted(column) for column in zip(*tries, strict=True))
            seconds, gigabytes = GOALS.get(total, (float("inf"), float("inf")))
            met = median(took) <= seconds and memory <= gigabytes and page <= PAGE_BYTES
            good &= met
            words = "met" if met else "missed"
            print(
                f"| {total:10,} | {spread(took):>22} | {spread(cpu):>22} | {memory:4.2f} GB | {page / 1e6:4.2f} MB | "
                f"{words} |",
                flush=True,
            )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
