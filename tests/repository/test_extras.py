"""What an install without extras can do, and what a command says whose parts are missing."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder
from packaging.requirements import Requirement

from tensorix_cli._extras import NEEDS

_BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {modules!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocked())
from tensorix_cli import main
sys.exit(main({arguments!r}))
"""

_COMMANDS = {
    "load": (["load", "--base-url", "http://127.0.0.1:1/v1", "--requests", "1"], ["loadtests", "reports"]),
    "load without a report": (["load", "--no-report", "--base-url", "http://127.0.0.1:1/v1"], ["loadtests"]),
    "search": (["search", "--base-url", "http://127.0.0.1:1/v1", "--slo", "e2e_p50 < 1s"], ["loadtests", "reports"]),
    "report": (["report", "runs/none"], ["reports"]),
    "spans": (["spans", "none.jsonl"], ["reports"]),
    "demo": (["demo", "--out", "runs/none"], ["simulator", "loadtests", "reports"]),
    "simulate": (["simulate", "--port", "0"], ["simulator"]),
    "probe report": (["probe", "report", "--history", "none"], ["reports", "history"]),
}


@pytest.fixture(scope="module")
def bare(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, unpacked with nothing beside it: an install without extras."""
    folder = tmp_path_factory.mktemp("bare")
    (wheel,) = WheelBuilder(str(root)).build(directory=str(folder / "dist"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def _run_bare(bare: Path, code: str) -> subprocess.CompletedProcess[str]:
    # Without `site` there are no site-packages: the standard library and the wheel are all there is.
    code = f"import sys; sys.path.insert(0, {str(bare)!r})\n{code}"
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], cwd=bare, capture_output=True, text=True, check=False, timeout=30
    )


def test_the_api_room_works_bare(bare: Path) -> None:
    """Every module of the api room is imported by an install without extras."""
    modules = [f"tensorix_api.{path.stem}" for path in (bare / "tensorix_api").glob("[a-z]*.py")]
    ran = _run_bare(bare, f"import {', '.join(modules)}; from tensorix_api import Settings; Settings()")
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.parametrize("arguments", [[], ["--help"], ["load"], ["no-such-command"]])
def test_the_command_of_a_bare_install_names_its_extra(bare: Path, arguments: list[str]) -> None:
    """Without the parts of the command line, `tensorix` names the extra that has them, as a mistake of the user's."""
    ran = _run_bare(bare, f"from tensorix_cli import main; sys.exit(main({arguments!r}))")
    assert ran.returncode == 2
    assert ran.stdout == ""
    assert ran.stderr.count("\n") == 1
    assert "pip install 'tensorix-toolkit[cli" in ran.stderr


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        pytest.param(arguments, extra, id=f"{command}, {extra}")
        for command, (arguments, extras) in _COMMANDS.items()
        for extra in extras
    ],
)
def test_each_command_names_the_extra_that_is_missing(
    arguments: list[str], extra: str, tmp_path: Path, subprocess_environment: dict[str, str]
) -> None:
    """A command whose parts are missing says which extra to install, in one line, exit status 2, and leaves nothing."""
    # What another extra brings as well is there: this one alone is missing.
    shared = {module for name in ("cli", "records") for module in NEEDS[name]}
    code = _BLOCKED.format(modules=set(NEEDS[extra]) - shared, arguments=arguments)
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=subprocess_environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert ran.returncode == 2
    assert ran.stderr.count("\n") == 1
    for installed in ("pip install 'tensorix-toolkit[", "in a clone pip install '.["):
        assert extra in ran.stderr.split(installed, 1)[1].split("]")[0].split(",")
    assert list(tmp_path.iterdir()) == []


def test_the_list_of_needs_is_that_of_the_extras(root: Path) -> None:
    """Every module that a command looks for is brought by the extra that it names."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]

    def brought(extra: str) -> set[str]:
        names = set[str]()
        for requirement in map(Requirement, project[extra]):
            if requirement.name == "tensorix-toolkit":
                names |= set().union(*map(brought, requirement.extras))
            names.add(requirement.name.removeprefix("google-").removesuffix("-python").replace("-", "_"))
        return names

    assert {extra: set(modules) - brought(extra) for extra, modules in NEEDS.items()} == {
        extra: set() for extra in NEEDS
    }
