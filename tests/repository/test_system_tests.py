"""The rule for tests that need a system package: `tests/conftest.py`, tried on a suite of one test."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_TEST = """
import pytest

@pytest.mark.system("{program}")
def test_it() -> None:
    assert True
"""
_CONFIGURATION = "[pytest]\nmarkers = system(package): needs it\n"


@pytest.mark.parametrize(
    ("program", "ci", "summary"),
    [
        ("python-of-nowhere", "", "1 skipped"),
        ("python-of-nowhere", "true", "1 error"),
        ("bash", "true", "1 passed"),
    ],
)
def test_a_missing_package_skips_by_name_and_fails_under_ci(
    root: Path, tmp_path: Path, subprocess_environment: dict[str, str], program: str, ci: str, summary: str
) -> None:
    """Where the program is missing the test is skipped and the program named; with CI=true that is no skip."""
    shutil.copy(root / "tests" / "conftest.py", tmp_path)
    (tmp_path / "test_it.py").write_text(_TEST.format(program=program))
    (tmp_path / "pytest.ini").write_text(_CONFIGURATION)
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-ra", "-p", "no:cacheprovider", "."],
        cwd=tmp_path,
        env=subprocess_environment | {"CI": ci},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert summary in ran.stdout, ran.stdout
    assert ("python-of-nowhere is not installed" in ran.stdout) == (program != "bash")
