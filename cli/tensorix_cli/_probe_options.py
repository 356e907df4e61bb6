"""The options of `tensorix probe`, each with its form and its help, and what becomes of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from tensorix_api.errors import SettingsError
from tensorix_api.settings import Settings
from tensorix_cli._load_options import option_of_time
from tensorix_cli._output import complain
from tensorix_cli.exit_status import ExitStatus

if TYPE_CHECKING:
    from tensorix_probes.settings import Configuration, Target

__all__ = ["BY_HAND", "chosen", "configuration_of_file", "configuration_of_options", "share_of"]

_WITHOUT_FILE, _OUTPUT = "Without a configuration", "Output"

BY_HAND = "20%"
"""Of a key's limits, where no configuration says otherwise: enough for one round of all checks."""

ConfigFile: TypeAlias = Annotated[
    Path | None,
    typer.Option("--config", "-c", metavar="FILE", help="The configuration in TOML; - for standard input."),
]
Targets: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--target", metavar="NAME", help="Only this target of the configuration; may be repeated."),
]
Checks: TypeAlias = Annotated[
    list[str] | None, typer.Option("--check", metavar="NAME", help="Only this check; may be repeated.")
]
Location: TypeAlias = Annotated[
    str | None, typer.Option(metavar="NAME", help="Where this runs, for metrics and documents.")
]
BaseUrl: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="The server, up to /v1 (default: TENSORIX_BASE_URL, else Tensorix).",
        rich_help_panel=_WITHOUT_FILE,
    ),
]
Model: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Default: TENSORIX_MODEL, else the first that the server lists.",
        rich_help_panel=_WITHOUT_FILE,
    ),
]
CaBundle: TypeAlias = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Trust these PEM certificates.", rich_help_panel=_WITHOUT_FILE),
]
Prompt: TypeAlias = Annotated[
    str | None, typer.Option(metavar="TEXT", help="What is asked (default: a sum).", rich_help_panel=_WITHOUT_FILE)
]
Expect: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="REGEX",
        help="What the answer has to hold (default: the sum); none: anything.",
        rich_help_panel=_WITHOUT_FILE,
    ),
]
MaxTokens: TypeAlias = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="Bounds each answer (default: 16).", rich_help_panel=_WITHOUT_FILE),
]
LimitRequests: TypeAlias = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Requests a minute that the key is allowed (default: as its headers say, else 60).",
        rich_help_panel=_WITHOUT_FILE,
    ),
]
LimitTokens: TypeAlias = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Tokens a minute that the key is allowed (default: as its headers say, else 2,000,000).",
        rich_help_panel=_WITHOUT_FILE,
    ),
]
Share: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="SHARE",
        help=f"Of the key's limits, for all that this run asks (default: {BY_HAND}, of 60 requests 12).",
        rich_help_panel=_WITHOUT_FILE,
    ),
]
Accept: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="CHECK.ASSERTION",
        help="A known deviation that does no harm; may be repeated.",
        rich_help_panel=_WITHOUT_FILE,
    ),
]
Timeout: TypeAlias = Annotated[float | None, option_of_time("For a whole request", "45s", _WITHOUT_FILE)]

Interval: TypeAlias = Annotated[float | None, option_of_time("From one round to the next", "60s", _WITHOUT_FILE)]

Host: TypeAlias = Annotated[
    str | None, typer.Option(metavar="ADDRESS", help="Where to listen (default: as configured, else 127.0.0.1).")
]
Port: TypeAlias = Annotated[
    int | None,
    typer.Option(metavar="PORT", min=0, max=65535, help="Default: as configured, else 9464; 0: one that is free."),
]

Json: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print one JSON document instead of a table.", rich_help_panel=_OUTPUT)
]
Nagios: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--nagios",
        help="Print one line with figures, and end with Nagios's codes: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.",
        rich_help_panel=_OUTPUT,
    ),
]
Quiet: TypeAlias = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print nothing but complaints.", rich_help_panel=_OUTPUT)
]
JUnit: TypeAlias = Annotated[
    Path | None, typer.Option("--junit", metavar="FILE", help="Write JUnit's XML, too.", rich_help_panel=_OUTPUT)
]
TextFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--textfile",
        metavar="FILE",
        help="Write a file for node exporter's textfile collector, too (NAME.prom); its counters go on.",
        rich_help_panel=_OUTPUT,
    ),
]
Pushgateway: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--pushgateway", metavar="URL", help="Push to a Prometheus Pushgateway, too.", rich_help_panel=_OUTPUT
    ),
]


