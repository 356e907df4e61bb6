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

import csv
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from tensorix_api.errors import CannotWriteError
from tensorix_records import Run
from tensorix_reports._frames import RunFrames, read_frames
from tensorix_reports._html import html_of
from tensorix_reports._latency import LatencyReport, latency_of
from tensorix_reports._latency_tables import latency_tables
from tensorix_reports._limit_tables import limit_tables
from tensorix_reports._markdown import markdown_of
from tensorix_reports._picture import Picture
from tensorix_reports._pictures import pictures_of
from tensorix_reports._rate_limit import RateLimitReport, rate_limits_of, rows_of
from tensorix_reports._rates import Rate, rates_of
from tensorix_reports._run_tables import rates_table, settings_table, trust_table
from tensorix_reports._stills import stills_of
from tensorix_reports._verdict import Verdict, verdict_of

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


@dataclass(frozen=True, slots=True)
class _Reports:
    frames: RunFrames
    latency: LatencyReport
    limits: RateLimitReport
    rates: list[Rate]
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
        "rates": {
            rate.what: {"a_second": rate.a_second, "peak_a_second": rate.peak_a_second} for rate in reports.rates
        },
        "latency": reports.latency.to_dict(),
        "rate_limit": reports.limits.to_dict(),
    }


def _title(frames: RunFrames) -> tuple[str, str]:
    asked = frames.asked
    label = frames.manifest.get("label") or asked.get("label")
    title = str(label) if label else f"Load test of {asked.get('model') or 'a chat API'}"
    started = datetime.fromtimestamp(frames.origin_unix_ns / 1e9, tz=UTC)
    parts = [str(asked["base_url"])] if asked.get("base_url") else []
    parts += [f"{started:%Y-%m-%d %H:%M:%S} UTC", f"{frames.end_s:,.1f} s", f"{len(frames.requests):,} requests"]
    return title, " · ".join(parts)


def _safe(value: Any) -> Any:
    """A spreadsheet takes a cell that begins like a formula for one: what a server sent must not."""
    if isinstance(value, str):
        text = " ".join(value.split())
        return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text
    return "" if value is None else value


def _csv(rows: Iterable[dict[str, Any]], columns: Sequence[str] | None = None) -> str:
    rows = list(rows)
    names = list(columns) if columns is not None else list(rows[0]) if rows else []
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([_safe(row.get(name)) for name in names] for row in rows)
    return text.getvalue()


def _flat_figures(latency: LatencyReport) -> Iterable[dict[str, Any]]:
    for row in latency.to_dict()["figures"]:
        flat = {name: value for name, value in row.items() if not isinstance(value, dict)}
        for name, figure in row.items():
            if isinstance(figure, dict):
                flat |= {name: figure["value"], f"{name}_low": figure["low"], f"{name}_high": figure["high"]}
        yield flat


def _csv_files(reports: _Reports) -> dict[str, str]:
    limits = reports.limits.to_dict()

    def of_keys(name: str) -> list[dict[str, Any]]:
        return [{"key_alias": key["key_alias"], **row} for key in limits["keys"] for row in key[name]]

    def of_frame(frame: pd.DataFrame) -> str:
        return _csv(rows_of(frame), [str(name) for name in frame.columns])

    return {
        "latency.csv": _csv(_flat_figures(reports.latency)),
        "failures.csv": _csv(asdict(failure) for failure in reports.latency.failures),
        "windows.csv": _csv(of_keys("windows")),
        "episodes.csv": _csv(of_keys("episodes")),
        "seconds.csv": of_frame(reports.limits.seconds),
        "minutes.csv": of_frame(reports.limits.minutes),
        "headers.csv": of_frame(reports.limits.headers),
        "remaining.csv": of_frame(reports.limits.remaining),
    }


def _replace_folder(files: dict[str, bytes], folder: Path) -> None:
    """Write all files beside the folder, then put it in its place: a reader finds the old report or the new one."""
    try:
        trial = Path(tempfile.mkdtemp(prefix=".report-", dir=folder.parent))
    except OSError as error:
        raise CannotWriteError(f"{folder.parent} cannot be written to: {error.strerror}") from error
    old = trial.with_name(trial.name + "-old")
    try:
        trial.chmod(0o755)
        for name, data in files.items():
            with (trial / name).open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        if folder.exists():
            folder.rename(old)
        trial.rename(folder)
    except OSError as error:
        if old.exists() and not folder.exists():
            old.rename(folder)
        raise CannotWriteError(f"the report cannot be written to {folder}: {error.strerror}") from error
    finally:
        shutil.rmtree(trial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def write_report(run: Run | Path | str, *, pictures: Sequence[str] = ()) -> ReportPaths:
    """Read a run and write its whole report to `RUN/report/`, in place of an older one.

    `pictures` may hold `png` and `svg`: the pictures as files of their own, too. Raises RunFolderError where the folder
    is no run, CannotWriteError where it cannot be written to.
    """
    run = run if isinstance(run, Run) else Run.open(Path(run))
    frames = read_frames(run)
    latency, limits = latency_of(frames), rate_limits_of(frames)
    rates = rates_of(frames, latency.window, limits.seconds)
    reports = _Reports(frames, latency, limits, rates, verdict_of(frames, latency, limits))
    drawn: list[Picture] = pictures_of(frames, limits)
    title, subtitle = _title(frames)
    tables = [*latency_tables(latency), rates_table(rates), *limit_tables(limits)]
    tables += [trust_table(latency), settings_table(frames)]
    summary = json.dumps(_summary(reports), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    files = {
        "summary.json": summary,
        "report.md": markdown_of(title, subtitle, reports.verdict, tables),
        "report.html": html_of(title, subtitle, reports.verdict, tables, drawn, latency, limits),
        **_csv_files(reports),
    }
    data = {name: text.encode("utf-8", "replace") for name, text in files.items()}
    data |= stills_of(drawn, pictures)
    folder = run.path / "report"
    _replace_folder(data, folder)
    return ReportPaths(
        verdict=reports.verdict.lines,
        folder=folder,
        page=folder / "report.html",
        summary=folder / "summary.json",
        markdown=folder / "report.md",
    )
