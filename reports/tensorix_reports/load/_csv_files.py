"""The report's tables as CSV files, for spreadsheets. Each has its columns, also where it has no row."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from math import isfinite
from typing import Any

import pandas as pd

from tensorix_reports.limiting._episodes import Episode
from tensorix_reports.limiting._rate_limit import RateLimitReport
from tensorix_reports.limiting._windows import LimiterWindow
from tensorix_reports.load._failures import Failure
from tensorix_reports.load._latency import PERCENTS, LatencyReport, Measured, flat
from tensorix_reports.page._inert import inert

__all__ = ["csv_files", "csv_text"]


def _names(kind: Any) -> list[str]:
    return [field.name for field in fields(kind)]


_PERCENTILES = [f"p{percent:g}{end}" for percent in PERCENTS for end in ("", "_low", "_high")]
# Of longer stretches (traces of weeks) only those seconds are listed in which something was sent.
_ALL_SECONDS = 2 * 86_400
_LATENCY = [*(name for name in _names(Measured) if name != "figures"), *_PERCENTILES]
_WINDOWS = ["key_alias", "number", "start_unix_ns", *_names(LimiterWindow)]
_EPISODES = ["key_alias", *_names(Episode), "length_s"]


def _safe(value: Any) -> Any:
    """A spreadsheet takes a cell that begins like a formula for one: what a server sent must not."""
    if isinstance(value, str):
        text = " ".join(inert(value).split())
        return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text
    return "" if value is None else value


def csv_text(rows: Iterable[dict[str, Any]], columns: Sequence[str]) -> str:
    """Rows as the text of a CSV file with these columns; what looks like a formula is made harmless."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_safe(row.get(name)) for name in columns] for row in rows)
    return text.getvalue()


def _cells(column: pd.Series) -> list[Any]:
    """A column as `_safe` writes its cells, column by column: a frame can have hundreds of thousands of rows."""
    if column.dtype.kind == "f":
        numbers = (value if isfinite(value) else "" for value in column.tolist())
        return [int(value) if value != "" and float(value).is_integer() else value for value in numbers]
    if column.dtype.kind in "iu":
        return column.tolist()
    codes, texts = pd.factorize(column)
    safe = [*(_safe(text) for text in texts.tolist()), ""]
    return [safe[code] for code in codes.tolist()]


def _frame_text(frame: pd.DataFrame) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([str(name) for name in frame])
    writer.writerows(zip(*(_cells(frame[name]) for name in frame), strict=True))
    return text.getvalue()


def csv_files(latency: LatencyReport, limits: RateLimitReport) -> dict[str, str]:
    """The texts of the files by their names."""
    keys = limits.to_dict()["keys"]

    def of_keys(name: str) -> list[dict[str, Any]]:
        return [{"key_alias": key["key_alias"], **row} for key in keys for row in key[name]]

    seconds = limits.seconds
    if len(seconds) > _ALL_SECONDS:
        seconds = seconds[(seconds["sent"] > 0) | (seconds["offered"] > 0)]
    frames = {"seconds": seconds, "minutes": limits.minutes}
    frames |= {"headers": limits.headers, "remaining": limits.remaining}
    return {
        "latency.csv": csv_text(map(flat, latency.rows), _LATENCY),
        "failures.csv": csv_text((asdict(failure) for failure in latency.failures), _names(Failure)),
        "windows.csv": csv_text(of_keys("windows"), _WINDOWS),
        "episodes.csv": csv_text(of_keys("episodes"), _EPISODES),
        **{f"{name}.csv": _frame_text(frame) for name, frame in frames.items()},
    }
