"""docs/tracing.md against what there is: attributes, metrics, errors, outcomes, settings, variables."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from tensorix_api import semantic_names as names
from tensorix_tracing import _errors, _settings, instrument
from tensorix_tracing._settings import TracingSettings
from tensorix_tracing._telemetry import Collected, Meter

_PAGE = (Path(__file__).parents[2] / "docs" / "tracing.md").read_text(encoding="utf-8")
# On metrics only.
_OF_METRICS = {names.TOKEN_TYPE, names.TOKEN_MODALITY, names.RESOURCE}
Rows = list[list[str]]


def table(head: str) -> Rows:
    """The rows of the table whose first column has this head, cells as they are."""
    (found,) = re.findall(rf"(?m)^\| {re.escape(head)} \|.*\n\| --- .*\n((?:\|.*\n)+)", _PAGE)
    return [[cell.strip() for cell in row[1:-1].split("|")] for row in found.splitlines()]


def named(cell: str) -> list[str]:
    """What stands in a cell as code."""
    return re.findall(r"`([^`]+)`", cell)


def spelt() -> set[str]:
    """Every attribute that the tracing knows."""
    found: set[str] = set()
    for constant, value in vars(names).items():
        if not constant.isupper():
            continue
        if isinstance(value, str) and re.fullmatch(r"(gen_ai|tensorix|error|server|http)\.[\w.]+|limit", value):
            found.add(value)
        elif isinstance(value, dict):
            found |= {one for one in value.values() if isinstance(one, str)}
    return found


def test_the_page_has_every_attribute() -> None:
    """Each attribute of spans has a row, and each row is one."""
    on_spans = _PAGE.split("## What a span says")[1].split("\n#")[0]
    rows = [name for row in re.findall(r"(?m)^\| (\**`.*?) \| ", on_spans) for name in named(row)]
    assert len(rows) == len(set(rows))
    assert set(rows) == spelt() - _OF_METRICS
    on_metrics = _PAGE.split("Their attributes are a closed list")[1].split("\n#")[0]
    rows = re.findall(r"(?m)^\| `([\w.]+)` \| ", on_metrics)
    assert set(rows) == _OF_METRICS | {
        names.OPERATION,
        names.PROVIDER,
        names.SERVER_ADDRESS,
        names.SERVER_PORT,
        names.REQUEST_MODEL,
        names.ERROR_TYPE,
        names.STREAM_OUTCOME,
        names.KEY_ALIAS,
    }


def test_bold_is_what_a_span_begins_with() -> None:
    """The attributes in bold are those that a sampler sees (held in test_span_attributes.py)."""
    bold = set(re.findall(r"\*\*`([\w.]+)`\*\*", _PAGE))
    assert bold == {names.OPERATION, names.PROVIDER, names.REQUEST_MODEL, names.SERVER_ADDRESS, names.SERVER_PORT}


def made() -> dict[str, tuple[str, str, list[float]]]:
    """Every instrument: its kind, unit and buckets."""
    meter = Mock()
    Meter(meter, "both", Collected())
    found = {}
    for called, arguments, more in meter.method_calls:
        kind = called.removeprefix("create_").removeprefix("observable_")
        unit = arguments[2] if kind == "gauge" else arguments[1]
        found[arguments[0]] = (kind, unit, list(more.get("explicit_bucket_boundaries_advisory", ())))
    return found


def buckets(cell: str) -> list[float]:
    """What `0.01 to 81.92, doubling` stands for."""
    if not cell:
        return []
    first, last, how = re.fullmatch(r"([\d.]+) to ([\d.]+), (doubling|by 4)", cell).groups()  # type: ignore[union-attr]
    bounds = [float(first)]
    while bounds[-1] < float(last):
        bounds.append(bounds[-1] * (2 if how == "doubling" else 4))
    assert bounds[-1] == pytest.approx(float(last))
    return bounds


def test_the_page_has_every_metric() -> None:
    """Names, kinds, units and buckets are those of the instruments."""
    told: dict[str, tuple[str, str, list[float]]] = {}
    for old, new, kind, unit, bounds in table("old name"):
        for name in named(old) + named(new):
            told[name] = (kind, unit.strip("`"), buckets(bounds))
    for name, kind, unit, _ in table("name"):
        told[named(name)[0]] = (kind, unit.strip("`"), [])
    there = made()
    assert set(told) == set(there)
    for name, (kind, unit, boundaries) in there.items():
        assert told[name][:2] == (kind, unit), name
        assert told[name][2] == pytest.approx(boundaries), name


def test_the_page_has_every_outcome_and_error() -> None:
    """The two closed lists."""
    assert tuple(named(row[0])[0] for row in table("`tensorix.stream.outcome`")) == names.OUTCOMES
    errors = {named(row[0])[0] for row in table("`error.type`")}
    lines = [line for line in inspect.getsource(_errors).splitlines() if re.search(r'return "|= Ending\(', line)]
    assert errors == set(re.findall(r'"(\w+)"', "".join(lines))) - {"completed"}
    assert f"`{_errors.OTHER}`" in _PAGE.split("### Errors")[1].split("| ---")[0]


def test_the_page_has_every_setting() -> None:
    """Each argument of `instrument` has a row with its default, and its docstring names each."""
    rows = {named(setting)[0]: default for setting, default, _ in table("setting")}
    arguments = set(inspect.signature(instrument).parameters) - {"client"}
    assert set(rows) == arguments == {field.name for field in fields(TracingSettings)}
    defaults: dict[str, Any] = {field.name: field.default for field in fields(TracingSettings)}
    for name, default in defaults.items():
        if default is None or name == "hosts":
            assert "`" not in rows[name], name
        else:
            assert rows[name] == f"`{default}`", name
    for name in arguments:
        assert f"`{name}`" in str(instrument.__doc__), name


def test_the_page_has_every_variable() -> None:
    """The variables that the settings are read from."""
    rows = {named(row[0])[0] for row in table("environment variable")}
    read = {value for name, value in vars(_settings).items() if name.endswith("_VARIABLE")} | {"TENSORIX_BASE_URL"}
    assert rows == read
    capturing = {word for word, captures in _settings._CAPTURE_WORDS.items() if captures}
    row = next(row[1] for row in table("environment variable") if "CAPTURE" in row[0])
    assert set(named(row.split("capture;")[0])) - {"capture_content"} == capturing - {"1"}


def test_the_numbers_on_the_page() -> None:
    """Bounds that the page names are those in the code."""
    from tensorix_tracing import _attributes, _content, _remaining

    for text, value in (
        ("200 characters at most", _attributes._LONGEST_MODEL),
        ("16 at most, of 100 characters", (_attributes._MOST_STOPS, _attributes._LONGEST_STOP)),
        ("tells 30 distinct ones", _errors._MOST_CODES),
        ("holds 65,536 characters (or 16 texts", (_content._MOST_CHARACTERS, _content._MOST_TEXTS)),
        ("more than 4 MiB", _content._LARGEST_REPLY // 2**20),
    ):
        assert text in _PAGE
        numbers = [int(one.replace(",", "")) for one in re.findall(r"\d[\d,]*", text)]
        assert numbers == list(value if isinstance(value, tuple) else (value,)), text
    assert _remaining._FRESH_NS == 60 * 10**9
