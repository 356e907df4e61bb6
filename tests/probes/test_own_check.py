"""A check of somebody else's: named by an installed package, run like those that come with the toolkit."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tensorix_simulator import Simulator

_MODULE = """
from tensorix_probes.check import Check, Finding
from tensorix_probes.result import Assertion, State


def run(context):
    answer = context.ask("GET", "/models", kind="models")
    count = len(answer.json()["data"])
    context.memory["runs"] = context.memory.get("runs", 0) + 1
    few = count < context.options["least"]
    detail = f"{count} of {context.options['least']} models"
    assertion = Assertion("models_are_enough", not few, detail if few else None, State.DEGRADED)
    return Finding(assertions=(assertion,), answer=answer, figures={"models": count})


def broken(context):
    raise ValueError("the key is " + context.target.api_key.reveal())


ENOUGH = Check(name="enough", run=run)
BROKEN = Check(name="broken", run=broken)
NO_CHECK = "a text"
"""
_ENTRY_POINTS = """
[tensorix_probes.checks]
enough = of_mine:ENOUGH
broken = of_mine:BROKEN
absent = of_mine:ABSENT
text = of_mine:NO_CHECK
"""
_SCRIPT = """
import json, sys
from tensorix_api import Secret, TensorixError
from tensorix_probes import run_once
from tensorix_probes.registry import known_checks
from tensorix_probes.settings import Target

asked = json.loads(sys.argv[1])
key = Secret("sk-of-somebody-0123456789")
target = Target(**asked, name="t", api_key=key, model="z-ai/glm-5")
try:
    print(json.dumps([known_checks(), [result.to_dict() for result in run_once(target)]]))
except TensorixError as error:
    print(json.dumps([type(error).__name__, str(error)]))
"""

Play = Callable[..., Any]


@pytest.fixture
def play(tmp_path: Path, borrow: Callable[..., Simulator], subprocess_environment: dict[str, str]) -> Play:
    """Runs checks once in a process that finds a small package with checks of its own, and gives what it printed."""
    (tmp_path / "of_mine.py").write_text(_MODULE)
    installed = tmp_path / "of_mine-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: of-mine\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text(_ENTRY_POINTS)

    def run(*checks: str, **fields: Any) -> Any:
        asked = json.dumps({"base_url": borrow().base_url, "checks": checks, **fields})
        ran = subprocess.run(
            [sys.executable, "-c", _SCRIPT, asked],
            env={**subprocess_environment, "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert ran.stderr == ""
        assert "sk-of-somebody-0123456789" not in ran.stdout
        return json.loads(ran.stdout)

    return run


def test_it_runs_with_its_options(play: Play) -> None:
    """It is listed after the built-in ones, runs after those that ask, reads its options, and says what it found."""
    known, results = play("enough", "models", options={"enough": {"least": 7}})
    assert known[-4:] == ["absent", "broken", "enough", "text"]
    assert [(result["check"], result["state"]) for result in results] == [("models", "up"), ("enough", "degraded")]
    assert (results[1]["reason"], results[1]["figures"], results[1]["status"]) == ("3 of 7 models", {"models": 3}, 200)
    _, results = play("enough", options={"enough": {"least": 3}})
    assert [result["state"] for result in results] == ["up"]


def test_one_that_breaks_harms_no_other(play: Play) -> None:
    """An exception is a defect of that check, told without the key; what comes after it runs on."""
    _, (broken, models) = play("broken", "enough", options={"enough": {"least": 1}})
    assert (broken["check"], broken["state"]) == ("broken", "inconclusive")
    assert broken["reason"].startswith("a defect of the check broken: ValueError: the key is ")
    assert models["state"] == "up"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("absent", "the check 'absent' (of_mine:ABSENT) cannot be loaded"),
        ("text", "the check 'text' (of_mine:NO_CHECK) is no tensorix_probes.check.Check"),
        ("unknown", "there is no check 'unknown': choose from tls, models, "),
    ],
)
def test_one_that_is_none_is_named(play: Play, name: str, told: str) -> None:
    """What cannot be loaded, is no check or does not exist is a wrong setting, told with what there is."""
    kind, message = play(name)
    assert kind == "SettingsError"
    assert message.startswith(told)
    assert "\n" not in message
