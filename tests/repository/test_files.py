"""The files of the repository: what must not be in them, and that they agree with each other."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_REGISTRY = re.compile(r"https?://\S*(?:pypi|pythonhosted|npmjs|conda|/simple\b)\S*|-index-url|find-links", re.I)
# Where the examples of deployment expect the toolkit is nobody's machine.
_MACHINE = re.compile(r"(?<![\w.:/-])/(?!opt/tensorix\b)(?:home|root|work|Users|opt|mnt)/[\w.-]+")
_BINARY = {".png", ".parquet", ".arrows", ".woff2", ".ico"}


def _texts(tracked: list[Path]) -> dict[Path, str]:
    return {path: path.read_text(encoding="utf-8") for path in tracked if path.suffix not in _BINARY}


def test_no_file_names_a_registry(tracked: list[Path]) -> None:
    """Where packages come from is the business of whoever installs them: no file holds a registry's address."""
    here = Path(__file__)
    found = {path: _REGISTRY.findall(text) for path, text in _texts(tracked).items() if path != here}
    assert {path: hits for path, hits in found.items() if hits} == {}


def test_no_file_names_a_place_on_one_machine(tracked: list[Path]) -> None:
    """No path of somebody's own machine is in a tracked file."""
    found = {path: _MACHINE.findall(text) for path, text in _texts(tracked).items()}
    assert {path: hits for path, hits in found.items() if hits} == {}


def test_constraints_pin_everything_that_is_installed(root: Path) -> None:
    """Each line is `name==version`, and what builds the package or comes with the dev extra, however deep, has one."""
    lines = (root / "constraints.txt").read_text().splitlines()
    pinned = {}
    for line in lines:
        match = re.fullmatch(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.+!]+)", line)
        assert match, line
        pinned[canonicalize_name(match[1])] = match[2]
    assert len(pinned) == len(lines)
    brought: set[str] = set()
    builders = tomllib.loads((root / "pyproject.toml").read_text())["build-system"]["requires"]
    todo = [
        ("tensorix-toolkit", frozenset({"dev"})),
        *((Requirement(name).name, frozenset[str]()) for name in builders),
    ]
    seen = set()
    while todo:
        name, extras = todo.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        brought.add(name)
        for requirement in map(Requirement, distribution(name).requires or []):
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras or {""}):
                todo.append((canonicalize_name(requirement.name), frozenset(requirement.extras)))
    assert brought - set(pinned) == {"tensorix-toolkit"}


def test_the_licence_is_whole(root: Path) -> None:
    """LICENSE is the Apache License 2.0, from its title to its end."""
    text = (root / "LICENSE").read_text()
    assert "Apache License" in text.splitlines()[0]
    assert "9. Accepting Warranty or Additional Liability." in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_the_changelog_has_an_entry_for_what_is_next(root: Path) -> None:
    """CHANGELOG.md has a section for what is not yet released, with something in it."""
    section = (root / "CHANGELOG.md").read_text().split("## [Unreleased]")[1].split("\n## ")[0]
    assert re.search(r"^- \S", section, re.M)
