"""`tensorix limits`: which limiter a key meets, found out by an experiment or from a run that is there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tensorix_api.errors import RunFolderError, SettingsError
from tensorix_api.secret import Secret
from tensorix_api.settings import Settings, fits_a_header
from tensorix_cli import _load_options as option
from tensorix_cli._extras import require
from tensorix_cli._output import complain, say
from tensorix_cli._places import fresh, place_of
from tensorix_cli._search import as_interrupts
from tensorix_cli.exit_status import ExitStatus

if TYPE_CHECKING:
    from tensorix_experiments.limits import Ended, LimitsExperiment
    from tensorix_reports.limits import Wished

__all__ = ["limits"]

_PANEL = "Experiment"
_ANSWERS = "What it means"
_MOST_REQUESTS, _MOST_MINUTES = 1_500, 10.0
"""Where nothing else was said: enough for a limit of 600 a minute."""


def _rate(text: str) -> float:
    """Requests a second of `5/s` or `300/min`."""
    amount, slash, unit = text.partition("/")
    seconds = {"s": 1.0, "sec": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0}.get(unit.strip() if slash else "s")
    try:
        value = float(amount)
    except ValueError:
        value = 0.0
    if seconds is None or not 0 < value < 1e9:
        raise SettingsError(f"--want {text}: write it like 5/s or 300/min")
    return value / seconds


def limits(
    run_folder: Annotated[
        Path | None, typer.Argument(metavar="[RUN]", help="A recorded run: no experiment is made, and nothing is sent.")
    ] = None,
    base_url: option.BaseUrl = None,
    model: option.Model = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="The run folder to make (default: a new one under runs/).")
    ] = None,
    max_requests: Annotated[
        int, typer.Option(metavar="N", min=1, help="Send no more than this.", rich_help_panel=_PANEL)
    ] = _MOST_REQUESTS,
    max_minutes: Annotated[
        float, typer.Option(metavar="M", min=0.01, help="Take no longer than this.", rich_help_panel=_PANEL)
    ] = _MOST_MINUTES,
    max_tokens: Annotated[
        int | None,
        typer.Option("--max-tokens", metavar="N", min=1, help="Use no more tokens, in all.", rich_help_panel=_PANEL),
    ] = None,
    window: Annotated[float | None, option.option_of_time("The window as documented", "60s", _PANEL)] = None,
    beside: Annotated[
        bool,
        typer.Option(
            "--beside/--no-beside",
            help="Ask besides what else counts and how tokens are charged, as far as the bounds allow.",
            rich_help_panel=_PANEL,
        ),
    ] = True,
    second_key_env: Annotated[
        str | None,
        typer.Option(
            "--second-key-env",
            metavar="NAME",
            help="The environment variable of a second key: has it a budget of its own?",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    ca_bundle: option.CaBundle = None,
    timeout: option.Timeout = 60.0,
    prices: option.Prices = None,
    want: Annotated[
        str | None,
        typer.Option(metavar="RATE", help="How many keys does such traffic need? 5/s.", rich_help_panel=_ANSWERS),
    ] = None,
    plan: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="What share of these requests (CSV: time, tokens) would be refused?",
            rich_help_panel=_ANSWERS,
        ),
    ] = None,
    mean_tokens: Annotated[
        float | None,
        typer.Option(metavar="N", min=1, help="Tokens of a request, prompt and answer.", rich_help_panel=_ANSWERS),
    ] = None,
    tpm: Annotated[
        int | None,
        typer.Option(
            "--limit-tokens",
            "--tpm",
            metavar="N",
            min=1,
            help="Tokens a window, where no header states them.",
            rich_help_panel=_ANSWERS,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print limits.json on standard output.")] = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of limits.json and do no more.")
    ] = False,
    yes: option.Yes = False,
) -> None:
    """Find out how a key is limited: the kind of limiter, its parameters, whether headers are true, what it means.

    With --base-url by a small experiment of its own, within bounds that are said before anything is sent; with RUN from
    what a load test, a search or services in production have recorded. The key is read from TENSORIX_API_KEY.
    """
    require("reports")
    from tensorix_reports.limits import Wished, limits_schema, read_traffic

    if schema:
        say(limits_schema().rstrip())
        return
    wished = Wished(
        window_s=window,
        want_per_s=None if want is None else _rate(want),
        token_limit=tpm,
        mean_tokens=mean_tokens,
        plan=() if plan is None else read_traffic(plan),
    )
    if run_folder is not None:
        if base_url is not None:
            raise SettingsError("a recorded run is read and a server is asked: give RUN or --base-url, not both")
        raise typer.Exit(_of_run(run_folder, wished, as_json=as_json))
    settings = Settings.from_environment(base_url=base_url, model=model)
    if base_url is None and "TENSORIX_BASE_URL" not in os.environ and settings.api_key is None:
        raise SettingsError("which server, or which run: tensorix limits --base-url URL, or tensorix limits RUN")
    if settings.api_key is None and not settings.is_loopback:
        raise SettingsError(f"no API key for {settings.host}: set TENSORIX_API_KEY")
    require("loadtests", "probes", "reports")
    from tensorix_experiments.limits import MOST_TOKENS, Bounds, LimitsExperiment

    bounds = Bounds(requests=max_requests, seconds=60 * max_minutes, tokens=max_tokens or max_requests * MOST_TOKENS)
    asked = LimitsExperiment(
        settings=settings,
        bounds=bounds,
        window_s=60.0 if window is None else window,
        second_key=None if second_key_env is None else _key(second_key_env),
        ca_bundle=None if ca_bundle is None else str(ca_bundle),
        timeout_s=timeout,
        beside=beside,
    )
    place = place_of(out or fresh("limits-"))
    if not _agreed(asked, prices, assumed=yes, quiet=as_json):
        complain("nothing was sent")
        raise typer.Exit(ExitStatus.MISTAKE)
    raise typer.Exit(_experiment(asked, place, wished, as_json=as_json))


def _key(name: str) -> Secret:
    key = Secret(os.environ.get(name, "").strip())
    if not key:
        raise SettingsError(f"--second-key-env {name}: the variable is not set, or empty")
    if not fits_a_header(key):
        raise SettingsError(f"{name} holds a character that no header can carry: set it again")
    return key


def _agreed(asked: LimitsExperiment, prices: Path | None, *, assumed: bool, quiet: bool) -> bool:
    """Say the most that it can use; ask where the server is not on this machine."""
    from tensorix_cli._cost import answered

    bounds, host = asked.bounds, asked.settings.host
    used = (
        f"at most {bounds.requests:,} requests and {bounds.tokens:,} tokens, in at most {bounds.seconds / 60:g} minutes"
    )
    if prices is not None:
        from tensorix_loadtests.plan import read_prices

        if known := read_prices(prices):
            # Whichever model it will be, and whichever kind of token is the dearer.
            each = max(max(price.most(1, 0), price.most(0, 1)) for price in known.values())
            used += f", and costs at most {bounds.tokens * each:,.4g} by the prices given"
    tell = complain if quiet else say
    tell(f"This experiment uses {used}, all on one key of {host}; until it is over the key may be refused elsewhere.")
    if assumed or asked.settings.is_loopback:
        return True
    return answered()


def _experiment(asked: LimitsExperiment, place: Path, wished: Wished, *, as_json: bool) -> ExitStatus:
    from tensorix_experiments.limits import run_limits

    tell = complain if as_json else say
    with as_interrupts():
        ended = run_limits(asked, place, say=tell, warn=lambda line: complain(f"warning: {line}"))
    status = _of_run(place, wished, as_json=as_json)
    return _status(ended, status)


def _status(ended: Ended, status: ExitStatus) -> ExitStatus:
    if ended.reason == "interrupted":
        return ExitStatus.INTERRUPTED
    if ended.wrong and status is not ExitStatus.DONE:
        complain(f"error: {ended.why}")
        return ExitStatus.MISTAKE
    return status


def _of_run(run: Path, wished: Wished, *, as_json: bool) -> ExitStatus:
    """Write the report of a run and say what it found. Raises RunFolderError where it is no run."""
    from tensorix_reports.limits import limits_json, limits_report, write_limits

    # By the operating system's own question: pathlib's raises where a name is longer than any file's may be.
    if os.path.isfile(run):  # noqa: PTH113
        raise RunFolderError(f"{run} is a file, and a run is a folder: of spans, `tensorix spans {run}` makes one")
    report = limits_report(run, wished)
    written = write_limits(report, run / "report")
    if as_json:
        say(limits_json(report).rstrip())
    else:
        say("")
        for line in written.verdict:
            say(line)
        say(f"Report: {written.page}")
    return ExitStatus.DONE if report.main is not None and report.main.found else ExitStatus.INCONCLUSIVE
