"""`tensorix probe serve`: what is said when it listens, and where its lines go."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tensorix_cli._output import complain, say
from tensorix_cli._probe_options import configuration_of_file
from tensorix_probes.configuration.file import read_configuration
from tensorix_probes.configuration.words import words_of
from tensorix_probes.serve.process import serve
from tensorix_probes.serve.web import Web
from tensorix_probes.settings import Configuration

__all__ = ["serve_alone", "serve_file"]


def serve_file(file: Path, *, host: str | None, port: int | None) -> None:
    """Probe what a file says until it is told to end; SIGHUP reads it again. Raises SettingsError."""

    def again() -> Configuration:
        return read_configuration(file, os.environ)

    _serve(configuration_of_file(file), None if str(file) == "-" else again, host, port)


def serve_alone(configuration: Configuration, *, interval_s: float | None, host: str | None, port: int | None) -> None:
    """Probe one target, which options and the environment name, until it is told to end. Raises SettingsError."""
    [target] = configuration.targets
    if interval_s is not None:
        within = min(target.timeouts.total_s, interval_s)
        target = replace(target, interval_s=interval_s, timeouts=target.timeouts.within(within))
    _serve(replace(configuration, targets=(target,)), None, host, port)


def _serve(
    configuration: Configuration, again: Callable[[], Configuration] | None, host: str | None, port: int | None
) -> None:
    def ready(web: Web) -> None:
        for warning in configuration.warnings:
            complain(f"warning: {warning}")
        if not web.loopback:
            complain(
                f"warning: listening on {web.host}: everybody who can reach this machine can see the status page, "
                "with the names, addresses and models of what is probed"
            )
        for line in words_of(configuration):
            say(line)
        say(f"Status page at {web.url} (metrics at {web.url}metrics, health at {web.url}healthz; Ctrl-C ends it)")

    serve(configuration, again=again, host=host, port=port, ready=ready, tell=complain)
