"""The commands of `tensorix probe`. Each imports its room when it is called; each in a module of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tensorix_api.errors import SettingsError
from tensorix_cli import _probe_options as option
from tensorix_cli._extras import require
from tensorix_cli._probe_alerts import alerts

__all__ = ["app"]

app = typer.Typer(
    name="probe",
    help="Watch a chat API: is it up, is it quick, does it keep its promises, at a price that nobody minds.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def once(
    config: option.ConfigFile = None,
    targets: option.Targets = None,
    checks: option.Checks = None,
    location: option.Location = None,
    base_url: option.BaseUrl = None,
    model: option.Model = None,
    ca_bundle: option.CaBundle = None,
    prompt: option.Prompt = None,
    expect: option.Expect = None,
    max_tokens: option.MaxTokens = None,
    limit_requests: option.LimitRequests = None,
    limit_tokens: option.LimitTokens = None,
    share: option.Share = None,
    accept: option.Accept = None,
    timeout: option.Timeout = None,
    as_json: option.Json = False,
    nagios: option.Nagios = False,
    quiet: option.Quiet = False,
    junit: option.JUnit = None,
    textfile: option.TextFile = None,
    pushgateway: option.Pushgateway = None,
) -> None:
    """Probe each target once, now: of a configuration, or the server of TENSORIX_BASE_URL with TENSORIX_API_KEY.

    Ends with 0 where all are up, 1 where one is down or degraded, 3 where nothing can be said, 4 where credit is out.
    """
    require("probes")
    from tensorix_cli._probe_once import Wanted, run_once

    alone = {
        "base_url": base_url,
        "model": model,
        "ca_bundle": ca_bundle,
        "prompt": prompt,
        "expect": expect,
        "max_tokens": max_tokens,
        "limit_requests": limit_requests,
        "limit_tokens": limit_tokens,
        "share": share,
        "accept": accept,
        "timeout": timeout,
    }
    if given := [f"--{name.replace('_', '-')}" for name, value in alone.items() if value and config]:
        raise SettingsError(f"--config says already what {' and '.join(given)} would: leave one of them out")
    if sum((as_json, nagios, quiet)) > 1:
        raise SettingsError("--json, --nagios and --quiet each say what is printed: give one of them")
    wanted = Wanted(
        targets=targets or [],
        checks=checks or [],
        location=location,
        form="json" if as_json else "nagios" if nagios else "nothing" if quiet else "table",
        junit=junit,
        textfile=textfile,
        pushgateway=pushgateway,
    )
    raise typer.Exit(
        run_once(
            wanted,
            lambda: (
                option.configuration_of_file(config, tell=not nagios)
                if config is not None
                else option.configuration_of_options(
                    base_url=base_url,
                    model=model,
                    ca_bundle=ca_bundle,
                    prompt=prompt,
                    expect=expect,
                    max_tokens=max_tokens,
                    limit_requests=limit_requests,
                    limit_tokens=limit_tokens,
                    share=share or option.BY_HAND,
                    accept=accept or [],
                    timeout_s=timeout,
                )
            ),
        )
    )


@app.command("serve")
def serve(
    file: Annotated[
        Path | None, typer.Argument(metavar="CONFIG", help="The configuration in TOML; SIGHUP reads it again.")
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", "-c", metavar="FILE", help="As CONFIG.")] = None,
    base_url: option.BaseUrl = None,
    model: option.Model = None,
    interval: option.Interval = None,
    ca_bundle: option.CaBundle = None,
    host: option.Host = None,
    port: option.Port = None,
) -> None:
    """Probe on a schedule until Ctrl-C or SIGTERM, and show it: a status page, /metrics, /healthz, /api/status.

    Without CONFIG the server of TENSORIX_BASE_URL is probed, with TENSORIX_API_KEY.
    """
    require("probes", "history")
    from tensorix_cli._probe_serve import serve_alone, serve_file

    if file is not None and config is not None:
        raise SettingsError(f"{file} and --config {config}: give one configuration")
    file = file or config
    given = {"--base-url": base_url, "--model": model, "--interval": interval, "--ca-bundle": ca_bundle}
    if file is None:
        alone = option.configuration_of_options(base_url=base_url, model=model, ca_bundle=ca_bundle)
        serve_alone(alone, interval_s=interval, host=host, port=port)
    elif names := [name for name, value in given.items() if value is not None]:
        raise SettingsError(f"{file} says already what {' and '.join(names)} would: leave one of them out")
    else:
        serve_file(file, host=host, port=port)


@app.command("check-config")
def check_config(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="The configuration in TOML; - for standard input.")
    ] = None,
    example: Annotated[bool, typer.Option("--example", help="Print an example with every setting instead.")] = False,
) -> None:
    """Say what a configuration would do, what it would cost a day, and every mistake in it; sends nothing."""
    require("probes")
    from tensorix_cli._probe_check_config import check_configuration

    check_configuration(file, example=example)


@app.command("report")
def report(
    configuration: Annotated[
        str | None, typer.Argument(metavar="CONFIG", help="The configuration: its history, targets and objectives.")
    ] = None,
    history: Annotated[
        str | None,
        typer.Option(metavar="URL", help="The history: a file, or postgresql://… (default: that of CONFIG)."),
    ] = None,
    days: Annotated[float, typer.Option(min=0.01, max=3650, help="How many days back from now.")] = 30.0,
    target: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this target; may be given several times.")
    ] = None,
    location: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only what this location saw; may be given several times.")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder to write into.")] = Path("uptime-report"),
    pictures: Annotated[
        list[str] | None, typer.Option(metavar="png|svg", help="The pictures as files, too; may be given twice.")
    ] = None,
) -> None:
    """Say how available the targets of a history were, against their objectives, and write a page about it."""
    require("reports", "history")
    from tensorix_cli._probe_report import report_uptime

    report_uptime(
        configuration,
        history,
        days=days,
        targets=target or [],
        locations=location or [],
        out=out,
        pictures=pictures or [],
    )


app.command("alerts")(alerts)
