"""Writing a report into its run folder: every figure is in `summary.json`, whose keys `reports/SUMMARY.md` describes.

The page, the Markdown and the CSV files show the same figures. What is measured every second, or with every response,
would swell the summary: it is in `seconds.csv` and `remaining.csv`, and in the page's pictures.

RUN/report/summary.json    verdict and both reports, versioned (`format`)
RUN/report/report.html     one page that opens with no network
RUN/report/report.md       the same in Markdown
RUN/report/*.csv           latency, windows, episodes, seconds, minutes, headers, remaining, failures
RUN/report/*.png, *.svg    the pictures, on request
RUN/report/*.parquet       the requests with their computed columns, the seconds, what remained; on request
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
from tensorix_reports.load._parquet_files import PARQUET_FILES, parquet_files
from tensorix_reports.load._report import LoadReport, load_report
from tensorix_reports.load._sections import SECTIONS, tiles_of
from tensorix_reports.page._html import html_of
from tensorix_reports.page._markdown import markdown_of
from tensorix_reports.page._placing import place
from tensorix_reports.page._stills import stills_of

__all__ = ["DEFAULT_FORMATS", "FORMATS", "ReportPaths", "write_report"]

FORMATS = ("html", "json", "csv", "md", "png", "svg", "parquet")
DEFAULT_FORMATS = ("html", "json", "csv", "md")
_UNFOLDED = ("objectives", "outcomes", "latency")


@dataclass(frozen=True, slots=True)
class ReportPaths:
    """Where a report was written, and what it says at the top."""

    verdict: list[str]
    """The verdict as lines of plain text, the headline first."""
    folder: Path
    page: Path
    summary: Path
    markdown: Path
    written: list[Path]
    """Every file, in the order of their names."""
    ended: bool
    """Whether the run had come to its end; False for one that goes on, or was killed."""
    heard_s: float
    """The last sign of life, in seconds since the run's start."""
    goals: Standing | None = None
    """What became of the objectives together; None where the run was given none."""


def write_report(
    run: Run | Path | str,
    *,
    formats: Sequence[str] = DEFAULT_FORMATS,
    out: Path | None = None,
    again_s: int | None = None,
) -> ReportPaths:
    """Read a run and write its report to `RUN/report/`, or to `out`, in place of an older one; other files there stay.

    `formats` are of `FORMATS`, and a page with `again_s` loads itself again that often while the run goes on. Raises
    ValueError for an unknown format, RunFolderError where the folder is no run, CannotWriteError where it cannot be
    written to.
    """
    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        raise ValueError(f"a report is {', '.join(FORMATS)}, not {unknown[0]!r}")
    run = run if isinstance(run, Run) else Run.open(Path(run))
    report = load_report(run)
    folder = run.path / "report" if out is None else out
    # What an earlier report has and this one lacks would tell of another state of the run.
    stale = {f"{picture.id}.{kind}" for picture in report.pictures for kind in ("png", "svg")} | set(PARQUET_FILES)
    data = _files(report, formats, None if report.frames.ended else again_s)
    place(data, folder, ours=stale if out is None and set(DEFAULT_FORMATS) <= set(formats) else ())
    return ReportPaths(
        verdict=report.verdict.lines,
        folder=folder,
        page=folder / "report.html",
        summary=folder / "summary.json",
        markdown=folder / "report.md",
        written=[folder / name for name in sorted(data)],
        ended=report.frames.ended,
        heard_s=report.frames.end_s,
        goals=report.goals.standing,
    )


def _files(report: LoadReport, formats: Sequence[str], again_s: int | None) -> dict[str, bytes]:
    texts: dict[str, str] = {}
    if "json" in formats:
        texts["summary.json"] = json.dumps(report.to_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    if "md" in formats:
        texts["report.md"] = markdown_of(
            report.title, report.subtitle, report.verdict, report.tables, unfolded=_UNFOLDED
        )
    if "html" in formats:
        texts["report.html"] = html_of(
            report.title,
            report.subtitle,
            report.verdict,
            report.tables,
            report.pictures,
            tiles=tiles_of(report.latency, report.limits, report.goals),
            sections=SECTIONS,
            glossary=GLOSSARY,
            whole="run",
            again_s=again_s,
        )
    if "csv" in formats:
        texts |= csv_files(report.latency, report.limits)
    data = {name: text.encode("utf-8", "replace") for name, text in texts.items()}
    data |= stills_of(report.pictures, [kind for kind in ("png", "svg") if kind in formats])
    return data | (parquet_files(report) if "parquet" in formats else {})
