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


_COLUMNS = ["outcome", "kind", "error_kind", "error_phase", "status", "at_s", "stream_outcome", "error_message"]


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
            )
        )
    order = {"failed": 0, "throttled": 1, "cancelled": 2}
    return sorted(found, key=lambda failure: (order.get(failure.outcome, 3), -failure.count, failure.kind))
