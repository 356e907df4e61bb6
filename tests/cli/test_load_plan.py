"""Load plans in files, runs that are repeated and runs that go on."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from tensorix_cli._commands import app
from tensorix_cli._load_plan_file import TABLES
from tensorix_records import Run
from tensorix_simulator import Simulator

Command = Callable[..., subprocess.CompletedProcess[str]]

# What says where to write, what to read or that somebody agreed; a header's value may be a secret, but a plan may hold
# it: the file is the user's own.
_NO_PART_OF_A_PLAN = {"out", "yes", "report", "plan", "again", "resume"}


def asked(folder: Path) -> dict[str, Any]:
    """What the manifest of a run says was asked for."""
    return dict(Run.open(folder).manifest["asked"])


def test_a_plan_can_hold_every_option_that_says_what_to_do() -> None:
    """Each option of `tensorix load` belongs into one table of a plan, and the tables hold nothing else."""
    command = typer.main.get_command(app).commands["load"]  # type: ignore[attr-defined]
    options = {parameter.name for parameter in command.params} - _NO_PART_OF_A_PLAN
    named = [name for names in TABLES.values() for name in names]
    assert sorted(named) == sorted(options)


def test_the_command_line_goes_over_the_plan(tensorix: Command, tmp_path: Path, simulator: Simulator) -> None:
    """Values of a file are taken in TOML's own types or as text, and what is given as well wins; the manifest has both
    as they were written.
    """
    (tmp_path / "lines.txt").write_text("one\ntwo\n")
    (tmp_path / "plan.toml").write_text(
        f"""
        [server]
        base-url = "{simulator.base_url}"
        max-tokens = 3
        body = {{ top_p = 0.5 }}

        [traffic]
        requests = 50
        mix = {{ chat-streamed = 1, chat-unstreamed = 1 }}

        [prompts]
        prompt-file = ["lines.txt"]

        [objectives]
        slo = ["error_rate < 50%"]

        [timeouts]
        timeout = "7s"
        """
    )
    ran = tensorix("load", "--plan", "plan.toml", "--requests", "2", "--users", "2", "--no-report", "--out", "run")
    # Two requests are not enough for a rate of errors, or they are: what counts here is that it was judged.
    assert ran.returncode in (0, 3), ran.stderr
    told = asked(tmp_path / "run")
    assert (told["requests"], told["max_tokens"], told["body"], told["prompts"]) == (
        2,
        3,
        {"top_p": 0.5},
        ["one", "two"],
    )
    assert (told["mix"], told["timeouts"]["total_s"]) == ({"chat-streamed": 1.0, "chat-unstreamed": 1.0}, 7.0)
    assert told["options"]["requests"] == "2"
    assert told["options"]["prompt_files"] == [str(tmp_path / "lines.txt")]


def test_a_run_is_made_again_from_its_manifest(tensorix: Command, tmp_path: Path, simulator: Simulator) -> None:
    """`--again` asks for the same, with what is given as well; the values of headers are not in the manifest."""
    first = (
        "load",
        "--base-url",
        simulator.base_url,
        "--requests",
        "2",
        "--max-tokens",
        "4",
        "--header",
        "X-Mark: secret",
    )
    assert tensorix(*first, "--no-report", "--out", "first").returncode == 0
    assert tensorix("load", "--again", "first", "--requests", "1", "--no-report", "--out", "second").returncode == 0
    one, two = asked(tmp_path / "first"), asked(tmp_path / "second")
    assert (one["max_tokens"], one["requests"], two["max_tokens"], two["requests"]) == (4, 2, 4, 1)
    assert "secret" not in (tmp_path / "first" / "manifest.json").read_text()


def test_a_run_goes_on_in_its_folder(tensorix: Command, tmp_path: Path, simulator: Simulator) -> None:
    """`--resume` keeps to what was asked for and adds to the records; only caps and lengths can be changed."""
    run = ("load", "--base-url", simulator.base_url, "--requests", "5", "--cap-requests", "4", "--max-tokens", "3")
    assert tensorix(*run, "--no-report", "--out", "run").returncode == 0
    assert Run.open(tmp_path / "run").manifest["end_reason"] == "budget"
    assert tensorix("load", "--resume", "run", "--cap-requests", "20", "--no-report").returncode == 0
    resumed = Run.open(tmp_path / "run")
    endpoints = resumed.records(["endpoint"]).column("endpoint").to_pylist()
    assert (endpoints.count("/chat/completions"), resumed.manifest["end_reason"]) == (5, "requests")
    sent = len(simulator.truth("arrival"))
    for asked, left in (((), "it has sent its 5 requests"), (("--requests", "9", "--cap-requests", "7"), "7 of 7")):
        again = tensorix("load", "--resume", "run", "--no-report", *asked)
        assert (again.returncode, again.stderr.count("\n")) == (2, 1)
        assert again.stderr.startswith("tensorix: error: nothing is left of ")
        assert left in again.stderr
    assert len(simulator.truth("arrival")) == sent


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[traffic]\nrequests = 'x'\n", ("plan.toml:2", "--requests")),
        ("[traffic]\n\nreqests = 4\n", ("plan.toml:3", "'reqests'", "requests")),
        ("[server]\nrate = 4\n", ("plan.toml:2", "[schedule]")),
        ("[trafic]\nrequests = 4\n", ("'trafic'", "[traffic]")),
        ("requests = 4\n", ("'requests'", "[traffic]")),
        ("[traffic]\nrequests = \n", ("plan.toml", "TOML")),
        ("[limits]\nrpm = 3\nlimit-requests = 3\n", ("plan.toml:3", "twice")),
        ("[objectives]\nslo = [1]\n", ("plan.toml:2", "texts")),
        ("[objectives]\nslo = 'ttft_p95 < fast'\n", ("plan.toml:2", "ttft_p95 < fast")),
        ("[schedule]\nseed = 1\nrate = '5/fortnight'\n", ("plan.toml:3", "'5/fortnight'")),
        ("[traffic]\n[server]\nmodels = { a = 'x' }\n", ("plan.toml:3", "--models")),
        ("[prompts]\nshared-prefixes = 3\n", ("plan.toml:2", "--shared-prefix")),
        ("[prompts]\nprompt-file = 'none.txt'\n", ("none.txt",)),
    ],
)
def test_a_wrong_line_is_named(tensorix_here: Command, tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
    """A mistake of a plan is one line with its place."""
    (tmp_path / "plan.toml").write_text(text)
    ran = tensorix_here("load", "--base-url", "http://127.0.0.1:9/v1", "--plan", "plan.toml")
    assert ran.returncode == 2
    assert ran.stderr.startswith("tensorix: error: ")
    assert ran.stderr.count("\n") == 1, ran.stderr
    for word in words:
        assert word in ran.stderr


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--plan", "none.toml"], "none.toml"),
        (["--again", "nowhere"], "nowhere"),
        (["--resume", "nowhere"], "nowhere"),
        (["--plan", "a", "--again", "b"], "one of them"),
        (["--again", "probed"], "only load tests"),
        (["--resume", "run", "--rate", "5"], "--rate"),
    ],
)
def test_what_cannot_be_repeated_is_said(
    tensorix_here: Command, tmp_path: Path, arguments: list[str], word: str
) -> None:
    """A file or run that is not there, two sources at once, and what a resumed run cannot change."""
    (tmp_path / "probed").mkdir()
    (tmp_path / "probed" / "manifest.json").write_text(json.dumps({"format": 1, "run_id": "r", "kind": "trace"}))
    ran = tensorix_here("load", *arguments)
    assert ran.returncode == 2
    assert word in ran.stderr
    assert ran.stderr.count("\n") == 1


def test_the_page_has_every_key_of_a_plan() -> None:
    """docs/load-plans.md lists, for each table, the spelling of each option."""
    command = typer.main.get_command(app).commands["load"]  # type: ignore[attr-defined]
    page = (Path(__file__).parents[2] / "docs" / "load-plans.md").read_text()
    rows = dict(re.findall(r"^\| `\[(\w+)\]` \| (.*) \|$", page, re.MULTILINE))
    assert list(rows) == list(TABLES)
    for table, names in TABLES.items():
        spelled = [one.opts[0].removeprefix("--") for one in command.params if one.name in names]
        assert sorted(
            re.findall(r"`([^`]+)`(?! \()", rows[table].replace("(`rpm`)", "").replace("(`tpm`)", ""))
        ) == sorted(spelled)
