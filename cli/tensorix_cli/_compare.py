"""`tensorix compare`: two or more runs beside each other, and a gate for regressions."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tensorix_cli._extras import require
from tensorix_cli._output import say
from tensorix_cli._places import place_of
from tensorix_cli.exit_status import ExitStatus

__all__ = ["compare"]

_STATUS = {"broken": ExitStatus.NOT_DONE, "unknown": ExitStatus.INCONCLUSIVE}


class GateRule(StrEnum):
    """What breaks a gate."""

    SHOWN = "shown"
    ESTIMATE = "estimate"
    CERTAIN = "certain"


def compare(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="RUN RUN...", help="The folders of runs; the first is the baseline."),
    ] = None,
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-if",
            metavar="CHANGE",
            help="A change that is not accepted: 'ttft_p95 +10%', 'ttft_p95 +50ms', 'error_rate +1pp', "
            "'successful -5%'; the figures are those of --slo. More than once: each counts.",
        ),
    ] = None,
    gate: Annotated[
        GateRule,
        typer.Option(
            "--gate",
            help="What breaks a gate. shown: the change is beyond it and more than chance; estimate: the change is "
            "beyond it; certain: its whole interval is.",
        ),
    ] = GateRule.SHOWN,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Where to write it [default: report/compare in the last run]."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON, and no words.")] = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of compare.json and do no more.")
    ] = False,
) -> int:
    """Compare runs with the first of them: what differs by more than chance.

    Exit status with --fail-if: 0 accepted, 1 a gate is broken, 3 not enough data for one.
    """
    require("reports")
    from tensorix_reports import compare as compared
    from tensorix_reports.comparison import comparison_schema, write_comparison

    if schema:
        say(comparison_schema().rstrip())
        return ExitStatus.DONE
    found = compared(runs or [], fail_if=fail_if or [], rule=gate.value)
    written = write_comparison(found, None if out is None else place_of(out))
    if as_json:
        say(json.dumps(found.to_dict(), allow_nan=False))
    else:
        say("")
        for line in written.verdict:
            say(line)
        say(f"Comparison: {written.page}")
    return _STATUS.get(written.standing or "", ExitStatus.DONE)
