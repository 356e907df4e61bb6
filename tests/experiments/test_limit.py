"""What passes in whole windows, of runs made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tensorix_experiments._limit import passed_in_windows
from tensorix_records import RequestRecord, Run

S = 1_000_000_000


def _run(path: Path, instants: Sequence[tuple[float, bool]]) -> Path:
    """Requests at these seconds, passed or refused."""
    run = Run.create(path, {"run_id": "r"})
    writer = run.writer("p1")
    for number, (at_s, passed) in enumerate(instants):
        outcome, ids = "success" if passed else "throttled", {"record_id": f"r{number}", "request_id": f"q{number}"}
        row = {"run_id": "r", "endpoint": "/chat/completions", "start_unix_ns": round((1e9 + at_s) * S), **ids}
        writer.add(RequestRecord(**row, outcome=outcome))  # type: ignore[arg-type]
    writer.close()
    return path


def test_windows_that_were_spent_are_counted(tmp_path: Path) -> None:
    """Ten a second, of which the first 60 of each 10 s pass: 60 a window, in each of four."""
    found = passed_in_windows(_run(tmp_path / "run", [(k / 10, k % 100 < 60) for k in range(490)]), 10.0)
    assert found is not None
    assert (found.windows, found.requests) == (4, 60)


def test_a_window_that_was_not_spent_says_nothing(tmp_path: Path) -> None:
    """Where fewer come after a while than are allowed, only the windows before count; with none there is no figure."""
    spent = [(k / 10, k % 100 < 60) for k in range(200)]
    found = passed_in_windows(_run(tmp_path / "run", [*spent, *((20 + k / 3, True) for k in range(100))]), 10.0)
    assert found is not None
    assert (found.windows, found.requests) == (1, 60)
    assert (
        passed_in_windows(_run(tmp_path / "slow", [*spent[:100], *((10 + k, True) for k in range(90))]), 10.0) is None
    )
