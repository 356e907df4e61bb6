"""The figures by which mock servers are compared, on streams whose lateness is known."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
MS = 1_000_000
TOKENS = 100


@pytest.fixture
def lateness(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the script defines, with its folder on the path as where it is run."""
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    return runpy.run_path(str(BENCHMARKS / "server_lateness.py"))


def _seen(*streams: Sequence[float], outcome: str = "success") -> dict[str, Any]:
    """Streams whose chunks came so many ms after the request, as the client writes them; each began at another time."""
    requests = {
        str(number): {
            "sent_ns": number * 7 * MS,
            "chunk_ns": [int((number * 7 + at) * MS) for at in stream],
            "outcome": outcome,
        }
        for number, stream in enumerate(streams)
    }
    return {"wall_ns": 10**10, "cpu_ns": 10**9, "server_cpu_s": 5.0, "server_waited_s": 0.1, "requests": requests}


def test_a_server_on_time_is_not_late(lateness: dict[str, Any]) -> None:
    """Chunks at 100 ms and each 20 ms from then on are late by nothing, by each of the three measures."""
    figures = lateness["seen_figures"](_seen(*[[100 + 20 * k for k in range(TOKENS)]] * 3), TOKENS)
    assert figures.pop("finished") == 3
    assert {name: figures.pop(name) for name in ("server", "waited", "client")} == {
        "server": 0.5,
        "waited": 0.01,
        "client": 0.1,
    }
    assert figures.pop("cpu_us") == pytest.approx(5e6 / 300)
    assert figures == dict.fromkeys(("late_p50", "late_p99", "gap_p50", "gap_p99", "end_p50", "end_p99"), 0)


def test_sleeping_between_chunks_adds_up(lateness: dict[str, Any]) -> None:
    """A server that takes 21 ms for each gap is off by 1 ms a gap, 99 ms at the end, and by half of that in between."""
    figures = lateness["seen_figures"](_seen([100 + 21 * k for k in range(TOKENS)]), TOKENS)
    assert figures["gap_p50"] == figures["gap_p99"] == pytest.approx(1)
    assert figures["end_p50"] == pytest.approx(99)
    assert figures["late_p50"] == pytest.approx(49.5)


def test_a_late_start_is_no_lateness_of_the_chunks(lateness: dict[str, Any]) -> None:
    """A stream that begins 30 ms late and keeps its pace ends late, and its chunks are on time to each other."""
    figures = lateness["seen_figures"](_seen([130 + 20 * k for k in range(TOKENS)]), TOKENS)
    assert figures["end_p99"] == pytest.approx(30)
    assert figures["late_p99"] == figures["gap_p99"] == 0


def test_a_stall_is_counted_once_where_it_is_made_up_for(lateness: dict[str, Any]) -> None:
    """Ten chunks that come 50 ms late and are caught up with leave the median and the end alone."""
    stream = [100 + 20 * k + (50 if 40 <= k < 50 else 0) for k in range(TOKENS)]
    figures = lateness["seen_figures"](_seen(stream), TOKENS)
    assert figures["late_p50"] == figures["end_p50"] == 0
    assert figures["late_p99"] == pytest.approx(50)


def test_what_did_not_finish_is_counted_out(lateness: dict[str, Any]) -> None:
    """A stream that was cut, or that failed, is not among the finished and brings no figure."""
    whole, cut = [100 + 20 * k for k in range(TOKENS)], [900 + 20 * k for k in range(TOKENS - 1)]
    figures = lateness["seen_figures"](_seen(whole, cut), TOKENS)
    assert figures["finished"] == 1
    assert figures["end_p99"] == 0
    failed = lateness["seen_figures"](_seen(whole, outcome="failed"), TOKENS)
    assert failed["finished"] == 0
    assert "late_p50" not in failed


def test_the_simulator_counts_by_its_own_log(lateness: dict[str, Any]) -> None:
    """Its own lateness is read off the ends of its truth; a server without a log has none."""
    truth = [
        {"event": "arrival"},
        {"event": "end", "lateness_ns": [MS] * 50},
        {"event": "end", "lateness_ns": [3 * MS]},
    ]
    figures = lateness["own_figures"](truth)
    assert figures["own_p50"] == 1
    assert 1 < figures["own_p99"] <= 3
    assert lateness["own_figures"]([]) == {}
