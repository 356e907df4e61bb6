"""`tensorix probe check-config`: what a configuration would do, in words."""

from __future__ import annotations

from pathlib import Path

from tensorix_api.errors import SettingsError
from tensorix_cli._output import complain, say
from tensorix_cli._probe_options import configuration_of_file
from tensorix_probes.configuration.file import example_configuration
from tensorix_probes.configuration.words import warnings_of, words_of

__all__ = ["check_configuration"]


def check_configuration(file: Path | None, *, example: bool) -> None:
    """Print what a configuration would do, or an example of one."""
    if example:
        if file is not None:
            raise SettingsError("--example prints an example and reads no file: leave one of them out")
        say(example_configuration().rstrip())
        return
    if file is None:
        raise SettingsError("name the configuration to check, or take --example to print one")
    configuration = configuration_of_file(file)
    for line in words_of(configuration):
        say(line)
    for warning in (*configuration.warnings, *warnings_of(configuration)):
        complain(f"warning: {warning}")
