"""The Makefile where Python is missing, old or only pretended."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")

# Answers as an interpreter does to the questions of the Makefile, and notes that it was chosen.
_GOOD = """#!/bin/bash
case "$1" in
    -c) exit 0 ;;
    --version) echo "Python 3.12.1" ;;
    -m) echo "$0 $*" > chosen ;;
esac
"""


@pytest.fixture
def checkout(root: Path, tmp_path: Path) -> Path:
    """A folder with what the Makefile needs, and an empty folder of programs beside it."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(root / name, tmp_path)
    (tmp_path / "programs").mkdir()
    return tmp_path


def _program(checkout: Path, name: str, text: str) -> None:
    path = checkout / "programs" / name
    path.write_text(text)
    path.chmod(0o755)


def _make(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    make = shutil.which("make")
    assert make is not None
    return subprocess.run(
        [make, *arguments],
        cwd=checkout,
        env={"PATH": str(checkout / "programs")},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def test_no_python_is_said_clearly(checkout: Path) -> None:
    """Without any Python the first target says what to install, and makes nothing."""
    made = _make(checkout, "demo")
    assert made.returncode == 2
    assert "no Python 3.11 or newer" in made.stderr
    assert not (checkout / ".venv").exists()


def test_a_python_that_is_too_old_is_passed_over(checkout: Path) -> None:
    """An interpreter that answers no to the question of its version is as good as none."""
    _program(checkout, "python3", "#!/bin/bash\nexit 1\n")
    made = _make(checkout, "test")
    assert made.returncode == 2
    assert "no Python 3.11 or newer" in made.stderr


def test_the_first_that_works_is_taken(checkout: Path) -> None:
    """A shim of a version that is not installed fails when it runs; the next name is tried."""
    _program(checkout, "python3.11", "#!/bin/bash\necho 'not installed' >&2\nexit 127\n")
    _program(checkout, "python3.12", _GOOD)
    _program(checkout, "python3", _GOOD)
    made = _make(checkout, ".venv/bin/pip")
    assert made.returncode == 0, made.stderr
    assert (checkout / "chosen").read_text().split("/")[-1].startswith("python3.12 -m venv")


def test_another_python_can_be_named(checkout: Path) -> None:
    """PYTHON=… goes before every name that is looked for."""
    _program(checkout, "python3.11", _GOOD)
    _program(checkout, "mine", _GOOD)
    assert _make(checkout, ".venv/bin/pip", "PYTHON=mine").returncode == 0
    assert "/mine -m venv" in (checkout / "chosen").read_text()


@pytest.mark.parametrize("target", [".venv/installed-all", ".venv/installed-dev"])
def test_what_builds_the_package_is_held_to_the_constraints_too(checkout: Path, target: str) -> None:
    """Each pip that pip starts for the isolated build inherits the constraints: they are in the environment."""
    programs = checkout / ".venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "pip").touch()
    (programs / "python").write_text('#!/bin/bash\necho "$PIP_CONSTRAINT $PIP_BUILD_CONSTRAINT $*" > installed\n')
    (programs / "python").chmod(0o755)
    _program(checkout, "touch", "#!/bin/bash\n")
    assert _make(checkout, target).returncode == 0
    assert (checkout / "installed").read_text().startswith("constraints.txt constraints.txt -m pip install")


def test_the_bench_goes_on_without_its_peers(checkout: Path) -> None:
    """Where the other mock servers cannot be installed `make bench` says so, and measures all the same."""
    programs = checkout / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("pip", "../installed-all", "../installed-dev"):
        (programs / name).touch()
    (programs / "python").write_text('#!/bin/bash\ncase "$1" in benchmarks/*) echo "ran $1" ;; *) exit 1 ;; esac\n')
    (programs / "python").chmod(0o755)
    for name in ("mkdir", "cp"):
        _program(checkout, name, "#!/bin/bash\n")
    for name in ("guidellm.txt", "package.json"):
        (checkout / "benchmarks" / "peers").mkdir(parents=True, exist_ok=True)
        (checkout / "benchmarks" / "peers" / name).touch()
    made = _make(checkout, "bench")
    assert made.returncode == 0, made.stderr
    assert made.stdout.count("going on without it") == 1
    assert made.stdout.index("going on") < made.stdout.index("ran benchmarks/client_truth.py")
    assert "ran benchmarks/server_lateness.py" in made.stdout
