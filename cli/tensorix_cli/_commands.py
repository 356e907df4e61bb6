"""The commands. Each imports its room when it is called, so that starting costs little and nothing is patched."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from tensorix_api.errors import SettingsError, TensorixError
from tensorix_api.settings import Settings
from tensorix_cli import _load_options as option
from tensorix_cli import _options
from tensorix_cli import _simulate_options as simulated
from tensorix_cli._extras import require
from tensorix_cli._nagios import is_for_nagios, say_unknown
from tensorix_cli._output import complain, say
from tensorix_cli._probe import app as probe
from tensorix_cli._simulate_help import SimulateCommand
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


def _place(out: Path) -> Path:
    """`out`, with the folders above it made where they are missing. Raises SettingsError where they cannot be."""
    try:
        str(out).encode()
    except UnicodeEncodeError:
        raise SettingsError("the name given with --out is not UTF-8: choose another") from None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SettingsError(f"{str(out.parent)!r} cannot be made ({reason}): give another place with --out") from None
    return out.absolute()


def _fresh(prefix: str) -> Path:
    """The path of a run folder under `runs/`, named by the time, that is not there yet."""
    parent = Path("runs")
    name = f"{prefix}{datetime.now(UTC):%Y-%m-%dT%H-%M-%SZ}"
    candidates = [parent / name, *(parent / f"{name}-{number}" for number in range(2, 100))]
    return next((path for path in candidates if not path.exists()), candidates[-1])


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


@app.command()
def load(
    base_url: option.BaseUrl = None,
    model: option.Model = None,
    out: option.Out = None,
    users: option.Users = 1,
    spawn_rate: option.SpawnRate = 1.0,
    requests: option.Requests = None,
    duration: option.Duration = None,
    mix: option.Mix = None,
    stream: option.Stream = None,
    prompts: option.Prompts = None,
    prompt_files: option.PromptFiles = None,
    max_tokens: option.MaxTokens = 64,
    temperature: option.Temperature = None,
    headers: option.Headers = None,
    body: option.Body = None,
    ca_bundle: option.CaBundle = None,
    limit_requests: option.LimitRequests = None,
    limit_tokens: option.LimitTokens = None,
    limit_window: option.LimitWindow = None,
    connect_timeout: option.ConnectTimeout = 10.0,
    first_token_timeout: option.FirstTokenTimeout = 60.0,
    chunk_timeout: option.ChunkTimeout = 30.0,
    timeout: option.Timeout = 300.0,
    label: option.Label = None,
    yes: option.Yes = False,
    report: option.Reported = True,
) -> None:
    """Run a load test and report it. The key is read from TENSORIX_API_KEY.

    Each of the users asks, waits for the answer and asks again, until the number of requests or the duration is over.
    Before anything is sent off this machine, the most that the run can use is printed and agreed to.
    """
    require("loadtests", *(["reports"] if report else []))
    from tensorix_cli._cost import DEFAULT_REQUESTS, agree, bounded
    from tensorix_cli._load import run_load
    from tensorix_loadtests.plan import CHAT_STREAMED, CHAT_UNSTREAMED, DEFAULT_PROMPT, Limits, LoadPlan, Timeouts
    from tensorix_records import Run

    settings = Settings.from_environment(base_url=base_url, model=model)
    if mix and stream is not None:
        raise SettingsError("--mix says already what is streamed: leave out --stream and --no-stream")
    plan = LoadPlan(
        base_url=settings.base_url,
        model=settings.model,
        users=users,
        spawn_rate=spawn_rate,
        requests=DEFAULT_REQUESTS if requests is None and duration is None else requests,
        duration_s=duration,
        mix=mix or {CHAT_UNSTREAMED if stream is False else CHAT_STREAMED: 1.0},
        max_tokens=max_tokens,
        temperature=temperature,
        prompts=_options.prompts(prompts or [], prompt_files or []) or (DEFAULT_PROMPT,),
        headers=dict(map(_options.header, headers or [])),
        body=_options.body(body) if body else {},
        timeouts=Timeouts(
            connect_s=connect_timeout, first_token_s=first_token_timeout, chunk_s=chunk_timeout, total_s=timeout
        ),
        ca_bundle=None if ca_bundle is None else str(ca_bundle.absolute()),
        limits=Limits.of(settings.base_url, requests=limit_requests, tokens=limit_tokens, window_s=limit_window),
        label=label,
    )
    if settings.api_key is None and not settings.is_loopback:
        raise SettingsError(f"no API key for {settings.host}: set TENSORIX_API_KEY")
    asked, plan = plan, bounded(plan, settings)
    place = _place(out or _fresh(""))
    Run.check_creatable(place)
    if not agree(plan, settings, assumed=yes, capped=plan is not asked):
        complain("nothing was sent")
        raise typer.Exit(ExitStatus.MISTAKE)
    raise typer.Exit(run_load(plan, place, settings.api_key, reported=report))


@app.command()
def report(run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")]) -> None:
    """Write the report of a run again, and print its verdict."""
    require("reports")
    from tensorix_cli._report import report as write

    write(run_folder)


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
    place = _place(out or _fresh("spans-"))
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

    raise typer.Exit(run_demo(_place(out or _fresh("demo-"))))
