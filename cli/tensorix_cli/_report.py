"""`tensorix report`: the verdict in words and where the page is; once, or again and again while a run goes on."""

from __future__ import annotations

import os
import time
from pathlib import Path

from tensorix_api.errors import RunFolderError, SettingsError
from tensorix_cli._output import say
from tensorix_reports.load import FORMATS, ReportPaths, summary_schema, watch_report, write_report

__all__ = ["print_schema", "report"]


def print_schema() -> None:
    """Print the JSON Schema of summary.json."""
    say(summary_schema().rstrip())


def report(run: Path, *, formats: str = "html,json,csv,md", out: Path | None = None, watch: bool = False) -> None:
    """Write the report of a run folder and say what it found. Raises RunFolderError where it is no run."""
    wanted = [name.strip().lower() for name in formats.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in FORMATS]
    if unknown or not wanted:
        raise SettingsError(f"--format takes {', '.join(FORMATS)}, not {formats!r}")
    # By the operating system's own question: pathlib's raises where a name is longer than any file's may be.
    if os.path.isfile(run):  # noqa: PTH113
        raise RunFolderError(f"{run} is a file, and a run is a folder: of spans, `tensorix spans {run}` makes one")
    if not watch:
        written = write_report(run, formats=wanted, out=out)
    else:
        written, ended = watch_report(run, formats=wanted, out=out, shown=_first, sleep=time.sleep)
        if not ended:
            say("The run was killed, it seems: nothing was written to it for a minute.")
    say("")
    for line in written.verdict:
        say(line)
    say(f"Report: {written.page if 'html' in wanted else written.folder}")


def _first(written: ReportPaths) -> None:
    say(f"The report is written again while the run goes on (Ctrl-C ends that): {written.page}")
