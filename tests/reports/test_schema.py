"""The published schemas of `summary.json` and `compare.json`: strict, and fit for what any JSON Schema tool asks.

That each of these of every other test here is valid, a fixture in conftest.py sees to.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tensorix_reports import compare
from tensorix_reports.comparison import FORMAT, comparison_schema
from tensorix_reports.load import SUMMARY_FORMAT, load_report, summary_schema


def _objects(schema: Any) -> Iterator[dict[str, Any]]:
    """Every schema of an object in a schema."""
    if isinstance(schema, dict):
        if "properties" in schema:
            yield schema
        for inner in schema.values():
            yield from _objects(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from _objects(inner)


@pytest.mark.parametrize(
    ("text", "version", "least"),
    [(summary_schema(), SUMMARY_FORMAT, 20), (comparison_schema(), FORMAT, 3)],
    ids=["summary", "compare"],
)
def test_the_schema_knows_every_key(text: str, version: int, least: int) -> None:
    """No object may hold a key that the schema does not name, or lack one that it does."""
    schema = json.loads(text)
    assert schema["properties"]["format"] == {"const": version}
    described = list(_objects(schema))
    assert len(described) > least
    for one in described:
        assert one["additionalProperties"] is False, sorted(one["properties"])
        assert set(one["required"]) == set(one["properties"]), sorted(one["properties"])


def test_the_schema_and_its_description_name_the_same_keys() -> None:
    """SUMMARY.md describes each key of the schema."""
    keys = {key for one in _objects(json.loads(summary_schema())) for key in one["properties"]}
    text = (Path(__file__).parents[2] / "reports" / "SUMMARY.md").read_text()
    assert keys - set(re.findall(r"`(?:run\.)?([a-z0-9_]+)`", text)) == set()


@pytest.mark.parametrize(
    ("where", "value"),
    [(("run",), {"new": 1}), (("rate_limit", "totals"), {"sent": "1"}), (("verdict",), {"headline": None})],
    ids=["a key it does not know", "a text for a number", "null for a text"],
)
def test_a_wrong_summary_fails(
    make_run: Callable[..., Path],
    request_at: Callable[..., Any],
    valid_summary: Callable[[Any], None],
    where: tuple[str, ...],
    value: dict[str, Any],
) -> None:
    """What the schema does not allow is found."""
    summary = load_report(make_run([request_at(n, n) for n in range(3)])).to_dict()
    part = summary
    for name in where:
        part = part[name]
    part |= value
    with pytest.raises(AssertionError, match=where[-1]):
        valid_summary(summary)


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ((), {"new": 1}),
        (("runs", 0), {"warnings": "one"}),
        (("runs", 0, "figures", 0), {"kind": "length"}),
        (("gates", 0), {"run": 0}),
        (("gates", 0), {"figure": {"request": "all"}}),
    ],
    ids=["a key it does not know", "a text for a list", "an unknown kind", "a run before the first", "half a figure"],
)
def test_a_wrong_comparison_fails(
    make_run: Callable[..., Path],
    request_at: Callable[..., Any],
    valid_comparison: Callable[[Any], None],
    where: tuple[Any, ...],
    value: dict[str, Any],
) -> None:
    """What the schema does not allow is found."""
    runs = [make_run([request_at(n, n / 4) for n in range(200)]) for _ in range(2)]
    part = comparison = compare(runs, fail_if=["ttft_p50 +10%"]).to_dict()
    for name in where:
        part = part[name]
    part |= value
    with pytest.raises(AssertionError, match=r"see compare\.schema\.json"):
        valid_comparison(comparison)
