"""What limiter explains what was seen: kinds, parameters and how sure it is. NumPy only."""

from __future__ import annotations

from tensorix_reports.limiter._evidence import Evidence
from tensorix_reports.limiter._findings import Fitted, Interval, Kind, LimiterFit, Verdict
from tensorix_reports.limiter._fit import fit
from tensorix_reports.limiter._steps import round_trip_s

__all__ = ["Evidence", "Fitted", "Interval", "Kind", "LimiterFit", "Verdict", "fit", "round_trip_s"]
