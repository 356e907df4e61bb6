"""`tensorix probe once`: a round of each target, and what it found, in the forms that were asked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import typer

from tensorix_api.errors import SettingsError, TensorixError
from tensorix_api.secret import Redactor
from tensorix_cli._output import complain, say
from tensorix_cli._probe_options import chosen
from tensorix_cli._probe_table import show
from tensorix_cli.exit_status import ExitStatus
from tensorix_probes._once import probe
from tensorix_probes.limits.keys import Keys
from tensorix_probes.metrics import Metrics
from tensorix_probes.outputs.document import as_json
from tensorix_probes.outputs.junit import write_junit
from tensorix_probes.outputs.nagios import UNKNOWN, nagios
from tensorix_probes.outputs.prometheus import counts_of_file, going_on, push, write_textfile
from tensorix_probes.registry import check_named
from tensorix_probes.result import Round, State, worst
from tensorix_probes.settings import Configuration, Target

__all__ = ["STATUS", "Wanted", "run_once"]

STATUS = {
    State.UP: ExitStatus.DONE,
    State.DEGRADED: ExitStatus.NOT_DONE,
    State.DOWN: ExitStatus.NOT_DONE,
    State.INCONCLUSIVE: ExitStatus.INCONCLUSIVE,
    State.PAYMENT: ExitStatus.PAYMENT,
}
_JOB = "tensorix_probe"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What was asked for."""

    targets: Sequence[str]
    checks: Sequence[str]
    location: str | None
    form: Literal["table", "json", "nagios", "nothing"]
    junit: Path | None
    textfile: Path | None
    pushgateway: str | None


def run_once(wanted: Wanted, configured: Callable[[], Configuration]) -> int:
    """Probe, show and write; returns the exit status.

    What cannot be written or pushed is complained of: the status is that of the probe. A mistake raises SettingsError,
    or with `--nagios`, whose codes mean something else, is said in its line.
    """
    try:
        configuration, targets = _prepared(wanted, configured)
    except TensorixError as error:
        if wanted.form != "nagios":
            raise
        say(f"TENSORIX UNKNOWN - {' '.join(str(error).split())}")
        return UNKNOWN
    except typer.Exit:
        if wanted.form != "nagios":
            raise
        say("TENSORIX UNKNOWN - the configuration has mistakes: see tensorix probe check-config")
        return UNKNOWN
    keys = Keys(targets)
    rounds = probe(configuration, targets=targets, keys=keys)
    status = STATUS[worst(one.state for one in rounds)]
    _write(rounds, targets, wanted, configuration)
    if wanted.form == "json":
        say(as_json(rounds, configuration, exit_status=int(status)))
    elif wanted.form == "nagios":
        line, status_of_nagios = nagios(rounds, targets)
        say(line)
        return status_of_nagios
    elif wanted.form == "table":
        show(rounds, targets, keys)
    return status


def _prepared(wanted: Wanted, configured: Callable[[], Configuration]) -> tuple[Configuration, list[Target]]:
    """The configuration and the targets to probe, with all that can be wrong found before anything is sent."""
    configuration = configured()
    if wanted.location is not None:
        from tensorix_probes.setting_values import WrongValueError, name

        try:
            configuration = replace(configuration, location=name(wanted.location))
        except WrongValueError as error:
            raise SettingsError(f"--location: {error}") from None
    targets = chosen(configuration, wanted.targets, wanted.checks)
    for target in targets:
        for check in target.checks:
            check_named(check)
    for option, path in (("--junit", wanted.junit), ("--textfile", wanted.textfile)):
        if path is None:
            continue
        if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
            raise SettingsError(f"{option}: {str(path)!r} cannot be written: give a file in a folder that is there")
    for warning in configuration.warnings:
        complain(f"warning: {warning}")
    return configuration, targets


def _write(rounds: Sequence[Round], targets: Sequence[Target], wanted: Wanted, configuration: Configuration) -> None:
    """The files and the push that were asked for, whatever the state. What fails is complained of."""
    redact = Redactor(*(target.api_key for target in targets))

    def attempted(what: str, do: Callable[[], None]) -> None:
        try:
            do()
        except OSError as error:
            complain(redact(f"{what}: {error.strerror or error}"))

    if wanted.junit is not None:
        path = wanted.junit
        attempted(f"{path} was not written", lambda: write_junit(rounds, path))
    if wanted.textfile is None and wanted.pushgateway is None:
        return
    metrics = Metrics(targets, configuration.location)
    by_name = {target.name: target for target in targets}
    for one in rounds:
        metrics.see(one, by_name[one.target])
    before = {} if wanted.textfile is None else counts_of_file(wanted.textfile)
    registry = going_on(metrics, before)
    if wanted.textfile is not None:
        file = wanted.textfile
        attempted(f"{file} was not written", lambda: write_textfile(registry, file))
    if wanted.pushgateway is not None:
        gateway = wanted.pushgateway
        attempted(
            "nothing was pushed to the Pushgateway",
            lambda: push(registry, gateway, job=_JOB, location=configuration.location),
        )
