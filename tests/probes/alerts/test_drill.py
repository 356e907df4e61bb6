"""Alerts end to end: probes of a simulator, a real Prometheus, a real Alertmanager, a webhook."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.system("prometheus", "prometheus-alertmanager")
def test_an_outage_is_told_and_its_end_and_nothing_else(subprocess_environment: dict[str, str], tmp_path: Path) -> None:
    """A healthy time and a single failed probe tell nobody; an outage pages within its bound, and its end is told."""
    ran = subprocess.run(
        [sys.executable, "benchmarks/alert_drill.py", "--quiet", "6", "--keep", str(tmp_path)],
        cwd=ROOT,
        env=subprocess_environment,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "TensorixBudgetBurnsFast firing" in ran.stdout
    assert "TensorixBudgetBurnsFast resolved" in ran.stdout
    assert "sk-of-the-drill" not in "".join(log.read_text() for log in tmp_path.glob("*.log"))
