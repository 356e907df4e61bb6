"""Objectives where plain `locust -f …` runs the test."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tensorix_simulator import Simulator

LOCUSTFILE = Path(__file__).parents[2] / "loadtests" / "locustfile.py"


def test_locust_ends_with_the_standing_of_its_objectives(
    tmp_path: Path, subprocess_environment: Mapping[str, str]
) -> None:
    """One of two objectives is broken: each is said, and the exit status is 1 though every request was made."""
    with Simulator(rpm=None, tpm=None, ttft="5ms", between_tokens="1ms") as simulator:
        options = [
            "--headless",
            "-u",
            "2",
            "-r",
            "2",
            "--requests",
            "60",
            "--max-tokens",
            "2",
            "-H",
            simulator.base_url,
        ]
        ran = subprocess.run(
            [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), *options, "--slo", "e2e_p50 < 9s; e2e_max < 1us"],
            env={**subprocess_environment, "TENSORIX_API_KEY": "sk-of-a-test-run"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert ran.returncode == 1
    assert "tensorix: e2e_p50 < 9s: met (it is " in ran.stderr
    assert "tensorix: e2e_max < 1us: broken (it is " in ran.stderr
