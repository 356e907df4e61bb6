"""The fit of a limiter to what was seen."""

from __future__ import annotations

from tensorix_reports.limiter._evidence import Evidence
from tensorix_reports.limiter._findings import LimiterFit

__all__ = ["fit"]


def fit(evidence: Evidence, *, window_s: float | None = None) -> LimiterFit:
    """Rank the kinds of limiter by how well they explain the evidence; `window_s` as documented, where it is."""
    raise NotImplementedError
