"""The page about the configuration, against what can be configured."""

from __future__ import annotations

import re
import tomllib
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import pytest

from tensorix_probes.configuration.file import read_configuration
from tensorix_probes.configuration.schema import MaintenanceSection, Root, Section, TargetSection
from tensorix_probes.configuration.values import written
from tensorix_probes.settings import Configuration, Prices, Target


@pytest.fixture(scope="module")
def section() -> str:
    """The section of docs/probes.md."""
    page = (Path(__file__).parents[2] / "docs" / "probes.md").read_text(encoding="utf-8")
    return page.split("\n## Configuration\n")[1].split("\n## ")[0]


def _names(model: type[Section], start: str = "") -> list[str]:
    found = []
    for field in model.model_fields.values():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, Section):
            found += _names(inner, f"{start}{field.alias}.")
        else:
            found.append(f"{start}{field.alias}")
    return found


def _rows(table: str) -> dict[str, str]:
    rows = re.findall(r"(?m)^\| ((?:`[\w.]+`(?:, )?)+) \|(?: (.*?))? \| .*\|$", table)
    return {name: default for names, default in rows for name in re.findall(r"`([\w.]+)`", names)}


def test_the_page_has_every_setting_and_no_other(section: str) -> None:
    """Each setting of the three tables can be written, and each that can be written is there."""
    whole, target, maintenance = (_rows(table) for table in section.split("\n| --- | --- | --- |\n")[1:])
    assert set(whole) == {name for name in _names(Root) if name not in ("defaults", "target", "maintenance")}
    without_names = {re.sub(r"\.(CHECK|NAME).*", "", name) for name in target}
    assert without_names == set(_names(TargetSection))
    assert set(maintenance) == set(_names(MaintenanceSection))


def _value(name: str, of: Any) -> Any:
    for step in name.split("."):
        of = getattr(of, step) if hasattr(of, step) else getattr(of, f"{step}_s")
    return of


def _as_written(name: str, of: Any) -> str:
    value = _value(name, of)
    last = name.rpartition(".")[2]
    parent = _value(name.rpartition(".")[0], of) if "." in name else of
    if value is None:
        return "none"
    if is_dataclass(parent) and hasattr(parent, f"{last}_s"):
        return written(value)
    if last in ("share", "availability"):
        return f"{value * 100:g}%"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "[" + ", ".join(f'"{one}"' for one in value) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def test_the_page_has_the_defaults(section: str) -> None:
    """Each default on the page is that of the values."""
    whole, target, _ = (_rows(table) for table in section.split("\n| --- | --- | --- |\n")[1:])
    elsewhere = {"key_env", "key_file", "webhook_env", "webhook_file", "password_env"}
    compared = 0
    for rows, of in ((whole, Configuration(targets=())), (target, Target(name="x", prices=Prices()))):
        for name, default in rows.items():
            if name.rpartition(".")[2] in elsewhere:
                assert default == "`none`"
            elif re.fullmatch(r"`.*`", default) and not name.startswith("every"):
                assert default == f"`{_as_written(name, of)}`", name
                compared += 1
    assert compared > 45


def test_the_example_of_the_page_can_be_used(section: str, tmp_path: Path) -> None:
    """What the page shows is read without a mistake."""
    (example,) = re.findall(r"```toml\n(.*?)```", section, re.S)
    assert len(tomllib.loads(example)["target"]) == 2
    (tmp_path / "probes.toml").write_text(example)
    (tmp_path / "gateway-key").write_text("sk-of-the-gateway")
    (tmp_path / "gateway-key").chmod(0o600)
    environ = {"TENSORIX_API_KEY": "sk-of-tensorix", "CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert read_configuration(tmp_path / "probes.toml", environ).warnings == ()
