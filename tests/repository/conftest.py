"""The repository as its tests see it: what is tracked, which rooms there are, what they import."""

from __future__ import annotations

import ast
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def root() -> Path:
    """The top of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def tracked(root: Path) -> list[Path]:
    """Every file that git tracks, or that is there where this is no git checkout (a source distribution)."""
    if shutil.which("git") and (root / ".git").exists():
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, check=True, capture_output=True).stdout
        return [path for name in listed.decode().split("\0") if name and (path := root / name).is_file()]
    skipped = {".venv", ".peers", ".git", "runs", "dist", "build"}
    return [path for path in root.rglob("*") if path.is_file() and path.relative_to(root).parts[0] not in skipped]


@pytest.fixture(scope="session")
def rooms(root: Path) -> dict[str, Path]:
    """The package of each room that there is, by the room's name."""
    return {path.parent.name: path for path in sorted(root.glob("*/tensorix_*")) if path.is_dir()}


def imports_of(path: Path) -> Iterator[str]:
    """The full name of every module that a file imports: at the top, inside functions, for type checkers only."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively: imports here name the room"
            yield f"{node.module}"
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Call) and _imports_by_text(node):
            argument = node.args[0]
            assert isinstance(argument, ast.Constant), f"{path}:{node.lineno} imports a module that cannot be read off"
            yield str(argument.value)


def _imports_by_text(node: ast.Call) -> bool:
    """Whether a call is `import_module(…)` or `__import__(…)`."""
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
    return name in ("import_module", "__import__") and bool(node.args)


@pytest.fixture(scope="session")
def imported(rooms: dict[str, Path]) -> dict[str, dict[str, set[str]]]:
    """Of each room, of each of its files: the modules that it imports."""
    return {
        room: {str(path.relative_to(ROOT)): set(imports_of(path)) for path in sorted(package.rglob("*.py"))}
        for room, package in rooms.items()
    }
