"""`tensorix search`: the highest rate, or number of users, that meets objectives; or the limit in its way."""

from __future__ import annotations

import inspect
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tensorix_api.errors import RunFolderError, SettingsError
from tensorix_api.settings import Settings
from tensorix_cli import _load_options as option
from tensorix_cli._extras import require
from tensorix_cli._load_command import load
from tensorix_cli._output import complain, say
from tensorix_cli._places import fresh, place_of
from tensorix_cli.exit_status import ExitStatus

if TYPE_CHECKING:
    from tensorix_experiments import Search

__all__ = ["as_interrupts", "search"]

_PANEL = "Search"
_MOST_REQUESTS, _MOST_SECONDS = 5_000, 3_600.0
"""Off this machine, where nothing else was said."""


def search(
    ctx: typer.Context,
    base_url: option.BaseUrl = None,
    model: option.Model = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="The folder to make (default: a new one under runs/).")
    ] = None,
    by: Annotated[
        str,
        typer.Option(metavar="WHAT", help="rate (open loop) or users (closed loop).", rich_help_panel=_PANEL),
    ] = "rate",
    first: Annotated[
        float | None,
        typer.Option(
            "--from", metavar="LOAD", help="The first rate (a second) or number of users.", rich_help_panel=_PANEL
        ),
    ] = None,
    most: Annotated[
        float, typer.Option("--to", metavar="LOAD", help="The highest to try.", rich_help_panel=_PANEL)
    ] = 10_000.0,
    resolution: Annotated[
        float, typer.Option(metavar="SHARE", help="How finely the knee is searched.", rich_help_panel=_PANEL)
    ] = 0.05,
    step: Annotated[float, option.option_of_time("The shortest step", "10s", _PANEL)] = 10.0,
    step_most: Annotated[float, option.option_of_time("The longest step", "5m", _PANEL)] = 300.0,
    cap_requests: option.CapRequests = None,
    cap_tokens: option.CapTokens = None,
    cap_time: Annotated[float | None, option.option_of_time("End the search after this time", panel=_PANEL)] = None,
    mix: option.Mix = None,
    stream: option.Stream = None,
    think_time: option.ThinkTime = None,
    arrivals: option.ArrivalGaps = None,
    max_users: option.MaxUsers = None,
    seed: option.Seed = None,
    prompts: option.Prompts = None,
    prompt_files: option.PromptFiles = None,
    prompt_format: option.PromptFormat = None,
    prompt_tokens: option.PromptTokens = None,
    answer_tokens: option.AnswerTokens = None,
    shared_prefix: option.SharedPrefix = None,
    unique_prompts: option.UniquePrompts = None,
    max_tokens: option.MaxTokens = 64,
    temperature: option.Temperature = None,
    headers: option.Headers = None,
    body: option.Body = None,
    ca_bundle: option.CaBundle = None,
    limit_window: option.LimitWindow = None,
    key_variables: option.KeyVariables = None,
    slo: option.Slo = None,
    good: option.Good = None,
    processes: option.Processes = None,
    connect_timeout: option.ConnectTimeout = 10.0,
    first_token_timeout: option.FirstTokenTimeout = 60.0,
    chunk_timeout: option.ChunkTimeout = 30.0,
    timeout: option.Timeout = 300.0,
    label: option.Label = None,
    yes: option.Yes = False,
) -> None:
    """Find the highest load that meets the objectives (--slo). The key is read from TENSORIX_API_KEY.

    Up by doubling, then by bisection; each step is a run of its own. Where the server answers 429 the limit is measured
    instead. Before anything is sent off this machine, the most that the search can use is printed and agreed to.
    """
    require("loadtests", "reports")
    from tensorix_cli._load_plan import plan_of
    from tensorix_experiments import Search

    settings = Settings.from_environment(base_url=base_url, model=model)
    if settings.api_key is None and not settings.is_loopback and not key_variables:
        raise SettingsError(f"no API key for {settings.host}: set TENSORIX_API_KEY")
    if by not in ("rate", "users"):
        raise SettingsError(f"--by {by}: write rate or users")
    if by == "users" and arrivals is not None:
        raise SettingsError("--arrivals are of a rate, and --by users has none: leave it out")
    # What `tensorix load` has besides takes its default; the search itself says how much is sent, and for how long.
    given = {name: one.default for name, one in inspect.signature(load).parameters.items()} | dict(ctx.params)
    given |= {"duration": 1.0, "requests": None, "rate": "1/s" if by == "rate" else None}
    given |= {"cap_requests": None, "cap_tokens": None}
    away = not settings.is_loopback
    asked = Search(
        plan=plan_of(given, settings, {}),
        by="rate" if by == "rate" else "users",
        first=1.0 if first is None else first,
        most=most,
        resolution=resolution,
        least_step_s=step,
        most_step_s=step_most,
        most_requests=cap_requests or (_MOST_REQUESTS if away else None),
        most_tokens=cap_tokens,
        most_seconds=cap_time or (_MOST_SECONDS if away else None),
    )
    place = place_of(out or fresh("search-"))
    if not _agreed(asked, settings, assumed=yes):
        complain("nothing was sent")
        raise typer.Exit(ExitStatus.MISTAKE)
    raise typer.Exit(_search(asked, place, settings))


def _agreed(asked: Search, settings: Settings, *, assumed: bool) -> bool:
    """Say the most that the search can use, and ask where that is off this machine."""
    from tensorix_cli._cost import agree

    if not settings.is_loopback:
        bounded = replace(
            asked.plan,
            arrivals=None,
            requests=asked.most_requests,
            duration_s=asked.most_seconds,
            spending=replace(asked.plan.spending, most_tokens=asked.most_tokens),
        )
        return agree(bounded, settings, assumed=assumed)
    bounds = {
        "requests": asked.most_requests,
        "tokens": asked.most_tokens,
        "seconds": None if asked.most_seconds is None else round(asked.most_seconds),
    }
    told = [f"at most {most:,} {name}" for name, most in bounds.items() if most is not None]
    say(f"This search uses {', '.join(told) or 'as many requests as it takes, on this machine'}.")
    return True


@contextmanager
def as_interrupts() -> Iterator[None]:
    """SIGTERM, and a terminal that closes, mean what Ctrl-C does: the step's run is ended in order."""
    numbers = [signal.SIGTERM, signal.SIGHUP]
    before = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _search(asked: Search, place: Path, settings: Settings) -> ExitStatus:
    from tensorix_experiments import find_capacity
    from tensorix_reports.capacity import write_capacity

    try:
        place.mkdir()
    except FileExistsError:
        raise RunFolderError(f"{place} is there already: choose another folder for the search") from None
    except OSError as error:
        raise RunFolderError(f"{place} cannot be made ({error.strerror}): choose another folder") from None
    with as_interrupts():
        found = find_capacity(asked, place, settings.api_key, say=say, warn=lambda line: complain(f"warning: {line}"))
        written = write_capacity(found, place)
    say("")
    for line in written.verdict:
        say(line)
    say(f"Report: {written.page}")
    if found.why == "it was interrupted":
        return ExitStatus.INTERRUPTED
    statuses = {"none": ExitStatus.NOT_DONE, "stopped": ExitStatus.INCONCLUSIVE}
    return statuses.get(found.found, ExitStatus.DONE)
