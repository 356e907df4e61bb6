"""The files of a report of limits: page, JSON and Markdown, in the run's folder.

RUN/report/limits.json    everything, versioned (`format`); `limits.schema.json` of this package describes it
RUN/report/limits.html    one page that opens with no network
RUN/report/limits.md      the same in Markdown
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from tensorix_reports.limits._pictures import pictures_of
from tensorix_reports.limits._report import LimitsReport
from tensorix_reports.limits._tables import tables_of
from tensorix_reports.limits._words import verdict_of
from tensorix_reports.page._html import Section, html_of
from tensorix_reports.page._markdown import markdown_of
from tensorix_reports.page._placing import place
from tensorix_reports.page._statement import Verdict
from tensorix_reports.page._tables import NOTHING, Cell, number

__all__ = ["LimitsPaths", "limits_json", "limits_schema", "write_limits"]

_SECTIONS = (
    Section("The limiter", ("kinds",), ("evidence",)),
    Section("What it means", ("meaning", "binding")),
    Section("What responses said", ("audit", "rises", "retry")),
    Section("Asked besides", ("beside", "actions")),
)
_GLOSSARY = (
    ("window", "The time in which so many requests may come."),
    ("burst", "Requests that may come at once, once the budget is whole."),
    ("probability", "Of a kind among those that were tried, after what was seen."),
    ("phase", "Of windows on a clock: how long after whole multiples of the window they begin."),
)


@dataclass(frozen=True, slots=True)
class LimitsPaths:
    """Where a report was written, and what it says at the top."""

    verdict: list[str]
    page: Path
    figures: Path
    markdown: Path


def limits_schema() -> str:
    """The JSON Schema (2020-12) of `limits.json`, as text."""
    return resources.files("tensorix_reports").joinpath("limits", "limits.schema.json").read_text("utf-8")


def _dict(report: LimitsReport, verdict: Verdict) -> dict[str, Any]:
    said = {"headline": verdict.headline, "statements": [asdict(statement) for statement in verdict.statements]}
    whole: dict[str, Any] = _plain(report.to_dict() | {"verdict": said})
    return whole


def _plain(value: Any) -> Any:
    """As JSON knows it: a bound that nothing holds is none."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def limits_json(report: LimitsReport) -> str:
    """What `limits.json` holds."""
    return json.dumps(_dict(report, verdict_of(report)), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _tiles(report: LimitsReport) -> list[tuple[str, Cell]]:
    main = report.main
    best = None if main is None else main.best
    tiles = [("requests", Cell(f"{0 if main is None else main.fit.requests:,}"))]
    tiles.append(("refused", Cell(f"{0 if main is None else main.fit.refused:,}")))
    if main is not None and best is not None and main.meaning is not None:
        tiles += [
            ("limit", Cell(f"{round(best.limit.value):,}", f"in {best.window_s.value:.4g} s")),
            ("requests/s, for ever", Cell(number(main.meaning.rate_per_s))),
            ("safe burst", Cell(f"{main.meaning.burst:,}")),
        ]
    return tiles


def write_limits(report: LimitsReport, folder: Path) -> LimitsPaths:
    """Write the files into a folder. Raises CannotWriteError."""
    frames, verdict, tables = report.frames, verdict_of(report), tables_of(report)
    pictures = [] if report.main is None else pictures_of(report.main, max(frames.end_s, 0.001))
    asked = frames.asked
    title = f"The limits of {asked.get('model') or 'a chat API'}"
    began = datetime.fromtimestamp(frames.origin_unix_ns / 1e9, tz=UTC)
    key = None if report.main is None else report.main.key.key_alias
    subtitle = f"{asked.get('base_url') or NOTHING} · {began:%Y-%m-%d %H:%M:%S} UTC · {key or 'no key'}"
    page = html_of(
        title,
        subtitle,
        verdict,
        tables,
        pictures,
        tiles=_tiles(report),
        sections=_SECTIONS,
        glossary=_GLOSSARY,
        whole="run",
    )
    files = {
        "limits.json": limits_json(report),
        "limits.md": markdown_of(title, subtitle, verdict, tables),
        "limits.html": page,
    }
    place({name: text.encode("utf-8", "replace") for name, text in files.items()}, folder)
    return LimitsPaths(verdict.lines, folder / "limits.html", folder / "limits.json", folder / "limits.md")
