"""`tensorix compare`: its exit statuses, and what it prints."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from tensorix_records import RequestRecord, Run

Command = Callable[..., subprocess.CompletedProcess[str]]
_ORIGIN_NS = 1_790_000_000_000_000_000


@pytest.fixture
def two_runs(tmp_path: Path) -> list[str]:
    """A run, and one of the same requests that is twice as slow."""
    for name, times in (("before", 1), ("after", 2)):
        run = Run.create(tmp_path / name, {"run_id": name, "kind": "load", "started_unix_ns": _ORIGIN_NS})
        writer = run.writer("p1", now_unix_ns=lambda: _ORIGIN_NS)
        for number in range(200):
            took_ns = times * (100 + number * 37 % 101) * 1_000_000
            writer.add(
                RequestRecord(
                    run_id=name,
                    record_id=f"r{number}",
                    request_id=f"q{number}",
                    key_alias="key-1",
                    endpoint="/chat/completions",
                    stream=True,
                    outcome="success",
                    start_unix_ns=_ORIGIN_NS + number * 100_000_000,
                    first_token_at_ns=took_ns,
                    end_at_ns=took_ns,
                )
            )
        writer.flush()
        writer.close()
    return ["before", "after"]


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ([], 0),
        (["--fail-if", "ttft_p50 +300%"], 0),
        (["--fail-if", "ttft_p50 +10%"], 1),
        (["--fail-if", "ttft_p99.99 +10%"], 3),
    ],
)
def test_the_status_says_what_became_of_the_gates(
    tensorix_here: Command, two_runs: list[str], tmp_path: Path, options: list[str], status: int
) -> None:
    """0 without a gate or within it, 1 beyond it, 3 where there are too few samples; the page lies in the last run."""
    done = tensorix_here("compare", *two_runs, *options)
    assert done.returncode == status
    assert (tmp_path / "after" / "report" / "compare" / "compare.html").is_file()
    assert "baseline: before" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "two runs or more"),
        (["before"], "two runs or more"),
        (["before", "nowhere"], "nowhere"),
        (["before", "after", "--fail-if", "ttft +10%"], "lacks a statistic"),
        (["before", "after", "--gate", "perhaps"], "perhaps"),
    ],
)
def test_a_mistake_is_one_line(tensorix_here: Command, two_runs: list[str], arguments: list[str], said: str) -> None:
    """Status 2, and one line on standard error that says which."""
    assert two_runs
    done = tensorix_here("compare", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_json_is_all_that_is_printed(tensorix_here: Command, two_runs: list[str]) -> None:
    """Standard output is one JSON document, of a version."""
    done = tensorix_here("compare", *two_runs, "--json", "--out", "out")
    assert json.loads(done.stdout)["format"] == 1


def test_the_schema_is_that_of_what_is_written(tensorix_here: Command, two_runs: list[str], tmp_path: Path) -> None:
    """`--schema` prints a JSON Schema, which compare.json and what `--json` prints are held to; no run is asked for."""
    done = tensorix_here("compare", "--schema")
    assert (done.returncode, done.stderr) == (0, "")
    validator = jsonschema.Draft202012Validator(json.loads(done.stdout))
    printed = tensorix_here("compare", *two_runs, "--json", "--fail-if", "ttft_p50 +10%", "--out", "out")
    validator.validate(json.loads(printed.stdout))
    validator.validate(json.loads((tmp_path / "out" / "compare.json").read_text()))
    assert not validator.is_valid(json.loads(printed.stdout) | {"slices": None})
