"""The files of a report of limits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tensorix_api.limiters import FixedWindow
from tensorix_records import RequestRecord
from tensorix_reports.limiter import Fitted, Interval
from tensorix_reports.limits import Wished, limits_report, limits_schema, read_traffic, write_limits
from tensorix_reports.limits._pictures import pictures_of

TIMES = [0.05 * place for place in range(200)]


@pytest.fixture
def limited(make_run: Callable[..., Path], through: Callable[..., list[RequestRecord]]) -> Path:
    """A run that met ten requests in five seconds."""
    return make_run(through(FixedWindow("requests", 10, 5_000_000_000), TIMES), limits={})


def test_every_file_is_there_and_the_json_is_as_its_schema_says(
    limited: Path, fits: Callable[..., None], fitted: Callable[..., Fitted], tmp_path: Path
) -> None:
    """Page, JSON and Markdown say the same at the top; a bound without end is none in JSON."""
    endless = Fitted("token_bucket", 0.01, 0.5, Interval(10, 0, float("inf")), Interval(5, 5, 5), None, None, True)
    fits(fitted(), endless, second_limit=(2, 1.0), foreign_per_s=0.5, changed_at_s=7.0, why=["it said so"])
    plan = tmp_path / "traffic.csv"
    plan.write_text("".join(f"{place},100\n" for place in range(30)))
    wished = Wished(want_per_s=5.0, token_limit=1000, mean_tokens=500, plan=read_traffic(plan))
    written = write_limits(limits_report(limited, wished), tmp_path / "report")
    summary = json.loads(written.figures.read_text("utf-8"))
    schema = json.loads(limits_schema())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(summary, schema)
    assert summary["verdict"]["headline"] == "10 requests in 5 s: a fixed window from the first request"
    assert summary["keys"][0]["fit"]["ranked"][1]["limit"] == {"value": 10, "low": 0, "high": None}
    said = "\n".join(written.verdict)
    for words in ("no more than 2 requests in 1 s", "Somebody else", "changed 7.0 s", "keys, each kept", "it said so"):
        assert words in said
    headline = summary["verdict"]["headline"]
    assert headline in written.markdown.read_text("utf-8")
    assert headline in written.page.read_text("utf-8")


@pytest.mark.parametrize("verdict", ["cannot tell", "no model fits"])
def test_what_cannot_be_told_is_said_first(
    limited: Path, fits: Callable[..., None], fitted: Callable[..., Fitted], tmp_path: Path, verdict: Any
) -> None:
    """The headline names what it may be, and no kind is claimed; what would tell is said."""
    both = (fitted(), fitted("sliding_log"))
    fits(*both, verdict=verdict, would_tell="a drain just after a window")
    lines = write_limits(limits_report(limited), tmp_path / "report").verdict
    if verdict == "cannot tell":
        assert lines[0].endswith("whether by a fixed window from the first request or a sliding log")
        assert any("a drain just after a window." in line for line in lines)
    else:
        assert lines[0].startswith("None of the known kinds of limiter explains what was seen")


def test_the_picture_says_where_the_limiter_and_the_server_differ(
    limited: Path, fits: Callable[..., None], fitted: Callable[..., Fitted]
) -> None:
    """By the right limiter nothing is surprising; one of eight would have refused the last two of each window."""
    for limit, surprising in ((10, 0), (8, 4)):
        fits(fitted(limit=limit))
        report = limits_report(limited)
        assert report.main is not None
        (picture,) = pictures_of(report.main, report.frames.end_s)
        assert len(picture.data["rows"]) == 200
        assert set(picture.data["rows"]["what"]) == {"passed", "refused"}
        assert picture.caption.endswith(f"It says otherwise than what came of {surprising} of 200.")
