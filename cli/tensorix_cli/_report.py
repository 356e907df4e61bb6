"""`tensorix report`: the verdict in words and where the page is."""

from __future__ import annotations

import os
from pathlib import Path

from tensorix_api.errors import RunFolderError
from tensorix_cli._output import say
from tensorix_reports.load import write_report

__all__ = ["report"]


def report(run: Path) -> None:
    """Write the report of a run folder and say what it found. Raises RunFolderError where it is no run."""
    # By the operating system's own question: pathlib's raises where a name is longer than any file's may be.
    if os.path.isfile(run):  # noqa: PTH113
        raise RunFolderError(f"{run} is a file, and a run is a folder: of spans, `tensorix spans {run}` makes one")
    written = write_report(run)
    say("")
    for line in written.verdict:
        say(line)
    say(f"Report: {written.page}")
