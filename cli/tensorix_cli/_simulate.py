"""`tensorix simulate`: the settings of a file and of the options, and the server that keeps to them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorix_api.errors import SettingsError
from tensorix_cli._output import say
from tensorix_simulator.addresses import Addresses
from tensorix_simulator.server import serve
from tensorix_simulator.settings import SimulatorSettings

__all__ = ["run_simulator"]


def run_simulator(
    file: Path | None, options: Mapping[str, Any], *, host: str, port: int, control_port: int, truth: Path | None
) -> None:
    """Serve until Ctrl-C or SIGTERM. Raises SettingsError for a wrong setting or an address that cannot be had."""
    settings = _settings(file, options)
    serve(settings, host=host, port=port, control_port=control_port, truth_path=truth, on_ready=_announce)


def _announce(addresses: Addresses) -> None:
    say(f"Simulating a chat API at {addresses.base_url} (Ctrl-C ends it)")
    say(f"Settings and truth at   {addresses.control_url}")
    say(f"Try: tensorix load --base-url {addresses.base_url} --users 5 --requests 100")


def _settings(file: Path | None, options: Mapping[str, Any]) -> SimulatorSettings:
    """The settings of the JSON `file` (or the defaults), changed by the options that are not None.

    Raises SettingsError.
    """
    settings = SimulatorSettings()
    if file is not None:
        try:
            settings = SimulatorSettings.from_dict(json.loads(file.read_text(encoding="utf-8")))
        except OSError as error:
            raise SettingsError(f"the settings file {file} cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise SettingsError(f"the settings file {file} is no JSON: {error}") from None
        except RecursionError:
            raise SettingsError(f"the settings file {file} is nested too deep for settings") from None
    return settings.changed({name: value for name, value in options.items() if value is not None})
