"""The commands. Each imports its room when it is called, so that starting costs little and nothing is patched."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tensorix_api.errors import TensorixError
from tensorix_cli import _load_options as option
from tensorix_cli import _simulate_options as simulated
from tensorix_cli._compare import compare
from tensorix_cli._extras import require
from tensorix_cli._limits import limits
from tensorix_cli._load_command import LoadCommand, load
from tensorix_cli._nagios import is_for_nagios, say_unknown
from tensorix_cli._output import complain, say
from tensorix_cli._places import fresh, place_of
from tensorix_cli._probe import app as probe
from tensorix_cli._search import search
from tensorix_cli._simulate_help import SimulateCommand
from tensorix_cli._worker import worker
from tensorix_cli.exit_status import MEANING, ExitStatus

__all__ = ["app", "run"]

_STATUSES = "\n\n".join(["Exit statuses:", *(f"{status.value}: {meaning}" for status, meaning in MEANING.items())])

app = typer.Typer(
    name="tensorix",
    help="Find out what a rate-limited, OpenAI-compatible chat API lets through, and how fast it answers.",
    epilog=_STATUSES,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(probe)


def run(arguments: list[str]) -> int:
    """Run the command that the arguments name; returns its exit status. A mistake in them becomes one line."""
    command = typer.main.get_command(app)
    try:
        status = command.main(args=arguments, prog_name="tensorix", standalone_mode=False)
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        path = context.command_path if context is not None else "tensorix"
        text = f"{error.format_message().rstrip('.')} (see {path} --help)"
        if is_for_nagios(arguments):
            return say_unknown(text)
        complain(f"error: {text}")
        return ExitStatus.MISTAKE
    except TensorixError as error:
        if not is_for_nagios(arguments):
            raise
        return say_unknown(str(error))
    except typer.Abort:
        raise KeyboardInterrupt from None
    return int(status or 0)


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        say(f"tensorix-toolkit {version('tensorix-toolkit')}")
        raise typer.Exit


@app.callback()
def _before_every_command(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


app.command(cls=LoadCommand)(load)
app.command()(worker)
app.command()(compare)
app.command()(search)
app.command()(limits)


@app.command()
def report(
    run_folder: Annotated[Path | None, typer.Argument(metavar="RUN", help="The folder of a run.")] = None,
    formats: Annotated[
        str, typer.Option("--format", help="Which files: html, json, csv, md, png, svg, parquet; with commas between.")
    ] = "html,json,csv,md",
    out: Annotated[Path | None, typer.Option(help="Where to, instead of RUN/report.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Write it again and again until the run has ended.")] = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of summary.json and do no more.")
    ] = False,
) -> None:
    """Write the report of a run again, and print its verdict."""
    require("reports")
    from tensorix_cli._report import print_schema
    from tensorix_cli._report import report as write

    if schema:
        print_schema()
        return
    if run_folder is None:
        raise typer.BadParameter("which run: tensorix report RUN")
    write(run_folder, formats=formats, out=out, watch=watch)


@app.command()
def spans(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE", help="Spans as OTLP JSON, a line an export, as collectors write them; gzip or plain."
        ),
    ],
    out: option.Out = None,
    limit_requests: option.LimitRequests = None,
    limit_tokens: option.LimitTokens = None,
    limit_window: option.LimitWindow = None,
    complete: Annotated[
        bool,
        typer.Option(
            "--complete",
            help="Every request of the key is in the files: judge the limiter by them.",
            rich_help_panel="Limits of the key",
        ),
    ] = False,
    label: option.Label = None,
    report: option.Reported = True,
) -> None:
    """Report the chat calls of services in production, from the spans that a collector wrote to files.

    Calls that tensorix_tracing told of are known best; those of other instrumentations for generative AI count too.
    """
    require(*(["reports"] if report else []))
    from tensorix_cli._spans import run_spans

    limits = {"requests": limit_requests, "tokens": limit_tokens, "window_s": limit_window}
    place = place_of(out or fresh("spans-"))
    run_spans(files, place, limits=limits, complete=complete, label=label, reported=report)


@app.command(cls=SimulateCommand)
def simulate(
    port: simulated.Port = 8000,
    host: simulated.Host = "127.0.0.1",
    control_port: simulated.ControlPort = 0,
    settings_file: simulated.SettingsFile = None,
    presets: simulated.Presets = None,
    assigned: simulated.Assigned = None,
    truth: simulated.TruthFile = None,
    print_json: simulated.PrintSettings = False,
    print_toml: simulated.PrintToml = False,
    rpm: simulated.Rpm = None,
    tpm: simulated.Tpm = None,
    window: simulated.Window = None,
    limiter: simulated.Limiter = None,
    burst: simulated.Burst = None,
    more_limits: simulated.MoreLimits = None,
    over_limit: simulated.OverLimit = None,
    charging: simulated.Charging = None,
    retry_after: simulated.RetryAfter = None,
    headers: simulated.Headers = None,
    header_lie: simulated.HeaderLie = None,
    style: simulated.Style = None,
    models: simulated.Models = None,
    latency: simulated.Latency = None,
    ttft: simulated.Ttft = None,
    between_tokens: simulated.BetweenTokens = None,
    slots: simulated.Slots = None,
    queue: simulated.Queue = None,
    reply_tokens: simulated.ReplyTokens = None,
    reasoning_tokens: simulated.ReasoningTokens = None,
    seed: simulated.Seed = None,
    faults: simulated.Faults = None,
    error_rate: simulated.ErrorRate = None,
    valid_keys: simulated.ValidKeys = None,
    credit_tokens: simulated.CreditTokens = None,
    idle: simulated.Idle = None,
    tls: simulated.Tls = None,
    ca_file: simulated.CaFile = None,
) -> None:
    """Serve the documented contract on this machine, limits included, until Ctrl-C.

    What is set comes from the file, over it presets, over them options, over all of them --set.
    """
    options = {
        "rpm": rpm,
        "tpm": tpm,
        "window_s": window,
        "limiter": limiter,
        "burst": burst,
        "more_limits": more_limits,
        "over_limit": over_limit,
        "charging": charging,
        "retry_after": retry_after,
        "headers": headers,
        "header_lie": header_lie,
        "style": style,
        "models": models,
        "latency": latency,
        "ttft": ttft,
        "between_tokens": between_tokens,
        "slots": slots,
        "queue": queue,
        "reply_tokens": reply_tokens,
        "reasoning_tokens": reasoning_tokens,
        "seed": seed,
        "faults": faults,
        "error_rate": error_rate,
        "valid_keys": valid_keys,
        "credit_tokens": credit_tokens,
        "idle_s": idle,
    }
    if not print_json and not print_toml:
        require("simulator")
    from tensorix_simulator.settings_file import as_json, as_toml, gathered

    settings = gathered(settings_file, presets=presets, options=options, assigned=assigned)
    if print_json or print_toml:
        say(as_toml(settings) if print_toml else as_json(settings))
        return
    from tensorix_cli._simulate import run_simulator

    run_simulator(settings, host=host, port=port, control_port=control_port, truth=truth, tls=tls, ca_file=ca_file)


@app.command()
def demo(
    out: Annotated[
        Path | None, typer.Option(metavar="RUN", help="The run folder to make (default: a new one under runs/).")
    ] = None,
) -> None:
    """Load a simulated server beyond its limit until it recovers, and report that: half a minute in all."""
    require("simulator", "loadtests", "reports")
    from tensorix_cli._demo import run_demo

    raise typer.Exit(run_demo(place_of(out or fresh("demo-"))))
