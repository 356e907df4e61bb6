"""`tensorix spans`: a run folder of files of spans, and its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tensorix_cli._output import say
from tensorix_records.traces import write_trace_run

__all__ = ["run_spans"]


def run_spans(
    files: Sequence[Path],
    out: Path,
    *,
    limits: Mapping[str, float | None],
    complete: bool,
    label: str | None,
    reported: bool,
) -> None:
    """Make the run and say what was found. Raises TensorixError for files and places that cannot be used."""
    made = write_trace_run(files, out, limits=limits, complete=complete, label=label)
    if reported:
        from tensorix_cli._report import report

        report(made.run.path)
    else:
        say(f"{made.seen.records:,} requests of {made.seen.spans:,} spans")
    say(f"Run: {made.run.path}")
