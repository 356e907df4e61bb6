"""The benchmark on limiters that others made: what it holds against a report, and what it does where none is there."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def judging(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module, with its folder on the path as where it is run."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("real_limiters_judging")


@pytest.fixture
def report() -> Callable[..., dict[str, Any]]:
    """As much of limits.json as is judged."""

    def make(kind: str = "token_bucket", **more: Any) -> dict[str, Any]:
        values = {"limit": 60.0, "window_s": 60.0, "burst": 10.0, "probability": 0.99, "counts_refused": False} | more
        best: dict[str, Any] = {"kind": kind, "probability": values["probability"]}
        best |= {name: {"value": values[name]} for name in ("limit", "window_s", "burst")}
        best["counts_refused"] = values["counts_refused"]
        fit = {"verdict": more.get("verdict", "named"), "ranked": [best]}
        fit |= {name: more.get(name) for name in ("foreign_per_s", "second_limit", "changed_at_s")}
        key = {"fit": fit, "refused_with": more.get("refused_with", 429)}
        spent = {"requests": more.get("requests", 50), "seconds": 12.0}
        return {"run": {"spent": spent}, "keys": [key], "beside": []}

    return make


@pytest.mark.parametrize(
    ("found", "wrong"),
    [
        ({}, []),
        ({"limit": 62.0, "burst": 10.4}, []),
        ({"limit": 64.0}, ["drip 0.9375, not 1"]),
        ({"burst": 11.0}, ["burst 11, not 10"]),
        ({"kind": "sliding_log"}, ["another kind"]),
        ({"verdict": "cannot tell"}, ["cannot tell"]),
        ({"requests": 501}, ["501 requests, announced 500"]),
        ({"refused_with": 503}, ["refuses with 503, not 429"]),
        ({"counts_refused": True}, ["refused requests count"]),
        ({"foreign_per_s": 0.2}, ["foreign_per_s 0.2"]),
    ],
)
def test_a_report_is_held_against_what_was_configured(
    judging: Any, report: Any, found: dict[str, Any], wrong: list[str]
) -> None:
    """Each of its statements that is off is named."""
    expected = judging.Expected("token_bucket", 60, 60.0, burst=10, counts_refused=False)
    assert judging.judged(report(**found), expected, 500).wrong == wrong


def test_a_window_is_held_against_its_limit_and_length(judging: Any, report: Any) -> None:
    """To five percent."""
    expected = judging.Expected("fixed_window", 60, 60.0)
    assert judging.judged(report("fixed_window", limit=58.0, window_s=62.0), expected, 500).wrong == []
    wrong = judging.judged(report("fixed_window", limit=56.0, window_s=64.0), expected, 500).wrong
    assert wrong == ["limit 56, not 60", "window 64, not 60"]


def test_a_server_that_is_not_installed_is_named_and_left_out(tmp_path: Path) -> None:
    """Where none is left the exit status is 2."""
    command = [sys.executable, str(BENCHMARKS / "real_limiters.py"), "--only", "litellm"]
    ended = subprocess.run(
        [*command, "--litellm", str(tmp_path / "none")], capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 2
    assert ended.stdout.count("left out: litellm is not installed") == 1
    assert ended.stderr.splitlines() == ["none of the servers is installed"]
