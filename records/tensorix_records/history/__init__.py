"""What probes saw, kept in SQLite or PostgreSQL: rounds, their results, and roll-ups by the hour."""

from tensorix_records.history._history import History
from tensorix_records.history._phases import merge_phases, phase_of, phase_percentile_ns
from tensorix_records.history._rows import HourRow, ResultRow, RoundRow
from tensorix_records.history._spool import spool

__all__ = ["History", "HourRow", "ResultRow", "RoundRow", "merge_phases", "phase_of", "phase_percentile_ns", "spool"]
