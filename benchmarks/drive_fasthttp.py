"""Drives the simulator with Locust's own FastHttpUser reading lines, and writes what it saw: see client_truth.py.

`python benchmarks/drive_fasthttp.py JSON`, with base_url, streams, tokens, spread_s, read and out. `read` is
`readline` (a loop over the response's own buffered readline: the best that can be had of it) or `iter_lines` (Locust's
own way).
"""

# First of all: gevent replaces the blocking parts of the standard library before anything imports them.
from gevent import monkey

monkey.patch_all()

import itertools  # noqa: E402
import json  # noqa: E402
import random  # noqa: E402
import resource  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import gevent.event  # noqa: E402
import locust  # noqa: E402
from locust.env import Environment  # noqa: E402
from locust.exception import StopUser  # noqa: E402


def lines_of(response: Any, how: str) -> Iterator[bytes]:
    """The lines of a streamed response."""
    if how == "iter_lines":
        rest = b""
        for piece in response.iter_content(1024):
            *whole, rest = (rest + (piece if isinstance(piece, bytes) else piece.encode())).split(b"\n")
            yield from whole
        return
    while line := response.stream.readline(b"\n"):
        yield line


def main() -> None:
    """Warm every connection, let all start within `spread_s`, and measure the CPU from then on."""
    asked = json.loads(sys.argv[1])
    streams = asked["streams"]
    resource.setrlimit(resource.RLIMIT_NOFILE, (streams + 500, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    rng = random.Random(1)
    offsets = [rng.random() * asked["spread_s"] for _ in range(streams)]
    numbers, seen, warm, go, finished = itertools.count(), {}, [], gevent.event.Event(), []
    key = {"Authorization": "Bearer sk-benchmark"}

    class Reader(locust.FastHttpUser):
        """Opens its connection, waits for its turn, and reads one long answer."""

        host = asked["base_url"]

        @locust.task
        def ask(self) -> None:
            """Read one answer."""
            number = next(numbers)
            self.client.get("/models", headers=key)
            warm.append(1)
            go.wait()
            gevent.sleep(offsets[number])
            request_id = f"bench-{number}"
            stamps: list[int] = []
            body = {
                "model": asked["model"],
                "stream": True,
                "max_tokens": asked["tokens"],
                "messages": [{"role": "user", "content": "Count."}],
            }
            sent = time.monotonic_ns()
            with self.client.post(
                "/chat/completions",
                json=body,
                headers=key | {"X-Request-Id": request_id},
                stream=True,
                catch_response=True,
            ) as response:
                stamps.extend(
                    time.monotonic_ns()
                    for line in lines_of(response, asked["read"])
                    if line.startswith(b"data: {") and b'"content":"' in line and b'"content":""' not in line
                )
                response.success()
            whole = len(stamps) == asked["tokens"]
            seen[request_id] = {
                "sent_ns": sent,
                "first_token_ns": stamps[0] if stamps else sent,
                "chunk_ns": stamps,
                "outcome": "success" if whole else "failed",
            }
            finished.append(1)
            raise StopUser

    environment = Environment(user_classes=[Reader], stop_timeout=120)
    runner = environment.create_local_runner()
    runner.start(streams, spawn_rate=streams)
    while len(warm) < streams:
        gevent.sleep(0.05)
    cpu, wall = time.process_time_ns(), time.monotonic_ns()
    go.set()
    while len(finished) < streams:
        gevent.sleep(0.05)
    cpu, wall = time.process_time_ns() - cpu, time.monotonic_ns() - wall
    runner.quit()
    Path(asked["out"]).write_text(json.dumps({"cpu_ns": cpu, "wall_ns": wall, "requests": seen}), encoding="utf-8")


if __name__ == "__main__":
    main()
