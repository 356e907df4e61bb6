"""What is left of a run whose processes were killed at a random moment: nearly all of it."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tensorix_records import Run
from tensorix_reports.load import write_report
from tensorix_simulator import Simulator

if TYPE_CHECKING:
    from tests.loadtests.conftest import Engine

Start = Callable[..., "Engine"]

USERS = 6
AT_A_TIME = 3
_reporting = threading.Lock()


def _monotonic_of(truth: list[dict[str, Any]]) -> Callable[[int], int]:
    """From Unix to monotonic ns, by the simulator's reading of both."""
    start = truth[0]
    offset = start["unix_ns"] - start["monotonic_ns"]
    return lambda unix_ns: unix_ns - offset


def _check(folder: Path, truth: list[dict[str, Any]], killed_ns: int) -> None:
    """The folder opens and can be reported, lost no more than its last second, and counts what was in flight."""
    run = Run.open(folder)
    table = run.records()
    recorded = set(table["request_id"].to_pylist())
    assert len(recorded) == table.num_rows, "a request has two records"

    arrivals = {line["request_id"]: line for line in truth if line["event"] == "arrival"}
    ends = {line["request_id"]: line for line in truth if line["event"] == "end"}
    due = {
        request_id
        for request_id, end in ends.items()
        if end["ended"] == "complete" and end["end_ns"] < killed_ns - 1_000_000_000
    }
    assert due <= recorded, f"lost of over a second ago: {len(due - recorded)} of {len(due)}"
    # Nothing is made up either: what is recorded as a success had its end sent.
    for row in table.select(["request_id", "outcome"]).to_pylist():
        assert row["outcome"] == "success"
        assert ends[row["request_id"]]["status"] == 200

    monotonic = _monotonic_of(truth)
    seconds = [event for event in run.events() if event["kind"] == "second"]
    for event in seconds:
        at_ns = monotonic(event["t_unix_ns"])
        # The moments around it: a request counts from before it is sent until after its end was seen.
        margin_ns = 100_000_000
        flying = [
            name
            for name, line in arrivals.items()
            if line["arrival_ns"] < at_ns - margin_ns and (name not in ends or ends[name]["end_ns"] > at_ns + margin_ns)
        ]
        assert len(flying) <= event["in_flight"] <= USERS
    # There is one from the first moment; the last is of the second in which the run was killed.
    if seconds or len(arrivals) > 1:
        assert killed_ns - monotonic(seconds[-1]["t_unix_ns"]) < 2_000_000_000

    assert any("no end" in finding for finding in run.findings())
    with _reporting:  # the pictures' library is not made for threads
        written = write_report(folder)
    page = written.page.read_text(encoding="utf-8")
    assert "killed" in page or "no end" in page
    assert len(Run.open(folder).records()) == table.num_rows


def _kill_one(seed: int, folder: Path, start_engine: Start) -> None:
    rng = random.Random(seed)
    everything = seed % 2 == 1
    truth_path = folder / "truth.jsonl"
    with ExitStack() as stack:
        simulator = stack.enter_context(
            Simulator(
                rpm=None,
                tpm=None,
                seed=seed,
                ttft=rng.choice(["20ms", "300ms", "lognormal(400ms, 0.8)"]),
                between_tokens=rng.choice(["5ms", "40ms"]),
                truth_path=truth_path,
            )
        )
        mix = rng.choice([{"chat-streamed": 1}, {"chat-streamed": 2, "chat-unstreamed": 1, "models": 1}])
        engine = start_engine(
            simulator.base_url,
            out=folder / "run",
            users=USERS,
            spawn_rate=rng.choice([5.0, 100.0]),
            duration_s=60,
            max_tokens=20,
            mix=mix,
        )
        deadline = time.monotonic() + 60
        while not (folder / "run" / "manifest.json").exists():
            assert engine.process.poll() is None, engine.said
            assert time.monotonic() < deadline
            time.sleep(0.005)
        threading.Event().wait(rng.uniform(0, 4.0))
        killed_ns = time.monotonic_ns()
        engine.signal(signal.SIGKILL)
        if everything:
            os.kill(simulator.pid, signal.SIGKILL)
        assert engine.end() == -signal.SIGKILL
        if not everything:
            # The simulator's truth of what it still had to send.
            simulator.stop()
    truth = _read_truth(truth_path)
    _check(folder / "run", truth, killed_ns)


def _read_truth(path: Path) -> list[dict[str, Any]]:
    import json

    data = path.read_bytes()
    return [json.loads(line) for line in data[: data.rfind(b"\n") + 1].splitlines()]


def _kill(seeds: range, tmp_path: Path, start_engine: Start) -> None:
    folders = {seed: tmp_path / f"kill-{seed}" for seed in seeds}
    for folder in folders.values():
        folder.mkdir()
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        for seed, result in {seed: pool.submit(_kill_one, seed, folders[seed], start_engine) for seed in seeds}.items():
            try:
                result.result()
            except BaseException as error:
                error.add_note(f"the kill with seed {seed}")
                raise


def test_two_kills(tmp_path: Path, start_engine: Start) -> None:
    """Two runs killed at random moments, the engine alone and everything: each can be reported and lost a second."""
    _kill(range(2), tmp_path, start_engine)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_fifty_kills(tmp_path: Path, start_engine: Start) -> None:
    """Fifty runs killed at random moments: each can be reported and lost at most its last second."""
    _kill(range(100, 150), tmp_path, start_engine)
