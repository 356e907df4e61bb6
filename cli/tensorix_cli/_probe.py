"""The commands of `tensorix probe`. Each imports its room when it is called; each in a module of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tensorix_cli._extras import require

__all__ = ["app"]

app = typer.Typer(
    name="probe",
    help="Watch a chat API: is it up, is it quick, does it keep its promises, at a price that nobody minds.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command("check-config")
def check_config(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="The configuration in TOML; - for standard input.")
    ] = None,
    example: Annotated[bool, typer.Option("--example", help="Print an example with every setting instead.")] = False,
) -> None:
    """Say what a configuration would do, what it would cost a day, and every mistake in it; sends nothing."""
    require("probes")
    from tensorix_cli._probe_check_config import check_configuration

    check_configuration(file, example=example)
