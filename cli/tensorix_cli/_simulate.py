"""`tensorix simulate`: the settings of a file and of the options, and the server that keeps to them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorix_api.errors import SettingsError
from tensorix_simulator.settings import SimulatorSettings

__all__ = ["simulator_settings"]


def simulator_settings(file: Path | None, options: Mapping[str, Any]) -> SimulatorSettings:
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
    return settings.changed({name: value for name, value in options.items() if value is not None})
