"""The configuration, read from TOML. Every mistake in it is told at once, each with its line and what to write."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from tensorix_api.errors import SettingsError
from tensorix_api.secret import Redactor
from tensorix_probes.configuration.mistakes import Mistakes
from tensorix_probes.configuration.outside import Surroundings, with_password
from tensorix_probes.configuration.rules import check_maintenance, check_target, check_together, merged
from tensorix_probes.configuration.schema import DefaultsSection, MaintenanceSection, Root, TargetSection
from tensorix_probes.configuration.values import WrongValueError, shown
from tensorix_probes.settings import Alerts, Configuration, HistorySettings, Maintenance, Serve, Target

__all__ = ["ConfigurationError", "example_configuration", "read_configuration"]


class ConfigurationError(SettingsError):
    """A configuration that cannot be used; `mistakes` has a line for each of its mistakes."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = tuple(mistakes)


def example_configuration() -> str:
    """A configuration in TOML with every setting there is, commented."""
    return files("tensorix_probes.configuration").joinpath("example.toml").read_text(encoding="utf-8")


def read_configuration(path: Path | str, environ: Mapping[str, str]) -> Configuration:
    """The configuration in a file, or on standard input where `path` is `-`. Keys are read from where it says.

    Raises ConfigurationError, which repeats no secret.
    """
    source = None if str(path) == "-" else Path(path)
    place = "standard input" if source is None else str(path)
    around = Surroundings(Path.cwd() if source is None else source.absolute().parent, environ)
    text = _text(source, place)
    data = _parsed(text, place)
    mistakes = Mistakes(place, text, data, around)
    configuration = _configuration(data, mistakes, around, source)
    redact = Redactor(*around.secrets)
    if told := mistakes.told():
        raise ConfigurationError([redact(one, limit=1_000) for one in told])
    return replace(configuration, warnings=tuple(redact(one) for one in dict.fromkeys(around.warnings)))


def _text(source: Path | None, place: str) -> str:
    if source is None and sys.stdin is None:
        raise ConfigurationError(["the configuration cannot be read from standard input: it is closed"])
    try:
        raw = sys.stdin.buffer.read() if source is None else source.read_bytes()
        return raw.decode("utf-8-sig")
    except OSError as error:
        raise ConfigurationError([f"{place}: it cannot be read: {error.strerror}"]) from None
    except ValueError as error:
        if isinstance(error, UnicodeDecodeError):
            line = error.object[: error.start].count(b"\n") + 1
            raise ConfigurationError([f"{place}, line {line}: it is no UTF-8 text"]) from None
        raise ConfigurationError([f"{place}: it cannot be read: {error}"]) from None


_TWICE = re.compile(r"Cannot declare \('(target|maintenance)',\) twice")


def _parsed(text: str, place: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        said, _, where = str(error).rpartition(" (at ")
        where = where.rstrip(")")
        if several := _TWICE.match(said):
            said = f"[{several[1]}] is there twice: write [[{several[1]}]] for each of several"
        at = f", {where}" if where.startswith("line") else f", line {text.count(chr(10)) + 1}, at the end"
        raise ConfigurationError([Redactor()(f"{place}{at}: no valid TOML: {said}")]) from None
    except RecursionError:
        raise ConfigurationError([f"{place}: nested too deep for a configuration"]) from None
    except ValueError as error:
        # A number of thousands of digits, a date that there is none of.
        raise ConfigurationError([Redactor()(f"{place}: no valid TOML: {error}")]) from None


def _configuration(
    data: Mapping[str, Any], mistakes: Mistakes, around: Surroundings, source: Path | None
) -> Configuration:
    root = mistakes.read(Root, data, ()).given()
    shared = mistakes.read(DefaultsSection, data.get("defaults", {}), ("defaults",)).given()
    if all(name in shared and shared[name].secret for name in ("key_env", "key_file")):
        mistakes.add(("defaults", "key_file"), "key_env is given, too: leave one of them out")
    targets = _targets(data, shared, mistakes, around)
    windows = []
    for at, one in enumerate(_listed(data, "maintenance", mistakes)):
        path = ("maintenance", at)
        windows.append(Maintenance(**{"name": "", **mistakes.read(MaintenanceSection, one, path).given()}))
        check_maintenance(mistakes, path, windows[-1], [target.name for target in targets])
    return Configuration(
        targets=tuple(targets),
        location=root.get("location"),
        maintenance=tuple(windows),
        history=_history(root.get("history", {}), mistakes),
        serve=Serve(**root.get("serve", {})),
        alerts=_alerts(root.get("alerts", {}), mistakes),
        source=source,
    )


def _listed(data: Mapping[str, Any], name: str, mistakes: Mistakes) -> list[Any]:
    found = data.get(name, [])
    if isinstance(found, list):
        return found
    mistakes.add((name,), f"{shown(found)} is no list of tables: write [[{name}]], with two brackets, for each")
    return []


def _targets(data: Mapping[str, Any], shared: dict[str, Any], mistakes: Mistakes, around: Surroundings) -> list[Target]:
    targets = []
    for at, one in enumerate(_listed(data, "target", mistakes)):
        path = ("target", at)
        own = mistakes.read(TargetSection, one, path).given()
        target = check_target(mistakes, path, own, merged(shared, own))
        if target.api_key is not None and not target.server.secure and not target.server.is_loopback:
            around.warnings.append(f"target {at + 1} ({target.name}): its key goes to {target.server.host} without TLS")
        targets.append(target)
    check_together(mistakes, targets)
    if not data.get("target", []) and not mistakes.told():
        words = "there is no target: write [[target]] and below it a name and a key_env"
        mistakes.add(("target",) if "target" in data else (), words)
    return targets


def _history(given: dict[str, Any], mistakes: Mistakes) -> HistorySettings:
    url, password = given.pop("url", None), given.pop("password_env", None)
    if password is not None and password.secret and not mistakes.is_wrong((), "history.url"):
        try:
            if url is None:
                raise WrongValueError("it stands without a url: write url, or leave it out")
            url = with_password(url, password.secret)
        except WrongValueError as error:
            mistakes.add(("history", "password_env"), str(error))
    return HistorySettings(url=None if url is None else url.reveal(), **given)


def _alerts(given: dict[str, Any], mistakes: Mistakes) -> Alerts:
    asked = [given.pop(name, None) for name in ("webhook_env", "webhook_file")]
    found = [one for one in asked if one is not None and one.secret]
    if len(found) > 1:
        mistakes.add(("alerts", "webhook_file"), "webhook_env is given, too: leave one of them out")
    return Alerts(webhook=found[0].secret if found else None, **given)
