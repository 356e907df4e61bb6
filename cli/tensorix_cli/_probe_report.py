"""`tensorix probe report`: how available the targets of a history were, in words, and where the page is."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tensorix_api.errors import SettingsError
from tensorix_cli._extras import require
from tensorix_cli._output import say
from tensorix_records.history import History
from tensorix_reports.uptime import Objective, uptime_report, write_uptime_report

__all__ = ["report_uptime"]


def report_uptime(
    configuration: str | None,
    history: str | None,
    *,
    days: float,
    targets: Sequence[str],
    locations: Sequence[str],
    out: Path,
    pictures: Sequence[str],
) -> None:
    """Write the report and say what it found.

    Raises SettingsError for what cannot be used, HistoryError, CannotWriteError.
    """
    objectives: dict[str, Objective] = {}
    url = history
    if configuration is not None:
        objectives, configured = _read(configuration)
        url = history or configured
        if url is None:
            raise SettingsError(f"{configuration} keeps no history: add [history] with its url, or say --history")
        _check(targets, objectives, f"{configuration} has")
    if url is None:
        raise SettingsError("there is nothing to report from: name a configuration, or say --history")
    if unknown := [kind for kind in pictures if kind not in ("png", "svg")]:
        raise SettingsError(f"--pictures {unknown[0]!r} cannot be drawn: say png or svg")
    until = datetime.now(UTC)
    with closing(History.open(url, create=False)) as opened:
        if configuration is None:
            _check(targets, opened.targets(), "the history has")
        report = uptime_report(
            opened,
            since=until - timedelta(days=days),
            until=until,
            objectives={name: objectives[name] for name in targets or objectives} if objectives else None,
            targets=targets or list(objectives),
            locations=locations,
        )
    seen = {now.location for now in report.now}
    if unseen := [name for name in locations if name not in seen]:
        raise SettingsError(f"there is no probe from a location {unseen[0]!r} in the last {days:g} days")
    written = write_uptime_report(report, out, pictures=pictures)
    say("")
    for line in written.verdict:
        say(line)
    say(f"Report: {written.page}")


def _check(asked: Sequence[str], known: Collection[str], who: str) -> None:
    for name in asked:
        if name not in known:
            raise SettingsError(f"there is no target {name!r}: {who} {', '.join(sorted(known)) or 'none'}")


def _read(configuration: str) -> tuple[dict[str, Objective], str | None]:
    """The objectives of a configuration's targets, and the address of its history."""
    require("probes")
    from tensorix_probes.configuration.file import read_configuration

    read = read_configuration(configuration, os.environ)
    objectives = {
        target.name: Objective(
            availability=target.objective.availability,
            window_s=target.objective.window_s,
            interval_s=target.interval_s,
        )
        for target in read.targets
    }
    return objectives, read.history.url
