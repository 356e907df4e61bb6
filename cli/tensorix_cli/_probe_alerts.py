"""`tensorix probe alerts`: the files for Prometheus, Alertmanager and Grafana, printed or written."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tensorix_api.errors import CannotWriteError, SettingsError
from tensorix_cli._extras import require
from tensorix_cli._output import say
from tensorix_cli._probe_options import share_of

__all__ = ["alerts"]


def alerts(
    scale: Annotated[
        float, typer.Option("--scale", help="All windows times this: 0.01 tries the rules out in minutes.")
    ] = 1.0,
    objective: Annotated[
        str | None,
        typer.Option(
            "--objective",
            metavar="SHARE",
            help="A share such as 99.5% or 0.995 for all targets, instead of each one's own.",
        ),
    ] = None,
    runbooks: Annotated[
        str | None, typer.Option("--runbooks", help="Where your copy of docs/runbooks.md is: an address.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="A folder: write rules.yml, alertmanager.yml and grafana.json there."),
    ] = None,
) -> None:
    """Print the alerting rules for Prometheus, or write them to a folder with an example for Alertmanager and a
    dashboard for Grafana.
    """
    require("probes")
    from tensorix_probes.alerts.rules import RUNBOOKS, alertmanager_example, dashboard, rules

    asked = None if objective is None else share_of("--objective", objective, below_one=True)
    try:
        text = rules(scale, objective=asked, runbooks=runbooks or RUNBOOKS)
    except ValueError as error:
        raise SettingsError(str(error)) from None
    if out is None:
        say(text.rstrip("\n"))
        return
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, content in (
            ("rules.yml", text),
            ("alertmanager.yml", alertmanager_example()),
            ("grafana.json", dashboard()),
        ):
            (out / name).write_text(content, encoding="utf-8")
            say(f"{out / name}")
    except OSError as error:
        reason = error.strerror or error
        raise CannotWriteError(f"{str(out)!r} cannot be written ({reason}): give another folder with --out") from None
