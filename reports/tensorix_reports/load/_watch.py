"""A report that is written again and again while its run goes on."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tensorix_reports.load._write import ReportPaths, write_report

__all__ = ["watch_report"]

_LEAST_S = 3.0
_SHARE = 5
_SILENT_S = 60.0
"""A run writes an event each second: one that wrote none for so long was killed."""


def watch_report(
    run: Path,
    *,
    formats: Sequence[str],
    out: Path | None = None,
    shown: Callable[[ReportPaths], None],
    sleep: Callable[[float], None],
    cpu_s: Callable[[], float] = time.process_time,
) -> tuple[ReportPaths, bool]:
    """Write the report until the run has ended, and return the last one; False where the run fell silent instead.

    Between two reports it sleeps four times the processor time of the last one, so that it takes a fifth of a core at
    most, however long the run is. `shown` is called after the first. Raises what `write_report` does.
    """
    wait_s, silent_s, heard_s, first = _LEAST_S, 0.0, -1.0, True
    while True:
        before = cpu_s()
        written = write_report(run, formats=formats, out=out, again_s=math.ceil(wait_s))
        if first and not written.ended:
            shown(written)
        first = False
        silent_s = silent_s + wait_s if written.heard_s <= heard_s else 0.0
        heard_s = written.heard_s
        if written.ended or silent_s >= _SILENT_S:
            # The last page is not to load itself again.
            last = written if written.ended else write_report(run, formats=formats, out=out)
            return last, written.ended
        wait_s = max(_LEAST_S, (_SHARE - 1) * (cpu_s() - before))
        sleep(wait_s)
