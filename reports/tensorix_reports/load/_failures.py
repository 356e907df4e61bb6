"""Requests that did not succeed, by what went wrong and where, each with one sample of what was said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from tensorix_api.secret import Redactor
from tensorix_reports.frames import Requests

__all__ = ["Failure", "failures_of"]


@dataclass(frozen=True, slots=True)
class Failure:
    """One way to fail."""

    outcome: str
    """`failed`, `throttled` or `cancelled`: the three are never added up."""
    request: str
    """The kind of request, as everywhere in the report."""
    kind: str
    phase: str | None
    status: int | None
    count: int
    first_s: float
    last_s: float
    sample: str | None
    """One message, redacted once more on the way out."""
    sample_at_s: float
    """When the request of the sample started."""
    sample_took_ms: float | None
    """From there to its end."""
    sample_request_id: str | None
    sample_response_id: str | None
    sample_process: str | None
    """Which process sent it."""


_COLUMNS = [
    *("outcome", "kind", "error_kind", "error_phase", "status", "at_s", "stream_outcome", "error_message"),
    *("end_at_ns", "request_id", "response_id", "process_id"),
]


_LONGEST_ID = 100


_EXAMPLE = ["at_s", "end_at_ns", "request_id", "response_id", "process_id"]


def _row_at(requests: Requests, place: int) -> Any:
    """What is told of one request: of all of them the ids would take gigabytes."""
    mine = requests.of(requests.index.to_numpy() == place)
    return mine[_EXAMPLE].iloc[0]


def _example(row: Any, redact: Redactor) -> dict[str, Any]:
    """Where to look the sample up: here by its ids, in a server's log by its time."""

    def text(name: str) -> str | None:
        value = row[name]
        return redact(value, _LONGEST_ID) if isinstance(value, str) else None

    took = row["end_at_ns"]
    return {
        "sample_at_s": float(row["at_s"]),
        "sample_took_ms": None if pd.isna(took) else float(took) / 1e6,
        "sample_request_id": text("request_id"),
        "sample_response_id": text("response_id"),
        "sample_process": text("process_id"),
    }


def failures_of(requests: Requests) -> list[Failure]:
    """Every kind of failure, the most frequent first within each outcome."""
    bad = requests.of(~requests.codes("outcome").equal("success"))[_COLUMNS]
    # Both ended from this end, in two ways that are worth telling apart.
    left = bad["stream_outcome"].isin(("closed_early", "abandoned"))
    bad = bad.assign(error_kind=bad["error_kind"].where(~left, bad["stream_outcome"]))
    redact = Redactor()
    found = []
    groups: Any = bad.groupby(["outcome", "kind", "error_kind", "error_phase", "status"], dropna=False)
    for (outcome, request, kind, phase, status), group in groups:
        messages = group["error_message"].dropna()
        found.append(
            Failure(
                outcome=str(outcome),
                request=str(request),
                kind="unknown" if pd.isna(kind) else str(kind),
                phase=None if pd.isna(phase) else str(phase),
                status=None if pd.isna(status) else int(status),
                count=len(group),
                first_s=float(group["at_s"].min()),
                last_s=float(group["at_s"].max()),
                sample=redact(str(messages.iloc[0]), 300) if len(messages) else None,
                **_example(_row_at(requests, messages.index[0] if len(messages) else group.index[0]), redact),
            )
        )
    order = {"failed": 0, "throttled": 1, "cancelled": 2}
    return sorted(found, key=lambda failure: (order.get(failure.outcome, 3), -failure.count, failure.kind))
