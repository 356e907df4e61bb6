"""Writing a report into its run folder: every figure is in `summary.json`, whose keys `reports/SUMMARY.md` describes.

The page, the Markdown and the CSV files show the same figures. What is measured every second, or with every response,
would swell the summary: it is in `seconds.csv` and `remaining.csv`, and in the page's pictures.

RUN/report/summary.json    verdict and both reports, versioned (`format`)
RUN/report/report.html     one page that opens with no network
RUN/report/report.md       the same in Markdown
RUN/report/*.csv           latency, windows, episodes, seconds, minutes, headers, remaining, failures
RUN/report/*.png, *.svg    the pictures, on request
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tensorix_records import Run
from tensorix_records.judging import Standing
from tensorix_reports.frames import RunFrames, mapping, read_frames
from tensorix_reports.limiting._limit_tables import limit_tables
from tensorix_reports.limiting._rate_limit import RateLimitReport, rate_limits_of
from tensorix_reports.load._csv_files import csv_files
from tensorix_reports.load._glossary import GLOSSARY
from tensorix_reports.load._goals import GoalsReport, goals_of
from tensorix_reports.load._latency import LatencyReport, latency_of
from tensorix_reports.load._latency_tables import latency_tables
from tensorix_reports.load._pictures import pictures_of
from tensorix_reports.load._rates import Rate, rates_of
from tensorix_reports.load._run_tables import rates_table, settings_table, trust_table
from tensorix_reports.load._sections import SECTIONS, tiles_of
from tensorix_reports.load._verdict import verdict_of
from tensorix_reports.page._html import html_of
from tensorix_reports.page._markdown import markdown_of
from tensorix_reports.page._picture import Picture
from tensorix_reports.page._placing import place
from tensorix_reports.page._statement import Verdict
from tensorix_reports.page._stills import stills_of

__all__ = ["SUMMARY_FORMAT", "ReportPaths", "write_report"]

SUMMARY_FORMAT = 1
"""The version of `summary.json`: it grows when a key changes its meaning or goes, not when one is added."""


@dataclass(frozen=True, slots=True)
class ReportPaths:
    """Where a report was written, and what it says at the top."""

    verdict: list[str]
    """The verdict as lines of plain text, the headline first."""
    folder: Path
    page: Path
    summary: Path
    markdown: Path
    goals: Standing | None = None
    """What became of the objectives together; None where the run was given none."""


@dataclass(frozen=True, slots=True)
class _Reports:
    frames: RunFrames
    latency: LatencyReport
    limits: RateLimitReport
    rates: list[Rate]
    goals: GoalsReport
    verdict: Verdict


def _summary(reports: _Reports) -> dict[str, Any]:
    frames = reports.frames
    return {
        "format": SUMMARY_FORMAT,
        "run": {
            "run_id": frames.manifest.get("run_id"),
            "kind": frames.manifest.get("kind"),
            "asked": frames.asked,
            "started_unix_ns": frames.manifest.get("started_unix_ns"),
            "ended_unix_ns": frames.manifest.get("ended_unix_ns"),
            "end_reason": frames.manifest.get("end_reason"),
            "ended": frames.ended,
            "origin_unix_ns": frames.origin_unix_ns,
            "length_s": frames.end_s,
            "requests": len(frames.requests),
            "findings": frames.findings,
        },
        "verdict": {
            "headline": reports.verdict.headline,
            "statements": [asdict(statement) for statement in reports.verdict.statements],
        },
        "goals": reports.goals.to_dict(),
        "rates": {
            rate.what: {"a_second": rate.a_second, "peak_a_second": rate.peak_a_second} for rate in reports.rates
        },
        "latency": reports.latency.to_dict(),
        "rate_limit": reports.limits.to_dict(),
    }


def _title(frames: RunFrames) -> tuple[str, str]:
    asked = frames.asked
    label = frames.manifest.get("label") or asked.get("label")
    if label:
        title = str(label)
    elif frames.is_traced:
        services = list(mapping(mapping(frames.manifest.get("spans")).get("services")))
        title = f"Chat calls of {services[0] if len(services) == 1 else 'services'} in production"
    else:
        title = f"Load test of {asked.get('model') or 'a chat API'}"
    started = datetime.fromtimestamp(frames.origin_unix_ns / 1e9, tz=UTC)
    parts = [str(asked["base_url"])] if asked.get("base_url") else []
    parts += [f"{started:%Y-%m-%d %H:%M:%S} UTC", f"{frames.end_s:,.1f} s", f"{len(frames.load):,} requests"]
    return title, " · ".join(parts)


def write_report(run: Run | Path | str, *, pictures: Sequence[str] = ()) -> ReportPaths:
    """Read a run and write its whole report to `RUN/report/`, in place of an older one; other files there stay.

    `pictures` may hold `png` and `svg`: the pictures as files of their own, too. Raises RunFolderError where the folder
    is no run, CannotWriteError where it cannot be written to.
    """
    run = run if isinstance(run, Run) else Run.open(Path(run))
    frames = read_frames(run)
    latency, limits = latency_of(frames), rate_limits_of(frames)
    rates = rates_of(frames, latency.window, limits.seconds)
    goals = goals_of(frames)
    reports = _Reports(frames, latency, limits, rates, goals, verdict_of(frames, latency, limits, goals))
    drawn: list[Picture] = pictures_of(frames, limits)
    title, subtitle = _title(frames)
    tables = [
        *goals.tables(),
        *latency_tables(latency),
        rates_table(rates),
        *limit_tables(limits, traced=frames.is_traced, complete=frames.is_complete),
    ]
    tables += [trust_table(latency, traced=frames.is_traced), settings_table(frames)]
    summary = json.dumps(_summary(reports), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    files = {
        "summary.json": summary,
        "report.md": markdown_of(title, subtitle, reports.verdict, tables),
        "report.html": html_of(
            title,
            subtitle,
            reports.verdict,
            tables,
            drawn,
            tiles=tiles_of(latency, limits, goals),
            sections=SECTIONS,
            glossary=GLOSSARY,
            whole="run",
        ),
        **csv_files(latency, limits),
    }
    data = {name: text.encode("utf-8", "replace") for name, text in files.items()}
    data |= stills_of(drawn, pictures)
    folder = run.path / "report"
    stills = {f"{picture.id}.{kind}" for picture in drawn for kind in ("png", "svg")}
    place(data, folder, ours=stills)
    return ReportPaths(
        verdict=reports.verdict.lines,
        folder=folder,
        page=folder / "report.html",
        summary=folder / "summary.json",
        markdown=folder / "report.md",
        goals=goals.standing,
    )
