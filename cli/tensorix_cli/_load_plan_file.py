"""A load plan in a file, or in the manifest of an earlier run: the options of `tensorix load`, by their long names.

    [traffic]
    duration = "5m"
    mix = { chat-streamed = 6, models = 1 }

    [objectives]
    slo = ["ttft_p95 < 800ms", "error_rate < 1%"]

A value stands as it would on the command line, or as TOML's own number, truth, list or table where it is one. Names of
files are taken from the folder of the plan.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tensorix_api.errors import SettingsError

__all__ = ["PATHS", "TABLES", "Given", "from_file", "from_run"]

TABLES = {
    "server": ("base_url", "model", "models", "ca_bundle", "headers", "body", "temperature", "max_tokens", "label"),
    "traffic": ("users", "spawn_rate", "requests", "duration", "mix", "stream", "think_time"),
    "schedule": ("rate", "arrivals", "steps", "ramp", "spike", "replay", "replay_speed", "max_users", "seed"),
    "prompts": (
        "prompts",
        "prompt_files",
        "prompt_format",
        "prompt_tokens",
        "answer_tokens",
        "turns",
        "shared_prefix",
        "shared_prefixes",
        "unique_prompts",
    ),
    "limits": ("limit_requests", "limit_tokens", "limit_window", "limit_share"),
    "budget": ("cap_requests", "cap_tokens", "cap_cost", "prices", "key_variables", "keys", "retries"),
    "objectives": ("slo", "good", "stop_on", "junit"),
    "watching": ("web", "prometheus", "otlp"),
    "machines": ("processes", "workers", "bind", "wait_for_workers"),
    "timeouts": ("connect_timeout", "first_token_timeout", "chunk_timeout", "timeout"),
}
"""The tables of a plan, and of each the options (by the name of their parameter) that it may hold."""

_SEVERAL = {"prompts", "prompt_files", "slo", "good", "stop_on", "key_variables", "headers"}
PATHS = {"ca_bundle", "prompt_files", "replay", "prices", "junit"}


class Given:
    """What a plan says: values for the options, and where each stands."""

    def __init__(self, values: dict[str, Any], places: Mapping[str, str]) -> None:
        self.values = values
        self._places = places

    def place(self, name: str) -> str | None:
        """Where the value of an option stands, as `plan.toml:7`."""
        return self._places.get(name)


def from_file(path: Path, spellings: Mapping[str, str]) -> Given:
    """Read a plan. `spellings` gives the parameter of each long option without its dashes.

    Raises SettingsError, in one line with its place, for a file that cannot be read or says something unknown.
    """
    try:
        text = path.read_text(encoding="utf-8")
        data = tomllib.loads(text)
    except OSError as error:
        raise SettingsError(f"the plan {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"the plan {path} is no UTF-8 text") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise SettingsError(f"the plan {path} is no TOML: {error or 'it is nested too deep'}") from None
    lines = text.splitlines()
    values, places = {}, {}
    for table, key, value in _entries(data, path):
        place = f"{path}:{_line(lines, key)}"
        name = spellings.get(key.replace("_", "-"))
        home = next((home for home, names in TABLES.items() if name in names), None)
        if name is None or home is None:
            raise SettingsError(f"{place}: {key!r} is no option of a plan: {', '.join(_known(table, spellings))}")
        if home != table:
            raise SettingsError(f"{place}: {key!r} belongs into the table [{home}]")
        if name in values:
            raise SettingsError(f"{place}: {key!r} is there twice, under two of its names")
        values[name] = _as_option(name, value, path.parent, place)
        places[name] = place
    return Given(values, places)


def from_run(manifest: Mapping[str, Any], folder: Path) -> Given:
    """What an earlier run was asked for. Raises SettingsError where its manifest does not say."""
    options = (manifest.get("asked") or {}).get("options")
    if manifest.get("kind") != "load" or not isinstance(options, dict):
        raise SettingsError(f"{folder} does not say with which options it was made: only load tests can be repeated")
    return Given(dict(options), dict.fromkeys(options, f"{folder}: its manifest"))


def _entries(data: Mapping[str, Any], path: Path) -> Iterator[tuple[str, str, Any]]:
    for table, entries in data.items():
        if table not in TABLES or not isinstance(entries, dict):
            raise SettingsError(f"{path}: {table!r} is no table of a plan: there are [{'], ['.join(TABLES)}]")
        for key, value in entries.items():
            yield table, key, value


def _line(lines: list[str], key: str) -> int:
    """The number of the line on which a key is given a value; the first of the file where it is written unusually."""
    pattern = re.compile(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[=.]|\s*\[[^\]]*\.\s*[\"']?{re.escape(key)}[\"']?\s*\]")
    return next((number for number, line in enumerate(lines, 1) if pattern.match(line)), 1)


def _known(table: str, spellings: Mapping[str, str]) -> list[str]:
    return [spelling for spelling, name in spellings.items() if name in TABLES[table]]


def _as_option(name: str, value: Any, folder: Path, place: str) -> Any:
    """As the command line would have given it."""
    if name in _SEVERAL and isinstance(value, str):
        value = [value]
    if name in PATHS:
        return [_from(folder, one) for one in value] if isinstance(value, list) else _from(folder, value)
    if name == "body" and isinstance(value, dict):
        return json.dumps(value)
    if name == "headers" and isinstance(value, dict):
        return [f"{header}: {text}" for header, text in value.items()]
    if isinstance(value, dict):
        return ",".join(f"{key}={share}" for key, share in value.items())
    if isinstance(value, list) and not all(isinstance(one, str) for one in value):
        raise SettingsError(f"{place}: a list of texts is wanted")
    if isinstance(value, bool) or value is None or isinstance(value, list):
        return value
    return str(value)


def _from(folder: Path, name: Any) -> str:
    return str(folder / str(name))