def configuration_of_file(path: Path, *, tell: bool = True) -> Configuration:
    """The configuration of a file. Its mistakes are complained of, a line each, and end the command.

    Without `tell` they are raised, as ConfigurationError.
    """
    from tensorix_probes.configuration.file import ConfigurationError, read_configuration

    try:
        return read_configuration(path, os.environ)
    except ConfigurationError as error:
        if not tell:
            raise
        for mistake in error.mistakes:
            complain(f"error: {mistake}")
        raise typer.Exit(ExitStatus.MISTAKE) from None


def chosen(configuration: Configuration, names: Sequence[str], checks: Sequence[str]) -> list[Target]:
    """The targets that were asked for, each with the checks that were. Raises SettingsError."""
    from dataclasses import replace

    from tensorix_probes.configuration.values import similar
    from tensorix_probes.registry import known_checks

    for check in checks:
        if check not in known_checks():
            raise SettingsError(f"there is no check {check!r}: {similar(check, known_checks())}")
    known = {target.name: target for target in configuration.targets}
    for name in names:
        if name not in known:
            raise SettingsError(f"there is no target {name!r}: {similar(name, known)}")
    targets = [target for target in configuration.targets if not names or target.name in names]
    if not checks:
        return targets
    wanted = set(checks)
    listed = {"models"} if wanted & {"chat", "stream"} else set()
    return [
        replace(
            target,
            # Which model is asked is learnt from the list, where the target names none.
            checks=tuple(one for one in known_checks() if one in wanted | (set() if target.model else listed)),
        )
        for target in targets
    ]


def configuration_of_options(
    *,
    base_url: str | None,
    model: str | None,
    ca_bundle: Path | None,
    prompt: str | None = None,
    expect: str | None = None,
    max_tokens: int | None = None,
    limit_requests: int | None = None,
    limit_tokens: int | None = None,
    share: str | None = None,
    accept: Sequence[str] = (),
    timeout_s: float | None = None,
) -> Configuration:
    """One target, from what was given and from TENSORIX_… variables. Raises SettingsError."""
    from tensorix_probes.configuration import values
    from tensorix_probes.configuration.rules import wrong_assertion
    from tensorix_probes.settings import Budget, Canary, Configuration, Headers, Target, Timeouts

    settings = Settings.from_environment(base_url=base_url, model=model)
    if settings.api_key is None and not settings.is_loopback:
        raise SettingsError(f"no API key for {settings.host}: set TENSORIX_API_KEY, or name another with --config")
    if ca_bundle is not None and not ca_bundle.is_file():
        raise SettingsError(f"the file of certificates {str(ca_bundle)!r} is not there: name another with --ca-bundle")
    for accepted in accept:
        if wrong := wrong_assertion(accepted):
            raise SettingsError(f"--accept: {wrong}")
    asked: dict[str, object] = {"prompt": prompt, "max_tokens": max_tokens}
    if expect is not None:
        asked["expect"] = _parsed("--expect", values.regex, expect)
    elif prompt is not None:
        # The sum's answer is not that of another question.
        asked["expect"] = None
    total_s = Timeouts().total_s if timeout_s is None else timeout_s
    target = Target(
        name=_name_of(settings),
        base_url=settings.base_url,
        api_key=settings.api_key,
        key_source=None if settings.api_key is None else "$TENSORIX_API_KEY",
        model=settings.model,
        ca_bundle=ca_bundle,
        canary=Canary(**{name: value for name, value in asked.items() if value is not None or name == "expect"}),  # type: ignore[arg-type]
        headers=Headers(requests=limit_requests, tokens=limit_tokens),
        budget=Budget() if share is None else Budget(share=share_of("--share", share)),
        accept=tuple(accept),
        timeouts=Timeouts().within(total_s),
    )
    return Configuration(targets=(target,))


def _name_of(settings: Settings) -> str:
    """What a server is called that nobody named: its host, and its port where it is not that of the scheme."""
    host = settings.host
    if ":" in host:
        host = "ip6-localhost" if host == "::1" else "ip6-" + host.partition("%")[0].replace(":", "-")
    return host if settings.port == (443 if settings.secure else 80) else f"{host}-{settings.port}"


def share_of(option: str, text: str, *, below_one: bool = False) -> float:
    """A share as it is given by hand: `5%` or 0.05. Raises SettingsError."""
    from tensorix_probes.configuration import values

    try:
        found: object = float(text)
    except ValueError:
        found = text
    parsed: float = _parsed(option, values.share(below_one=below_one), found)
    return parsed


def _parsed(option: str, parse: Callable[[Any], Any], text: object) -> Any:
    from tensorix_probes.configuration.values import WrongValueError

    try:
        return parse(text)
    except WrongValueError as error:
        raise SettingsError(f"{option}: {error}") from None
