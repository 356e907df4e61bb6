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
from dataclasses import dataclass
from pathlib import Path

from tensorix_records import Run
from tensorix_records.judging import Standing
from tensorix_reports.load._csv_files import csv_files
from tensorix_reports.load._glossary import GLOSSARY
from tensorix_reports.load._report import load_report
from tensorix_reports.load._sections import SECTIONS, tiles_of
from tensorix_reports.page._html import html_of
from tensorix_reports.page._markdown import markdown_of
from tensorix_reports.page._placing import place
from tensorix_reports.page._stills import stills_of

__all__ = ["ReportPaths", "write_report"]


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


def write_report(run: Run | Path | str, *, pictures: Sequence[str] = ()) -> ReportPaths:
    """Read a run and write its whole report to `RUN/report/`, in place of an older one; other files there stay.

    `pictures` may hold `png` and `svg`: the pictures as files of their own, too. Raises RunFolderError where the folder
    is no run, CannotWriteError where it cannot be written to.
    """
    run = run if isinstance(run, Run) else Run.open(Path(run))
    report = load_report(run)
    files = {
        "summary.json": json.dumps(report.to_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n",
        "report.md": markdown_of(report.title, report.subtitle, report.verdict, report.tables),
        "report.html": html_of(
            report.title,
            report.subtitle,
            report.verdict,
            report.tables,
            report.pictures,
            tiles=tiles_of(report.latency, report.limits, report.goals),
            sections=SECTIONS,
            glossary=GLOSSARY,
            whole="run",
        ),
        **csv_files(report.latency, report.limits),
    }
    data = {name: text.encode("utf-8", "replace") for name, text in files.items()}
    data |= stills_of(report.pictures, pictures)
    folder = run.path / "report"
    stills = {f"{picture.id}.{kind}" for picture in report.pictures for kind in ("png", "svg")}
    place(data, folder, ours=stills)
    return ReportPaths(
        verdict=report.verdict.lines,
        folder=folder,
        page=folder / "report.html",
        summary=folder / "summary.json",
        markdown=folder / "report.md",
        goals=report.goals.standing,
    )
