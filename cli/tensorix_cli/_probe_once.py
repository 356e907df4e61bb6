"""`tensorix probe once`: a round of each target, and what it found, in the forms that were asked for."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from tensorix_api.errors import HistoryError, SettingsError
from tensorix_api.secret import Redactor
from tensorix_cli._output import complain, say
from tensorix_cli._probe_options import chosen
from tensorix_cli._probe_table import show
from tensorix_cli.exit_status import ExitStatus
from tensorix_probes._once import probe
from tensorix_probes.limits.keys import Keys
from tensorix_probes.memory import TargetMemory
from tensorix_probes.metrics import Metrics
from tensorix_probes.outputs.document import as_json
from tensorix_probes.outputs.junit import write_junit
from tensorix_probes.outputs.nagios import nagios
from tensorix_probes.outputs.prometheus import (
    check_gateway,
    counts_of_file,
    counts_of_gateway,
    going_on,
    push,
    write_textfile,
)
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
_DAY_NS = 86_400 * 10**9


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

    What cannot be written or pushed is complained of: the status is that of the probe. A mistake raises SettingsError.
    """
    configuration, targets = _prepared(wanted, configured)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:
            # As Ctrl-C: one line, and 130.
            signal.signal(number, signal.default_int_handler)
    keys = Keys(targets)
    memories = _recalled(configuration, targets, keys)
    try:
        rounds = probe(configuration, targets=targets, keys=keys, memories=memories)
    except KeyboardInterrupt:
        complain("interrupted")
        return ExitStatus.INTERRUPTED
    _keep(configuration, rounds, memories)
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
        from tensorix_probes.configuration.values import WrongValueError, name

        try:
            configuration = replace(configuration, location=name(wanted.location))
        except WrongValueError as error:
            raise SettingsError(f"--location: {error}") from None
    targets = chosen(configuration, wanted.targets, wanted.checks)
    for target in targets:
        for check in target.checks:
            check_named(check)
    _check_outputs(wanted)
    if wanted.checks and set(wanted.checks) <= {"tls", "ratelimit"} and "ratelimit" in wanted.checks:
        complain(
            "warning: ratelimit asks nothing, it reads what the other checks got: alone it has nothing to judge; "
            "add --check chat"
        )
    for warning in configuration.warnings:
        complain(f"warning: {warning}")
    return configuration, targets


def _check_outputs(wanted: Wanted) -> None:
    """Raises SettingsError for what could not be written or pushed."""
    for option, path in (("--junit", wanted.junit), ("--textfile", wanted.textfile)):
        if path is None:
            continue
        if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
            raise SettingsError(f"{option}: {str(path)!r} cannot be written: give a file in a folder that is there")
    if (file := wanted.textfile) is not None:
        if file.exists() and not file.is_file():
            # What it holds is read first: a device may have no end.
            raise SettingsError(f"--textfile: {str(file)!r} is no ordinary file: give one, or a name that is free")
        if file.suffix != ".prom":
            complain(f"warning: node exporter reads no text file but NAME.prom, and this is called {file.name!r}")
    if wanted.pushgateway is not None:
        try:
            check_gateway(wanted.pushgateway)
        except ValueError as error:
            raise SettingsError(f"--pushgateway: {error}") from None


def _recalled(configuration: Configuration, targets: Sequence[Target], keys: Keys) -> dict[str, TargetMemory]:
    """What the history knows of each target, and of what its key spent. One that cannot be read is complained of."""
    memories = {target.name: TargetMemory() for target in targets}
    url, location = configuration.history.url, configuration.location
    if url is None:
        return memories
    # Only here: what reads a history takes longer to load than all the rest.
    from tensorix_probes.keeping import recall_memory, recall_spends
    from tensorix_records.history import History

    try:
        with History.open(url) as history:
            for alias, names, key in keys.by_users():
                key.ledger.restore(recall_spends(history, alias, time.time_ns() - _DAY_NS, targets=names))
            memories |= {name: recall_memory(history, name, location) for name in memories}
    except HistoryError as error:
        complain(f"without what was known before: {error}")
    return memories


def _keep(configuration: Configuration, rounds: Sequence[Round], memories: Mapping[str, TargetMemory]) -> None:
    """Append the rounds to the history. That it cannot be written is complained of: the probe stands all the same."""
    if configuration.history.url is None:
        return
    from tensorix_probes.keeping import keep_once

    try:
        keep_once(configuration.history.url, rounds, memories, settings=configuration.history)
    except HistoryError as error:
        complain(str(error))
    except Exception as error:  # noqa: BLE001 - the outputs are still to be written
        redact = Redactor(*(target.api_key for target in configuration.targets))
        complain(redact(f"nothing was kept in the history: a defect of the probe: {error!r}"))


def _write(rounds: Sequence[Round], targets: Sequence[Target], wanted: Wanted, configuration: Configuration) -> None:
    """The files and the push that were asked for, whatever the state. What fails is complained of."""
    redact = Redactor(*(target.api_key for target in targets))

    def attempted(what: str, do: Callable[[], None]) -> None:
        try:
            do()
        except Exception as error:  # noqa: BLE001 - what one output gets wrong is to keep no other from being written
            why = getattr(error, "strerror", None) or (error if isinstance(error, OSError) else repr(error))
            complain(redact(f"{what}: {why}"))

    if wanted.junit is not None:
        path = wanted.junit
        attempted(f"{path} was not written", lambda: write_junit(rounds, path))
    if wanted.textfile is None and wanted.pushgateway is None:
        return
    metrics = Metrics(targets, configuration.location)
    by_name = {target.name: target for target in targets}

    def see(one: Round) -> None:
        metrics.see(one, by_name[one.target])

    for one in rounds:
        attempted(f"{one.target} is missing in the metrics", partial(see, one))
    location = configuration.location
    if wanted.textfile is not None:
        file = wanted.textfile
        attempted(
            f"{file} was not written",
            lambda: write_textfile(going_on(metrics, counts_of_file(file), by_name), file),
        )
    if wanted.pushgateway is not None:
        gateway = wanted.pushgateway

        def push_it() -> None:
            counts = counts_of_gateway(gateway, job=_JOB, location=location)
            push(going_on(metrics, counts, by_name), gateway, job=_JOB, location=location)

        attempted("nothing was pushed", push_it)
