"""Settings as people write them: a JSON or TOML file, and `NAME=VALUE`.

TOML has no null: there, and in `NAME=VALUE`, a value that is the text `null` stands for it.
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeAlias

from tensorix_api.errors import SettingsError
from tensorix_simulator.distributions import FORMS
from tensorix_simulator.setting_checks import CHECKS, DISTRIBUTIONS
from tensorix_simulator.settings import SimulatorSettings

__all__ = ["allowed", "as_json", "as_toml", "gathered", "read_settings"]

_Pairs: TypeAlias = list[tuple[str, Any]]

_OPTIONS = {name: f"--{name.replace('_', '-')}" for name in ("host", "port", "control_port", "tls", "ca_file", "truth")}
_NAMED = re.compile(r"(?:(?:unknown )?setting '|unknown (?=preset )|')(\w+)[' ]")


def read_settings(source: Path | str) -> SimulatorSettings:
    """The settings of a file, or of standard input where `source` is `-`.

    TOML where the name ends so, or where a text of another name begins like no JSON. Raises SettingsError that names
    the file, the line where it can be told, the setting and what it may be.
    """
    standard = str(source) == "-"
    place = "standard input" if standard else str(source)
    if standard and sys.stdin is None:
        raise SettingsError("the settings cannot be read from standard input: it is closed")
    try:
        text = (sys.stdin.buffer.read() if standard else Path(source).read_bytes()).decode("utf-8-sig")
    except OSError as error:
        raise SettingsError(f"the settings cannot be read from {place}: {error.strerror}") from None
    except ValueError:
        raise SettingsError(f"the settings in {place} are no UTF-8 text") from None
    if not text.strip() and not place.endswith(".toml"):
        raise SettingsError(f"{place} is empty: for no settings write {{}}")
    toml = place.endswith(".toml") or (not place.endswith(".json") and not text.lstrip().startswith(("{", "[")))
    data = _toml(text, place) if toml else _json(text, place)
    try:
        return SimulatorSettings.from_dict(data)
    except SettingsError as error:
        said = str(error)
        named = _NAMED.match(said)
        if named and named[1] in _OPTIONS:
            said = f"{named[1]!r} is no setting but an option of the command: {_OPTIONS[named[1]]}"
        elif named and said.startswith("unknown setting") and isinstance(data[named[1]], Mapping):
            said = f"unknown section {named[1]!r}: settings stand before any, and the only one is 'answers'"
        raise SettingsError(f"{place}{_line(text, named, toml)}: {said}") from None


def _json(text: str, place: str) -> Any:
    def once(pairs: _Pairs) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        for name in names:
            if names.count(name) > 1:
                raise SettingsError(f"{place}: {name!r} is given {names.count(name)} times: once is enough")
        return dict(pairs)

    try:
        return json.loads(text, object_pairs_hook=once)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise SettingsError(f"{place}, {where}: no valid JSON: {error.msg}") from None
    except RecursionError:
        raise SettingsError(f"{place}: nested too deep for settings") from None
    except ValueError as error:
        raise SettingsError(f"{place}: no valid JSON: {error}") from None


def _toml(text: str, place: str) -> Any:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        said, _, where = str(error).rstrip(")").partition(" (at ")
        raise SettingsError(f"{place}{', ' + where if where else ''}: no valid TOML: {said}") from None
    except RecursionError:
        raise SettingsError(f"{place}: nested too deep for settings") from None
    return {name: None if value == "null" else value for name, value in data.items()}


def _line(text: str, named: re.Match[str] | None, toml: bool) -> str:
    """Where the setting that a message names stands, where that can be told for sure."""
    if named is None:
        return ""
    name = "presets" if named[1] == "preset" else re.escape(named[1])
    pattern = rf"^[ \t]*(?:\[+[ \t]*{name}\b|(?:{name}|\"{name}\")[ \t]*=)" if toml else rf'"{name}"\s*:'
    found = [match.start() for match in re.finditer(pattern, text, re.MULTILINE)]
    return f", line {text.count(chr(10), 0, found[0]) + 1}" if len(found) == 1 else ""


def gathered(
    source: Path | str | None,
    *,
    presets: Sequence[str] | None = None,
    options: Mapping[str, Any] | None = None,
    assigned: Sequence[str] | None = None,
) -> SimulatorSettings:
    """The settings of a file or the defaults, over them presets, then options, then `NAME=VALUE`.

    An option that is None or an empty list is not given; the text `null`, and `none` where that is no value of the
    setting's own, is. Raises SettingsError.
    """
    settings = SimulatorSettings() if source is None else read_settings(source)
    given = {
        name: None if is_null(name, value) else value
        for name, value in (options or {}).items()
        if value is not None and value != []
    }
    return settings.changed({"presets": list(presets or ()), **given, **_assignments(assigned or ())})


def _assignments(texts: Sequence[str]) -> dict[str, Any]:
    """The settings of `rpm=5` or `models=["a/b"]`: values as in JSON, text with or without quotes."""
    given: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals or not name:
            raise SettingsError(f"{text!r} sets nothing: write NAME=VALUE, as rpm=5")
        given[name] = _value(name, value.strip())
    return given


def _value(name: str, text: str) -> Any:
    if is_null(name, text):
        return None
    if name in DISTRIBUTIONS:
        # `5` is a number of tokens, and still the text of a distribution.
        return text.strip('"')
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def is_null(name: str, value: object) -> bool:
    """Whether a value stands for null: `null`, and `none` where the setting may be null."""
    if isinstance(value, list) and len(value) == 1:
        # Of an option that may be repeated.
        return value[0] in ("null", "none") and _may_be_null(name)
    return value == "null" or (value == "none" and _may_be_null(name))


def _may_be_null(name: str) -> bool:
    return DISTRIBUTIONS[name][1] if name in DISTRIBUTIONS else name in CHECKS and CHECKS[name][0](None)


# Writing.


def allowed(name: str) -> str:
    """What a setting may be, in words."""
    if name in CHECKS:
        return CHECKS[name][1]
    quantity, optional = DISTRIBUTIONS[name]
    example = "250ms or lognormal(250ms, 0.4)" if quantity == "time" else "20 or uniform(10, 50)"
    return f"the text of a distribution, as {example}{', or null' if optional else ''}"


def as_json(settings: SimulatorSettings) -> str:
    """All settings, as a settings file in JSON."""
    return json.dumps(settings.to_dict(), indent=2)


def as_toml(settings: SimulatorSettings) -> str:
    """All settings, as a settings file in TOML that says of each what it may be."""
    values = settings.to_dict()
    lines = [
        "# Settings of the Tensorix simulator.",
        *_comment(f"Distributions: {'; '.join(FORMS)}; times with a unit."),
    ]
    lines += ["", f"format = {values['format']}"]
    for known in fields(settings):
        lines += ["", *_comment(allowed(known.name)), f"{known.name} = {_toml_value(values[known.name])}"]
    return "\n".join(lines)


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, 100, initial_indent="# ", subsequent_indent="# ")


def _toml_value(value: Any) -> str:
    if value is None:
        return '"null"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml_value, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_toml_value(name)} = {_toml_value(inner)}' for name, inner in value.items())}}}"
    # TOML's basic strings are JSON's, but for the character that JSON need not escape.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
