"""Drives the simulator with this toolkit's `ChatUser`, inside Locust, and writes what it saw: see client_truth.py.

`python benchmarks/drive_tensorix.py JSON`, with base_url, streams, tokens, spread_s, run (the folder) and out (a file);
also ca_bundle (a file) with TLS, and server_pid, for the CPU time of that process while the streams run, and how
long it was kept off its core.
"""

# First of all: gevent replaces the blocking parts of the standard library before anything imports them.
from gevent import monkey

monkey.patch_all()

import json  # noqa: E402
import random  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import gevent.event  # noqa: E402
from locust.env import Environment  # noqa: E402
from locust.exception import StopUser  # noqa: E402

from cores import cpu_s, kept_waiting_s  # noqa: E402
from tensorix_api import Secret  # noqa: E402
from tensorix_loadtests._beginning import begin_run  # noqa: E402
from tensorix_loadtests._call import Call  # noqa: E402
from tensorix_loadtests._health import raise_open_files  # noqa: E402
from tensorix_loadtests._origin import Origin  # noqa: E402
from tensorix_loadtests._recording import Result  # noqa: E402
from tensorix_loadtests._users import ChatUser  # noqa: E402
from tensorix_loadtests.plan import LoadPlan, Timeouts  # noqa: E402


def main() -> None:
    """Warm every connection, let all start within `spread_s`, and measure the CPU from then on."""
    asked = json.loads(sys.argv[1])
    streams, seen = asked["streams"], {}
    raise_open_files(streams)
    rng = random.Random(1)
    offsets = [rng.random() * asked["spread_s"] for _ in range(streams)]
    plan = LoadPlan(
        base_url=asked["base_url"],
        users=streams,
        spawn_rate=streams,
        requests=2 * streams,
        max_tokens=asked["tokens"],
        ca_bundle=asked.get("ca_bundle"),
        timeouts=Timeouts(total_s=120, first_token_s=60),
    )
    run = begin_run(plan, Path(asked["run"]), Secret("sk-benchmark"))
    warm, go = [], gevent.event.Event()

    class Reader(ChatUser):
        """Opens its connection, waits for its turn, and reads one long answer."""

        def ask(self) -> None:
            self._send(Call.list_models(), Origin(scenario="warm-up"))
            warm.append(1)
            go.wait()
            gevent.sleep(offsets[self.user_id])
            self.chat("Count.")
            raise StopUser

    take = run.on_result

    def keep(result: Result) -> None:
        record, offset = result.record, run.session.clock.offset_ns
        if record.stream:
            start = record.start_unix_ns - offset
            seen[record.request_id] = {
                "sent_ns": start + (record.request_sent_at_ns or 0),
                "first_token_ns": start + (record.first_token_at_ns or 0),
                "chunk_ns": [stamp - offset for stamp in result.chunk_unix_ns],
                "outcome": record.outcome,
            }
        take(result)

    run.on_result = keep  # type: ignore[method-assign]
    environment: Any = Environment(user_classes=[Reader], stop_timeout=120)
    environment.tensorix_run = run
    runner = environment.create_local_runner()
    runner.start(streams, spawn_rate=streams)
    while len(warm) < streams:
        gevent.sleep(0.05)
    cpu, wall, server = time.process_time_ns(), time.monotonic_ns(), server_s(asked)
    go.set()
    run.stopped.wait()
    cpu, wall = time.process_time_ns() - cpu, time.monotonic_ns() - wall
    used, waited = (after - before for after, before in zip(server_s(asked), server, strict=True))
    written = {"cpu_ns": cpu, "wall_ns": wall, "server_cpu_s": used, "server_waited_s": waited, "requests": seen}
    runner.quit()
    run.end()
    Path(asked["out"]).write_text(json.dumps(written), encoding="utf-8")


def server_s(asked: dict[str, Any]) -> tuple[float, float]:
    """Of the server that was named: the CPU time so far, and the time it was kept waiting for its core."""
    pid = asked.get("server_pid")
    return (cpu_s(pid), kept_waiting_s(pid)) if pid else (0.0, 0.0)


if __name__ == "__main__":
    main()
