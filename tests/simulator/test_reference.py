"""docs/simulator.md, against what there is."""

from __future__ import annotations

import io
import json
import re
import types
import urllib.request
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tensorix_simulator import Simulator
from tensorix_simulator.faults import fault_text
from tensorix_simulator.http.certificates import CERTIFICATES
from tensorix_simulator.limits import limit_text
from tensorix_simulator.presets import PRESETS
from tensorix_simulator.settings import SimulatorSettings, alias_of
from tensorix_simulator.settings_file import allowed


@pytest.fixture(scope="module")
def reference() -> str:
    """The page."""
    return (Path(__file__).parents[2] / "docs" / "simulator.md").read_text(encoding="utf-8")


def test_every_setting_is_there_with_its_default(reference: str) -> None:
    """A row for each, in their order, and none for what is no setting; keys as they are, not as their aliases."""
    section = reference.split("## Settings")[1].split("\n### ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| `(.+?)` \|", section, re.MULTILINE))
    shown = {name: json.dumps(value) for name, value in SimulatorSettings().to_dict().items() if name != "format"}
    for key in ("sk-invalid", "sk-no-credit"):
        shown = {name: value.replace(alias_of(key), key) for name, value in shown.items()}
    assert list(rows.items()) == list(shown.items())


def test_every_choice_is_there(reference: str) -> None:
    """Of a setting with choices each but the default is in its row."""
    for name, default in SimulatorSettings().to_dict().items():
        if name == "format" or not allowed(name).startswith("one of "):
            continue
        (row,) = (line for line in reference.splitlines() if line.startswith(f"| `{name}` |"))
        for choice in allowed(name).removeprefix("one of ").split(", "):
            assert choice in (default, "null") or f"`{choice}`" in row, (name, choice)


def test_every_fault_limit_preset_and_certificate_is_there(reference: str) -> None:
    """Word for word, as the simulator itself tells them."""
    for form, meaning in {**fault_text.FORMS, **fault_text.CLAUSES}.items():
        assert f"| `{form}` | {meaning} |" in reference
    for form in limit_text.FORMS:
        assert form.removeprefix("each also ").split("'")[1] in reference
    for name in PRESETS:
        assert f"`{name}`" in reference
    for name in CERTIFICATES:
        assert f"| `{name}` |" in reference


def test_every_page_of_the_control_interface_is_there(reference: str, start: Callable[..., Simulator]) -> None:
    """As the control port itself lists its pages and methods."""
    simulator = start()
    with httpx.Client(base_url=simulator.control_url, trust_env=False) as client:
        message = client.get("/none").json()["error"]["message"]
        for page in re.findall(r"/\w+", message):
            for method in client.request("TRACE", page).headers["allow"].split(", "):
                assert f"`{method} {page}" in reference


def test_the_loop_over_the_truth_gives_all_of_it(reference: str, start: Callable[..., Simulator]) -> None:
    """As it stands on the page, over a truth that is longer than what comes at once."""
    (loop,) = re.findall(r"page by page:\n\n```python\n(.*?)```", reference, re.DOTALL)
    simulator, written = start(), io.BytesIO()
    with simulator.truth_path.open("ab") as file:
        file.write(b'{"event":"padding"}\n' * 500_000)
    simulator.reset()
    stdout = types.SimpleNamespace(buffer=written)
    exec(
        loop,
        {"urllib": urllib, "sys": types.SimpleNamespace(stdout=stdout), "control_url": simulator.control_url},
    )
    assert written.getvalue() == simulator.truth_path.read_bytes()
    assert len(written.getvalue()) > 2 * 4_194_304
