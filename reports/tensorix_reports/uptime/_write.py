"""Writing the uptime report: every figure is in `uptime.json`, whose keys `reports/UPTIME.md` describes.

FOLDER/uptime.json    verdict and all figures, versioned (`format`)
FOLDER/uptime.html    one page that opens with no network
FOLDER/uptime.md      the same in Markdown
FOLDER/*.csv          availability, objectives, incidents, gaps, maintenance, latency, days, causes, spent
FOLDER/*.png, *.svg   the pictures, on request
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tensorix_api.errors import CannotWriteError
from tensorix_reports.load._csv_files import csv_text
from tensorix_reports.page._html import Section, html_of
from tensorix_reports.page._markdown import markdown_of
from tensorix_reports.page._placing import place
from tensorix_reports.page._statement import Verdict
from tensorix_reports.page._stills import stills_of
from tensorix_reports.page._tables import NOTHING, Cell
from tensorix_reports.uptime._cells import tone_of
from tensorix_reports.uptime._durations import QUANTITIES
from tensorix_reports.uptime._glossary import GLOSSARY
from tensorix_reports.uptime._pictures import pictures_of
from tensorix_reports.uptime._report import UptimeReport
from tensorix_reports.uptime._tables import tables_of, totals
from tensorix_reports.uptime._verdict import verdict_of
from tensorix_reports.uptime._words import clock, length, minutes, percent, rate

__all__ = ["UPTIME_FORMAT", "UptimePaths", "write_uptime_report"]

UPTIME_FORMAT = 1
"""The version of `uptime.json`: it grows when a key changes its meaning or goes, not when one is added."""

_LATENCIES = tuple(f"latency-{number}" for number in range(1, len(QUANTITIES) + 1))
_SECTIONS = (
    Section("At a glance", ("now",), ("calendar", "timeline")),
    Section("Availability", ("objectives", "availability", "windows")),
    Section("Incidents", ("incidents", "causes")),
    Section("Latency", ("latency",), _LATENCIES),
    Section("Details", ("days", "maintenance", "gaps", "spent")),
)
_COLUMNS = {
    "availability": "target location pooled window since_unix_ns until_unix_ns availability availability_low "
    "availability_high conclusive up degraded down inconclusive payment maintenance maintenance_down unknown_s missed",
    "objectives": "target location pooled objective objective_told objective_window_s window_s known_s met sure "
    "availability conclusive down budget budget_left budget_left_share budget_left_minutes "
    "interval_s burn_1h burn_6h burn_24h",
    "incidents": "target start_unix_ns end_unix_ns least_ns most_ns failed cause reason later scope locations "
    "well hourly",
    "gaps": "target location start_unix_ns end_unix_ns missed why",
    "maintenance": "target location name first_unix_ns last_unix_ns rounds down",
    "latency": "target location quantity start_unix_ns count p50_s p95_s source",
    "days": "target since_unix_ns until_unix_ns availability availability_low availability_high conclusive up degraded "
    "down inconclusive payment maintenance maintenance_down unknown_s missed",
    "causes": "target state cause rounds last_reason",
    "spent": "target day_unix_ns requests tokens cost",
}


@dataclass(frozen=True, slots=True)
class UptimePaths:
    """Where the report was written, and what it says at the top."""

    verdict: list[str]
    """The verdict as lines of plain text, the headline first."""
    folder: Path
    page: Path
    figures: Path
    markdown: Path


def _title(report: UptimeReport) -> tuple[str, str]:
    title = f"Uptime of {report.targets[0]}" if len(report.targets) == 1 else "Uptime"
    span = f"{clock(report.since_unix_ns)} to {clock(report.until_unix_ns)} UTC"
    took = length((report.until_unix_ns - report.since_unix_ns) / 1e9)
    return title, f"{span} ({took}) · {totals(report)}"


def _tiles(report: UptimeReport) -> list[tuple[str, Cell]]:
    """The few figures that stand at the top: of several targets, those of the worst."""
    known = [one for one in report.overall if one.counts.share.value is not None]
    alone = len(report.targets) == 1

    def name(target: str) -> str | None:
        return None if alone else target

    tiles = []
    if known:
        lowest = min(known, key=lambda one: one.counts.share.value or 0.0)
        share = lowest.counts.share.value
        tone = tone_of(share, lowest.objective.availability)
        word = "available" if alone else "least available"
        detail = name(lowest.target) or f"objective {percent(lowest.objective.availability)}"
        tiles.append((word, Cell(percent(share), detail, tone)))
        least = min(
            [one for one in known if one.enough] or known,
            key=lambda one: one.left_share if one.left_share is not None else 2.0,
        )
        if least.left_share is not None:
            budget = percent(least.left_share, 1) if least.left >= 0 else "overdrawn"
            detail = name(least.target) or minutes(least.left_minutes)
            if not least.enough:
                budget, detail = NOTHING, "too little data"
            tiles.append(
                ("error budget left", Cell(budget, detail, "problem" if least.enough and least.left < 0 else None))
            )
        burning = max(known, key=lambda one: one.burns["1 h"].rate or 0.0)
        burn = burning.burns["1 h"]
        tone_now = "problem" if (burn.rate or 0) > 1 else None
        tiles.append(("burn, last hour", Cell(rate(burn.rate), name(burning.target), tone_now)))
    tiles.append(("incidents", Cell(f"{len(report.incidents):,}")))
    spans = [one.most_ns for one in report.incidents if one.most_ns is not None]
    if spans:
        tiles.append(("longest, at most", Cell(length(max(spans) / 1e9))))
    last = max((now.last_unix_ns for now in report.now if now.last_unix_ns is not None), default=None)
    if last is not None:
        tiles.append(("last probe", Cell(clock(last)[11:], f"{clock(last)[:10]}, UTC")))
    return tiles


def _flat(name: str, rows: Iterable[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    for row in rows:
        flat = {key: ", ".join(map(str, value)) if isinstance(value, list) else value for key, value in row.items()}
        if name == "objectives":
            burns = {f"burn_{window.replace(' ', '')}": burn["rate"] for window, burn in row["burn"].items()}
            flat |= burns
        yield flat


def _csv_files(figures: dict[str, Any]) -> dict[str, str]:
    return {f"{name}.csv": csv_text(_flat(name, figures[name]), columns.split()) for name, columns in _COLUMNS.items()}


def write_uptime_report(report: UptimeReport, folder: Path | str, *, pictures: Sequence[str] = ()) -> UptimePaths:
    """Write the page, JSON, Markdown and CSV files into a folder, in place of older ones; other files there stay.

    `pictures` may hold `png` and `svg`: the pictures as files of their own, too. Raises CannotWriteError.
    """
    folder = Path(folder)
    try:
        folder.absolute().parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotWriteError(f"{folder} cannot be made: {error.strerror}") from error
    verdict: Verdict = verdict_of(report)
    title, subtitle = _title(report)
    tables, drawn = tables_of(report), pictures_of(report)
    figures = report.to_dict()
    document = {
        "format": UPTIME_FORMAT,
        "verdict": {
            "headline": verdict.headline,
            "statements": [asdict(statement) for statement in verdict.statements],
        },
        **figures,
    }
    page = html_of(
        title,
        subtitle,
        verdict,
        tables,
        drawn,
        tiles=_tiles(report),
        sections=_SECTIONS,
        glossary=GLOSSARY,
        whole="time",
    )
    files = {
        "uptime.json": json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n",
        "uptime.md": markdown_of(title, subtitle, verdict, tables),
        "uptime.html": page,
        **_csv_files(figures),
    }
    data = {name: text.encode("utf-8", "replace") for name, text in files.items()}
    data |= stills_of(drawn, pictures)
    stills = {f"{name}.{kind}" for name in ("calendar", "timeline", *_LATENCIES) for kind in ("png", "svg")}
    place(data, folder, ours=stills)
    return UptimePaths(
        verdict=verdict.lines,
        folder=folder,
        page=folder / "uptime.html",
        figures=folder / "uptime.json",
        markdown=folder / "uptime.md",
    )
