"""What the README and the help say, against what there is."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from tensorix_cli import _commands
from tensorix_cli.exit_status import MEANING

_GROUP: Any = typer.main.get_command(_commands.app)


def _commands_of(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every command and what it is called by: `load`, `probe once`."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands_of(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


_COMMANDS: dict[str, Any] = dict(_commands_of(_GROUP))
_DOCUMENTS = (
    "README.md",
    "docs/compare.md",
    "docs/objectives.md",
    "docs/limit-share.md",
    "docs/load-plans.md",
    "docs/many-machines.md",
    "docs/open-loop.md",
    "docs/prompts.md",
    "docs/reports.md",
    "docs/search.md",
    "docs/simulator.md",
    "docs/spending.md",
    "docs/watching.md",
    "docs/probes.md",
    "docs/runbooks.md",
    "docs/traces-to-reports.md",
    "docs/tracing.md",
    "probes/deployment/README.md",
    "tracing/example/README.md",
)


@pytest.fixture(scope="module")
def readme(root: Path) -> str:
    """README.md."""
    return (root / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def documents(root: Path) -> str:
    """Every document that has command lines in it."""
    return "\n".join((root / name).read_text(encoding="utf-8") for name in _DOCUMENTS if (root / name).exists())


def _console_lines(text: str) -> list[list[str]]:
    # A line that ends with a backslash goes on.
    blocks = re.findall(r"```console\n(.*?)```", re.sub(r"\\\n *", "", text), re.S)
    lines = [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]
    assert lines
    return [shlex.split(line, comments=True) for line in lines]


_READ = {"--plan", "--again"}


def test_every_command_line_in_the_documents_works_on(documents: str) -> None:
    """Each `tensorix …` line of a document names a command that there is, with options that it has."""
    lines = [words for words in _console_lines(documents) if words[0] == "tensorix"]
    assert {words[1] for words in lines} >= {"load", "simulate", "probe"}
    for words in lines:
        length = 1 if words[1] in _COMMANDS else 2
        name, arguments = " ".join(words[1 : 1 + length]), words[1 + length :]
        if ">" in arguments:
            arguments = arguments[: arguments.index(">")]
        # A plan or run that a line names is not there.
        arguments = [word for at, word in enumerate(arguments) if not {word, *arguments[max(0, at - 1) : at]} & _READ]
        # Parsed as the command line itself would, without running it.
        context = _COMMANDS[name].make_context(name, list(arguments), resilient_parsing=False)
        assert context.params


def test_the_locustfile_of_the_readme_can_be_loaded(readme: str, subprocess_environment: dict[str, str]) -> None:
    """The example declares a Locust user with one task of its own."""
    (example,) = [code for code in re.findall(r"```python\n(.*?)```", readme, re.S) if "locust" in code]
    code = f"{example}\nprint([task.__name__ for task in Reader.tasks], Reader.abstract)"
    ran = subprocess.run(
        [sys.executable, "-c", code], env=subprocess_environment, capture_output=True, text=True, check=False
    )
    assert (ran.stdout, ran.stderr) == ("['read'] False\n", "")


def test_the_traced_client_of_the_documents_is_made(documents: str, subprocess_environment: dict[str, str]) -> None:
    """The examples that trace a client run as they stand, and leave a client that is traced."""
    examples = [code for code in re.findall(r"```python\n(.*?)```", documents, re.S) if "tensorix_tracing" in code]
    assert len(examples) >= 2
    for example in examples:
        ran = subprocess.run(
            [sys.executable, "-c", f"{example}\nprint('request' in vars(client))"],
            env=subprocess_environment | {"OPENAI_API_KEY": "sk-none", "OTEL_SDK_DISABLED": "true"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (ran.stdout, ran.stderr) == ("True\n", "")


def test_every_make_target_in_the_documents_exists(root: Path, readme: str) -> None:
    """Each `make TARGET` of the README and of CONTRIBUTING.md is a target of the Makefile."""
    targets = set(re.findall(r"^([a-z][a-z-]*):", (root / "Makefile").read_text(), re.M))
    documents = readme + (root / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = {target for words in re.findall(r"`?make ([a-z][a-z -]*)", documents) for target in words.split()[:1]}
    assert {"demo", "test", "check", "bench", "test-slow"} <= named & targets
    commanded = set(re.findall(r"`make ([a-z-]+)", documents)) | {
        words[1] for words in _console_lines(readme) if words[0] == "make"
    }
    assert commanded <= targets


def test_every_file_that_is_linked_exists(root: Path) -> None:
    """Links of the documents to files of the repository lead somewhere."""
    for name in {"CONTRIBUTING.md", "CHANGELOG.md", *_DOCUMENTS}:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", (root / name).read_text(encoding="utf-8")):
            assert ((root / name).parent / link).exists(), f"{name} links to {link}"


def test_paths_named_in_contributing_exist(root: Path) -> None:
    """The files that CONTRIBUTING.md sends people to are there."""
    text = (root / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rooms = "api|records|simulator|loadtests|probes|tracing|reports|experiments|cli"
    for path in re.findall(rf"`((?:{rooms})/[\w/.]+)`", text):
        assert (root / path).exists(), path


def test_the_table_of_exit_statuses_is_the_one_that_is_used(readme: str) -> None:
    """README and `--help` hold the statuses and meanings of `tensorix_cli.exit_status`, all of them and no other."""
    section = readme.split("## Exit statuses")[1].split("\n## ")[0]
    rows = dict(re.findall(r"^\| (\d+) \| (.+) \|$", section, re.M))
    assert rows == {str(status.value): meaning for status, meaning in MEANING.items()}
    for status, meaning in MEANING.items():
        assert f"{status.value}: {meaning}" in str(_GROUP.epilog)


@pytest.mark.parametrize("name", sorted(_COMMANDS))
def test_every_command_and_option_has_help(name: str) -> None:
    """A command says what it does, and so does each of its options and arguments."""
    command = _COMMANDS[name]
    assert (command.help or "").strip().endswith(".")
    for parameter in command.params:
        assert (getattr(parameter, "help", None) or "").strip(), parameter.name


@pytest.mark.parametrize("name", sorted(_COMMANDS))
def test_the_readme_names_every_command(readme: str, name: str) -> None:
    """No command is missing from the README."""
    assert re.search(rf"`?(tensorix|make) {name}\b", readme)


def test_the_variables_of_the_readme_are_read(readme: str, root: Path) -> None:
    """Each TENSORIX_… variable that the README names is one that the code reads."""
    code = "".join(
        path.read_text() for room in ("api", "cli", "loadtests", "probes") for path in (root / room).rglob("*.py")
    )
    named = set(re.findall(r"TENSORIX_[A-Z_]+", readme))
    assert {"TENSORIX_API_KEY", "TENSORIX_BASE_URL", "TENSORIX_MODEL"} <= named
    assert all(f'"{name}"' in code for name in named)
