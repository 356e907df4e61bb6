"""Writing a comparison: `compare.html`, `compare.md` (for a pull request), `compare.json` and `compare.csv`."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path

from tensorix_api.errors import CannotWriteError
from tensorix_records.judging import Standing
from tensorix_reports.comparison._compare import Compared, Comparison
from tensorix_reports.comparison._pictures import pictures_of
from tensorix_reports.comparison._words import run_names, tables_of, verdict_of
from tensorix_reports.load._csv_files import csv_text
from tensorix_reports.page._html import Section, html_of
from tensorix_reports.page._markdown import markdown_of
from tensorix_reports.page._placing import place
from tensorix_reports.page._tables import Cell

__all__ = ["ComparisonPaths", "write_comparison"]

_GLOSSARY = (
    ("baseline", "The first of the runs: the others are held beside it."),
    ("interval", "Where the true difference lies; all intervals of the comparison hold at once with 95 %."),
    ("differs", "The interval of the difference leaves out none: the data can show that there is one."),
    ("gate", "A change that was not to be accepted (--fail-if); the intervals of gates are a family of their own."),
    ("TTFT", "Time to first token: start of the request to the first chunk with something generated."),
    ("ITL", "(last token - first token) / (completion tokens - 1), of each request."),
)


@dataclass(frozen=True, slots=True)
class ComparisonPaths:
    """Where a comparison was written, and what it says at the top."""

    verdict: list[str]
    folder: Path
    page: Path
    standing: Standing | None


def write_comparison(comparison: Comparison, folder: Path | None = None) -> ComparisonPaths:
    """Write the comparison into a folder: `compare/` in the last run's `report/` where none is named.

    Raises CannotWriteError.
    """
    if folder is None:
        folder = comparison.runs[-1].path / "report" / "compare"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotWriteError(f"{folder.parent} cannot be made: {error.strerror}") from error
    names, verdict, tables = run_names(comparison), verdict_of(comparison), tables_of(comparison)
    title, subtitle = f"{' and '.join(names[1:])} beside {names[0]}", f"baseline: {names[0]}"
    pictures = pictures_of(comparison)
    ratios = tuple(f"ratios-{run}" for run in range(1, len(names)))
    figures = tuple(f"figures-{run}" for run in range(1, len(names)))
    sections = (
        Section("Figures", figures, (*ratios, "spread")),
        Section("Settings", ("differences",)),
    )
    rows = [
        {"run": names[run], **{field.name: getattr(one, field.name) for field in fields(Compared)}}
        for run, some in enumerate(comparison.rows, 1)
        for one in some
    ]
    differing = sum(len(comparison.different(run)) for run in range(1, len(names)))
    tiles = [("runs", Cell(f"{len(names)}")), ("figures that differ", Cell(f"{differing} of {len(rows)}"))]
    files = {
        "compare.json": json.dumps(comparison.to_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n",
        "compare.md": markdown_of(title, subtitle, verdict, tables),
        "compare.csv": csv_text(rows, ["run", *(field.name for field in fields(Compared))]),
        "compare.html": html_of(
            title,
            subtitle,
            verdict,
            tables,
            pictures,
            tiles=tiles,
            sections=sections,
            glossary=_GLOSSARY,
            whole="range",
        ),
    }
    place({name: text.encode("utf-8", "replace") for name, text in files.items()}, folder)
    return ComparisonPaths(verdict.lines, folder, folder / "compare.html", comparison.standing)
