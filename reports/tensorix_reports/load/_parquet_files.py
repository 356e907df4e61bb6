"""The frames of a report as Parquet, for whoever goes on computing: raw texts, and the columns that are computed."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tensorix_records.timings import e2e_ns, itl_ns, latency_from_intended_ns, ttfo_ns, ttft_ns
from tensorix_reports.frames._frames import COLUMNS
from tensorix_reports.load._report import LoadReport

__all__ = ["PARQUET_FILES", "parquet_files", "requests_frame"]

PARQUET_FILES = ("requests.parquet", "seconds.parquet", "remaining.parquet")
_COMPUTED = {
    "ttft_ns": ttft_ns,
    "ttfo_ns": ttfo_ns,
    "itl_ns": itl_ns,
    "e2e_ns": e2e_ns,
    "latency_from_intended_ns": latency_from_intended_ns,
}


def requests_frame(report: LoadReport) -> pd.DataFrame:
    """A row a request, in the order of their starts: what was read, `kind`, `at_s`, `done_s`, and what is computed.

    Durations are ns and NaN where a request has none; `in_window` says whether the figures rest on it.
    """
    requests, window = report.frames.requests, report.latency.window
    frame = requests[[*COLUMNS, "kind", "at_s", "done_s"]].copy()
    for name, of in _COMPUTED.items():
        frame[name] = np.asarray(of(requests), dtype=float)
    frame["in_window"] = (frame["at_s"] >= window.start_s) & (frame["at_s"] <= window.end_s)
    return frame


def parquet_files(report: LoadReport) -> dict[str, bytes]:
    """The contents of the files by their names. A server's texts stay as it sent them."""
    frames = (requests_frame(report), report.limits.seconds, report.limits.remaining)
    return {name: _bytes(frame) for name, frame in zip(PARQUET_FILES, frames, strict=True)}


def _bytes(frame: pd.DataFrame) -> bytes:
    # A column of texts that is all missing would have a type of its own in each run.
    file = io.BytesIO()
    table = pa.Table.from_pandas(frame, preserve_index=False)
    for place, field in enumerate(table.schema):
        if pa.types.is_null(field.type):
            table = table.set_column(place, field.name, table.column(place).cast(pa.string()))
    pq.write_table(table, file, compression="zstd")
    return file.getvalue()
