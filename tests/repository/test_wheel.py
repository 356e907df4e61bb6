"""The wheel that users install: built here, in this process, with no network."""

from __future__ import annotations

import configparser
import email
import tomllib
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The built wheel, opened."""
    (path,) = WheelBuilder(str(root)).build(directory=str(tmp_path_factory.mktemp("wheel")))
    return zipfile.ZipFile(path)


def test_it_holds_every_room_and_nothing_else(wheel: zipfile.ZipFile, rooms: dict[str, Path]) -> None:
    """Each tracked or new file of each room is in the wheel, byte for byte, beside the metadata only."""
    there = {name for name in wheel.namelist() if ".dist-info/" not in name}
    wanted = {
        f"{package.name}/{path.relative_to(package).as_posix()}": path
        for package in rooms.values()
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
    }
    assert there == set(wanted)
    assert {f"{package.name}/py.typed" for package in rooms.values()} <= there
    for name, path in wanted.items():
        assert wheel.read(name) == path.read_bytes(), name


def test_no_file_of_a_room_is_ignored_by_git(rooms: dict[str, Path], tracked: list[Path]) -> None:
    """Every package has tracked files: a pattern of .gitignore that drops a room in silence would show here."""
    for package in rooms.values():
        assert [path for path in tracked if package in path.parents and path.suffix == ".py"], package


def test_it_brings_the_command_and_the_fixtures(wheel: zipfile.ZipFile) -> None:
    """`tensorix`, and the simulator's plugin of pytest, each of which names a module that is in the wheel."""
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/entry_points.txt")]
    entries = configparser.ConfigParser()
    entries.read_string(wheel.read(name).decode())
    assert {section: dict(entries[section]) for section in entries.sections()} == {
        "console_scripts": {"tensorix": "tensorix_cli:main"},
        "opentelemetry_instrumentor": {"tensorix": "tensorix_tracing.instrumentor:TensorixInstrumentor"},
        "pytest11": {"tensorix_simulator": "tensorix_simulator.pytest_plugin"},
    }
    there = wheel.namelist()
    assert {
        "tensorix_cli/__init__.py",
        "tensorix_simulator/pytest_plugin.py",
        "tensorix_tracing/instrumentor.py",
    } <= set(there)


def test_a_history_is_made_from_the_wheel(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    """The migrations are found in what is installed, without the clone."""
    import subprocess
    import sys

    wheel.extractall(tmp_path / "site")
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r})\n"
        "from tensorix_records import history\n"
        "assert history.__file__.startswith(sys.path[0]), history.__file__\n"
        "history.History.open('history.db').remember('a', 1)\n"
        "print(history.History.open('history.db').recall('a'))"
    )
    ran = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ran.stdout == "1\n"


def test_a_bare_install_brings_opentelemetry_api_only(wheel: zipfile.ZipFile, root: Path) -> None:
    """The one dependency without an extra is `opentelemetry-api`, as a service that only traces needs it."""
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    metadata = email.message_from_bytes(wheel.read(name))
    unconditional = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert [line.split(">")[0] for line in unconditional] == ["opentelemetry-api"]
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(metadata.get_all("Provides-Extra", [])) == set(extras)


def test_the_source_distribution_can_be_tested(root: Path, tmp_path: Path) -> None:
    """It holds the rooms, the tests, the Makefile and the constraints; no run and no environment."""
    import tarfile

    (path,) = SdistBuilder(str(root)).build(directory=str(tmp_path))
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"Makefile", "constraints.txt", "pyproject.toml", "tests/conftest.py", "LICENSE"} <= names
    assert "records/tensorix_records/history/migrations/versions/r1_first_tables.py" in names
    assert "tests/records/histories/history_revision_1.sql" in names
    assert not [name for name in names if name.startswith((".venv/", "runs/", ".git/"))]
